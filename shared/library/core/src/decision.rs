//! What a policy decides, as data.

use crate::{Policy, Timestamp};

/// The whole of a decision. A refusal is a fact like any other; a decision may well be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision<P: Policy> {
    /// Facts to state, in order.
    pub facts: Vec<P::Stated>,
    /// Effects to perform once the decision is committed.
    pub perform: Vec<Perform<P>>,
    /// Effects to withdraw, by aggregate key and name. Only an unclaimed effect may be withdrawn.
    pub withdraw: Vec<(String, String)>,
    /// Timers to set. A timer of the same key and name is replaced.
    pub set: Vec<SetTimer<P>>,
    /// Timers to clear, by aggregate key and name.
    pub clear: Vec<(String, String)>,
}

/// An effect wanted, for the aggregate `key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Perform<P: Policy> {
    /// The aggregate's key.
    pub key: String,
    /// What the outside is asked to do.
    pub effect: P::Effect,
}

/// A timer wanted, for the aggregate `key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetTimer<P: Policy> {
    /// The aggregate's key.
    pub key: String,
    /// What the clock is to say.
    pub timer: P::Timer,
    /// Not before this time; later is possible.
    pub due: Timestamp,
}

impl<P: Policy> Decision<P> {
    /// Nothing is stated, wanted or set: the input changes the state at most.
    pub fn nothing() -> Self {
        Self { facts: vec![], perform: vec![], withdraw: vec![], set: vec![], clear: vec![] }
    }

    /// Decides one fact.
    pub fn fact(fact: impl Into<P::Stated>) -> Self {
        Self::nothing().and(fact)
    }

    /// And states this fact.
    #[must_use]
    pub fn and(mut self, fact: impl Into<P::Stated>) -> Self {
        self.facts.push(fact.into());
        self
    }

    /// And wants this effect.
    #[must_use]
    pub fn perform(mut self, key: impl Into<String>, effect: P::Effect) -> Self {
        self.perform.push(Perform { key: key.into(), effect });
        self
    }

    /// And withdraws the effect of this name.
    #[must_use]
    pub fn withdraw(mut self, key: impl Into<String>, name: impl Into<String>) -> Self {
        self.withdraw.push((key.into(), name.into()));
        self
    }

    /// And sets this timer.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, timer: P::Timer, due: Timestamp) -> Self {
        self.set.push(SetTimer { key: key.into(), timer, due });
        self
    }

    /// And clears the timer of this name.
    #[must_use]
    pub fn clear(mut self, key: impl Into<String>, name: impl Into<String>) -> Self {
        self.clear.push((key.into(), name.into()));
        self
    }
}
