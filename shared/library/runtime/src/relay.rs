//! The relay: publishes the outbox, per topic and key in the order of its numbers, and removes a row after its acknowledgement.
//!
//! Read from the head, send all, await all acknowledgements, delete by id, read again. Nothing is read ahead: a transaction that commits
//! late may bring a lower number, which the next read from the head finds. A floor spares the read what old snapshots keep of deleted
//! rows; it rises only past numbers that no open transaction can still bring.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use metrics::{counter, gauge};
use quadrille_core::bounds;
use quadrille_kafka::{Brokers, CloudEvent, Connection, registry::Unavailable};
use quadrille_schemas::wire;
use rdkafka::{
    ClientContext, Message, Statistics,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    kafka,
    lease::{Lease, answered},
    outbox::carried,
    platform_events,
    published::Topics,
    resources::Resources,
};

/// Rows of one round at most, and bytes: past so many no further row is read.
const ROUND: i64 = 5_000;
const ROUND_BYTES: i64 = 16 * 1024 * 1024;
/// The net under lost wake-ups.
const FALLBACK_POLL: Duration = Duration::from_millis(100);
/// A row that the broker refuses for good is tried again this often.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Waits after a round that came to nothing, so that a refusal that stays does not keep the relay spinning.
const REFUSED_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// While database and topics disagree, or cannot be compared, they are looked at again after this time.
const COMPARE_AGAIN: Duration = Duration::from_secs(5);
/// While what tells operators cannot be published, it is looked at again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(5);
/// The listening connection is asked for a word after so much silence.
const PING: Duration = Duration::from_secs(15);

/// The relay of one instance. It works only while it owns the service's lease.
pub(crate) struct Relay {
    pub resources: Arc<Resources>,
    /// What the service writes.
    pub topics: Vec<&'static str>,
    /// Whether they have been found, in the shape that is declared.
    pub are_topics_ready: watch::Receiver<bool>,
    pub wake: Arc<Notify>,
    /// Whether this instance owns the lease.
    pub owner: Arc<AtomicBool>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    topic: String,
    key: String,
    event_id: Uuid,
    #[sqlx(rename = "type")]
    record_type: String,
    /// None of a request, which has no cause either.
    version: Option<i64>,
    causation_id: Option<Uuid>,
    time: DateTime<Utc>,
    traceparent: String,
    tracestate: String,
    /// The record's value, once it is framed.
    value: Vec<u8>,
    /// The fingerprint of the schema that it was written with; an older build's value is framed already.
    schema: Option<i64>,
    /// The oldest transaction that was still open when the row was read.
    oldest_open: i64,
}

/// Whether what tells operators can be published. It holds up no facts: while it cannot, its rows are left out of the rounds, and looked at
/// again after [`TELL_AGAIN`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// There was nothing to tell yet.
    Unknown,
    Possible,
    Impossible {
        until: Instant,
    },
}

impl Row {
    fn tells_operators(&self) -> bool {
        self.topic == platform_events::topic()
    }
}

/// Keys whose next row the broker refuses, with that row's number and the time of the next try.
type Held = BTreeMap<(String, String), (i64, Instant)>;

/// Up to where the outbox is known to be empty for good.
#[derive(Default)]
struct Floor {
    floor: i64,
    candidate: Option<(i64, i64)>,
}

