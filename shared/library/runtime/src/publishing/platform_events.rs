//! What came of an operator's request, and what begins and ceases to wait for a person: stated on `platform.events`, in the transaction that
//! does it. A key is one request's, effect's or dead letter's, which one service has: so each key has one writer, and versions 1, 2, 3 ...

use quadrille_core::{RecordType, Records, ids, records};
use quadrille_platform::{DeadLetterClosed, EffectParked, EffectResumed, OperatorRequestCarriedOut};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::outbox::{self, NewRow};

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

/// Whether this is the subject of one of them.
pub(crate) fn states(subject: &str) -> bool {
    TYPES.iter().any(|record_type| record_type.subject() == subject)
}

/// Inserts events, each with the version that it has among those of its key. The locks of the rows that they tell of are held.
pub(crate) async fn insert(
    tx: &mut PgConnection,
    service: &'static str,
    events: &[(i64, PlatformEvent)],
) -> sqlx::Result<()> {
    let row = |(version, event): &(i64, PlatformEvent)| {
        let (record_type, key, mut datum) = (event.record_type(), event.key(), vec![]);
        event.encode(&mut datum);
        NewRow {
            record_type,
            id: ids::v5(&[service, record_type.name, &key, &version.to_string()]),
            version: Some(*version),
            // Nothing else is known to have caused it than what it tells of.
            cause: Some(Uuid::try_parse(&key).unwrap_or_default()),
            key: key.into(),
            time: None,
            trace: ("", ""),
            datum,
        }
    };
    outbox::insert(tx, events.iter().map(row).collect()).await
}
