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
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use quadrille_core::{Claims, Envelope, Input, Moment, Named, Policy, Processed, Records, Row, process};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    arrival::{Arrival, Content, Rejection},
    database::Database,
    dead_letters, effects,
    failure::Failure,
    history,
    inbox::{self, Entered},
    operators::{self, Actions, Asked, Asking, Settled},
    outbox::{self, SchemaIds},
    store::Store,
    telemetry::Spans,
    timers,
};

/// Handles batches of arrivals, each whole or not at all.
pub(crate) struct Transactions<S: Store> {
    pub pool: Database,
    pub store: S,
    pub spans: Spans,
    /// Of what the policy states.
    pub schema_ids: SchemaIds,
    pub has_effects: bool,
    /// Where `history.keep` is set: the header of what is kept.
    pub history: Option<Uuid>,
}

/// What a committed batch left to do: who is to be woken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub handled: usize,
    pub seen: usize,
    pub facts: usize,
    pub effects: usize,
    /// An effect has ended, and another one of its batch's keys may have waited behind it.
    pub freed: bool,
    /// Timers that are due before the clock is looked at anyway.
    pub timers: usize,
    /// What operators asked for, or a letter was closed behind which others may wait.
    pub asking: Asking,
}

/// A batch's inputs.
struct Inputs<'a, P: Policy> {
    all: &'a [Cow<'a, Envelope<P>>],
    /// So many came by themselves; those behind them are operators' answers to effects.
    own: usize,
    /// The keys of effects that operators have tried again.
    redriven: Vec<&'a str>,
}

/// What a batch's inputs came to, beside what the policy decided.
struct Done<P: Policy> {
    processed: Processed<P>,
    settled: Settled,
    /// The events that wait behind a dead letter of their key, by input id.
    waiting: BTreeSet<Uuid>,
    /// The records of keys whose rows have gone, by input id.
    late: BTreeSet<Uuid>,
}

impl<S: Store> Transactions<S> {
    /// Commits what `arrivals` come to, within bounds. On any failure nothing of it has happened, or it has been committed and the answer
    /// was lost: then the inbox knows it.
    pub async fn handle(&self, arrivals: &[Arrival<S::Policy>]) -> Result<Committed, Failure> {
        let committed = self.pool.bounded(self.commit(arrivals)).await;
        if let Err(Failure::Passing(_)) = committed {
            self.pool.renew();
        }
        committed
    }

    async fn commit(&self, arrivals: &[Arrival<S::Policy>]) -> Result<Committed, Failure> {
        let mut session = self.pool.session().await?;
        let mut tx = session.begin().await?;
        let letters: Vec<Uuid> = arrivals.iter().filter_map(Arrival::letter).collect();
        let closed = dead_letters::close(&mut tx, &letters).await?;
        // One that was discarded in the meantime is not handled.
        let is_open = |arrival: &&Arrival<_>| arrival.letter().is_some_and(|id| closed.contains(&id));
        // Letters first: what has come of their keys meanwhile is later than they are.
        let others = || arrivals.iter().filter(|arrival| arrival.letter().is_none());
        let open = || arrivals.iter().filter(is_open).chain(others());

        let mut inputs: Vec<Cow<'_, Envelope<S::Policy>>> =
            open().filter_map(|arrival| arrival.content.input()).map(Cow::Borrowed).collect();
        let spans: Vec<_> = inputs.iter_mut().filter_map(|input| self.spans.start(input)).collect();
        let asked: Vec<&Asked> = open().filter_map(asked).collect();
        let mut committed = Committed::default();
        committed.asking.dead_letters = !closed.is_empty();
        let (mut actions, own) = (Actions::default(), inputs.len());
        if !asked.is_empty() {
            let (begun, answers, asking) = operators::begin::<S::Policy>(&mut tx, asked).await?;
            inputs.extend(answers.into_iter().map(Cow::Owned));
            committed.asking.effects |= asking.effects;
            committed.asking.dead_letters |= asking.dead_letters;
            actions = begun;
        }
        let (mut settled, mut waiting, mut late) = <(Settled, BTreeSet<Uuid>, BTreeSet<Uuid>)>::default();
        if !inputs.is_empty() {
            let inputs = Inputs { all: &inputs, own, redriven: actions.keys().collect() };
            let done = self.process(&mut tx, arrivals, &inputs, &mut committed).await?;
            let processed = done.processed;
            outbox::insert::<S::Policy>(&mut tx, &processed.facts, &self.schema_ids).await?;
            effects::withdraw(&mut tx, &processed.withdrawn).await?;
            effects::insert(&mut tx, &processed.effects).await?;
            timers::clear(&mut tx, &processed.cleared).await?;
            timers::insert(&mut tx, &processed.timers).await?;
            committed.facts = processed.facts.len();
            committed.effects = processed.effects.len();
            (settled, waiting, late) = (done.settled, done.waiting, done.late);
        }
        committed.asking.effects |= actions.keep(&mut tx, &settled).await?;
        let put_aside: Vec<(&Arrival<_>, Rejection)> = arrivals
            .iter()
            .filter_map(|arrival| {
                let input = arrival.content.input()?;
                let Input::Record(record) = &input.input else { return None };
                let why = match () {
                    () if waiting.contains(&input.id) => dead_letters::waits,
                    () if late.contains(&input.id) => dead_letters::too_old,
                    () => return None,
                };
                Some((arrival, why(input.id, &input.key, record.record_type())))
            })
            .collect();
        for (arrival, rejection) in &put_aside {
            if let Some(letter) = arrival.letter().filter(|letter| closed.contains(letter)) {
                dead_letters::reopen(&mut tx, letter, rejection).await?;
            }
        }
        let put_aside = put_aside.iter().filter_map(|(arrival, rejection)| Some((arrival.record()?, rejection)));
        let rejected = arrivals.iter().filter_map(|arrival| match &arrival.content {
            Content::Rejected(rejection) => Some((arrival.record()?, rejection)),
            Content::Input(..) | Content::Asked(_) => None,
        });
        dead_letters::insert::<S::Policy>(&mut tx, rejected.chain(put_aside)).await?;
        tx.commit().await?;
        session.done();
        spans.into_iter().for_each(crate::telemetry::InputSpan::end);
        Ok(committed)
    }

