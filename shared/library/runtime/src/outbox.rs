//! The outbox: facts are committed with the state that they follow from, and published afterwards.
//!
//! The transactional outbox of Richardson's "Microservices Patterns". Rows carry what the record's headers need in columns, so that
//! `select * from outbox` is legible.

use std::collections::HashMap;

use quadrille_core::{Fact, Policy, RecordType, Records};
use quadrille_schemas::wire;
use sqlx::PgConnection;

use crate::{
    failure::Failure,
    telemetry::{TRACE_PARENT, TRACE_STATE},
};

/// The ids under which the schemas of what a service states are registered, by their own type: no fact gets another's.
pub(crate) struct SchemaIds(HashMap<RecordType, u32>);

impl SchemaIds {
    /// `ids` are those of `types`, one for one.
    pub fn new(types: &[RecordType], ids: Vec<u32>) -> Self {
        Self(types.iter().copied().zip(ids).collect())
    }

    /// A record's value as it goes to Kafka.
    fn framed<R: Records>(&self, record: &R) -> Result<Vec<u8>, Failure> {
        let of_type = record.record_type();
        let Some(id) = self.0.get(of_type) else {
            let subject = of_type.subject();
            return Err(Failure::Poisoned(format!(
                "{subject} is stated, and is not among what the service says that it states"
            )));
        };
        let mut datum = Vec::with_capacity(512);
        record.encode(&mut datum);
        Ok(wire::frame(*id, &datum))
    }
}

/// What a stated event's record has at most, with key and headers: our producer sends no more, and every broker takes as much unless it is
/// told not to.
pub(crate) const MAX_RECORD_BYTES: usize = 1_000_000;
/// What a record takes beside its key, its trace and its value at most: the names of its headers and the other ones' values, and its frame.
const OVERHEAD_BYTES: usize = 1_024;

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

/// Inserts facts in the order of their numbers. The locks of their rows are held: this is where outbox numbers are drawn.
///
/// One that could never be published is refused here, before anything is committed that nobody would hear of.
pub(crate) async fn insert<P: Policy>(
    tx: &mut PgConnection,
    facts: &[Fact<P>],
    schema_ids: &SchemaIds,
) -> Result<(), Failure> {
    if facts.is_empty() {
        return Ok(());
    }
    let payloads: Vec<Vec<u8>> = facts.iter().map(|fact| schema_ids.framed(&fact.record)).collect::<Result<_, _>>()?;
    let traces: Vec<(&str, &str)> = facts.iter().map(|fact| carried(&fact.trace.parent, &fact.trace.state)).collect();
    for ((fact, payload), trace) in facts.iter().zip(&payloads).zip(&traces) {
        let bytes = record_bytes(&fact.key, *trace, payload);
        if bytes > MAX_RECORD_BYTES {
            return Err(Failure::Poisoned(format!(
                "{} would be a record of {bytes} bytes: a stated event has at most {MAX_RECORD_BYTES}, with key and headers",
                fact.record.record_type().name
            )));
        }
    }
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
         select topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::timestamptz[], $8::text[],
             $9::text[], $10::bytea[]) with ordinality
             as fact(topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload, n)
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
    .bind(payloads)
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use quadrille_core::{Record, records};
    use quadrille_events::{ProductListed, StockReplenished};
    use uuid::Uuid;

    use super::*;

    records! { enum Stated { ProductListed, StockReplenished } }

    /// The ids of a set that lacks a type, or has it at another place, are nobody else's.
    #[test]
    fn a_fact_gets_the_id_of_its_own_type_or_none() {
        let fact = Stated::from(StockReplenished::new("TEA".into(), Uuid::nil(), 1));
        let ids = |types: &[RecordType]| SchemaIds::new(types, (7..).take(types.len()).collect());
        let id = |framed: Vec<u8>| u32::from_be_bytes(framed[1..5].try_into().expect("a frame has an id"));

        assert_eq!(id(ids(Stated::TYPES).framed(&fact).expect("it is among them")), 8);
        let turned = [StockReplenished::TYPE, ProductListed::TYPE];
        assert_eq!(id(ids(&turned).framed(&fact).expect("it is among them")), 7);
        let refused = ids(&[ProductListed::TYPE]).framed(&fact).expect_err("it is not among them");
        assert!(
            matches!(&refused, Failure::Poisoned(why) if why.contains("stock.events-quadrille.stock.StockReplenished")),
            "{refused}"
        );
    }
}