impl Relay {
    /// Publishes until `stop`, and then until the outbox is empty or `abort`.
    pub async fn run(mut self, stop: CancellationToken, abort: CancellationToken) {
        if stop.run_until_cancelled(self.are_topics_ready.wait_for(|ready| *ready)).await.is_none() {
            return;
        }
        while !stop.is_cancelled() {
            let lease = tokio::select! {
                () = stop.cancelled() => return,
                lease = Lease::take(&self.resources.database, &self.resources.instance, || self.resources.health.ok("relay")) => lease,
            };
            let error = match lease {
                Err(error) => error.to_string(),
                Ok(mut lease) => {
                    self.owner.store(true, Ordering::Relaxed);
                    let published = tokio::select! {
                        published = self.publish(&mut lease, &stop) => published,
                        () = abort.cancelled() => Ok(()),
                    };
                    self.owner.store(false, Ordering::Relaxed);
                    match published {
                        Ok(()) => return lease.release().await,
                        Err(error) => format!("{error:#}"),
                    }
                }
            };
            warn!("The relay begins anew: {error}");
            self.resources.health.error("relay", &error);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the database knows what lies on its service's topics. Whether it does: else the service stops.
    async fn agree(&self, lease: &mut Lease, stop: &CancellationToken) -> anyhow::Result<bool> {
        let topics = || Topics::new(&self.resources.kafka, self.resources.service, self.topics.clone());
        let mut asked = topics()?;
        let mut said = String::new();
        loop {
            let why = match asked.compare(lease).await {
                Ok(None) => {
                    self.resources.health.ok("relay");
                    return Ok(true);
                }
                // Names keys, which may have been forged.
                Ok(Some(why)) => bounds::fitted(&why),
                // The database's own errors end the lease; the broker is waited for.
                Err(error) if error.is::<sqlx::Error>() => return Err(error),
                Err(error) => {
                    // Its client may have forgotten every broker (`Brokers`).
                    drop(kafka::retire(std::mem::replace(&mut asked, topics()?)));
                    format!("{error:#}")
                }
            };
            if why != said {
                error!("{why}");
            }
            self.resources.health.error("relay", &why);
            said = why;
            let again = stop.run_until_cancelled(tokio::time::sleep(COMPARE_AGAIN));
            if lease.while_beating(again).await?.is_none() {
                return Ok(false);
            }
        }
    }

    async fn publish(&self, lease: &mut Lease, stop: &CancellationToken) -> anyhow::Result<()> {
        if !self.agree(lease, stop).await? {
            return Ok(());
        }
        let mut sender = Sender::new(&self.resources.kafka, self.resources.service)?;
        let mut schema_ids = HashMap::new();
        let mut floor = Floor::default();
        let (mut held, mut telling, mut untold) = (Held::new(), Telling::Unknown, String::new());
        let (mut backoff, mut alone) = (REFUSED_BACKOFF, false);
        loop {
            held.retain(|_, (_, retry_at)| *retry_at > Instant::now());
            if matches!(telling, Telling::Impossible { until } if until <= Instant::now()) {
                // What was left out may lie below the floor.
                (telling, floor) = (Telling::Unknown, Floor::default());
            }
            let mut rows = read(lease, floor.floor, &held, telling).await?;
            if telling == Telling::Unknown && rows.iter().any(Row::tells_operators) {
                if let Some(why) = self.untellable(lease).await? {
                    telling = self.leave_out(why, &mut untold);
                    continue;
                }
                telling = Telling::Possible;
            }
            gauge!("quadrille_outbox_round").set(rows.len() as f64);
            if rows.is_empty() {
                if held.is_empty() && !matches!(telling, Telling::Impossible { .. }) {
                    self.resources.health.ok("relay");
                }
                if stop.is_cancelled() {
                    return Ok(());
                }
                let more = async {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(FALLBACK_POLL) => {}
                    }
                };
                lease.while_beating(more).await?;
                continue;
            }
            if let Err((subject, away)) = self.frame(&mut rows, &mut schema_ids, lease).await? {
                if platform_events::TYPES.iter().any(|told| told.subject() == subject) {
                    telling = self.leave_out(away.to_string(), &mut untold);
                    continue;
                }
                let wait = backoff.wait();
                warn!("Nothing is published, which is tried again in {wait:?}: {away}");
                self.resources.health.error("relay", &away.to_string());
                if stop.is_cancelled() {
                    return Ok(());
                }
                lease.while_beating(tokio::time::sleep(wait)).await?;
                continue;
            }
            let held_before = held.len();
            let sent = sender.send_all(&rows, &mut held, alone, lease).await?;
            let horizon = remove(lease, &sent).await?;
            counter!("quadrille_published_total").increment(sent.acknowledged.len() as u64);
            alone = sent.is_unsure;
            match sent.refusal {
                None => {
                    floor.after(&rows, horizon, held.values().map(|(id, _)| *id).min());
                    backoff = REFUSED_BACKOFF;
                }
                Some(refusal) => {
                    self.resources.health.warn("relay", &refusal);
                    let new = Sender::new(&self.resources.kafka, self.resources.service)?;
                    // What it had under way must not leave this process any more when the new one begins.
                    lease
                        .while_beating(kafka::retire(std::mem::replace(&mut sender, new)))
                        .await?
                        .context("a client's end")?;
                    (telling, floor) = (Telling::Unknown, Floor::default());
                    if sent.acknowledged.is_empty() && held.len() == held_before {
                        let wait = backoff.wait();
                        warn!("Nothing could be published, which is tried again in {wait:?}: {refusal}");
                        lease.while_beating(tokio::time::sleep(wait)).await?;
                    }
                }
            }
        }
    }

    /// What stands in the way of what tells operators, if its topic is not there in the shape that is declared.
    async fn untellable(&self, lease: &mut Lease) -> anyhow::Result<Option<String>> {
        let (kafka, service) = (self.resources.kafka.clone(), self.resources.service);
        let look = move || kafka::check_topics(&kafka, service, platform_events::TYPES);
        Ok(match lease.while_beating(tokio::task::spawn_blocking(look)).await?? {
            kafka::Topics::Ready => None,
            kafka::Topics::Waiting(why) | kafka::Topics::Refused(why) => Some(why),
        })
    }

    /// Has what tells operators left out for a while, and says why; once in the log.
    fn leave_out(&self, why: String, said: &mut String) -> Telling {
        self.resources.health.warn("relay", &format!("what tells operators waits in the outbox: {why}"));
        if why != *said {
            warn!("What tells operators waits in the outbox: {why}");
            *said = why;
        }
        Telling::Impossible { until: Instant::now() + TELL_AGAIN }
    }

    /// Frames each row's datum. Each schema's id is asked for once. Returns the subject of one that is not to be had, if there is any.
    async fn frame(
        &self,
        rows: &mut [Row],
        ids: &mut HashMap<i64, u32>,
        lease: &mut Lease,
    ) -> anyhow::Result<Result<(), (String, Unavailable)>> {
        let unknown: BTreeSet<i64> =
            rows.iter().filter_map(|row| row.schema).filter(|s| !ids.contains_key(s)).collect();
        if !unknown.is_empty() {
            let schemas =
                sqlx::query_as("select fingerprint, subject, text from stated_schema where fingerprint = any($1)");
            let schemas = schemas.bind(unknown.into_iter().collect::<Vec<_>>());
            let schemas: Vec<(i64, String, String)> = answered(schemas.fetch_all(&mut lease.connection)).await?;
            for (fingerprint, subject, text) in schemas {
                let asked = self.resources.registry.id_of(&subject, &text);
                match lease.while_beating(asked).await? {
                    Ok(Some(id)) => drop(ids.insert(fingerprint, id)),
                    Ok(None) => {
                        let lost = self.resources.registry.lost(&subject);
                        return Ok(Err((subject, lost)));
                    }
                    Err(away) => return Ok(Err((subject, away))),
                }
            }
        }
        for row in rows {
            if let Some(schema) = row.schema {
                let id = ids.get(&schema).with_context(|| format!("outbox row {} has no schema {schema}", row.id))?;
                row.value = wire::frame(*id, &row.value);
            }
        }
        Ok(Ok(()))
    }
}

async fn read(lease: &mut Lease, floor: i64, held: &Held, telling: Telling) -> sqlx::Result<Vec<Row>> {
    let (topics, keys): (Vec<&str>, Vec<&str>) = held.keys().map(|(topic, key)| (topic.as_str(), key.as_str())).unzip();
    let but = match held.is_empty() {
        true => "",
        false => "and (topic, key) not in (select * from unnest($4::text[], $5::text[]))",
    };
    let facts = match telling {
        Telling::Impossible { .. } => format!("and topic <> '{}'", platform_events::topic()),
        Telling::Unknown | Telling::Possible => String::new(),
    };
    // What is not read is not fetched: only its size is looked at.
    let read = format!(
        "select id, topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, value, schema,
             pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_open
         from (
             select *, sum(octet_length(value) + octet_length(tracestate)) over (
                 order by id rows between unbounded preceding and 1 preceding) as bytes_before
             from (select *, coalesce(datum, payload) as value from outbox where id > $1 {but} {facts} order by id limit $2) head) head
         where coalesce(bytes_before, 0) < $3 order by id"
    );
    let read = sqlx::query_as(sqlx::AssertSqlSafe(read)).bind(floor).bind(ROUND).bind(ROUND_BYTES);
    let read = if held.is_empty() { read } else { read.bind(topics).bind(keys) };
    answered(read.fetch_all(&mut lease.connection)).await
}

/// Removes published rows and notes how far their topics are known. Returns a transaction id that was given out after they were read.
async fn remove(lease: &mut Lease, sent: &Sent<'_>) -> sqlx::Result<i64> {
    let (mut topics, mut partitions, mut offsets) = (vec![], vec![], vec![]);
    for ((topic, partition), offset) in &sent.last {
        topics.push(topic);
        partitions.push(*partition);
        offsets.push(*offset);
    }
    let remove = sqlx::query_scalar(
        "with removed as (delete from outbox where id = any($1)),
             noted as (
                 insert into published as known (topic, partition, \"offset\")
                 select * from unnest($2::text[], $3::int[], $4::bigint[])
                 on conflict (topic, partition) do update set \"offset\" = greatest(known.\"offset\", excluded.\"offset\"))
         select pg_current_xact_id()::text::bigint",
    );
    let remove = remove.bind(&sent.acknowledged).bind(topics).bind(partitions).bind(offsets);
    answered(remove.fetch_one(&mut lease.connection)).await
}

impl Floor {
    /// After a round read from this floor was published; `horizon` is a transaction id given out after the read.
    ///
    /// Whoever writes the outbox has a transaction id before it draws a number. Who drew one below a number m that was seen did so
    /// before the read, so its id is below the horizon. Once no transaction below the horizon is open, a read that began after has seen
    /// all numbers up to m. (A snapshot's `xmax` is no such horizon: it is one above the highest *completed* id, and open ones may lie
    /// at or above it.)
    fn after(&mut self, rows: &[Row], horizon: i64, lowest_held: Option<i64>) {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
        match self.candidate {
            Some((number, horizon_then)) if first.oldest_open >= horizon_then => {
                // Of a round that was cut nothing is known beyond its last row.
                self.floor = if is_full(rows) { number.min(last.id) } else { number };
                self.candidate = Some((last.id, horizon));
            }
            Some(_) => {}
            None => self.candidate = Some((last.id, horizon)),
        }
        if let Some(held) = lowest_held {
            self.floor = self.floor.min(held - 1);
        }
    }
}

/// Whether there may be more rows than a round takes.
fn is_full(rows: &[Row]) -> bool {
    let bytes: usize = rows.iter().map(|row| row.value.len() + row.tracestate.len()).sum();
    rows.len() as i64 == ROUND || bytes as i64 >= ROUND_BYTES
}

/// A producer, and the acknowledgements of the round under way.
struct Sender {
    producer: ThreadedProducer<Acks>,
    acks: Arc<Round>,
    prefix: String,
    service: &'static str,
}

/// The acknowledgements of a round, by its rows' indices.
#[derive(Default)]
struct Round {
    open: AtomicUsize,
    answers: Mutex<Answers>,
    wake: Notify,
    known: Brokers,
}

#[derive(Default)]
struct Answers {
    /// With the partition and the offset that the record has.
    acknowledged: Vec<(usize, i32, i64)>,
    failed: Vec<(usize, KafkaError)>,
}

impl Round {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Acks(Arc<Round>);

/// What became of a round.
#[derive(Default)]
struct Sent<'a> {
    /// Numbers of rows.
    acknowledged: Vec<i64>,
    /// The last offset that was acknowledged, by topic and partition.
    last: BTreeMap<(&'a str, i32), i64>,
    refusal: Option<String>,
    /// The broker refused a batch for one of its records: sent one by one they tell which.
    is_unsure: bool,
}

impl ClientContext for Acks {
    fn stats(&self, statistics: Statistics) {
        self.0.known.note(&statistics);
        if self.0.known.are_forgotten() {
            self.0.wake.notify_one();
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // That one of our settings is called experimental is no news at each start.
        if facility != "CONFWARN" {
            DefaultClientContext.log(level, facility, message);
        }
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let mut answers = self.0.answers();
        match result {
            Ok(record) => answers.acknowledged.push((index, record.partition(), record.offset())),
            Err((error, _)) => answers.failed.push((index, error.clone())),
        }
        drop(answers);
        // The last, or the last but the one that is counted beside them.
        if self.0.open.fetch_sub(1, Ordering::AcqRel) <= 2 {
            self.0.wake.notify_one();
        }
    }
}

impl Sender {
    fn new(kafka: &Connection, service: &'static str) -> anyhow::Result<Self> {
        let acks = Arc::new(Round::default());
        let client = format!("quadrille-{service}-relay");
        let producer = kafka
            .producer(&client)
            // What the broker refuses for good ends the client: else it would renumber what comes behind and send that. And nothing is on its way
            // behind a batch that may be refused: from a producer that it does not know yet a broker takes any number.
            .set("enable.gapless.guarantee", "true")
            .set("max.in.flight.requests.per.connection", "1")
            .set("statistics.interval.ms", "5000")
            .create_with_context(Acks(Arc::clone(&acks)))?;
        Ok(Self { producer, acks, prefix: kafka.topic_prefix.clone(), service })
    }

    /// Sends a round and awaits every acknowledgement, however long the broker is away; the lease is kept meanwhile. Where each is sent
    /// `alone`, the next one is when it is answered, and none after one that is refused.
    async fn send_all<'a>(
        &self,
        rows: &'a [Row],
        held: &mut Held,
        alone: bool,
        lease: &mut Lease,
    ) -> anyhow::Result<Sent<'a>> {
        // One more than is sent, so that the count cannot reach zero before all are sent.
        self.acks.open.store(1, Ordering::Release);
        for (index, row) in rows.iter().enumerate() {
            if !held.is_empty() && held.contains_key(&(row.topic.clone(), row.key.clone())) {
                continue;
            }
            self.acks.open.fetch_add(1, Ordering::AcqRel);
            if let Err(error) = self.send(index, row, lease).await? {
                let is_its_own = refused(&error).is_some();
                if is_its_own {
                    // Too large, for one. At once, so that nothing of its key passes it.
                    hold(held, row, &error.to_string());
                }
                self.acks.answers().failed.push((index, error));
                self.acks.open.fetch_sub(1, Ordering::AcqRel);
                if !is_its_own {
                    // The client takes nothing more.
                    break;
                }
            } else if alone {
                lease.while_beating(self.all_answered(1)).await?;
                if !self.acks.answers().failed.is_empty() || self.acks.known.are_forgotten() {
                    break;
                }
            }
        }
        if self.acks.open.fetch_sub(1, Ordering::AcqRel) != 1 {
            lease.while_beating(self.all_answered(0)).await?;
        }
        let mut sent = settle(std::mem::take(&mut *self.acks.answers()), rows, held, alone);
        if self.acks.known.are_forgotten() {
            sent.refusal.get_or_insert_with(|| "the client has forgotten every broker and is made anew".into());
        }
        Ok(sent)
    }

    /// Hands a row's record to the client, once it has room.
    async fn send(&self, index: usize, row: &Row, lease: &mut Lease) -> sqlx::Result<Result<(), KafkaError>> {
        let topic = format!("{}{}", self.prefix, row.topic);
        let mut record = BaseRecord::with_opaque_to(&topic, index)
            .key(row.key.as_str())
            .payload(row.value.as_slice())
            .headers(headers(row, self.service));
        // A request has the time at which it is sent: however long the broker was away, nobody finds it too old.
        if row.version.is_some() {
            record = record.timestamp(row.time.timestamp_millis());
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(Ok(())),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned))
                    if !self.acks.known.are_forgotten() =>
                {
                    record = returned;
                    lease.while_beating(tokio::time::sleep(Duration::from_millis(2))).await?;
                }
                Err((error, _)) => return Ok(Err(error)),
            }
        }
    }