    async fn process(
        &self,
        tx: &mut PgConnection,
        arrivals: &[Arrival<S::Policy>],
        inputs: &Inputs<'_, S::Policy>,
        committed: &mut Committed,
    ) -> Result<Done<S::Policy>, Failure> {
        let (mut state, touched) = self.lock(tx, inputs.all).await?;
        let before = state.clone();

        let ids: BTreeSet<Uuid> = inputs.all.iter().map(|input| input.id).collect();
        let former: Vec<(Uuid, Uuid)> = arrivals.iter().filter_map(Arrival::former).collect();
        let Entered { mut fresh, now, holding, gone } = inbox::enter(tx, &ids, &former, &touched).await?;
        let late = match gone.is_empty() {
            true => BTreeSet::new(),
            false => self.late(tx, &state, inputs.all, &gone, &mut fresh).await?,
        };
        let waiting = if holding { wait_behind(tx, arrivals, &mut fresh).await? } else { BTreeSet::new() };
        let (claims, settled) = self.settle(tx, inputs, &mut fresh, committed).await?;
        let moment = Moment { now, claims };

        let mut processed = Processed::default();
        let mut history = vec![];
        for input in inputs.all {
            // Removed, so that an input which the batch brings twice takes effect once. And a timer that an earlier input of the batch
            // has cleared does not fire, though its row was there when the batch began.
            let seen = !fresh.remove(&input.id) || is_cleared(&processed, input);
            committed.seen += usize::from(seen);
            committed.handled += usize::from(!seen);
            let kept = self.history.filter(|_| !seen);
            let unlocked = kept.and_then(|_| S::Policy::unlocked(&state, input));
            let came_to = match seen {
                true => Processed::default(),
                false => decide::<S::Policy>(&mut state, &moment, input)?,
            };
            if let Some(header) = kept {
                // Before the batch merges it: what one input wants another one of its batch may withdraw.
                history.push(history::decided(header, &moment, input, unlocked, &came_to)?);
            }
            processed.then(came_to);
        }
        committed.timers = processed.timers.iter().filter(|timer| timer.due <= now + timers::NET).count();
        self.store.save(tx, &before, &state, &processed.facts).await?;
        history::insert(tx, &history).await?;
        Ok(Done { processed, settled, waiting, late })
    }

