//! Dead letters: records that could not be handled. Safe once their row is committed; published to `<service>.dead-letters` on a lane
//! of their own, so that a missing or forbidden topic there holds up nothing else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use metrics::counter;
use quadrille_core::{Envelope, Policy, Record, TopicType, bounds, ids, is_projection};
use quadrille_kafka::HEADERS;
use quadrille_platform::{DeadLetter, DeadLetterClosed, RecordHeader};
use quadrille_schemas::wire::Bytes;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use crate::{
    database::Database,
    platform_events::PlatformEvent,
    publisher::Publisher,
    record::{MOST_KEPT_BYTES, RawHeaders, RawRecord, digest},
    resources::Resources,
    work::Rejection,
};

/// A dead letter keeps this much of the original's key at most.
const MAX_KEPT_KEY_BYTES: usize = 64 * 1024;
/// How often the lane looks for rows that are not published.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A header, kept as it was.
#[derive(Serialize, Deserialize)]
struct KeptHeader {
    name: String,
    value: Option<Vec<u8>>,
}

/// The reason of a letter that waits behind another one of its key. It is handled again by itself once nothing stands before it.
const WAITS: &str = "waits_behind";

/// Inserts rejected records. One that is there already stays as it is: a record is parked once, however often it comes again.
pub(crate) async fn insert<P: Policy>(
    tx: &mut PgConnection,
    generation: u16,
    rejected: &[(&RawRecord, Rejection)],
) -> sqlx::Result<()> {
    // A statement per row: what is rejected is rare, and may be half a megabyte.
    for (record, rejection) in rejected {
        // Of a later generation it is another letter: what one cannot handle another one may.
        let of_service = quadrille_core::group(P::SERVICE, generation);
        let id = ids::v5(&[
            &of_service,
            &record.topic.name,
            &record.partition.to_string(),
            &record.offset.to_string(),
            &record.timestamp_ms.to_string(),
        ]);
        let value = record.value.as_deref();
        let kept = value.map(|value| &value[..value.len().min(MOST_KEPT_BYTES)]);
        let size = record.cut.as_ref().map_or(value.map_or(0, <[u8]>::len), |cut| cut.size);
        let digest =
            record.cut.as_ref().map_or_else(|| value.map(digest).unwrap_or_default(), |cut| cut.digest.clone());
        let headers = kept_headers(record);
        error!(
            topic = &*record.topic.name,
            partition = record.partition,
            offset = record.offset,
            reason = rejection.reason,
            "A record is a dead letter: {}",
            rejection.detail
        );
        counter!("quadrille_dead_letters_total", "topic" => &*record.topic.name, "reason" => rejection.reason)
            .increment(1);
        sqlx::query(
            "insert into dead_letter (id, input_id, topic, partition, \"offset\", record_time, record_type, key, value, value_size,
                 value_digest, headers, withheld, reason, field, detail, holds, next_try, generation, record_ms)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, case when $18 then clock_timestamp() end, $19, $20)
             on conflict (id) do nothing",
        )
        .bind(id)
        .bind(rejection.input)
        .bind(&*record.topic.name)
        .bind(record.partition)
        .bind(record.offset)
        .bind(record_time(record))
        .bind(&rejection.record_type)
        .bind(record.key.as_deref().map(|key| &key[..key.len().min(MAX_KEPT_KEY_BYTES)]))
        .bind(kept)
        .bind(size as i64)
        .bind(digest)
        .bind(Json(headers))
        // Then the original stays in the database.
        .bind(record.topic.secrets)
        .bind(rejection.reason)
        .bind(&rejection.field)
        .bind(&rejection.detail)
        .bind(&rejection.holds)
        .bind(rejection.reason == WAITS)
        .bind(i32::from(generation))
        .bind(record.timestamp_ms)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Why an event of a held key is not handled now.
pub(crate) fn waits<P: Policy>(input: &Envelope<P>) -> Rejection {
    let detail =
        "an earlier event of this key is a dead letter: this one is handled once that is redriven or discarded";
    Rejection { holds: Some(input.key.clone()), ..Rejection::new(WAITS, "key", detail).of_input(input) }
}

/// Why a record of a key whose rows have gone is not handled any more.
pub(crate) fn too_old<P: Policy>(input: &Envelope<P>) -> Rejection {
    let detail = format!(
        "{} ended long ago and its rows have gone: nothing comes of it any more, and what is new needs a new id",
        input.key
    );
    Rejection::new("too_old", "key", detail).of_input(input)
}

/// Why an input's record is not handled: an event's key then waits behind it. Requests of a key are not ordered among each other, and a
/// projection goes on: its rows are no decisions, and hold up nobody.
pub(crate) fn handling_failed<P: Policy>(record: &RawRecord, input: &Envelope<P>, failure: &str) -> Rejection {
    let holds = (record.is_event() && !is_projection::<P>()).then(|| input.key.clone());
    Rejection { holds, ..Rejection::new("handling_failed", "", failure).of_input(input) }
}

