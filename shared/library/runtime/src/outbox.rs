//! The outbox: facts are committed with the state that they follow from, and published afterwards.
//!
//! The transactional outbox of Richardson's "Microservices Patterns". Rows carry what the record's headers need in columns, so that
//! `select * from outbox` is legible.

use quadrille_core::{Fact, Policy, RecordType, Records, TopicKind};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

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

/// Enters the schemas of what the service states, each once, so that its facts can name them.
pub(crate) async fn enter_schemas<P: Policy>(pool: &Database) -> sqlx::Result<()> {
    let types = || P::Stated::TYPES.iter().chain(platform_events::TYPES);
    sqlx::query(
        "insert into stated_schema (fingerprint, subject, text) select * from unnest($1::bigint[], $2::text[], $3::text[])
         on conflict do nothing",
    )
    .bind(types().map(fingerprint).collect::<Vec<_>>())
    .bind(types().map(RecordType::subject).collect::<Vec<_>>())
    .bind(types().map(|of_type| of_type.schema).collect::<Vec<_>>())
    .execute(pool)
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

/// Inserts facts in the order of their numbers. The locks of their rows are held: this is where outbox numbers are drawn.
///
/// One that could never be published is refused here, before anything is committed that nobody would hear of.
pub(crate) async fn insert<P: Policy>(tx: &mut PgConnection, facts: &[Fact<P>]) -> Result<(), Failure> {
    if facts.is_empty() {
        return Ok(());
    }
    let datum = |fact: &Fact<P>| {
        let mut datum = Vec::with_capacity(512);
        fact.record.encode(&mut datum);
        datum
    };
    let data: Vec<Vec<u8>> = facts.iter().map(datum).collect();
    let traces: Vec<(&str, &str)> = facts.iter().map(|fact| carried(&fact.trace.parent, &fact.trace.state)).collect();
    for ((fact, datum), trace) in facts.iter().zip(&data).zip(&traces) {
        check_size(fact, datum, *trace)?;
    }
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema)
         select topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::text[],
             $9::text[], $10::bytea[], $11::bigint[]) with ordinality
             as fact(topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema, n)
         order by n",
    )
    .bind(facts.iter().map(|fact| &*fact.record.record_type().topic.name).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.key.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.id).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.record.record_type().name).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.version).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.cause).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.time).collect::<Vec<_>>())
    .bind(traces.iter().map(|(parent, _)| *parent).collect::<Vec<_>>())
    .bind(traces.iter().map(|(_, state)| *state).collect::<Vec<_>>())
    .bind(data)
    .bind(facts.iter().map(|fact| fingerprint(fact.record.record_type())).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

fn check_size<P: Policy>(fact: &Fact<P>, datum: &[u8], trace: (&str, &str)) -> Result<(), Failure> {
    let of_type = fact.record.record_type();
    let value = FRAME_BYTES + datum.len();
    let record = FRAME_BYTES + record_bytes(&fact.key, trace, datum);
    let refusal = if record > MAX_RECORD_BYTES {
        format!("a record of {record} bytes: a stated event has at most {MAX_RECORD_BYTES}, with key and headers")
    } else if of_type.topic.kind == TopicKind::Requests && value > MAX_REQUEST_BYTES {
        format!("a value of {value} bytes: a request has at most {MAX_REQUEST_BYTES}")
    } else {
        return Ok(());
    };
    Err(Failure::Poisoned(format!("{} would be {refusal}", of_type.name)))
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

/// A schema's number in the outbox: the same in each build, another one for another subject or text.
pub(crate) fn fingerprint(of_type: &RecordType) -> i64 {
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
