//! Whether this database knows what lies on the topics that its service writes.
//!
//! A database that was restored from a dump knows less than it has published: it would state the same versions again, with other content.
//! So the relay notes how far each partition is known, in the transaction that removes what was acknowledged, and whoever takes the lease
//! compares the notes with the topics' ends. Without a difference that is one question to the broker. What lies beyond a note is read:
//!
//! - What others wrote there is none of ours.
//! - What is in the outbox under the same id is a repeat that is still to come: its removal was lost with its process.
//! - What lies on the topic before, under the same id, is a repeat too: a suspended owner's that woke up late.
//! - The rest is news. Then nothing is published until it is none any more, or a person accepts the topic as it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use quadrille_core::{Policy, Records, TopicKind, bounds};
use quadrille_kafka::{CloudEvent, UnreadableBatch, headers, is_unreadable, partitions, unreadable};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    lease::{Lease, answered},
    limits::BROKER,
    operators::By,
};

/// Records that are looked at in one piece.
const PIECE: usize = 5_000;
/// Keys that are named of one partition, and characters of one.
const NAMED: usize = 5;
const NAMED_CHARS: usize = 64;

/// A partition: its topic, without the world's prefix, and its number.
type Place = (String, i32);

/// The topics that a service writes, as far as they are to be compared.
#[derive(Clone)]
pub(crate) struct Topics {
    client: Arc<BaseConsumer>,
    config: ClientConfig,
    prefix: String,
    /// `ce_source` of what the service itself has written.
    source: String,
    topics: Vec<&'static str>,
}

/// One of the service's own records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Own {
    id: Uuid,
    key: String,
    version: i64,
}

/// What a piece of a partition holds.
#[derive(Default)]
struct Piece {
    own: Vec<Own>,
    /// The offset of the first of them, and the earliest of their timestamps.
    first: i64,
    since_ms: i64,
    /// Where the next piece begins.
    next: i64,
}

/// What a partition came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// All of it is known.
    Known,
    /// There is what this database does not know, or less than it does; as a sentence.
    Disagrees(String),
}

/// The topics that a policy's service alone writes. On a topic of requests anybody may claim to be this service.
pub(crate) fn topics<P: Policy>() -> Vec<&'static str> {
    let own = P::Stated::TYPES.iter().map(|stated| stated.topic).filter(|topic| topic.kind != TopicKind::Requests);
    own.map(|topic| &*topic.name).collect::<BTreeSet<&str>>().into_iter().collect()
}

impl Topics {
    pub fn new(
        kafka: &quadrille_kafka::Connection,
        service: &'static str,
        topics: Vec<&'static str>,
    ) -> anyhow::Result<Self> {
        let mut config = kafka.observer(&format!("quadrille-{service}-onlooker"), &kafka.group(service));
        // To the very end: our own records are no transactions. And bounded in what waits to be looked at.
        config.set("isolation.level", "read_uncommitted").set("enable.partition.eof", "true");
        config.set("enable.auto.offset.store", "false");
        config.set("queued.max.messages.kbytes", "8192").set("fetch.message.max.bytes", "524288");
        let client = Arc::new(config.create()?);
        Ok(Self { client, config, prefix: kafka.topic_prefix.clone(), source: format!("/quadrille/{service}"), topics })
    }