    /// Makes, locks and loads the rows that the inputs touch, in order of table and key. Returns them, and the keys of those that go some
    /// time after their end.
    async fn lock(
        &self,
        tx: &mut PgConnection,
        inputs: &[Cow<'_, Envelope<S::Policy>>],
    ) -> Result<(<S::Policy as Policy>::State, Vec<String>), Failure> {
        let (mut state, mut touched) = Default::default();
        for table in S::Policy::TABLES {
            let of_table = |row: &Row| row.table == *table;
            let rows = inputs.iter().flat_map(|input| S::Policy::rows(&state, input)).filter(of_table);
            let keys: BTreeSet<String> = rows.map(|row| row.key).collect();
            if !keys.is_empty() {
                let keys: Vec<String> = keys.into_iter().collect();
                self.store.load(tx, table, &keys, &mut state).await?;
                if S::ENDED.is_some_and(|ended| ended.table == *table) {
                    touched = keys;
                }
            }
        }
        Ok((state, touched))
    }

    /// Finds the records of keys whose rows have gone, and takes their ids out of the inbox again. The policies take an empty row for the
    /// beginning, so none of them is told of such a record.
    async fn late(
        &self,
        tx: &mut PgConnection,
        state: &<S::Policy as Policy>::State,
        inputs: &[Cow<'_, Envelope<S::Policy>>],
        gone: &BTreeSet<String>,
        fresh: &mut BTreeSet<Uuid>,
    ) -> Result<BTreeSet<Uuid>, Failure> {
        let Some(ended) = S::ENDED else { return Ok(BTreeSet::new()) };
        // Another kind of key may have the same letters: a user's id is the client's choice, and so is an order's.
        let is_about = |input: &Envelope<S::Policy>| {
            S::Policy::rows(state, input).iter().any(|row| row.table == ended.table && row.key == input.key)
        };
        let late = inputs.iter().filter(|input| {
            matches!(input.input, Input::Record(_))
                && gone.contains(&input.key)
                && is_about(input)
                && fresh.remove(&input.id)
        });
        let late: BTreeSet<Uuid> = late.map(|input| input.id).collect();
        inbox::leave(tx, &late.iter().copied().collect::<Vec<_>>()).await?;
        Ok(late)
    }

    /// Removes the rows of the timers and outcomes at hand, and tells which effects are claimed and which have ended.
    ///
    /// A timer that was cleared, or an effect that has had its outcome, has no row any more: then the input counts as seen.
    async fn settle(
        &self,
        tx: &mut PgConnection,
        inputs: &Inputs<'_, S::Policy>,
        fresh: &mut BTreeSet<Uuid>,
        committed: &mut Committed,
    ) -> Result<(Claims, Settled), Failure> {
        let Inputs { all, own, redriven } = inputs;
        let due: Vec<Uuid> = all.iter().filter(|i| matches!(i.input, Input::Timer(_))).map(|i| i.id).collect();
        let fired = timers::remove(tx, &due).await?;
        let keys = all.iter().map(|input| input.key.as_str()).chain(redriven.iter().copied());
        let open = match self.has_effects {
            true => effects::lock(tx, keys).await?,
            false => effects::Open::default(),
        };
        let (mut ended, mut too_early) = (BTreeMap::new(), vec![]);
        for (place, input) in all.iter().enumerate() {
            let counts = match &input.input {
                Input::Record(_) => true,
                Input::Timer(_) => fired.contains(&input.id),
                Input::Outcome { effect, .. } => match ended.get(effect) {
                    // Of an operator's outcome and the outside's own in one batch the first counts. Where both say the same they are one
                    // input, with one id.
                    Some(first) => *first == input.id,
                    None if !open.ids.contains(effect) => false,
                    // What a try that is under way will have done is not a person's to say.
                    None if place >= *own && open.under_way.contains_key(effect) => {
                        too_early.push(input.id);
                        false
                    }
                    None => {
                        ended.insert(*effect, input.id);
                        true
                    }
                },
            };
            if !counts {
                fresh.remove(&input.id);
            }
        }
        // The outside's own word may be the same, and must not count as seen when it comes.
        if !too_early.is_empty() {
            inbox::leave(tx, &too_early).await?;
        }
        effects::remove(tx, &ended.keys().copied().collect::<Vec<_>>()).await?;
        committed.freed = !ended.is_empty() && open.ids.len() > ended.len();
        Ok((open.claimed, Settled { ended, under_way: open.under_way }))
    }
}

/// Finds the events that must wait behind a dead letter of their topic and key, and takes their ids out of the inbox again.
async fn wait_behind<P: Policy>(
    tx: &mut PgConnection,
    arrivals: &[Arrival<P>],
    fresh: &mut BTreeSet<Uuid>,
) -> Result<BTreeSet<Uuid>, Failure> {
    let events = || {
        arrivals.iter().filter_map(|arrival| {
            let (record, input) = (arrival.record()?, arrival.content.input()?);
            record.topic.ends_with(".events").then_some((record.topic, input.key.as_str(), input.id))
        })
    };
    let keys: Vec<(&str, &str)> = events().map(|(topic, key, _)| (topic, key)).collect();
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let held = dead_letters::held(tx, &keys).await?;
    let waits = |topic: &str, key: &str| held.contains(&(topic.to_owned(), key.to_owned()));
    // One that was handled before, or is a repeat of one that waits already, needs no second row.
    let waiting = events().filter(|(topic, key, id)| waits(topic, key) && fresh.remove(id)).map(|(.., id)| id);
    let waiting: BTreeSet<Uuid> = waiting.collect();
    inbox::leave(tx, &waiting.iter().copied().collect::<Vec<_>>()).await?;
    Ok(waiting)
}

/// A policy that panics is a poisoned input, not the end of the service.
fn decide<P: Policy>(state: &mut P::State, moment: &Moment, input: &Envelope<P>) -> Result<Processed<P>, Failure> {
    catch_unwind(AssertUnwindSafe(|| process(state, moment, input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Failure::Poisoned(format!("the policy panicked: {text}"))
    })
}

fn is_cleared<P: Policy>(processed: &Processed<P>, input: &Envelope<P>) -> bool {
    let Input::Timer(timer) = &input.input else { return false };
    let name = timer.name();
    processed.cleared.iter().any(|cleared| cleared.0 == input.key && cleared.1 == name)
}

fn asked<P: Policy>(arrival: &Arrival<P>) -> Option<&Asked> {
    match &arrival.content {
        Content::Asked(asked) => Some(asked),
        Content::Input(..) | Content::Rejected(_) => None,
    }
}
