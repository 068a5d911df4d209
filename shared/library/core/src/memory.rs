//! A service in memory: what a transaction is, said without a database.
//!
//! A transaction takes a batch of inputs, whole or not at all ([`Service::batch`]):
//!
//! 1. The rows that the inputs name are made and locked, and the policy sees them and no others ([`on_touched_rows`]).
//! 2. Each input's id goes into the inbox. An input whose id is there already counts as seen: nothing comes of it.
//! 3. The effects of the inputs' keys are locked. Those that a worker has claimed are what [`Moment::claims`] tells, also where this very
//!    batch brings their outcome.
//! 4. A timer that fires loses its row, and an effect whose outcome this is too. Where the row is gone, since the timer was cleared or the
//!    effect has had its outcome, the input counts as seen; of two outcomes of one effect the first counts.
//! 5. The policy decides on one input after another, each on the state that the one before has left. A timer that an earlier input of the
//!    batch has cleared counts as seen.
//! 6. The rows that changed are saved. Withdrawn effects go unless they are claimed, cleared timers go, and then the new ones are stored.
//!
//! The runtime does the same in PostgreSQL; the testkit's `conforms` holds the two against each other, with each service's own store. What
//! is not said here: how long anything is kept, which keys wait behind a dead letter, what operators do, and how facts are published.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use uuid::Uuid;

use crate::{
    EffectRow, Envelope, Input, Moment, Named, Policy, Processed, Row, Rows, TimerRow, Timestamp, ids, process,
};

/// A service's database: all that one transaction reads and writes. What is stated is in nobody's way and returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service<P: Policy> {
    /// The service's own rows.
    pub state: P::State,
    /// The ids of the inputs that it was given.
    pub inbox: BTreeSet<Uuid>,
    /// Effects without an outcome, in the order in which they were wanted.
    pub effects: Vec<OpenEffect<P>>,
    /// Timers that have not fired.
    pub timers: Vec<TimerRow<P>>,
}

/// An effect without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenEffect<P: Policy> {
    /// What was wanted.
    pub row: EffectRow<P>,
    /// Whether a worker has claimed it: it may have happened, and only an outcome ends it.
    pub claimed: bool,
}

impl<P: Policy> Default for Service<P> {
    fn default() -> Self {
        Self { state: P::State::default(), inbox: BTreeSet::new(), effects: vec![], timers: vec![] }
    }
}

impl<P: Policy> Service<P> {
    /// Takes a batch in one transaction, and returns what each input came to: nothing where it counts as seen.
    ///
    /// # Panics
    /// Where the policy changes a row that no input names: in a database such a change is lost.
    pub fn batch(&mut self, now: Timestamp, inputs: &[Envelope<P>]) -> Vec<Processed<P>> {
        let entered = inputs.iter().map(|input| input.id).filter(|id| self.inbox.insert(*id));
        let mut fresh: BTreeSet<Uuid> = entered.collect();
        let moment = self.moment(now, inputs);
        self.settle(inputs, &mut fresh);
        let all = on_touched_rows(&mut self.state, inputs, |state| {
            let mut cleared = BTreeSet::new();
            let decide = |input: &Envelope<P>| {
                // Removed, so that an input which the batch brings twice takes effect once.
                let seen = !fresh.remove(&input.id)
                    || matches!(&input.input, Input::Timer(timer) if cleared.contains(&(input.key.clone(), timer.name())));
                let came_to = if seen { Processed::default() } else { process(state, &moment, input) };
                cleared.extend(came_to.cleared.iter().cloned());
                came_to
            };
            inputs.iter().map(decide).collect::<Vec<_>>()
        });
        all.iter().for_each(|came_to| self.store(came_to));
        all
    }

    /// Takes one input in a transaction of its own.
    pub fn handle(&mut self, now: Timestamp, input: &Envelope<P>) -> Processed<P> {
        self.batch(now, slice::from_ref(input)).pop().unwrap_or_default()
    }

