//! `quadrille dead-letters`: what services could not handle, and what waits behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{bail, ensure};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Catalogue, Settings,
    codec::{Decoded, Decoder},
    databases,
    operate::{self, OperatorResult, Person},
    output::{self, Paint, Table},
    place::Place,
};

/// An open dead letter.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DeadLetter {
    #[sqlx(default)]
    pub service: String,
    /// The generation of a read model that could not handle it; 1 of any other service.
    #[serde(skip_serializing_if = "is_first")]
    pub generation: i32,
    pub id: Uuid,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub record_time: DateTime<Utc>,
    pub record_type: String,
    #[serde(serialize_with = "as_text")]
    pub key: Option<Vec<u8>>,
    pub value_size: i64,
    pub withheld: bool,
    pub reason: String,
    pub field: String,
    pub detail: String,
    /// The key that waits behind it.
    pub holds: Option<String>,
    pub attempts: i32,
    pub failed_at: DateTime<Utc>,
}

/// Whether there may be no other generation: then none is told.
fn is_first(generation: &i32) -> bool {
    *generation == 1
}

/// A key whole, as text.
fn as_text<S: serde::Serializer>(key: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_deref().map(String::from_utf8_lossy).serialize(serializer)
}

/// Which dead letters are meant.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("letters").args(["ids", "topic", "key"]).required(true).multiple(true)))]
pub struct Which {
    /// Dead letters by their ids
    #[arg(value_name = "ID", value_parser = operate::id, conflicts_with_all = ["topic", "key", "service"])]
    pub ids: Vec<Uuid>,
    /// All of a service that came from this topic: with --service
    #[arg(long, requires = "service")]
    pub topic: Option<String>,
    /// All of a service that had this record key, in any spelling: with --service
    #[arg(long, requires = "service")]
    pub key: Option<String>,
    /// The service that failed, for --topic and --key
    #[arg(long)]
    pub service: Option<String>,
}

impl Which {
    fn is_meant(&self, catalogue: &Catalogue, letter: &DeadLetter) -> bool {
        let is_key = |wanted: &String| {
            let kind = catalogue.key_kind(&letter.topic);
            let key = letter.key.as_deref().unwrap_or_default();
            wanted.as_bytes() == key
                || kind.normalize(Some(wanted.as_bytes())).is_ok_and(|wanted| kind.normalize(Some(key)) == Ok(wanted))
        };
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && self.topic.as_ref().is_none_or(|topic| *topic == letter.topic)
            && self.key.as_ref().is_none_or(is_key)
    }

    /// The open dead letters that are meant, by service, the oldest first.
    async fn find(&self, settings: &Settings) -> anyhow::Result<BTreeMap<String, Vec<DeadLetter>>> {
        let (letters, unread) = open(settings, self.service.as_deref()).await?;
        let mut meant: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
        for letter in letters.into_iter().filter(|letter| self.is_meant(&settings.catalogue, letter)) {
            meant.entry(letter.service.clone()).or_default().push(letter);
        }
        let found = |id: &&Uuid| meant.values().flatten().any(|letter| letter.id == **id);
        if let Some(id) = self.ids.iter().find(|id| !found(id)) {
            bail!("{}", missing(*id, &unread));
        }
        let none = "no open dead letter matches (`quadrille dead-letters list` shows all)";
        ensure!(!meant.is_empty(), "{}", format!("{none}\n{}", databases::told(&unread)).trim_end());
        Ok(meant)
    }
}

fn missing(id: Uuid, unread: &[String]) -> String {
    match unread {
        [] => format!("there is no open dead letter {id} (`quadrille dead-letters list`)"),
        unread => format!("no dead letter {id} was found\n{}", databases::told(unread)),
    }
}

/// The open dead letters, the oldest first; and the databases that could not be read.
pub async fn open(settings: &Settings, service: Option<&str>) -> anyhow::Result<(Vec<DeadLetter>, Vec<String>)> {
    let (mut letters, unread) = databases::each(settings, service, of).await?;
    letters.sort_by_key(|letter| letter.failed_at);
    Ok((letters, unread))
}