    /// Waits until no more than so many are open, or until the client has forgotten whom to ask.
    async fn all_answered(&self, most: usize) {
        while self.acks.open.load(Ordering::Acquire) > most && !self.acks.known.are_forgotten() {
            self.acks.wake.notified().await;
        }
    }
}

/// Tells what became of a round, and holds the keys of what the broker refuses for good.
fn settle<'a>(answers: Answers, rows: &'a [Row], held: &mut Held, alone: bool) -> Sent<'a> {
    let Answers { mut acknowledged, mut failed } = answers;
    let mut sent = Sent::default();
    // In the order of their numbers: a key is held at its first.
    failed.sort_by_key(|(index, _)| *index);
    for (index, error) in &failed {
        let row = &rows[*index];
        if !held.contains_key(&(row.topic.clone(), row.key.clone())) {
            match refused(error) {
                Some(Refused::Batch) if !alone => sent.is_unsure = true,
                Some(_) => hold(held, row, &error.to_string()),
                None => {}
            }
        }
        sent.refusal = Some(format!("{}, key {}: {error}", row.topic, row.key));
    }
    acknowledged.sort_unstable();
    for (index, partition, offset) in acknowledged {
        let row = &rows[index];
        if offset < 0 {
            // The client says so of a repeat that the broker no longer knows the first of. Without an offset nothing can be noted, so the
            // row stays and is sent once more.
            sent.refusal = Some(format!("{}, key {}: acknowledged without an offset", row.topic, row.key));
            continue;
        }
        sent.acknowledged.push(row.id);
        let last = sent.last.entry((row.topic.as_str(), partition)).or_default();
        *last = offset.max(*last);
    }
    sent
}

