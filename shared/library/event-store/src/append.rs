use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Schema;

/// Events for one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The stream: the aggregate's id.
    pub stream: Uuid,
    /// The version that the stream is expected to be at: that of its last event, 0 where it has none.
    pub expected: i64,
    /// The events, in order. Without any nothing is done or checked.
    pub events: Vec<Event>,
}

/// An event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event's id.
    pub id: Uuid,
    /// The payload's record type, e.g. `quadrille.order.OrderCreated`.
    pub record: &'static str,
    /// The schema that the payload is written with.
    pub schema: Schema,
    /// The payload: a datum of that schema, without any framing.
    pub payload: Vec<u8>,
    /// The id of what caused the event.
    pub cause: Uuid,
    /// When it was stated.
    pub time: DateTime<Utc>,
}

/// What became of an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The events are in the stream now.
    Now,
    /// They were in it before.
    Already,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream is not at the expected version.
    #[error("stream {stream} is at version {found}, not at {expected} as expected")]
    Conflict {
        /// The stream; the first one in conflict, by id, where several are.
        stream: Uuid,
        /// The version that was expected.
        expected: i64,
        /// The version that the stream is at.
        found: i64,
    },
    /// An event's id is stored with other content, or elsewhere.
    #[error("event {event} is stored in stream {stream} as version {version}, with other content or another order")]
    OtherContent {
        /// The event.
        event: Uuid,
        /// Where it is stored.
        stream: Uuid,
        /// Its version there.
        version: i64,
    },
    /// A call names a stream twice: what it expects of it would be two things.
    #[error("stream {0} stands twice in one call: join its events in one append")]
    Twice(Uuid),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Appends events to streams, all of them or none; the answers are in the order of `appends`.
///
/// See the [crate]'s documentation for what holds. Commit or roll back is up to the caller.
pub async fn append(tx: &mut PgConnection, appends: &[Append]) -> Result<Vec<Appended>, Error> {
    let mut streams = BTreeMap::new();
    for append in appends {
        if streams.insert(append.stream, append).is_some() {
            return Err(Error::Twice(append.stream));
        }
    }
    // In the order of streams, so that two calls wait for one another, if at all, in one direction only.
    let wanted: Vec<&Append> = streams.into_values().collect();
    let mut inserted = insert(tx, &wanted).await?;
    if is_whole(&wanted, &inserted) {
        return Ok(vec![Appended::Now; appends.len()]);
    }
    if store_schemas(tx, &wanted).await? {
        remove(tx, &inserted).await?;
        inserted = insert(tx, &wanted).await?;
    }
    match compare(tx, &wanted, &inserted).await {
        Ok(already) => Ok(appends
            .iter()
            .map(|append| match already.contains(&append.stream) {
                true => Appended::Already,
                false => Appended::Now,
            })
            .collect()),
        Err(Error::Conflict { stream, expected, .. }) => {
            remove(tx, &inserted).await?;
            let found = sqlx::query_scalar("select coalesce(max(version), 0) from event where stream = $1")
                .bind(stream)
                .fetch_one(tx)
                .await?;
            Err(Error::Conflict { stream, expected, found })
        }
        Err(error @ Error::OtherContent { .. }) => {
            remove(tx, &inserted).await?;
            Err(error)
        }
        // After a failed statement the transaction takes no other.
        Err(error) => Err(error),
    }
}

/// An event's place: its stream and version.
type Place = (Uuid, i64);

/// Inserts what fits: events whose place and id are free, whose stream reaches up to the expected version, whose schema is stored.
///
/// An older version than expected is told by the missing predecessor (a stream only grows, so one that is seen stays), a newer
/// one by the place that is taken. A writer who took it just now is waited for.
///
/// The predecessor is a scalar subquery, which is looked up by its key: of an `exists` the planner makes a hash of the whole table,
/// for as long as it thinks the table small.
async fn insert(tx: &mut PgConnection, wanted: &[&Append]) -> Result<BTreeSet<Place>, sqlx::Error> {
    let count = wanted.iter().map(|append| append.events.len()).sum();
    let mut streams = Vec::with_capacity(count);
    let mut versions = Vec::with_capacity(count);
    let mut expected = Vec::with_capacity(count);
    let mut ids = Vec::with_capacity(count);
    let mut records = Vec::with_capacity(count);
    let mut schemas = Vec::with_capacity(count);
    let mut payloads = Vec::with_capacity(count);
    let mut causes = Vec::with_capacity(count);
    let mut times = Vec::with_capacity(count);
    for append in wanted {
        for (event, version) in append.events.iter().zip(append.expected + 1..) {
            streams.push(append.stream);
            versions.push(version);
            expected.push(append.expected);
            ids.push(event.id);
            records.push(event.record);
            schemas.push(event.schema.fingerprint);
            payloads.push(&event.payload[..]);
            causes.push(event.cause);
            times.push(event.time);
        }
    }
    let inserted = sqlx::query_as(
        "insert into event (stream, version, event_id, record, schema, payload, causation_id, time)
         select w.stream, w.version, w.event_id, w.record, w.schema, w.payload, w.causation_id, w.time
         from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::bigint[], $7::bytea[], $8::uuid[],
              $9::timestamptz[])
           as w (stream, version, expected, event_id, record, schema, payload, causation_id, time)
         join event_schema s on s.fingerprint = w.schema
         where w.expected = 0
            or (select true from event e where e.stream = w.stream and e.version = w.expected)
         order by w.stream, w.version
         on conflict do nothing
         returning stream, version",
    )
    .bind(streams)
    .bind(versions)
    .bind(expected)
    .bind(ids)
    .bind(records)
    .bind(schemas)
    .bind(payloads)
    .bind(causes)
    .bind(times)
    .fetch_all(tx)
    .await?;
    Ok(inserted.into_iter().collect())
}