/// What became of a record that a service made a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// The service that could not handle it.
    pub service: &'static str,
    /// The generation of a read model that could not; 1 of any other service.
    #[serde(skip_serializing_if = "is_first")]
    pub generation: i32,
    /// The dead letter.
    pub id: Uuid,
    /// Why it could not be handled.
    pub reason: String,
    /// `open`, `discarded`, or `closed` where it was handled after all.
    pub state: &'static str,
}

impl Fate {
    /// As people read it.
    pub fn describe(&self) -> String {
        let Self { service, generation, id, reason, state } = self;
        let whose = quadrille_core::group(service, *generation);
        format!("{state} dead letter of {whose} ({}): {id}", output::printable(reason))
    }
}

/// What became of the records at these places that services made dead letters. A database that cannot be read adds nothing.
pub async fn fates(settings: &Settings, places: HashSet<Place>) -> HashMap<Place, Vec<Fate>> {
    let mut fates: HashMap<Place, Vec<Fate>> = HashMap::new();
    if places.is_empty() {
        return fates;
    }
    let places = Vec::from_iter(places);
    let found = databases::each(settings, None, async |settings, service| at(settings, service, &places).await).await;
    for (place, fate) in found.map(|(found, _unread)| found).unwrap_or_default() {
        fates.entry(place).or_default().push(fate);
    }
    fates
}

