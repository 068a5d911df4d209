//! The relay: publishes the outbox, per topic and key in the order of its numbers, and removes a row after its acknowledgement.
//!
//! Read from the head, send all, await all acknowledgements, delete by id, read again. Nothing is read ahead: a transaction that commits
//! late may bring a lower number, which the next read from the head finds. A floor spares the read what old snapshots keep of deleted
//! rows; it rises only past numbers that no open transaction can still bring.

mod held;
mod sender;
mod telling;
mod wake;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use metrics::{counter, gauge};
use quadrille_core::bounds;
use quadrille_kafka::registry::Unavailable;
use quadrille_schemas::wire;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

pub(crate) use self::wake::Wake;
use self::{
    held::Held,
    sender::{Sender, Sent},
    telling::Telling,
};
use crate::{
    backoff::Backoff,
    kafka,
    lease::{Lease, answered},
    platform_events,
    published::Topics,
    resources::Resources,
};

/// Rows of one round at most, and bytes: past so many no further row is read.
const ROUND: i64 = 5_000;
const ROUND_BYTES: i64 = 16 * 1024 * 1024;
/// The net under lost wake-ups.
const FALLBACK_POLL: Duration = Duration::from_millis(100);
/// Waits after a round that came to nothing, so that a refusal that stays does not keep the relay spinning.
const REFUSED_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
/// While database and topics disagree, or cannot be compared, they are looked at again after this time.
const COMPARE_AGAIN: Duration = Duration::from_secs(5);

/// The relay of one instance. It works only while it owns the service's lease.
pub(crate) struct Relay {
    pub resources: Arc<Resources>,
    /// What the service writes.
    pub topics: Vec<&'static str>,
    /// Whether they have been found, in the shape that is declared.
    pub are_topics_ready: watch::Receiver<bool>,
    pub wake: Wake,
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
                    self.wake.owner.store(true, Ordering::Relaxed);
                    let published = tokio::select! {
                        published = self.publish(&mut lease, &stop) => published,
                        () = abort.cancelled() => Ok(()),
                    };
                    self.wake.owner.store(false, Ordering::Relaxed);
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
        let (mut held, mut telling) = (Held::default(), Telling::new(&self.resources));
        let (mut backoff, mut alone) = (REFUSED_BACKOFF, false);
        loop {
            held.release_due();
            if let Some(ids) = telling.learn() {
                schema_ids.extend(ids);
                // What was left out may lie below the floor.
                floor = Floor::default();
            }
            let mut rows = read(lease, floor.floor, &held, telling.is_possible()).await?;
            gauge!("quadrille_outbox_round").set(rows.len() as f64);
            if rows.is_empty() {
                if held.is_empty() && telling.is_possible() {
                    self.resources.health.ok("relay");
                }
                if stop.is_cancelled() {
                    return Ok(());
                }
                lease.while_beating(self.more(stop)).await?;
                continue;
            }
            if let Err((subject, away)) = self.learn_schema_ids(&rows, &mut schema_ids, lease).await? {
                if platform_events::states(&subject) {
                    telling.put_off(&away.to_string());
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
            frame(&mut rows, &schema_ids)?;
            let held_before = held.len();
            let sent = sender.send_all(&rows, &mut held, alone, lease).await?;
            let horizon = remove(lease, &sent).await?;
            counter!("quadrille_published_total").increment(sent.acknowledged.len() as u64);
            alone = sent.is_unsure;
            match sent.refusal {
                None => {
                    floor.after(&rows, horizon, held.lowest());
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
                    floor = Floor::default();
                    telling.ask_again();
                    if sent.acknowledged.is_empty() && held.len() == held_before {
                        let wait = backoff.wait();
                        warn!("Nothing could be published, which is tried again in {wait:?}: {refusal}");
                        lease.while_beating(tokio::time::sleep(wait)).await?;
                    }
                }
            }
        }
    }

    /// Waits until there may be rows, or until `stop`.
    async fn more(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.wake.relay.notified() => {}
            () = tokio::time::sleep(FALLBACK_POLL) => {}
        }
    }

    /// Asks the registry for the ids of the rows' schemas, for each once. Returns the subject of one that is not to be had, if there is any: of what
    /// tells operators that is each that was not known when that was found to be possible.
    async fn learn_schema_ids(
        &self,
        rows: &[Row],
        ids: &mut HashMap<i64, u32>,
        lease: &mut Lease,
    ) -> anyhow::Result<Result<(), (String, Unavailable)>> {
        let unknown: BTreeSet<i64> =
            rows.iter().filter_map(|row| row.schema).filter(|schema| !ids.contains_key(schema)).collect();
        if unknown.is_empty() {
            return Ok(Ok(()));
        }
        let schemas =
            sqlx::query_as("select fingerprint, subject, text from stated_schema where fingerprint = any($1)")
                .bind(unknown.into_iter().collect::<Vec<_>>());
        let schemas: Vec<(i64, String, String)> = answered(schemas.fetch_all(&mut lease.connection)).await?;
        for (fingerprint, subject, text) in schemas {
            if platform_events::states(&subject) {
                let lost = self.resources.registry.lost(&subject);
                return Ok(Err((subject, lost)));
            }
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
        Ok(Ok(()))
    }
}

async fn read(lease: &mut Lease, floor: i64, held: &Held, tells_operators: bool) -> sqlx::Result<Vec<Row>> {
    let but = match held.is_empty() {
        true => "",
        false => "and (topic, key) not in (select * from unnest($4::text[], $5::text[]))",
    };
    let facts = match tells_operators {
        false => format!("and topic <> '{}'", platform_events::topic()),
        true => String::new(),
    };
    // What is not read is not fetched: only its size is looked at. One level, and what is the same of all rows asked once: half the time.
    let read = format!(
        "select id, topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, schema,
             coalesce(datum, payload) as value, (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint) as oldest_open
         from (
             select *, sum(octet_length(coalesce(datum, payload)) + octet_length(tracestate)) over (
                 order by id rows between unbounded preceding and 1 preceding) as bytes_before
             from outbox where id > $1 {but} {facts} order by id limit $2) head
         where coalesce(bytes_before, 0) < $3 order by id"
    );
    let mut read = sqlx::query_as(sqlx::AssertSqlSafe(read)).bind(floor).bind(ROUND).bind(ROUND_BYTES);
    if !held.is_empty() {
        let (topics, keys) = held.columns();
        read = read.bind(topics).bind(keys);
    }
    answered(read.fetch_all(&mut lease.connection)).await
}

/// Puts the id of its schema before each datum, as the registry's readers know it.
fn frame(rows: &mut [Row], ids: &HashMap<i64, u32>) -> anyhow::Result<()> {
    for row in rows {
        if let Some(schema) = row.schema {
            let id = ids.get(&schema).with_context(|| format!("outbox row {} has no schema {schema}", row.id))?;
            row.value = wire::frame(*id, &row.value);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn row(id: i64, payload: usize) -> Row {
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