impl Drop for Sender {
    /// What is not acknowledged stays in the outbox: it must not leave this process later, behind its successors.
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

fn hold(held: &mut Held, row: &Row, refusal: &str) {
    error!(topic = row.topic, key = row.key, event.id = %row.event_id,
        "The broker refuses an event; its key waits and is tried again in {REFUSED_FOR:?}: {refusal}");
    counter!("quadrille_refused_total", "topic" => row.topic.clone()).increment(1);
    held.entry((row.topic.clone(), row.key.clone())).or_insert((row.id, Instant::now() + REFUSED_FOR));
}

/// What a broker refuses for good.
enum Refused {
    /// Every record of the topic.
    Topic,
    /// A batch, for at least one of its records.
    Batch,
}

fn refused(error: &KafkaError) -> Option<Refused> {
    use RDKafkaErrorCode::{
        InvalidMessage, InvalidRecord, InvalidTimestamp, MessageSizeTooLarge, PolicyViolation,
        TopicAuthorizationFailed, UnknownPartition, UnknownTopic, UnknownTopicOrPartition,
    };
    match error.rdkafka_error_code()? {
        TopicAuthorizationFailed | UnknownTopic | UnknownTopicOrPartition | UnknownPartition => Some(Refused::Topic),
        MessageSizeTooLarge | InvalidMessage | InvalidRecord | InvalidTimestamp | PolicyViolation => {
            Some(Refused::Batch)
        }
        _ => None,
    }
}

/// What a row's headers say.
fn headers(row: &Row, service: &str) -> OwnedHeaders {
    let id = row.event_id.to_string();
    let cause = row.causation_id.map(|cause| cause.to_string()).unwrap_or_default();
    let source = format!("/quadrille/{service}");
    let time = row.time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let version = row.version.map(|version| version.to_string()).unwrap_or_default();
    let (traceparent, tracestate) = carried(&row.traceparent, &row.tracestate);
    if (traceparent, tracestate) != (row.traceparent.as_str(), row.tracestate.as_str()) {
        warn!(topic = row.topic, key = row.key, event.id = %row.event_id, "A trace beyond W3C's bounds is not carried on");
    }
    let event = CloudEvent {
        id: &id,
        source: &source,
        record_type: &row.record_type,
        subject: &row.key,
        time: &time,
        correlation: &row.key,
        causation: &cause,
        version: &version,
        traceparent,
        tracestate,
    };
    event.headers()
}

/// Wakes the relay, in this process or in the instance that owns the lease.
#[derive(Clone)]
pub(crate) struct Wake {
    pub resources: Arc<Resources>,
    pub owner: Arc<AtomicBool>,
    pub local: Arc<Notify>,
    /// Has the other instances told.
    pub others: Arc<Notify>,
}

/// The channel on which instances wake the relay's owner.
const CHANNEL: &str = "quadrille_outbox";

impl Wake {
    /// Facts were committed. Nobody waits for the owner to be told: its poll is the net.
    pub fn facts(&self) {
        self.local.notify_one();
        if !self.owner.load(Ordering::Relaxed) {
            self.others.notify_one();
        }
    }

