//! What the rows of timers and effects carry on from the input that made them.

use quadrille_core::{Envelope, Input, Policy, Trace};
use uuid::Uuid;

/// The last record on the way, and the trace: columns of `timer` and `effect`.
#[derive(sqlx::FromRow)]
pub(crate) struct Causality {
    causation_id: Uuid,
    traceparent: String,
    tracestate: String,
}

impl Causality {
    /// An input that this service gives itself.
    pub fn envelope<P: Policy>(self, id: Uuid, key: String, input: Input<P>) -> Envelope<P> {
        let trace = Trace { parent: self.traceparent, state: self.tracestate };
        Envelope { id, cause: self.causation_id, key, version: 0, trace, input }
    }
}
