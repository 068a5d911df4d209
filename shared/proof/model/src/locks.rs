//! A small world of its own: two instances of inventory on one database, statement by statement.
//!
//! Everywhere else a transaction is one step. Here it is not: rows are made and locked one by one, then read, then the policy decides,
//! then outbox numbers are drawn, then all of it is committed, as READ COMMITTED has it. What this shows is why a transaction may be
//! taken for one step, and why the order of numbers is the order of versions.

use std::collections::{BTreeMap, BTreeSet};

use quadrille_core::{Envelope, Fact, Input, Moment, Policy, Row, Trace, process};
use quadrille_events::{
    Uuid,
    order::{OrderCancelled, OrderDetails, OrderLine},
    verification::CustomerVerified,
};
use quadrille_inventory::{
    Heard, Inventory, State,
    policy::{Product, RESERVATION, STOCK, Stock},
};
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::{service::now, shop};

/// What may be wrong with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// Rows are read without a lock.
    NoLocks,
    /// Outbox numbers are drawn before the rows are locked.
    NumbersFirst,
    /// Rows are locked in whatever order inputs name them.
    AnyOrder,
}

/// What may be wrong, and the claim that it breaks.
pub const SLIPS: &[(&str, Slip, &str)] = &[
    ("rows not locked", Slip::NoLocks, ONCE),
    ("the outbox number drawn before the lock", Slip::NumbersFirst, IN_ORDER),
    ("rows locked in any order", Slip::AnyOrder, NO_DEADLOCK),
];

/// How many states there are.
pub const STATES: usize = 15_220;

const ADDS_UP: &str = "stock is never negative and adds up";
const IN_ORDER: &str = "versions are in the order of numbers";
const ONCE: &str = "each input takes effect once";
const NO_DEADLOCK: &str = "no two wait for each other";

/// Two or three inputs, each handled by an instance of its own.
pub struct Locks {
    inputs: Vec<Envelope<Inventory>>,
    slip: Option<Slip>,
}

/// The database, the topic, and how far each transaction has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instances {
    rows: State,
    inbox: BTreeSet<Uuid>,
    /// Committed rows of the outbox, by number.
    outbox: BTreeMap<u32, Published>,
    next_number: u32,
    locks: BTreeMap<Row, usize>,
    transactions: Vec<Transaction>,
    /// What lies in the topics, in order.
    log: Vec<Published>,
    aborts: u8,
}

/// A fact's place in its topic: topic, key, version.
type Published = (&'static str, String, i64);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Transaction {
    phase: Phase,
    /// Rows to lock, of the tables that were looked at.
    pending: Vec<Row>,
    /// Rows that were locked.
    locked: Vec<Row>,
    /// The rows as they were read, and as they are changed.
    rows: State,
    numbers: Vec<u32>,
    facts: Vec<Published>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    #[default]
    Waiting,
    /// The rows of this table come next.
    Locking(usize),
    Decided,
    Done,
}

/// One statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// The instance's transaction goes on by one statement.
    Next(usize),
    /// It is rolled back, and begun anew.
    Abort(usize),
    /// The relay reads all that is committed, in the order of numbers, publishes it and removes it.
    Relay,
}

impl Locks {
    /// Two orders of the last unit, the first of them cancelled; and the first one's question comes to a second instance, too.
    pub fn new(slip: Option<Slip>) -> Self {
        let verified = |order: Uuid| {
            let details = OrderDetails {
                lines: vec![OrderLine::new("TEA".into(), 1, Default::default())],
                ..OrderDetails::new(shop::CUSTOMER, Default::default())
            };
            (order, Heard::from(CustomerVerified { order_id: order, details }))
        };
        let [first, second] = shop::ORDERS;
        let cancelled = (first, Heard::from(OrderCancelled::new(first, shop::CUSTOMER, Default::default())));
        let inputs = [verified(first), verified(second), cancelled, verified(first)];
        let envelope = |(order, heard): (Uuid, Heard)| {
            let id = quadrille_core::ids::v5(&[&order.to_string(), quadrille_core::Records::record_type(&heard).name]);
            Envelope {
                id,
                cause: id,
                key: order.to_string(),
                version: 1,
                trace: Trace::default(),
                input: Input::Record(heard),
            }
        };
        Self { inputs: inputs.into_iter().map(envelope).collect(), slip }
    }

    /// Explores all of it: how many states there are, and the claims that do not hold.
    pub fn explore(self) -> (usize, Vec<&'static str>) {
        let checker = self.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let mut broken: Vec<_> =
            checker.discoveries().into_iter().filter(|(name, _)| !name.starts_with("sometimes")).collect();
        broken.sort_by_key(|(_, path)| path.clone().into_actions().len());
        (checker.unique_state_count(), broken.into_iter().map(|(name, _)| name).collect())
    }