    /// Listens for other instances' wake-ups and tells them ours, until `stop`.
    pub async fn listen(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.talk() => ended,
            };
            if let Err(error) = ended {
                info!(%error, "Wake-ups of other instances are not heard for now; the relay polls");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// On a connection of its own, outside transactions: commits that notify queue behind one another.
    async fn talk(&self) -> sqlx::Result<()> {
        // Not from the instance's pool: a listener that is dropped says goodbye first, and would keep its place there for as long as a silent
        // server takes for an answer.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.resources.database.clone());
        let mut listener = answered(PgListener::connect_with(&pool)).await?;
        listener.eager_reconnect(false);
        answered(listener.listen(CHANNEL)).await?;
        loop {
            tokio::select! {
                heard = listener.try_recv() => match heard? {
                    Some(_) => self.local.notify_one(),
                    None => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into()),
                },
                () = self.others.notified() => {
                    let tell = sqlx::query("select pg_notify($1, '')").bind(CHANNEL);
                    answered(tell.execute(&mut listener)).await?;
                }
                () = tokio::time::sleep(PING) => {
                    answered(sqlx::query("select 1").execute(&mut listener)).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{MAX_RECORD_BYTES, record_bytes};

    fn row(id: i64, payload: usize) -> Row {
        Row {
            id,
            topic: "stock.events".into(),
            key: "K".repeat(40),
            event_id: Uuid::max(),
            record_type: format!("quadrille.{}", "t".repeat(90)),
            version: Some(i64::MAX),
            causation_id: Some(Uuid::max()),
            time: DateTime::from_timestamp_micros(1_764_444_444_123_456).unwrap(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            tracestate: "s".repeat(512),
            value: vec![b'x'; payload],
            schema: None,
            oldest_open: 7,
        }
    }

    /// As the client counts it: with lengths of at most 5 bytes each, twice per header and three times per record, and 21 more.
    #[test]
    fn a_record_is_no_larger_than_it_was_said_to_be() {
        let row = row(1, 3);
        let headers = headers(&row, "notification");
        let header = |index| {
            let header = rdkafka::message::Headers::get(&headers, index);
            header.key.len() + header.value.map_or(0, <[u8]>::len) + 10
        };
        let count = rdkafka::message::Headers::count(&headers);
        assert_eq!(count, 12);
        let bytes = (0..count).map(header).sum::<usize>() + row.key.len() + row.value.len() + 36;
        let said = record_bytes(&row.key, (&row.traceparent, &row.tracestate), &row.value);
        assert!(bytes <= said && said < MAX_RECORD_BYTES, "{bytes} {said}");
    }

    #[test]
    fn the_floor_does_not_rise_beyond_a_round_that_was_cut() {
        let floor = |payload| {
            let mut floor = Floor { floor: 0, candidate: Some((100, 7)) };
            floor.after(&[row(10, payload), row(11, 1)], 9, None);
            floor.floor
        };
        assert_eq!(floor(1), 100);
        assert_eq!(floor(ROUND_BYTES as usize), 11);
    }
}