    /// What is true for a batch beside the state.
    pub fn moment(&self, now: Timestamp, inputs: &[Envelope<P>]) -> Moment {
        let is_locked = |key: &String| inputs.iter().any(|input| input.key == *key);
        let claimed = self.effects.iter().filter(|open| open.claimed && is_locked(&open.row.key));
        Moment { now, claims: claimed.map(|open| (open.row.key.clone(), open.row.effect.name())).collect() }
    }

    /// The input that the timer at this place becomes once it is due.
    pub fn due(&self, place: usize) -> Envelope<P> {
        let TimerRow { id, key, cause, trace, timer, .. } = self.timers[place].clone();
        Envelope { id, cause, key, version: 0, trace, input: Input::Timer(timer) }
    }

    /// The input that an outcome of the effect at this place is.
    pub fn outcome(&self, place: usize, outcome: P::Outcome) -> Envelope<P> {
        let EffectRow { id: effect, key, cause, trace, .. } = self.effects[place].row.clone();
        let id = ids::outcome(effect, &outcome.name());
        Envelope { id, cause, key, version: 0, trace, input: Input::Outcome { effect, outcome } }
    }

    /// Removes the rows of the timers and outcomes at hand, and from `fresh` those that have none.
    fn settle(&mut self, inputs: &[Envelope<P>], fresh: &mut BTreeSet<Uuid>) {
        let mut ended = BTreeMap::new();
        for input in inputs {
            let counts = match &input.input {
                Input::Record(_) | Input::Gone(_) | Input::Command(_) => true,
                Input::Timer(_) => self.timers.iter().any(|row| row.id == input.id),
                Input::Outcome { effect, .. } => {
                    self.effects.iter().any(|open| open.row.id == *effect)
                        && *ended.entry(*effect).or_insert(input.id) == input.id
                }
            };
            if !counts {
                fresh.remove(&input.id);
            }
        }
        self.timers.retain(|row| inputs.iter().all(|input| input.id != row.id));
        self.effects.retain(|open| !ended.contains_key(&open.row.id));
    }

    fn store(&mut self, came_to: &Processed<P>) {
        let is_among = |names: &[(String, String)], key: &str, name: String| {
            names.iter().any(|(of, wanted)| of == key && *wanted == name)
        };
        self.effects
            .retain(|open| open.claimed || !is_among(&came_to.withdrawn, &open.row.key, open.row.effect.name()));
        self.effects.extend(came_to.effects.iter().map(|row| OpenEffect { row: row.clone(), claimed: false }));
        self.timers.retain(|row| !is_among(&came_to.cleared, &row.key, row.timer.name()));
        self.timers.extend(came_to.timers.iter().cloned());
    }
}

/// Has `decide` work on the rows that `inputs` name and on no others, and takes them back into `state`.
///
/// # Panics
/// Where it changes a row that no input names.
pub fn on_touched_rows<P: Policy, T>(
    state: &mut P::State,
    inputs: &[Envelope<P>],
    decide: impl FnOnce(&mut P::State) -> T,
) -> T {
    let rows_of = |all: &P::State, rows: &BTreeSet<Row>| {
        let mut touched = P::State::default();
        rows.iter().for_each(|row| all.copy(row, &mut touched));
        touched
    };
    let (mut touched, mut rows) = (P::State::default(), BTreeSet::new());
    // Table by table: which rows of a later one are named may depend on those of an earlier one.
    for table in P::TABLES {
        let named = inputs.iter().flat_map(|input| P::rows(&touched, input)).filter(|row| row.table == *table);
        rows.extend(named);
        touched = rows_of(state, &rows);
    }
    let decided = decide(&mut touched);
    assert_eq!(rows_of(&touched, &rows), touched, "a row was changed that is none of {rows:?}, which {inputs:#?} name");
    for row in &rows {
        // A policy may have removed it.
        state.remove(row);
        touched.copy(row, state);
    }
    decided
}