fn is_whole(wanted: &[&Append], inserted: &BTreeSet<Place>) -> bool {
    inserted.len() == wanted.iter().map(|append| append.events.len()).sum::<usize>()
}

/// Stores the schemas that are not stored yet, and tells whether there were any: once in a schema's life.
async fn store_schemas(tx: &mut PgConnection, wanted: &[&Append]) -> Result<bool, sqlx::Error> {
    let schemas: BTreeMap<i64, &str> = wanted
        .iter()
        .flat_map(|append| &append.events)
        .map(|event| (event.schema.fingerprint, event.schema.text))
        .collect();
    let (fingerprints, texts): (Vec<i64>, Vec<&str>) = schemas.into_iter().unzip();
    let stored: Vec<i64> = sqlx::query_scalar("select fingerprint from event_schema where fingerprint = any($1)")
        .bind(&fingerprints)
        .fetch_all(&mut *tx)
        .await?;
    if stored.len() == fingerprints.len() {
        return Ok(false);
    }
    sqlx::query(
        "insert into event_schema (fingerprint, text)
         select * from unnest($1::bigint[], $2::text[]) on conflict do nothing",
    )
    .bind(fingerprints)
    .bind(texts)
    .execute(tx)
    .await?;
    Ok(true)
}

/// Takes back what this call inserted.
async fn remove(tx: &mut PgConnection, inserted: &BTreeSet<Place>) -> Result<(), sqlx::Error> {
    if inserted.is_empty() {
        return Ok(());
    }
    let (streams, versions): (Vec<Uuid>, Vec<i64>) = inserted.iter().copied().unzip();
    sqlx::query(
        "delete from event using unnest($1::uuid[], $2::bigint[]) as w (stream, version)
         where event.stream = w.stream and event.version = w.version",
    )
    .bind(streams)
    .bind(versions)
    .execute(tx)
    .await?;
    Ok(())
}

/// Compares the appends that did not go in with what is stored: the streams that had their events before, or what is wrong.
async fn compare(
    tx: &mut PgConnection,
    wanted: &[&Append],
    inserted: &BTreeSet<Place>,
) -> Result<BTreeSet<Uuid>, Error> {
    let went_in = |append: &Append| {
        let mut versions = append.events.iter().zip(append.expected + 1..);
        versions.all(|(_, version)| inserted.contains(&(append.stream, version)))
    };
    let left: Vec<&&Append> = wanted.iter().filter(|append| !went_in(append)).collect();
    let ids: Vec<Uuid> = left.iter().flat_map(|append| &append.events).map(|event| event.id).collect();
    let stored: Vec<(Uuid, Uuid, i64, String, Vec<u8>)> =
        sqlx::query_as("select event_id, stream, version, record, payload from event where event_id = any($1)")
            .bind(ids)
            .fetch_all(tx)
            .await?;
    let stored: BTreeMap<Uuid, (Uuid, i64, String, Vec<u8>)> = stored
        .into_iter()
        .filter(|(_, stream, version, ..)| !inserted.contains(&(*stream, *version)))
        .map(|(id, stream, version, record, payload)| (id, (stream, version, record, payload)))
        .collect();

    let mut already = BTreeSet::new();
    for append in left {
        let mut next = None;
        let mut known = 0;
        for event in &append.events {
            let Some((stream, version, record, payload)) = stored.get(&event.id) else {
                continue;
            };
            known += 1;
            let follows = next.is_none_or(|next| next == *version);
            let same = *stream == append.stream && record == event.record && *payload == event.payload;
            if !(follows && same) {
                return Err(Error::OtherContent { event: event.id, stream: *stream, version: *version });
            }
            next = Some(version + 1);
        }
        if known < append.events.len() {
            // Some of them at most: not the very same append, so the version decides.
            return Err(Error::Conflict { stream: append.stream, expected: append.expected, found: 0 });
        }
        already.insert(append.stream);
    }
    Ok(already)
}