    /// A transaction's next statement; none where it waits for another's lock.
    fn next(&self, state: &mut Instances, instance: usize) -> Option<()> {
        let Instances { rows, inbox, outbox, next_number, locks, transactions, .. } = state;
        let (transaction, input) = (&mut transactions[instance], &self.inputs[instance]);
        match transaction.phase {
            Phase::Waiting => {
                if self.slip == Some(Slip::NumbersFirst) {
                    transaction.numbers = draw(next_number, 2);
                }
                transaction.phase = Phase::Locking(0);
            }
            Phase::Locking(table) => match transaction.pending.first().cloned() {
                // One statement per row: made where it is not there, locked, and read.
                Some(row) => {
                    if self.slip != Some(Slip::NoLocks) && *locks.entry(row.clone()).or_insert(instance) != instance {
                        return None;
                    }
                    transaction.pending.remove(0);
                    copy(rows, &mut transaction.rows, &row);
                    transaction.locked.push(row);
                }
                None if table < Inventory::TABLES.len() => {
                    let of_table =
                        |row: &Row| row.table == Inventory::TABLES[table] || self.slip == Some(Slip::AnyOrder);
                    let named = Inventory::rows(&transaction.rows, input).into_iter().filter(of_table);
                    transaction.pending = named.filter(|row| !transaction.locked.contains(row)).collect();
                    match self.slip {
                        Some(Slip::AnyOrder) if instance % 2 == 1 => transaction.pending.reverse(),
                        _ => transaction.pending.sort(),
                    }
                    transaction.phase = Phase::Locking(table + 1);
                }
                None => {
                    let moment = Moment { now: now(), claims: Default::default() };
                    let facts = match inbox.contains(&input.id) {
                        true => vec![],
                        false => process(&mut transaction.rows, &moment, input).facts,
                    };
                    if transaction.numbers.is_empty() {
                        transaction.numbers = draw(next_number, facts.len() as u32);
                    }
                    transaction.facts = facts.iter().map(published).collect();
                    transaction.phase = Phase::Decided;
                }
            },
            Phase::Decided => {
                for row in &transaction.locked {
                    copy(&transaction.rows, rows, row);
                }
                inbox.insert(input.id);
                outbox.extend(transaction.numbers.iter().copied().zip(transaction.facts.drain(..)));
                locks.retain(|_, owner| *owner != instance);
                *transaction = Transaction { phase: Phase::Done, ..Transaction::default() };
            }
            Phase::Done => return None,
        }
        Some(())
    }
}

fn draw(next: &mut u32, numbers: u32) -> Vec<u32> {
    *next += numbers;
    (*next - numbers..*next).collect()
}

fn published(fact: &Fact<Inventory>) -> Published {
    (&quadrille_core::Records::record_type(&fact.record).topic.name, fact.key.clone(), fact.version.unwrap_or_default())
}

/// Copies one row, if it is there.
fn copy(from: &State, to: &mut State, row: &Row) {
    if row.table == RESERVATION
        && let Some(reservation) = from.reservations.get(&row.key)
    {
        to.reservations.insert(row.key.clone(), reservation.clone());
    }
    if row.table == STOCK
        && let Some(stock) = from.stock.get(&row.key)
    {
        to.stock.insert(row.key.clone(), stock.clone());
    }
}

impl Model for Locks {
    type State = Instances;
    type Action = Statement;

    fn init_states(&self) -> Vec<Instances> {
        let product = Product { name: "TEA".into(), price: Default::default(), currency: "EUR".into() };
        let stock = Stock { product: Some(product), received: 1, available: 1, ..Stock::default() };
        vec![Instances {
            rows: State { stock: BTreeMap::from([("TEA".into(), stock)]), ..State::default() },
            inbox: BTreeSet::new(),
            outbox: BTreeMap::new(),
            next_number: 0,
            locks: BTreeMap::new(),
            transactions: vec![Transaction::default(); self.inputs.len()],
            log: vec![],
            aborts: 1,
        }]
    }

    fn actions(&self, state: &Instances, actions: &mut Vec<Statement>) {
        for (instance, transaction) in state.transactions.iter().enumerate() {
            actions.push(Statement::Next(instance));
            if state.aborts > 0 && !matches!(transaction.phase, Phase::Waiting | Phase::Done) {
                actions.push(Statement::Abort(instance));
            }
        }
        actions.push(Statement::Relay);
    }

    fn next_state(&self, last: &Instances, statement: Statement) -> Option<Instances> {
        let mut state = last.clone();
        match statement {
            Statement::Next(instance) => self.next(&mut state, instance)?,
            Statement::Abort(instance) => {
                state.transactions[instance] = Transaction::default();
                state.locks.retain(|_, owner| *owner != instance);
                state.aborts -= 1;
            }
            Statement::Relay => state.log.extend(std::mem::take(&mut state.outbox).into_values()),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ADDS_UP, |_, state: &Instances| {
                state.rows.stock.values().all(|stock| {
                    stock.available >= 0
                        && stock.reserved >= 0
                        && stock.received == stock.available + stock.reserved + stock.committed
                })
            }),
            Property::always(IN_ORDER, |_, state: &Instances| {
                let mut versions = BTreeMap::<(&str, &str), i64>::new();
                state.log.iter().all(|(topic, key, version)| {
                    let known = versions.entry((topic, key)).or_default();
                    *known += 1;
                    *known == *version
                })
            }),
            Property::always(NO_DEADLOCK, |locks: &Self, state: &Instances| {
                let mut open = (0..locks.inputs.len())
                    .filter(|instance| state.transactions[*instance].phase != Phase::Done)
                    .peekable();
                open.peek().is_none() || open.any(|instance| locks.next(&mut state.clone(), instance).is_some())
            }),
            Property::always(ONCE, |_, state: &Instances| {
                let told: BTreeSet<_> = state.log.iter().collect();
                told.len() == state.log.len()
            }),
            Property::sometimes("sometimes the first order has the unit", |_, state: &Instances| {
                state.log.iter().any(|(_, key, version)| *key == shop::ORDERS[0].to_string() && *version == 2)
            }),
        ]
    }
}
