//! What came of an operator's request, and what begins and ceases to wait for a person: stated on `platform.events`, in the transaction that
//! does it. A key is one request's, effect's or dead letter's, which one service has: so each key has one writer, and versions 1, 2, 3 ...

use quadrille_core::{RecordType, Records, ids, records};
use quadrille_platform::{DeadLetterClosed, EffectParked, EffectResumed, OperatorRequestCarriedOut};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::outbox;

records! {
    /// What the runtime states, beside what the service's policy does.
    pub(crate) enum PlatformEvent { OperatorRequestCarriedOut, EffectParked, EffectResumed, DeadLetterClosed }
}

/// Stated by every service.
pub(crate) const TYPES: &[RecordType] = PlatformEvent::TYPES;

/// The topic that has them all.
pub(crate) fn topic() -> &'static str {
    &TYPES[0].topic.name
}

/// Inserts events, each with the version that it has among those of its key. The locks of the rows that they tell of are held.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    service: &'static str,
    events: &[(i64, PlatformEvent)],
) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let types = || events.iter().map(|(_, event)| event.record_type());
    let id = |(version, event): &(i64, PlatformEvent)| {
        ids::v5(&[service, event.record_type().name, &event.key(), &version.to_string()])
    };
    let datum = |(_, event): &(i64, PlatformEvent)| {
        let mut datum = vec![];
        event.encode(&mut datum);
        datum
    };
    // Nothing else is known to have caused it than what it tells of.
    let cause = |(_, event): &(i64, PlatformEvent)| Uuid::try_parse(&event.key()).unwrap_or_default();
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema)
         select topic, key, event_id, type, version, causation_id, clock_timestamp(), '', '', datum, schema
         from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::bigint[], $6::uuid[], $7::bytea[], $8::bigint[])
             with ordinality as event(topic, key, event_id, type, version, causation_id, datum, schema, n)
         order by n",
    )
    .bind(types().map(|of_type| &*of_type.topic.name).collect::<Vec<_>>())
    .bind(events.iter().map(|(_, event)| event.key()).collect::<Vec<_>>())
    .bind(events.iter().map(id).collect::<Vec<_>>())
    .bind(types().map(|of_type| of_type.name).collect::<Vec<_>>())
    .bind(events.iter().map(|(version, _)| *version).collect::<Vec<_>>())
    .bind(events.iter().map(cause).collect::<Vec<_>>())
    .bind(events.iter().map(datum).collect::<Vec<_>>())
    .bind(types().map(outbox::fingerprint).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