/// Those of `keys`, as topic and key, that an open dead letter holds.
pub(crate) async fn held(tx: &mut PgConnection, keys: &[(&str, &str)]) -> sqlx::Result<BTreeSet<(String, String)>> {
    let (topics, keys): (Vec<&str>, Vec<&str>) = keys.iter().copied().unzip();
    let held: Vec<(String, String)> = sqlx::query_as(
        "select distinct topic, holds from dead_letter
         where closed_at is null and holds is not null and (topic, holds) in (select * from unnest($1::text[], $2::text[]))",
    )
    .bind(topics)
    .bind(keys)
    .fetch_all(tx)
    .await?;
    Ok(held.into_iter().collect())
}

/// Closes letters that are handled now, and returns those that were open still.
pub(crate) async fn close(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<BTreeSet<Uuid>> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let closed: Vec<Uuid> = sqlx::query_scalar(
        "update dead_letter set closed_at = clock_timestamp(), closed_how = case when redriven_by is null then 'handled' else 'redriven' end,
             closed_by = redriven_by, closed_why = redriven_why
         where id = any($1) and closed_at is null returning id",
    )
    .bind(ids)
    .fetch_all(tx)
    .await?;
    Ok(closed.into_iter().collect())
}

/// The events of those of these letters that are closed now.
pub(crate) async fn number_closed(
    tx: &mut PgConnection,
    service: &str,
    ids: &[Uuid],
) -> sqlx::Result<Vec<(i64, PlatformEvent)>> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let closed: Vec<(Uuid, i64, String, String, String, i32)> = sqlx::query_as(
        "update dead_letter set told = told + 1 where id = any($1) and closed_at is not null
         returning id, told, closed_how, coalesce(closed_by, ''), coalesce(closed_why, ''), attempts",
    )
    .bind(ids)
    .fetch_all(tx)
    .await?;
    let event = |(dead_letter_id, version, how, who, why, attempts)| {
        let service = service.to_owned();
        (version, DeadLetterClosed { dead_letter_id, service, how, who, why, attempts }.into())
    };
    Ok(closed.into_iter().map(event).collect())
}

/// Opens a letter again that this transaction has closed: it could not be handled again either. One that was only put behind another, which
/// may be itself under a second copy of its record, is tried again at once; the redriver hands it on when nothing is before it any more.
pub(crate) async fn reopen(tx: &mut PgConnection, id: Uuid, why: &Rejection) -> sqlx::Result<()> {
    sqlx::query(
        "update dead_letter set closed_at = null, closed_how = null, closed_by = null, closed_why = null, attempts = attempts + 1,
             next_try = case when $5 then clock_timestamp() end, reason = $2, field = $3, detail = $4, failed_at = clock_timestamp()
         where id = $1",
    )
    .bind(id)
    .bind(why.reason)
    .bind(&why.field)
    .bind(&why.detail)
    .bind(why.reason == WAITS)
    .execute(tx)
    .await?;
    Ok(())
}

/// A letter that could not be handled again either stays, says why, and waits for the next redrive.
pub(crate) async fn failed(pool: &Database, id: Uuid, reason: &str, field: &str, detail: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update dead_letter set attempts = attempts + 1, next_try = null, reason = $2, field = $3, detail = $4, failed_at = clock_timestamp()
         where id = $1 and closed_at is null",
    )
    .bind(id)
    .bind(reason)
    .bind(field)
    .bind(bounds::fitted(detail))
    .execute(pool)
    .await?;
    Ok(())
}

/// A letter that is due to be handled again.
#[derive(sqlx::FromRow)]
pub(crate) struct Due {
    pub id: Uuid,
    topic: String,
    partition: i32,
    offset: i64,
    record_time: DateTime<Utc>,
    /// None of a letter that an earlier build has kept.
    record_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    value_size: i64,
    headers: Json<Vec<KeptHeader>>,
}

/// Claims letters of a generation that are due, for `CLAIM`, of a held key only the first that is open. A later generation's `next_try` is kept as
/// `due`, by a trigger: see 0017_generation.sql.
pub(crate) async fn claim(pool: &Database, generation: u16, most: usize) -> sqlx::Result<Vec<Due>> {
    const CLAIM: &str = "30 seconds";
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "update dead_letter set next_try = clock_timestamp() + interval '{CLAIM}'
         where id = any(array(
             select id from dead_letter letter where generation = $2 and closed_at is null and coalesce(next_try, due) <= now() and (holds is null or not exists (
                 select from dead_letter first where first.closed_at is null and first.topic = letter.topic
                     and first.holds = letter.holds and first.\"offset\" < letter.\"offset\"))
             order by coalesce(next_try, due) limit $1 for update skip locked))
         returning id, topic, partition, \"offset\", record_time, record_ms, key, value, value_size, headers"
    )))
    .bind(most as i64)
    .bind(i32::from(generation))
    .fetch_all(pool)
    .await
}

