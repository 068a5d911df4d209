//! The outbox: facts are committed with the state that they follow from, and published afterwards.
//!
//! The transactional outbox of Richardson's "Microservices Patterns". Rows carry what the record's headers need in columns, so that
//! `select * from outbox` is legible.

use quadrille_core::{Fact, Policy, Records};
use quadrille_schemas::wire;
use sqlx::PgConnection;

/// Inserts facts in the order of their numbers. The locks of their rows are held: this is where outbox numbers are drawn.
pub(crate) async fn insert<P: Policy>(
    tx: &mut PgConnection,
    facts: &[Fact<P>],
    schema_ids: &[u32],
) -> sqlx::Result<()> {
    if facts.is_empty() {
        return Ok(());
    }
    let payload = |fact: &Fact<P>| {
        let index = P::Stated::TYPES.iter().position(|known| known == fact.record.record_type()).unwrap_or_default();
        let mut datum = Vec::with_capacity(512);
        fact.record.encode(&mut datum);
        wire::frame(schema_ids[index], &datum)
    };
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
         select topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::text[],
             $9::text[], $10::bytea[]) with ordinality
             as fact(topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload, n)
         order by n",
    )
    .bind(facts.iter().map(|fact| fact.record.record_type().topic).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.key.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.id).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.record.record_type().name).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.version).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.cause).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.time).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.trace.parent.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(|fact| fact.trace.state.as_str()).collect::<Vec<_>>())
    .bind(facts.iter().map(payload).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