    /// Compares the notes with the topics. Returns why they disagree, if they do; an error means that it could not be seen.
    pub async fn compare(&self, lease: &mut Lease) -> anyhow::Result<Option<String>> {
        let ends = self.ask(lease, Self::ends).await?;
        if !lease.noted {
            take_as_they_are(lease, &ends).await?;
        }
        let notes = notes(&mut lease.connection, &ends).await?;
        let (mut known, mut disagreeing) = (vec![], vec![]);
        for (place, end) in ends {
            let Some(note) = notes.get(&place) else { continue };
            match self.look(lease, &place, note.offset + 1, end).await? {
                Found::Known if end == note.offset + 1 && note.disagrees.is_none() => {}
                Found::Known => known.push((place, end - 1)),
                Found::Disagrees(why) => disagreeing.push((place, why)),
            }
        }
        note(&mut lease.connection, &known, &disagreeing).await?;
        let Some((_, first)) = disagreeing.first() else { return Ok(None) };
        let more = match disagreeing.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more partitions)"),
        };
        Ok(Some(format!(
            "database and topic disagree, nothing is published: {first}{more}; `quadrille doctor` says what to do"
        )))
    }

    /// What lies from `from` on and before `end`.
    async fn look(&self, lease: &mut Lease, place: &Place, from: i64, end: i64) -> anyhow::Result<Found> {
        let (topic, partition) = place;
        if end < from {
            return Ok(Found::Disagrees(format!(
                "{topic}/{partition} ends at {end}, and offset {} was acknowledged: the topic was made anew, or has lost records",
                from - 1
            )));
        }
        let mut from = from;
        while from < end {
            let piece = self.piece(lease, place, from, end).await?;
            let mut news = unknown(&mut lease.connection, topic, &piece.own).await?;
            if !news.is_empty() {
                self.strike_repeats(lease, place, &piece, &mut news).await?;
            }
            if let Some(first) = piece.own.iter().find(|own| news.contains(own)) {
                let keys: BTreeSet<&str> = news.iter().map(|own| own.key.as_str()).collect();
                let named = keys.iter().take(NAMED).map(|key| key.chars().take(NAMED_CHARS).collect::<String>());
                let named = named.collect::<Vec<_>>().join(", ");
                let more = if keys.len() > NAMED { ", ..." } else { "" };
                return Ok(Found::Disagrees(format!(
                    "{topic}/{partition} holds events from offset {} on that this database does not know, the first of key {} and version {}; of keys {named}{more}",
                    piece.first,
                    first.key.chars().take(NAMED_CHARS).collect::<String>(),
                    first.version
                )));
            }
            from = piece.next;
        }
        Ok(Found::Known)
    }

    /// Takes out of `news` what the topic holds before the piece, too.
    ///
    /// A repeat has the timestamp of its first occurrence, so that one does not lie before the first record of that time.
    async fn strike_repeats(
        &self,
        lease: &mut Lease,
        place: &Place,
        piece: &Piece,
        news: &mut HashSet<Own>,
    ) -> anyhow::Result<()> {
        let since_ms = piece.since_ms;
        let asked = place.clone();
        let mut from = self.ask(lease, move |topics| topics.offset_at(&asked, since_ms)).await?;
        while from < piece.first && !news.is_empty() {
            let earlier = self.piece(lease, place, from, piece.first).await?;
            for own in &earlier.own {
                news.remove(own);
            }
            from = earlier.next;
        }
        Ok(())
    }

    async fn piece(&self, lease: &mut Lease, place: &Place, from: i64, end: i64) -> anyhow::Result<Piece> {
        let place = place.clone();
        self.ask(lease, move |topics| topics.read(&place, from, end)).await
    }

    /// Asks the broker on a thread that may wait; the lease is kept meanwhile.
    async fn ask<T: Send + 'static>(
        &self,
        lease: &mut Lease,
        question: impl FnOnce(&Self) -> KafkaResult<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let topics = self.clone();
        let answer = lease.while_beating(tokio::task::spawn_blocking(move || question(&topics))).await??;
        answer.context("the topics could not be compared with this database")
    }
}

impl Topics {
    fn physical(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The end of each partition, as of now: one question for all.
    fn ends(&self) -> KafkaResult<BTreeMap<Place, i64>> {
        let mut asked = TopicPartitionList::new();
        for topic in &self.topics {
            let physical = self.physical(topic);
            for partition in partitions(&self.client, &physical, BROKER)? {
                asked.add_partition_offset(&physical, partition, Offset::End)?;
            }
        }
        // A service that states nothing of its own has nothing to compare, and the client refuses an empty question.
        if asked.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let answer = self.client.offsets_for_times(asked, BROKER)?;
        let end = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            element.error()?;
            let topic = element.topic().strip_prefix(&self.prefix).unwrap_or(element.topic()).to_owned();
            Ok(((topic, element.partition()), element.offset().to_raw().unwrap_or_default()))
        };
        answer.elements().iter().map(end).collect()
    }

