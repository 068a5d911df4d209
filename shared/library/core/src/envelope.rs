//! What comes in: one input, with what its facts will need to know about it.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{Policy, Records, Timestamp};

/// What a service may hear.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<P: Policy> {
    /// A record from a topic.
    Record(P::Heard),
    /// A key of a state topic that is gone: see [`records!`](crate::records).
    Gone(<P::Heard as Records>::Gone),
    /// A timer that this service set, and that is due.
    Timer(P::Timer),
    /// What became of an effect that this service wanted.
    Outcome {
        /// The effect's id.
        effect: Uuid,
        /// What is known of it now.
        outcome: P::Outcome,
    },
    /// What somebody told this service over HTTP.
    Command(P::Command),
}

/// An input with its identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope<P: Policy> {
    /// The input's id: what the inbox remembers, and what the ids of all that follows are computed from. See [`ids`](crate::ids).
    pub id: Uuid,
    /// The id of the last record on the way: its own for a record, with or without a value; for a timer or an outcome that of the record that set it.
    /// No record leads to a command: there the way begins, with the command's own id.
    pub cause: Uuid,
    /// The key of the aggregate that the input speaks of, in normal form.
    pub key: String,
    /// `ce_aggregateversion` of a heard event; 0 where there is none.
    pub version: i64,
    /// The trace that the input belongs to.
    pub trace: Trace,
    /// The input itself.
    pub input: Input<P>,
}

/// W3C trace context, carried from input to facts, effects and timers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trace {
    /// `traceparent`, or empty.
    pub parent: String,
    /// `tracestate`, or empty.
    pub state: String,
}

/// What is true at the moment of a decision, beside the state: both are read under the locks of the rows touched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The database's clock once the locks are held; also the time of what is stated.
    pub now: Timestamp,
    /// The effects that a worker has taken in hand.
    pub claims: Claims,
}

/// Open effects that a worker has claimed: whether they happened is not known, so they can no longer be withdrawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claims(BTreeSet<(String, String)>);

impl Claims {
    /// Whether the effect `name` of the aggregate `key` is claimed.
    pub fn contains(&self, key: &str, name: &str) -> bool {
        // A lookup by borrowed pair would need a key type of its own; sets are tiny.
        self.0.iter().any(|(k, n)| k == key && n == name)
    }

    /// The names of the claimed effects of the aggregate `key`.
    pub fn of(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, name)| name.as_str())
    }
}

impl FromIterator<(String, String)> for Claims {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(claimed: I) -> Self {
        Self(claimed.into_iter().collect())
    }
}
