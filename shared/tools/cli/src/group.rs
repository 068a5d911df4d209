//! `quadrille group rewind`: a stopped service reads again what it has read. Its inbox and its policies make that harmless. A read model has
//! neither: its rows are built anew by another generation.
//!
//! `quadrille group skip`: a running service passes over one offset that it cannot get past, on a person's word.

use anyhow::{Context, bail};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use serde::Serialize;

use crate::{
    Catalogue, Settings,
    codec::{Decoded, Decoder},
    databases, generations,
    kafka::{self, At, Partition, Reader, Start, TIMEOUT},
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
    /// The place on a topic that there is.
    fn place(&self, catalogue: &Catalogue) -> anyhow::Result<Place> {
        let Self { topic, partition, offset } = self;
        let Some(declared) = catalogue.topic(topic) else {
            bail!("No topic is named '{topic}': topics are named without a world's prefix (`quadrille topics list`)");
        };
        Ok(Place { topic: &declared.name, partition: *partition, offset: *offset })
    }
}

/// Shows what lies at an offset, and with `yes` has the running `service` pass over it. Returns whether it was done.
///
/// # Errors
///
/// There is no such service or offset, or no instance of the service takes the request.
pub async fn skip(
    settings: &Settings,
    service: &str,
    place: &Named,
    person: &Person,
    yes: bool,
    json: bool,
) -> anyhow::Result<bool> {
    known(settings, service)?;
    let place = place.place(&settings.catalogue)?;
    let Place { topic, partition, offset } = place;
    is_to_come(settings, service, place).await?;
    let found = tokio::task::block_in_place(|| lies_at(settings, place))?;
    output::note(&found);
    if !yes {
        output::note("Nothing was changed: --yes has the service pass over it.");
        return Ok(false);
    }
    let fields = serde_json::json!({ "topic": topic, "partition": partition, "offset": offset });
    operate::print_result(&operate::ask(settings, "OffsetSkipRequested", service, person, fields).await?, json)
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
    let groups =
        consumer.fetch_group_list(Some(group), TIMEOUT).map_err(|error| kafka::explained(&settings.kafka, error))?;
    let members: Vec<String> = groups
        .groups()
        .iter()
        .filter(|found| found.name() == group)
        .flat_map(|group| group.members().iter().map(|member| member.client_id().to_owned()))
        .collect();
    if members.is_empty() {
        return Ok(());
    }
    bail!("{service} has {} running instances: stop them first ({})", members.len(), members.join(", "))
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
        true => output::line(&format!("{service} reads {} partitions again once it runs.", rewinds.len())),
        false => output::line("Nothing was changed: --yes does it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let other = named("t1.order.requests/3@42").unwrap().place(&crate::testing::CATALOGUE).unwrap_err().to_string();
        assert!(other.contains("without a world's prefix"), "{other}");
    }
}
