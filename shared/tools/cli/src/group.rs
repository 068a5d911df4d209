//! `quadrille group rewind`: a stopped service reads again what it has read. Its inbox and its policies make that harmless. A read model has
//! neither: its rows are built anew by another generation.
//!
//! `quadrille group skip`: a running service passes over one offset that it cannot get past, on a person's word.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use quadrille_core::{TopicKind, TopicType};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use serde::Serialize;

use crate::{
    Catalogue, Settings,
    codec::{Decoded, Decoder},
    databases, generations,
    kafka::{self, At, Partition, Reader, Start},
    operate::{self, Person},
    output::{self, Table},
    place::Place,
    render,
};

/// One partition's way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Rewind {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// What to rewind.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub to: Start,
    /// Only these: a topic, or `topic/partition`. All that the service has read, where none is named.
    pub only: Vec<String>,
    /// Do it; else only say what would be done.
    pub yes: bool,
    /// As JSON.
    pub json: bool,
}

/// Rewinds the group of `service`, or says what that would do. Returns whether it was done. Blocks.
///
/// # Errors
///
/// An instance that runs, a service or topic that does not exist, a place beyond what was read, a service that goes by its positions.
pub fn rewind(settings: &Settings, service: &str, options: &Options) -> anyhow::Result<bool> {
    known(settings, service)?;
    if settings.catalogue.is_projection(service) {
        bail!(
            "{service} only listens: it goes on from the positions in its database, wherever its group stands. \
             To have its rows built anew, give its next build a higher generation (docs/operating.md, \"Rebuilding a read model\")"
        );
    }
    options.only.iter().try_for_each(|only| is_heard(&settings.catalogue, service, only))?;
    let group = settings.group(service);
    let consumer: BaseConsumer = kafka::hurried(settings.kafka.observer("quadrille-cli", &group)).create()?;
    stopped(settings, &consumer, service, &group)?;
    let rewinds = plan(settings, service, &group, options)?;
    if options.yes {
        let mut list = TopicPartitionList::new();
        for rewind in &rewinds {
            list.add_partition_offset(&settings.topic(&rewind.topic), rewind.partition, Offset::Offset(rewind.to))?;
        }
        if !rewinds.is_empty() {
            consumer.commit(&list, CommitMode::Sync).map_err(|error| kafka::explained(&settings.kafka, error))?;
        }
    }
    print_rewinds(service, &rewinds, options)?;
    Ok(options.yes)
}

fn known(settings: &Settings, service: &str) -> anyhow::Result<()> {
    let services: Vec<&str> = settings.catalogue.service_names().collect();
    if !services.contains(&service) {
        bail!("there is no service '{service}': {}", services.join(", "));
    }
    Ok(())
}

/// Refuses a topic, or `topic/partition`, of which the service reads nothing.
fn is_heard(catalogue: &Catalogue, service: &str, only: &str) -> anyhow::Result<()> {
    // No topic's name has a slash.
    let (topic, partition) = only.split_once('/').map_or((only, None), |(topic, number)| (topic, Some(number)));
    // What operators ask for is read by every service, and declared by none.
    let topic =
        if topic == "platform.requests" { declared(catalogue, topic)? } else { heard(catalogue, service, topic)? };
    match partition.map(|number| (number, number.parse::<i32>())) {
        None => Ok(()),
        // `plan` goes by the text.
        Some((text, Ok(number))) if number.to_string() == text => has(topic, number),
        Some((number, _)) => bail!("'{number}' is no partition of {}: use a number", topic.name),
    }
}

/// The topic of this name.
fn declared(catalogue: &Catalogue, topic: &str) -> anyhow::Result<&'static TopicType> {
    catalogue.topic(topic).with_context(|| {
        format!("No topic is named '{topic}': topics are named without a world's prefix (`quadrille topics list`)")
    })
}

/// The topic of this name, which the service has to hear.
fn heard(catalogue: &Catalogue, service: &str, topic: &str) -> anyhow::Result<&'static TopicType> {
    let topic = declared(catalogue, topic)?;
    let of_service = catalogue.declarations().filter(|declaration| declaration.service == service);
    let hears: Vec<&TopicType> =
        of_service.flat_map(|declaration| declaration.hears).map(|record| record.topic).collect();
    // Whose dead letters it hears is not declared.
    let is_it = |heard: &&TopicType| {
        heard.name == topic.name || heard.kind == TopicKind::DeadLetters && topic.kind == TopicKind::DeadLetters
    };
    if !hears.iter().any(is_it) {
        let names: BTreeSet<&str> = hears.iter().map(|heard| &*heard.name).collect();
        bail!("{service} does not hear {}: it hears {}", topic.name, Vec::from_iter(names).join(", "));
    }
    Ok(topic)
}

/// Refuses a partition that a topic does not have.
fn has(topic: &TopicType, partition: i32) -> anyhow::Result<()> {
    let is_there = u32::try_from(partition).is_ok_and(|partition| partition < topic.partitions);
    ensure!(is_there, "{} has no partition {partition}: they are 0 to {}", topic.name, topic.partitions - 1);
    Ok(())
}

