//! The outbox: facts are committed with the state that they follow from, and published afterwards.
//!
//! The transactional outbox of Richardson's "Microservices Patterns". Rows carry what the record's headers need in columns, so that
//! `select * from outbox` is legible.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use quadrille_core::{Fact, Policy, RecordType, Records, Timestamp, TopicKind};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::{
    database::Database,
    decode::MAX_REQUEST_BYTES,
    failure::Failure,
    platform_events,
    telemetry::{TRACE_PARENT, TRACE_STATE},
};

/// What a stated event's record has at most, with key and headers: our producer sends no more, and every broker takes as much unless it is
/// told not to.
pub(crate) const MAX_RECORD_BYTES: usize = 1_000_000;
/// What a record takes beside its key, its trace and its value at most: the names of its headers and the other ones' values, and its frame.
const OVERHEAD_BYTES: usize = 1_024;

/// What a datum gets before it: a zero and the schema's id.
const FRAME_BYTES: usize = 5;

/// Enters the schemas of what the service states, each once, so that its facts can name them: whoever inserts facts has entered them before.
pub(crate) async fn enter_schemas<P: Policy>(database: impl PgExecutor<'_>) -> sqlx::Result<()> {
    let types = || P::Stated::TYPES.iter().chain(platform_events::TYPES);
    sqlx::query(
        "insert into stated_schema (fingerprint, subject, text) select * from unnest($1::bigint[], $2::text[], $3::text[])
         on conflict do nothing",
    )
    .bind(types().map(fingerprint).collect::<Vec<_>>())
    .bind(types().map(RecordType::subject).collect::<Vec<_>>())
    .bind(types().map(|of_type| of_type.schema).collect::<Vec<_>>())
    .execute(database)
    .await?;
    Ok(())
}

/// So many rows are counted at most.
const MOST_COUNTED: i64 = 100_000;

/// How many rows wait to be published, 100,000 for as many or more, and for how many seconds the oldest has.
pub(crate) async fn waiting(pool: &Database) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select (select count(*) from (select from outbox limit $1) head),
             coalesce((select greatest(extract(epoch from clock_timestamp() - time), 0)::bigint from outbox order by id limit 1), 0)",
    )
    .bind(MOST_COUNTED)
    .fetch_one(pool)
    .await
}

/// A record on its way into the outbox.
pub(crate) struct NewRow<'a> {
    pub record_type: &'static RecordType,
    pub id: Uuid,
    pub key: Cow<'a, str>,
    /// None of a request, which has no cause either.
    pub version: Option<i64>,
    pub cause: Option<Uuid>,
    /// None: the time at which it is inserted.
    pub time: Option<Timestamp>,
    pub trace: (&'a str, &'a str),
    pub datum: Vec<u8>,
}

/// Inserts facts. One that could never be published is refused here, before anything is committed that nobody would hear of.
pub(crate) async fn insert_facts<P: Policy>(tx: &mut PgConnection, facts: &[Fact<P>]) -> Result<(), Failure> {
    let datum = |fact: &Fact<P>| {
        let mut datum = Vec::with_capacity(512);
        fact.record.encode(&mut datum);
        datum
    };
    let rows = facts.iter().map(|fact| NewRow {
        record_type: fact.record.record_type(),
        id: fact.id,
        key: fact.key.as_str().into(),
        version: fact.version,
        cause: fact.cause,
        time: Some(fact.time),
        trace: carried(&fact.trace.parent, &fact.trace.state),
        datum: datum(fact),
    });
    let rows: Vec<NewRow<'_>> = rows.collect();
    rows.iter().try_for_each(check_size)?;
    Ok(insert(tx, rows).await?)
}

/// Inserts rows in the order of their numbers, which are drawn here: the locks of what they tell of are held.
pub(crate) async fn insert(tx: &mut PgConnection, rows: Vec<NewRow<'_>>) -> sqlx::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema)
         select topic, key, event_id, type, version, causation_id, coalesce(time, clock_timestamp()), traceparent, tracestate, datum, schema
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::text[],
             $9::text[], $10::bytea[], $11::bigint[]) with ordinality
             as new(topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema, n)
         order by n",
    )
    .bind(rows.iter().map(|row| &*row.record_type.topic.name).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| &*row.key).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.record_type.name).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.cause).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.time).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.trace.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.trace.1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.datum.as_slice()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| fingerprint(row.record_type)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

fn check_size(row: &NewRow<'_>) -> Result<(), Failure> {
    let value = FRAME_BYTES + row.datum.len();
    let record = FRAME_BYTES + record_bytes(&row.key, row.trace, &row.datum);
    let refusal = if record > MAX_RECORD_BYTES {
        format!("a record of {record} bytes: a stated event has at most {MAX_RECORD_BYTES}, with key and headers")
    } else if row.record_type.topic.kind == TopicKind::Requests && value > MAX_REQUEST_BYTES {
        format!("a value of {value} bytes: a request has at most {MAX_REQUEST_BYTES}")
    } else {
        return Ok(());
    };
    Err(Failure::Poisoned(format!("{} would be {refusal}", row.record_type.name)))
}

/// How large the record is that a fact becomes, rather a little more than less. The key stands in it three times.
pub(crate) fn record_bytes(key: &str, (parent, state): (&str, &str), value: &[u8]) -> usize {
    value.len() + 3 * key.len() + parent.len() + state.len() + OVERHEAD_BYTES
}

/// A trace as it is carried on. It is bounded where it is read; but a row of an older build may have it as it came, and what is longer than W3C
/// allows goes nowhere any more.
pub(crate) fn carried<'a>(parent: &'a str, state: &'a str) -> (&'a str, &'a str) {
    match (parent.len() <= TRACE_PARENT, state.len() <= TRACE_STATE) {
        (true, true) => (parent, state),
        (true, false) => (parent, ""),
        (false, _) => ("", ""),
    }
}

/// A schema's number in the outbox: the same in each build, another one for another subject or text. Computed once per type.
pub(crate) fn fingerprint(of_type: &RecordType) -> i64 {
    static KNOWN: LazyLock<Mutex<HashMap<(usize, usize), i64>>> = LazyLock::new(Mutex::default);
    let place = (of_type.schema.as_ptr().addr(), std::ptr::from_ref(of_type.topic).addr());
    *KNOWN.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_insert_with(|| digest(of_type))
}

fn digest(of_type: &RecordType) -> i64 {
    let digest =
        Sha256::new().chain_update(of_type.subject()).chain_update([0]).chain_update(of_type.schema).finalize();
    digest.iter().take(8).fold(0_i64, |number, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use quadrille_core::Record;
    use quadrille_events::{ProductListed, StockReplenished};

    use super::*;

    #[test]
    fn a_fingerprint_is_of_subject_and_text_and_stays() {
        let of_type = StockReplenished::TYPE;
        assert_eq!(fingerprint(&of_type), fingerprint(&RecordType { ..of_type }));
        assert_ne!(fingerprint(&of_type), fingerprint(&ProductListed::TYPE));
        assert_ne!(fingerprint(&of_type), fingerprint(&RecordType { schema: "{}", ..of_type }));
        assert_ne!(fingerprint(&of_type), fingerprint(&RecordType { topic: ProductListed::TYPE.topic, ..of_type }));
    }
}