    /// The offset of the first record with this timestamp or a later one; past the end if there is none.
    fn offset_at(&self, (topic, partition): &Place, ms: i64) -> KafkaResult<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&self.physical(topic), *partition, Offset::Offset(ms.max(0)))?;
        let answer = self.client.offsets_for_times(asked, BROKER)?;
        Ok(match answer.elements().first().map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => i64::MAX,
        })
    }

    /// Reads a piece of a partition, from `from` on and before `end`.
    fn read(&self, place: &Place, from: i64, end: i64) -> KafkaResult<Piece> {
        let mut piece = Piece { next: from, since_ms: i64::MAX, ..Piece::default() };
        self.assign(place, from)?;
        let (mut records, mut heard) = (0, Instant::now());
        while piece.next < end && records < PIECE {
            match self.client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.offset() < end => {
                    piece.next = message.offset() + 1;
                    records += 1;
                    heard = Instant::now();
                    if let Some(own) = self.own(&message) {
                        if piece.own.is_empty() {
                            piece.first = message.offset();
                        }
                        piece.since_ms = piece.since_ms.min(message.timestamp().to_millis().unwrap_or_default());
                        piece.own.push(own);
                    }
                }
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => piece.next = end,
                // No record of ours: we write none that cannot be read.
                Some(Err(error)) if is_unreadable(&error) => {
                    let next = self.behind(place, piece.next)?.min(end);
                    if next > piece.next {
                        (piece.next, heard) = (next, Instant::now());
                    }
                    self.assign(place, piece.next)?;
                }
                _ if heard.elapsed() > BROKER => {
                    self.client.unassign()?;
                    return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
                }
                _ => {}
            }
        }
        self.client.unassign()?;
        Ok(piece)
    }

    fn assign(&self, (topic, partition): &Place, from: i64) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.physical(topic), *partition, Offset::Offset(from))?;
        self.client.assign(&list)
    }

    /// The first offset behind the batch at `from`, which cannot be read.
    fn behind(&self, (topic, partition): &Place, from: i64) -> KafkaResult<i64> {
        let Some(UnreadableBatch { to, cause, .. }) =
            unreadable(&self.config, &self.physical(topic), *partition, from, BROKER)?
        else {
            return Ok(from);
        };
        error!(
            topic,
            partition, from, to, "Records cannot be read and are passed over; reading goes on at {to}: {cause}"
        );
        Ok(to)
    }

    /// The record, if it is the service's own.
    fn own(&self, message: &BorrowedMessage<'_>) -> Option<Own> {
        // A name that is not UTF-8 is none of ours.
        let event = headers(message, |headers| CloudEvent::read(headers))?;
        if event.source != self.source {
            return None;
        }
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        Some(Own { id: event.id.parse().ok()?, key, version: event.version.parse().ok()? })
    }
}

/// How far a partition is known.
#[derive(sqlx::FromRow)]
struct Note {
    topic: String,
    partition: i32,
    offset: i64,
    disagrees: Option<String>,
}

/// The notes on these partitions. One without a note gets its first.
async fn notes(connection: &mut PgConnection, ends: &BTreeMap<Place, i64>) -> sqlx::Result<BTreeMap<Place, Note>> {
    let select = "select topic, partition, \"offset\", disagrees from published";
    let notes: Vec<Note> = answered(sqlx::query_as(select).fetch_all(&mut *connection)).await?;
    let mut notes: BTreeMap<Place, Note> =
        notes.into_iter().map(|note| ((note.topic.clone(), note.partition), note)).collect();
    if ends.keys().all(|place| notes.contains_key(place)) {
        return Ok(notes);
    }
    // A database without a note has published nothing there.
    let nothing = ends.keys().map(|place| (place.clone(), -1));
    let missing: Vec<(Place, i64)> = nothing.filter(|(place, _)| !notes.contains_key(place)).collect();
    let (topics, partitions, offsets) = columns(&missing);
    let insert = sqlx::query(
        "insert into published (topic, partition, \"offset\") select * from unnest($1::text[], $2::int[], $3::bigint[])",
    );
    answered(insert.bind(topics).bind(partitions).bind(offsets).execute(connection)).await?;
    for ((topic, partition), offset) in missing {
        notes.insert((topic.clone(), partition), Note { topic, partition, offset, disagrees: None });
    }
    Ok(notes)
}

