//! What a runtime could do wrong: each is caught by a claim, or the claim proves nothing.

/// A flaw of the runtime, of ids or of a worker. Flaws of policies are in [`mutants`](crate::mutants).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// An event's id is made of its position among the input's facts in place of its type.
    IdsByPosition,
    /// A timer's or an outcome's input has the id of the input that set it.
    SettersId,
    /// Nobody remembers what was handled.
    NoInbox,
    /// A worker that does not know what came of a refund tries it under a new idempotency key.
    NewKeyOnRetry,
    /// A refund that is asked for again has the idempotency key of the first.
    OneKeyForAllTries,
    /// A worker that does not know what came of a charge takes it for declined.
    UnknownIsDeclined,
    /// A request's input id is the client's own `ce_id`.
    BareClientIds,
    /// Inventory lets go of a reservation by its own clock, with nobody having cancelled the order.
    OwnClock,
}