async fn at(settings: &Settings, service: &'static str, places: &[Place]) -> sqlx::Result<Vec<(Place, Fate)>> {
    let mut connection = databases::try_connect(settings, service).await?;
    /// Which of the places, from 1; generation, id, reason, whether it is open, and how it was closed.
    type Row = (i64, i32, Uuid, String, bool, Option<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "select number, generation, id, reason, closed_at is null, closed_how
         from unnest($1::text[], $2::int[], $3::bigint[]) with ordinality as place (topic, partition, \"offset\", number)
         join dead_letter using (topic, partition, \"offset\")",
    )
    .bind(places.iter().map(|place| place.topic).collect::<Vec<_>>())
    .bind(places.iter().map(|place| place.partition).collect::<Vec<_>>())
    .bind(places.iter().map(|place| place.offset).collect::<Vec<_>>())
    .fetch_all(&mut connection)
    .await?;
    let fate = |(number, generation, id, reason, open, how): Row| {
        let state = match how.as_deref() {
            _ if open => "open",
            Some("discarded") => "discarded",
            _ => "closed",
        };
        let place = places.get(usize::try_from(number - 1).ok()?)?;
        Some((*place, Fate { service, generation, id, reason, state }))
    };
    Ok(rows.into_iter().filter_map(fate).collect())
}

async fn of(settings: &Settings, service: &str) -> sqlx::Result<Vec<DeadLetter>> {
    let mut connection = databases::try_connect(settings, service).await?;
    let mut letters: Vec<DeadLetter> = sqlx::query_as(
        "select generation, id, topic, partition, \"offset\", record_time, record_type, key, value_size, withheld, reason, field, detail,
             holds, attempts, failed_at
         from dead_letter where closed_at is null",
    )
    .fetch_all(&mut connection)
    .await?;
    letters.iter_mut().for_each(|letter| service.clone_into(&mut letter.service));
    Ok(letters)
}

/// Shows open dead letters.
pub async fn list(settings: &Settings, service: Option<&str>, json: bool) -> anyhow::Result<()> {
    let (letters, unread) = open(settings, service).await?;
    if json {
        output::json(&letters)?;
        return databases::all_read(&unread);
    }
    let Some(answered) = databases::answered(&settings.catalogue, service, &unread) else {
        return databases::all_read(&unread);
    };
    let paint = Paint::detect();
    let mut table = Table::new(["service", "id", "reason", "record", "place", "key", "attempts", "what is wrong"]);
    for letter in &letters {
        table.row([
            letter.whose(),
            letter.id.to_string(),
            letter.reason.clone(),
            letter.record_type.rsplit('.').next().unwrap_or_default().to_owned(),
            letter.place(),
            paint.saga(&letter.key_text(), &output::printable(&letter.key_text())),
            letter.attempts.to_string(),
            output::printable(&letter.detail),
        ]);
    }
    table.print()?;
    let held: BTreeSet<_> =
        letters.iter().filter_map(|letter| Some((&letter.service, &letter.topic, letter.holds.as_ref()?))).collect();
    let (letters, held) = (output::counted(letters.len(), "open dead letter"), output::counted(held.len(), "key"));
    output::line(&format!("{letters}, {held} held{answered}."))?;
    databases::all_read(&unread)
}

/// Shows one dead letter with its original.
pub async fn show(settings: &Settings, id: Uuid, json: bool) -> anyhow::Result<()> {
    let letter = find(settings, id).await?;
    if json {
        return output::json(&letter);
    }
    output::line(&format!(
        "{} could not handle {} of key {}",
        letter.whose(),
        letter.place(),
        output::short(&letter.key_text())
    ))?;
    output::line(&format!(
        "reason      {} {} (attempt {}, {})",
        letter.reason, letter.field, letter.attempts, letter.failed_at
    ))?;
    output::line(&format!("detail      {}", output::printable(&letter.detail)))?;
    if let Some(key) = &letter.holds {
        output::line(&format!(
            "holds       later events of {} on {} wait behind it",
            output::short(key),
            letter.topic
        ))?;
    }
    let decoder = Decoder::connect(settings)?;
    let original = match (value(settings, &letter).await?, letter.withheld) {
        (_, true) => "withheld: it may have secrets, and stays in the service's database".to_owned(),
        (value, false) => match tokio::task::block_in_place(|| decoder.decode(Some(&letter.topic), value.as_deref())) {
            Ok(Decoded::Record { json, .. }) => json,
            Ok(Decoded::Bad { reason, .. }) => format!("cannot be read: {}", output::printable(&reason)),
            Ok(_) | Err(_) => format!("{} bytes", letter.value_size),
        },
    };
    output::line(&format!("original    {original}"))?;
    output::line(&format!("  quadrille dead-letters redrive {id} --who YOU --why REASON"))?;
    output::line(&format!("  quadrille dead-letters discard {id} --who YOU --why REASON"))
}

/// The original of one letter: those of all would fill the memory.
async fn value(settings: &Settings, letter: &DeadLetter) -> anyhow::Result<Option<Vec<u8>>> {
    let mut connection = databases::connect(settings, &letter.service).await?;
    let value: Option<Option<Vec<u8>>> = sqlx::query_scalar("select value from dead_letter where id = $1")
        .bind(letter.id)
        .fetch_optional(&mut connection)
        .await?;
    Ok(value.flatten())
}

/// Has dead letters handled again, by the service that failed alone. Whether all of it was asked of it.
pub async fn redrive(settings: &Settings, which: &Which, person: &Person, json: bool) -> anyhow::Result<bool> {
    let mut all_done = true;
    for (service, letters) in which.find(settings).await? {
        let requests = match (&which.topic, &which.key) {
            (None, None) => letters.iter().map(|letter| json!({ "dead_letter_id": letter.id })).collect(),
            // As the records have the key: the service compares letter by letter.
            (topic, key) => {
                let spelt = |letter: &DeadLetter| key.as_ref().map_or_else(String::new, |_| letter.key_text());
                let keys: BTreeSet<String> = letters.iter().map(spelt).collect();
                keys.into_iter()
                    .map(|key| json!({ "topic": topic.as_deref().unwrap_or_default(), "key": key }))
                    .collect()
            }
        };
        all_done &= request_each(settings, "RedriveRequested", &service, person, requests, json).await?;
    }
    Ok(all_done)
}

/// Gives dead letters up; what waited behind them goes on. Whether all of it was done.
pub async fn discard(settings: &Settings, which: &Which, person: &Person, json: bool) -> anyhow::Result<bool> {
    let mut all_done = true;
    for (service, letters) in which.find(settings).await? {
        // The last one first: what waits behind a letter is handled as soon as that is given up, unless it is given up before.
        let requests = letters.iter().rev().map(|letter| json!({ "dead_letter_id": letter.id })).collect();
        all_done &= request_each(settings, "DiscardRequested", &service, person, requests, json).await?;
    }
    Ok(all_done)
}

/// Asks a service, and tells what came of each request; whether all were done.
async fn request_each(
    settings: &Settings,
    name: &str,
    service: &str,
    person: &Person,
    requests: Vec<serde_json::Value>,
    json: bool,
) -> anyhow::Result<bool> {
    let came = operate::ask_all(settings, name, service, person, requests).await?;
    came.iter().try_for_each(|came| operate::print_result(came, json).map(|_| ()))?;
    Ok(came.iter().all(OperatorResult::is_done))
}

async fn find(settings: &Settings, id: Uuid) -> anyhow::Result<DeadLetter> {
    let (letters, unread) = open(settings, None).await?;
    match letters.into_iter().find(|letter| letter.id == id) {
        Some(letter) => Ok(letter),
        None => bail!("{}", missing(id, &unread)),
    }
}

impl DeadLetter {
    /// The service that failed; of a read model's generation its group.
    fn whose(&self) -> String {
        quadrille_core::group(&self.service, self.generation)
    }

    fn place(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }

    fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

    fn letter(topic: &str, key: &[u8]) -> DeadLetter {
        DeadLetter {
            service: "order".into(),
            generation: 1,
            id: Uuid::new_v4(),
            topic: topic.into(),
            partition: 0,
            offset: 0,
            record_time: DateTime::default(),
            record_type: String::new(),
            key: Some(key.to_vec()),
            value_size: 0,
            withheld: false,
            reason: String::new(),
            field: String::new(),
            detail: String::new(),
            holds: None,
            attempts: 1,
            failed_at: DateTime::default(),
        }
    }

    #[test]
    fn letters_are_meant_by_id_by_topic_and_by_key_in_any_spelling() {
        let key = "6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11";
        let upper = letter("order.requests", key.to_uppercase().as_bytes());
        let other = letter("stock.requests", b"tea-1");
        let which = |ids: &[Uuid], topic: Option<&str>, key: Option<&str>| Which {
            ids: ids.to_vec(),
            topic: topic.map(str::to_owned),
            key: key.map(str::to_owned),
            service: Some("order".into()),
        };
        for (which, first, second) in [
            (which(&[upper.id], None, None), true, false),
            (which(&[upper.id, other.id], None, None), true, true),
            (which(&[], Some("order.requests"), None), true, false),
            (which(&[], None, Some(key)), true, false),
            (which(&[], None, Some("TEA-1")), false, true),
            (which(&[], Some("order.requests"), Some("TEA-1")), false, false),
        ] {
            assert_eq!(
                (which.is_meant(&CATALOGUE, &upper), which.is_meant(&CATALOGUE, &other)),
                (first, second),
                "{which:?}"
            );
        }
    }

    #[test]
    fn a_letter_is_told_with_its_generation_where_it_is_not_the_first() {
        let first = letter("order.requests", b"k");
        let second = DeadLetter { generation: 2, ..first.clone() };
        assert_eq!(first.whose(), "order");
        assert_eq!(second.whose(), "order.g2");
        let json = |letter: DeadLetter| serde_json::to_value(letter).unwrap();
        assert_eq!(json(first).get("generation"), None);
        assert_eq!(json(second)["generation"], 2);
        let fate = Fate { service: "order", generation: 2, id: Uuid::nil(), reason: "too_large".into(), state: "open" };
        assert!(fate.describe().starts_with("open dead letter of order.g2 (too_large)"), "{}", fate.describe());
    }

    #[test]
    fn a_key_is_whole_in_json() {
        let long = "k".repeat(65_536);
        let json = serde_json::to_value(letter("order.requests", long.as_bytes())).unwrap();
        assert_eq!(json["key"], long);
    }
}
