//! One batch of inputs in one transaction.
//!
//! ```text
//! make and lock the rows touched, load -> seen before? (inbox) -> policy decides, state moves on
//!   -> save state, outbox, effects, timers, dead letters -> commit
//! ```
//!
//! Whatever the batch's size, each step is one statement a table. READ COMMITTED is enough: every row that a decision reads is locked
//! before it is read, and an outbox number is drawn only under those locks.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use chrono::{DateTime, Utc};
use quadrille_core::{Claims, Envelope, Input, Moment, Named, Policy, Processed, Row, process};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    arrival::{Arrival, Origin},
    dead_letters, effects,
    failure::Failure,
    inbox, outbox,
    store::Store,
    telemetry::Spans,
    timers,
};

/// Handles batches of arrivals, each whole or not at all.
pub(crate) struct Transactions<S: Store> {
    pub pool: PgPool,
    pub store: S,
    pub spans: Spans,
    /// The schema ids of [`Policy::Stated`], in its order.
    pub schema_ids: Vec<u32>,
    pub has_effects: bool,
}

/// What a committed batch left to do: who is to be woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub handled: usize,
    pub seen: usize,
    pub facts: usize,
    pub effects: usize,
    pub timers: usize,
    pub dead_letters: usize,
}

impl<S: Store> Transactions<S> {
    /// Commits what `arrivals` come to. On any failure nothing of it has happened.
    pub async fn handle(&self, arrivals: &[Arrival<S::Policy>]) -> Result<Committed, Failure> {
        let mut inputs: Vec<Envelope<S::Policy>> =
            arrivals.iter().filter_map(|arrival| arrival.content.as_ref().ok()).cloned().collect();
        let spans: Vec<_> = inputs
            .iter_mut()
            .map(|input| {
                let name = input_name::<S::Policy>(&input.input);
                self.spans.start(&mut input.trace, &name, &input.key)
            })
            .collect();

        let mut tx = self.pool.begin().await?;
        let mut committed = Committed::default();
        if !inputs.is_empty() {
            let processed = self.process(&mut tx, &inputs, &mut committed).await?;
            outbox::insert::<S::Policy>(&mut tx, &processed.facts, &self.schema_ids).await?;
            effects::withdraw(&mut tx, &processed.withdrawn).await?;
            effects::insert(&mut tx, &processed.effects).await?;
            timers::clear(&mut tx, &processed.cleared).await?;
            timers::insert(&mut tx, &processed.timers).await?;
            committed.facts = processed.facts.len();
            committed.effects = processed.effects.len();
            committed.timers = processed.timers.len();
        }
        committed.dead_letters = dead_letters::insert(&mut tx, S::Policy::SERVICE, arrivals).await?;
        tx.commit().await?;
        spans.into_iter().for_each(crate::telemetry::InputSpan::end);
        Ok(committed)
    }

    async fn process(
        &self,
        tx: &mut PgConnection,
        inputs: &[Envelope<S::Policy>],
        committed: &mut Committed,
    ) -> Result<Processed<S::Policy>, Failure> {
        let mut state = self.lock(tx, inputs).await?;
        let before = state.clone();

        let ids: BTreeSet<Uuid> = inputs.iter().map(|input| input.id).collect();
        let (now, mut fresh) = inbox::enter(tx, &ids).await?;
        let moment = Moment { now, claims: self.settle(tx, inputs, &mut fresh).await? };

        let mut processed = Processed::default();
        for input in inputs {
            // Removed, so that an input which the batch brings twice takes effect once.
            let seen = !fresh.remove(&input.id);
            committed.seen += usize::from(seen);
            committed.handled += usize::from(!seen);
            processed.then(decide::<S::Policy>(&mut state, seen, &moment, input)?);
        }
        self.store.save(tx, &before, &state, &processed.facts).await?;
        Ok(processed)
    }

    /// Makes, locks and loads the rows that the inputs touch, in order of table and key.
    async fn lock(
        &self,
        tx: &mut PgConnection,
        inputs: &[Envelope<S::Policy>],
    ) -> Result<<S::Policy as Policy>::State, Failure> {
        let mut state = Default::default();
        for table in S::Policy::TABLES {
            let of_table = |row: &Row| row.table == *table;
            let rows = inputs.iter().flat_map(|input| S::Policy::rows(&state, input)).filter(of_table);
            let keys: BTreeSet<String> = rows.map(|row| row.key).collect();
            if !keys.is_empty() {
                let keys: Vec<String> = keys.into_iter().collect();
                self.store.load(tx, table, &keys, &mut state).await?;
            }
        }
        Ok(state)
    }

    /// Removes the rows of the timers and outcomes at hand, and tells which effects are claimed.
    ///
    /// A timer that was cleared, or an effect that has had its outcome, has no row any more: then the input counts as seen.
    async fn settle(
        &self,
        tx: &mut PgConnection,
        inputs: &[Envelope<S::Policy>],
        fresh: &mut BTreeSet<Uuid>,
    ) -> Result<Claims, Failure> {
        let due: Vec<Uuid> = inputs.iter().filter(|i| matches!(i.input, Input::Timer(_))).map(|i| i.id).collect();
        let fired = timers::remove(tx, &due).await?;
        let open = match self.has_effects {
            true => effects::lock(tx, inputs.iter().map(|input| input.key.as_str())).await?,
            false => effects::Open::default(),
        };
        let mut done = vec![];
        for input in inputs {
            match &input.input {
                Input::Timer(_) if !fired.contains(&input.id) => drop(fresh.remove(&input.id)),
                Input::Outcome { effect, .. } if !open.ids.contains(effect) => drop(fresh.remove(&input.id)),
                Input::Outcome { effect, .. } => done.push(*effect),
                _ => {}
            }
        }
        effects::remove(tx, &done).await?;
        Ok(open.claimed)
    }
}

/// A policy that panics is a poisoned input, not the end of the service.
fn decide<P: Policy>(
    state: &mut P::State,
    seen: bool,
    moment: &Moment,
    input: &Envelope<P>,
) -> Result<Processed<P>, Failure> {
    catch_unwind(AssertUnwindSafe(|| process(state, seen, moment, input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Failure::Poisoned(format!("the policy panicked: {text}"))
    })
}

/// What an input is called in logs and spans.
pub(crate) fn input_name<P: Policy>(input: &Input<P>) -> String {
    use quadrille_core::Records;
    match input {
        Input::Record(record) => record.record_type().name.rsplit('.').next().unwrap_or_default().to_owned(),
        Input::Timer(timer) => timer.name(),
        Input::Outcome { outcome, .. } => outcome.name(),
    }
}

/// The database's time once the locks are held.
pub(crate) type Now = DateTime<Utc>;

impl<P: Policy> Arrival<P> {
    /// The record that this arrival is, if it is one.
    pub fn record(&self) -> Option<&crate::arrival::RawRecord> {
        match &self.origin {
            Origin::Record(record) => Some(record),
            Origin::Timer | Origin::Outcome => None,
        }
    }
}