/// Notes the topics as they are: an owner of an older build has published, and noted nothing.
async fn take_as_they_are(lease: &mut Lease, ends: &BTreeMap<Place, i64>) -> sqlx::Result<()> {
    let known: Vec<(Place, i64)> = ends.iter().map(|(place, end)| (place.clone(), end - 1)).collect();
    let (topics, partitions, offsets) = columns(&known);
    let take = sqlx::query(
        "with noted as (
             insert into published (topic, partition, \"offset\") select * from unnest($1::text[], $2::int[], $3::bigint[])
             on conflict (topic, partition) do update set \"offset\" = excluded.\"offset\", disagrees = null)
         update lease set noted_by = owner where name = 'relay'",
    );
    answered(take.bind(topics).bind(partitions).bind(offsets).execute(&mut lease.connection)).await?;
    lease.noted = true;
    warn!("An older build published from this database and noted nothing of it: the topics are taken as they are");
    Ok(())
}

/// Places and offsets as a statement takes them.
fn columns(places: &[(Place, i64)]) -> (Vec<&str>, Vec<i32>, Vec<i64>) {
    let (mut topics, mut partitions, mut offsets) = (vec![], vec![], vec![]);
    for ((topic, partition), offset) in places {
        topics.push(topic.as_str());
        partitions.push(*partition);
        offsets.push(*offset);
    }
    (topics, partitions, offsets)
}

/// Notes what a comparison found: places that are known up to an offset, and such that disagree.
async fn note(
    connection: &mut PgConnection,
    known: &[(Place, i64)],
    disagreeing: &[(Place, String)],
) -> sqlx::Result<()> {
    if known.is_empty() && disagreeing.is_empty() {
        return Ok(());
    }
    let (mut topics, mut partitions, mut offsets, mut why) = (vec![], vec![], vec![], vec![]);
    for ((topic, partition), offset) in known {
        topics.push(topic);
        partitions.push(*partition);
        offsets.push(Some(*offset));
        why.push(None);
    }
    for ((topic, partition), sentence) in disagreeing {
        // Names keys, which may have been forged.
        topics.push(topic);
        partitions.push(*partition);
        offsets.push(None);
        why.push(Some(bounds::fitted(sentence)));
    }
    let update = sqlx::query(
        "update published set \"offset\" = coalesce(found.upto, published.\"offset\"), disagrees = found.disagrees
         from unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) as found(topic, partition, upto, disagrees)
         where published.topic = found.topic and published.partition = found.partition",
    );
    answered(update.bind(topics).bind(partitions).bind(offsets).bind(why).execute(connection)).await?;
    Ok(())
}

/// Those of a topic's records that are not in the outbox: same id, key and version.
async fn unknown(connection: &mut PgConnection, topic: &str, own: &[Own]) -> sqlx::Result<HashSet<Own>> {
    if own.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<Uuid> = own.iter().map(|own| own.id).collect();
    let waiting = sqlx::query_as(
        "select event_id, key, version from unnest($1::uuid[]) as asked(id) join outbox on event_id = asked.id where topic = $2",
    );
    let waiting: Vec<(Uuid, String, i64)> = answered(waiting.bind(ids).bind(topic).fetch_all(connection)).await?;
    let waiting: HashSet<Own> = waiting.into_iter().map(|(id, key, version)| Own { id, key, version }).collect();
    Ok(own.iter().filter(|own| !waiting.contains(own)).cloned().collect())
}

/// A person accepts the topics as they are: what this database does not know is left alone, and publishing goes on. Says what was accepted.
pub(crate) async fn accept(topics: Topics, database: &PgConnectOptions, by: &By) -> anyhow::Result<String> {
    by.check()?;
    let mut connection = answered(database.connect()).await.context("the database (database.url) does not answer")?;
    let mut tx = answered(connection.begin()).await?;
    let select = "select topic, partition, \"offset\", disagrees from published where disagrees is not null for update";
    let disagreeing: Vec<Note> = answered(sqlx::query_as(select).fetch_all(&mut *tx)).await?;
    if disagreeing.is_empty() {
        bail!("database and topics do not disagree: there is nothing to accept");
    }
    let ends = tokio::task::spawn_blocking(move || topics.ends()).await?.context("the topics' ends cannot be had")?;
    let mut accepted = vec![];
    for Note { topic, partition, disagrees, .. } in disagreeing {
        let place = (topic, partition);
        let Some(end) = ends.get(&place) else { continue };
        accepted.push((place, end - 1));
        warn!(operator.who = by.who, operator.why = by.why, "Accepted: {}", disagrees.unwrap_or_default());
    }
    note(&mut tx, &accepted, &[]).await?;
    let places: Vec<String> =
        accepted.iter().map(|((topic, partition), offset)| format!("{topic}/{partition} up to {offset}")).collect();
    let detail = format!("accepted as they are: {}", places.join(", "));
    answered(by.keep(&mut tx, "accept", &detail)).await?;
    answered(tx.commit()).await?;
    Ok(detail)
}
