//! The shape of a service's decisions.

use std::{fmt::Debug, hash::Hash};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Decision, Declaration, Envelope, Moment, Records, Rows, Tombstone};

/// A service's policy: total, deterministic, and blind to everything but its arguments.
///
/// The state is the rows that inputs touch, a `BTreeMap` per table: see [`Rows`]. A policy must be idempotent by its state first
/// (end states absorb, a verdict once given is kept); the inbox is the net under it, and may forget.
pub trait Policy: Clone + Debug + PartialEq + Eq + Hash + Send + Sync + Sized + 'static {
    /// The service's name: its consumer group, its database, its `ce_source`.
    const SERVICE: &'static str;
    /// The tables whose rows inputs touch, in the order in which they are locked.
    const TABLES: &'static [&'static str];
    /// Its part in the choreography; what it hears and states, and no more, unless a service declares it.
    const CHOREOGRAPHY: Declaration =
        Declaration::new(Self::SERVICE, <Self::Heard as Records>::TYPES, <Self::Stated as Records>::TYPES);

    /// Those of them whose rows are read without a lock: what a decision reads of them is told by [`Self::record_unlocked`].
    const UNLOCKED: &'static [&'static str] = &[];

    /// Whose dead letters it hears, where the platform's `DeadLetter` is among [`Self::Heard`]: each service has a topic of its own.
    const DEAD_LETTERS_OF: &'static [&'static str] = &[];

    /// The records it hears.
    type Heard: Records;
    /// The records it states. None where it only listens: see [`is_projection`].
    type Stated: Records;
    /// What it asks the outside to do. [`Nothing`] where it asks nothing.
    type Effect: Named;
    /// What the outside answers.
    type Outcome: Named;
    /// What the clock may say.
    type Timer: Named;
    /// What it may be told over HTTP, by a service's own routes. [`Nothing`] where it takes no commands.
    type Command: Named;
    /// The rows touched. A row that is not there yet is there all the same, in its empty form, once it was locked.
    type State: Rows;

    /// The rows that an input touches, as far as `state` tells.
    ///
    /// Asked once per table of [`Self::TABLES`], in that order; rows of earlier tables are in `state` by then, so that an input may
    /// name rows that only an earlier row knows (the SKUs of a reservation).
    fn rows(state: &Self::State, input: &Envelope<Self>) -> Vec<Row>;

    /// Decides. A refusal is a fact; there is no error.
    fn react(state: &Self::State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self>;

    /// Whether `outcome` can be what became of `effect`: asked of an outcome that a person states.
    fn answers(_effect: &Self::Effect, _outcome: &Self::Outcome) -> bool {
        true
    }

    /// Whether a timer is a business deadline: it fires only once the service has read what it hears to its end as seen after the
    /// deadline passed, so that an answer that is there already counts.
    fn is_deadline(_timer: &Self::Timer) -> bool {
        false
    }

    /// What the decision on `input` reads of rows that are not locked.
    ///
    /// The rows that are locked are in the state as the inputs before left them, so a recorded history need not tell them. What is
    /// read without a lock may be older than that: the history keeps it beside the input. Most policies have no such rows.
    fn record_unlocked(_state: &Self::State, _input: &Envelope<Self>) -> Option<Value> {
        None
    }

    /// Puts what [`Self::record_unlocked`] told into the state, for the decision on `input` to read it again.
    ///
    /// # Errors
    ///
    /// `read` is nothing that [`Self::record_unlocked`] tells.
    fn restore_unlocked(
        _state: &mut Self::State,
        _input: &Envelope<Self>,
        _read: Value,
    ) -> Result<(), serde_json::Error> {
        Ok(())
    }

    /// Folds what was heard and what was decided into the state.
    fn evolve(state: &mut Self::State, input: &Envelope<Self>, decision: &Decision<Self>);

    /// The counter of `fact`'s key and topic (`ce_aggregateversion`), which lives on a row that the input has locked. Not asked for requests,
    /// which nobody numbers.
    fn version<'a>(state: &'a mut Self::State, fact: &Self::Stated) -> &'a mut i64;
}

/// Whether a service only listens: it states nothing, asks the outside for nothing, sets no timers and takes no commands, so its rows are all
/// that comes of what it hears.
///
/// Of such a service the runtime keeps no id per input but its position per partition, in the transaction of the rows: a record is taken
/// once, whatever becomes of instances, assignments and the group's offsets. A writer's repeat (the same event at a later offset) is not
/// found out by that: a policy for which it matters keeps [`Envelope::version`] per key, and ignores what is not newer.
pub const fn is_projection<P: Policy>() -> bool {
    P::Stated::TYPES.is_empty() && !P::Effect::EXISTS && !P::Timer::EXISTS && !P::Command::EXISTS
}

/// The group, without a world's prefix, that reads for a generation of a service's rows: of the first, which is 1, the service's name. Only a
/// [projection](is_projection) has others.
pub fn group(service: &str, generation: impl Into<i32>) -> String {
    match generation.into() {
        1 => service.to_owned(),
        number => format!("{service}.g{number}"),
    }
}

/// A row that an input touches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// One of [`Policy::TABLES`].
    pub table: &'static str,
    /// The row's key.
    pub key: String,
}

impl Row {
    /// The row `key` of `table`.
    pub fn new(table: &'static str, key: impl Into<String>) -> Self {
        Self { table, key: key.into() }
    }
}

/// Effects, outcomes, timers and commands: data that is stored, and named in ids.
pub trait Named: Clone + Debug + PartialEq + Eq + Hash + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Whether there are any: not of [`Nothing`].
    const EXISTS: bool = true;

    /// Its kind, for people, metrics and order: the effects of one key and kind are performed one after another.
    fn kind(&self) -> &'static str;

    /// Its name within its key: what ids, withdrawals and clearings say. The kind, unless one input may want several of a kind.
    fn name(&self) -> String {
        self.kind().to_owned()
    }
}

/// For policies without effects, outcomes, timers, commands or tombstones: a type without values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
pub enum Nothing {}

impl Named for Nothing {
    const EXISTS: bool = false;

    fn kind(&self) -> &'static str {
        match *self {}
    }
}

impl Tombstone for Nothing {
    fn on(_: &'static str) -> Option<Self> {
        None
    }

    fn topic(&self) -> &'static str {
        match *self {}
    }
}