/// An offset as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The topic, without a world's prefix.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Reads `topic/partition@offset`.
pub fn named(text: &str) -> anyhow::Result<Named> {
    let parts = || {
        let (partition, offset) = text.split_once('@')?;
        let (topic, partition) = partition.rsplit_once('/')?;
        // A sign would be understood, too.
        let are_digits = [partition, offset].iter().all(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?)).filter(|_| are_digits)
    };
    let Some((topic, partition, offset)) = parts() else {
        bail!("'{text}' is no place: use TOPIC/PARTITION@OFFSET, such as order.requests/3@42");
    };
    Ok(Named { topic, partition, offset })
}

impl Named {
    /// The place on a topic that the service hears.
    fn place(&self, catalogue: &Catalogue, service: &str) -> anyhow::Result<Place> {
        let Self { topic, partition, offset } = self;
        let heard = heard(catalogue, service, topic)?;
        has(heard, *partition)?;
        Ok(Place { topic: &heard.name, partition: *partition, offset: *offset })
    }
}

/// Shows what lies at an offset that `service` could be asked to pass over.
///
/// # Errors
///
/// There is no such service or offset, or the service has nothing to do with it.
pub async fn show(settings: &Settings, service: &str, place: &Named) -> anyhow::Result<()> {
    look_at(settings, service, place).await?;
    output::note("Nothing was changed: --yes has the service pass over it.");
    Ok(())
}

/// Shows what lies at an offset, and has the running `service` pass over it. Returns whether it was done.
///
/// # Errors
///
/// There is no such service or offset, or no instance of the service takes the request.
pub async fn skip(
    settings: &Settings,
    service: &str,
    place: &Named,
    person: &Person,
    json: bool,
) -> anyhow::Result<bool> {
    let Place { topic, partition, offset } = look_at(settings, service, place).await?;
    let fields = serde_json::json!({ "topic": topic, "partition": partition, "offset": offset });
    operate::print_result(&operate::ask(settings, "OffsetSkipRequested", service, person, fields).await?, json)
}

/// Shows what lies at an offset that `service` has still to read.
async fn look_at(settings: &Settings, service: &str, place: &Named) -> anyhow::Result<Place> {
    known(settings, service)?;
    let place = place.place(&settings.catalogue, service)?;
    is_to_come(settings, service, place).await?;
    let found = tokio::task::block_in_place(|| lies_at(settings, place))?;
    output::note(&found);
    Ok(place)
}

/// What a service has read already cannot be passed over any more.
async fn is_to_come(settings: &Settings, service: &str, place: Place) -> anyhow::Result<()> {
    let next = match settings.catalogue.is_projection(service) {
        true => read_by_all(settings, service, place).await?,
        false => tokio::task::block_in_place(|| read(settings, service, place))?,
    };
    match next {
        Some(next) if next > place.offset => {
            bail!(
                "{service} has read {}/{} up to {next}: what lies at {} is handled",
                place.topic,
                place.partition,
                place.offset
            )
        }
        _ => Ok(()),
    }
}

/// The next offset that the group of `service` reads there.
fn read(settings: &Settings, service: &str, place: Place) -> anyhow::Result<Option<i64>> {
    let partitions = Reader::connect(&settings.kafka)?.partitions(&[place.topic])?;
    let partitions: Vec<Partition> = partitions.into_iter().filter(|found| found.number == place.partition).collect();
    Ok(kafka::committed(&settings.kafka, &settings.group(service), &partitions)?.first().copied().flatten())
}

/// How far all generations of a read model have read there: what one has handled another one may stand at.
async fn read_by_all(settings: &Settings, service: &str, place: Place) -> anyhow::Result<Option<i64>> {
    let mut connection = databases::connect(settings, service).await?;
    let all = generations::positions(&mut connection).await?;
    Ok(all.iter().map(|positions| positions.next(place.topic, place.partition)).min().flatten())
}

/// What lies at an offset, as people read it.
fn lies_at(settings: &Settings, place: Place) -> anyhow::Result<String> {
    let Place { topic, partition, offset } = place;
    Ok(match Reader::connect(&settings.kafka)?.at(topic, partition, offset)? {
        At::Record(record) => {
            let decoded = Decoder::connect(settings)?.decode(Some(topic), record.value.as_deref());
            // A registry that is away may be what the service stands still for.
            let decoded = decoded.unwrap_or_else(|error| Decoded::bad(error.to_string()));
            render::line(output::Paint::fixed(false), &record, &decoded)
        }
        At::Unreadable(unreadable) => unreadable.to_string(),
        At::Nothing(Some(next)) => {
            format!("{place} holds no record that a consumer gets: the next one lies at {next}")
        }
        At::Nothing(None) => format!("{place} holds no record that a consumer gets, and none follows"),
    })
}