impl Due {
    /// The record as it was, if it was kept whole.
    pub fn record(self, topics: &[&'static TopicType]) -> Result<RawRecord, String> {
        let Some(topic) = topics.iter().find(|topic| topic.name == self.topic) else {
            return Err(format!("this service hears no {}", self.topic));
        };
        let kept = self.value.as_ref().map_or(0, Vec::len) as i64;
        if kept != self.value_size {
            return Err(format!("only {kept} of the original's {} bytes were kept", self.value_size));
        }
        let (headers, header_fault) =
            RawHeaders::admit(self.headers.0.iter().map(|header| (header.name.as_str(), header.value.as_deref())));
        Ok(RawRecord {
            topic,
            partition: self.partition,
            offset: self.offset,
            epoch: 0,
            timestamp_ms: self.record_ms.unwrap_or_else(|| self.record_time.timestamp_millis()),
            key: self.key,
            value: self.value,
            cut: None,
            headers,
            header_fault,
        })
    }
}

/// The headers that were kept: bounded where they were read.
fn kept_headers(record: &RawRecord) -> Vec<KeptHeader> {
    let kept =
        |(name, value): (&str, Option<&[u8]>)| KeptHeader { name: name.to_owned(), value: value.map(<[u8]>::to_vec) };
    record.headers.iter().map(kept).collect()
}

/// A client's timestamp as it is shown, within the years that a database can hold.
fn record_time(record: &RawRecord) -> DateTime<Utc> {
    const YEAR_9999_MS: i64 = 253_370_764_800_000;
    DateTime::from_timestamp_millis(record.timestamp_ms.clamp(0, YEAR_9999_MS)).unwrap_or_default()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    input_id: Option<Uuid>,
    topic: String,
    partition: i32,
    offset: i64,
    record_time: DateTime<Utc>,
    record_type: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    value_size: i64,
    value_digest: String,
    headers: Json<Vec<KeptHeader>>,
    withheld: bool,
    reason: String,
    field: String,
    detail: String,
    attempts: i32,
    failed_at: DateTime<Utc>,
}

/// Publishes dead letters as they appear.
pub(crate) struct DeadLetterPublisher {
    pub resources: Arc<Resources>,
}

impl DeadLetterPublisher {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let topic = DeadLetter::TYPE.topic.name_of(self.resources.service);
        let publisher = Publisher::new::<DeadLetter>(Arc::clone(&self.resources), "dead-letters", &topic, 10_000);
        let mut publisher = match publisher {
            Ok(publisher) => publisher,
            Err(error) => return self.resources.health.error("dead_letters", &error.to_string()),
        };
        while !stop.is_cancelled() {
            match self.publish(&mut publisher).await {
                Ok(()) => self.resources.health.ok("dead_letters"),
                Err(error) => {
                    warn!("Dead letters wait in the database: {error:#}");
                    self.resources.health.error("dead_letters", &format!("they wait in the database: {error:#}"));
                }
            }
            stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await;
        }
    }

    /// Publishes what is not published yet, the oldest first.
    ///
    /// No row is locked meanwhile: whoever redrives, discards or closes a letter waits for neither broker nor registry. So two instances may
    /// publish the same one, as it is sent again where a process dies before it has noted that: it has the same id each time.
    async fn publish(&self, publisher: &mut Publisher) -> anyhow::Result<()> {
        let Resources { service, pool, .. } = &*self.resources;
        let oldest = "select * from dead_letter where published_at is null order by failed_at limit 1";
        while let Some(row) = sqlx::query_as::<_, Row>(oldest).fetch_optional(pool).await? {
            let (letter, failed_at) = (row.id, row.failed_at);
            publisher.publish(letter, &letter.to_string(), failed_at, &row.into_record(service)).await?;
            sqlx::query(
                "update dead_letter set published_at = clock_timestamp() where id = $1 and published_at is null",
            )
            .bind(letter)
            .execute(pool)
            .await?;
        }
        Ok(())
    }
}

impl Row {
    fn into_record(self, service: &str) -> DeadLetter {
        let open = |bytes: Option<Vec<u8>>| if self.withheld { None } else { bytes.map(Bytes) };
        DeadLetter {
            dead_letter_id: self.id,
            service: service.to_owned(),
            reason: self.reason,
            field: self.field,
            detail: self.detail,
            input: "record".into(),
            input_id: self.input_id,
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            record_time: self.record_time,
            record_type: self.record_type,
            key: self.key.map(Bytes),
            value: open(self.value),
            value_size: self.value_size,
            value_digest: self.value_digest,
            withheld: self.withheld,
            headers: self
                .headers
                .0
                .into_iter()
                // What strangers put into a header of their own is as secret as the value.
                .filter(|header| !self.withheld || HEADERS.contains(&header.name.as_str()))
                .map(|h| RecordHeader { name: h.name, value: h.value.map(Bytes) })
                .collect(),
            attempts: self.attempts,
            failed_at: self.failed_at,
        }
    }
}
