//! A service's database: all that one transaction reads and writes.

use quadrille_core::{
    Named, Policy,
    memory::{OpenEffect, Service},
};
use uuid::Uuid;

/// A service's own and the runtime's tables. The outbox is missing: what is stated lies in its log at once, since a reader that is slow and
/// a relay that is late look the same to everyone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Database<P: Policy> {
    /// All that a transaction reads and writes.
    pub service: Service<P>,
    /// Dead letters that are open: records by their numbers.
    pub letters: Vec<u32>,
}

/// What the rest of the world may know of a database, whatever its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// Effects without an outcome.
    pub effects: Vec<Effect>,
    /// Timers that have not fired: key and name.
    pub timers: Vec<(String, String)>,
    /// Dead letters that are open.
    pub letters: Vec<u32>,
    /// Stock, where the service has some.
    pub stock: Vec<Level>,
}

/// An effect, whatever its policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Effect {
    /// Its idempotency key.
    pub id: Uuid,
    /// The order.
    pub key: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its name within its order.
    pub name: String,
    /// Whether a worker has it in hand.
    pub claimed: bool,
    /// Whether an earlier one of its key and kind is open: they are performed one after another.
    pub waits: bool,
}

/// How much there is of a SKU.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Level {
    pub sku: String,
    pub received: i64,
    pub available: i64,
    pub reserved: i64,
    pub committed: i64,
}

impl<P: Policy> Default for Database<P> {
    fn default() -> Self {
        Self { service: Service::default(), letters: vec![] }
    }
}

impl<P: Policy> Database<P> {
    /// What others may know of it.
    pub fn view(&self, stock: fn(&P::State) -> Vec<Level>) -> View {
        let Service { state, effects, timers, .. } = &self.service;
        let effect = |(index, open): (usize, &OpenEffect<P>)| {
            let (key, kind) = (open.row.key.clone(), open.row.effect.kind());
            let same = |earlier: &OpenEffect<P>| earlier.row.key == key && earlier.row.effect.kind() == kind;
            let waits = effects[..index].iter().any(same);
            Effect { id: open.row.id, key, kind, name: open.row.effect.name(), claimed: open.claimed, waits }
        };
        View {
            effects: effects.iter().enumerate().map(effect).collect(),
            timers: timers.iter().map(|row| (row.key.clone(), row.timer.name())).collect(),
            letters: self.letters.clone(),
            stock: stock(state),
        }
    }
}