/// A running instance would go on where it is, and commit over what is written here.
fn stopped(settings: &Settings, consumer: &BaseConsumer, service: &str, group: &str) -> anyhow::Result<()> {
    let groups = kafka::patiently(&settings.kafka, |patience| consumer.fetch_group_list(Some(group), patience))?;
    let members: Vec<String> = groups
        .groups()
        .iter()
        .filter(|found| found.name() == group)
        .flat_map(|group| group.members().iter().map(|member| member.client_id().to_owned()))
        .collect();
    if members.is_empty() {
        return Ok(());
    }
    let count = output::counted(members.len(), "running instance");
    bail!("{service} has {count}: stop them first ({})", members.join(", "))
}

fn plan(settings: &Settings, service: &str, group: &str, options: &Options) -> anyhow::Result<Vec<Rewind>> {
    let reader = Reader::connect(&settings.kafka)?;
    let names: Vec<&str> = settings.catalogue.topic_names();
    let partitions = reader.partitions(&names)?;
    let committed = kafka::committed(&settings.kafka, group, &partitions)?;
    let is_named = |partition: &Partition| {
        let place = format!("{}/{}", partition.topic, partition.number);
        options.only.is_empty() || options.only.iter().any(|only| **only == *partition.topic || *only == place)
    };
    let read: Vec<(Partition, i64)> = partitions
        .into_iter()
        .zip(committed)
        .filter_map(|(partition, committed)| Some((partition, committed?)))
        .filter(|(partition, _)| is_named(partition))
        .collect();
    if read.is_empty() {
        let of = if options.only.is_empty() { String::new() } else { format!(" of {}", options.only.join(", ")) };
        bail!("{service} has read nothing{of} yet: there is nothing to rewind");
    }
    let wanted: Vec<Partition> = read.iter().map(|(partition, _)| partition.clone()).collect();
    let positions = reader.positions(&wanted, options.to)?;
    let mut rewinds = vec![];
    for (partition, from) in read {
        let key = (partition.topic.clone(), partition.number);
        let to = *positions.get(&key).context("every partition has a position")?;
        if matches!(options.to, Start::Offset(_)) && to > from {
            bail!(
                "{}/{} was read up to {from}: going on to {to} would pass over records",
                partition.topic,
                partition.number
            );
        }
        if to < from {
            rewinds.push(Rewind { topic: partition.topic.to_string(), partition: partition.number, from, to });
        }
    }
    Ok(rewinds)
}

fn print_rewinds(service: &str, rewinds: &[Rewind], options: &Options) -> anyhow::Result<()> {
    if options.json {
        return output::json(&rewinds);
    }
    let mut table = Table::new(["topic", "partition", "from", "to", "read again"]);
    for Rewind { topic, partition, from, to } in rewinds {
        table.row([
            topic.clone(),
            partition.to_string(),
            from.to_string(),
            to.to_string(),
            format!("up to {} records", from - to),
        ]);
    }
    table.print()?;
    match options.yes {
        true => {
            let count = output::counted(rewinds.len(), "partition");
            output::line(&format!("{service} reads {count} again once it runs."))
        }
        false => output::line("Nothing was changed: --yes does it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

    #[test]
    fn a_place_is_read_or_refused_with_its_form() {
        let read = named("order.requests/3@42").unwrap();
        assert_eq!((&*read.topic, read.partition, read.offset), ("order.requests", 3, 42));
        for text in [
            "",
            "order.requests",
            "order.requests/3",
            "order.requests@42",
            "order.requests/-1@42",
            "order.requests/3@-1",
            "order.requests/+3@42",
            "order.requests/3@99999999999999999999",
            "order.requests/99999999999@1",
            "order.requests/x@1",
        ] {
            let error = named(text).unwrap_err().to_string();
            assert!(error.contains("TOPIC/PARTITION@OFFSET"), "{text}: {error}");
        }
        for (text, word) in [
            ("t1.order.requests/3@42", "without a world's prefix"),
            ("order.events/0@5", "order does not hear order.events: it hears "),
            ("platform.requests/0@5", "order does not hear platform.requests"),
            ("order.requests/9@5", "order.requests has no partition 9: they are 0 to 5"),
        ] {
            let other = named(text).unwrap().place(&CATALOGUE, "order").unwrap_err().to_string();
            assert!(other.contains(word), "{other}");
        }
        assert!(named("order.requests/5@42").unwrap().place(&CATALOGUE, "order").is_ok());
    }

    #[test]
    fn what_a_service_never_read_is_not_rewound() {
        for (only, word) in [
            ("order.event", "No topic is named 'order.event'"),
            ("order.events", "order does not hear order.events"),
            ("order.requests/9", "order.requests has no partition 9"),
            ("order.requests/x", "'x' is no partition of order.requests"),
        ] {
            let refused = is_heard(&CATALOGUE, "order", only).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
        for only in ["order.requests", "order.requests/0", "platform.requests"] {
            is_heard(&CATALOGUE, "order", only).unwrap();
        }
    }
}
