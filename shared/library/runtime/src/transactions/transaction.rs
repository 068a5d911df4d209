//! One batch of work in one transaction.
//!
//! ```text
//! close the dead letters that are handled again -> carry out operators' requests -> make, lock and load the rows touched
//!   -> enter the inbox -> hold back -> claim timers and outcomes -> the policy decides
//!   -> save rows -> write history, outbox, effects and timers -> leave the inbox
//!   -> keep what came of the requests -> write dead letters -> state platform events -> commit
//! ```
//!
//! A projection, which only listens, has the way without what it cannot have come to: in place of the inbox and what follows of it stand its
//! positions, which move on at the end.
//!
//! ```text
//! close the dead letters that are handled again -> carry out operators' requests -> make, lock and load the rows touched
//!   -> take positions -> the policy decides -> save rows -> write history
//!   -> keep what came of the requests -> write dead letters -> state platform events -> move positions on -> commit
//! ```
//!
//! Each step is a method of [`Transaction`], in this order, and its statements are for the whole batch, whatever its size. READ COMMITTED is
//! enough: every row that a decision reads is locked before it is read, and an outbox number is drawn only under those locks.

use std::{borrow::Cow, collections::BTreeSet, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use quadrille_core::{Claims, Envelope, Input, Moment, Named, Policy, Processed, Row, Rows, is_projection, process};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    batch::{Batch, BatchInput, Origin, Verdict},
    consumer::Partition,
    database::Database,
    dead_letters, effects,
    failure::Failure,
    generation, history,
    inbox::{self, Entered},
    operators::{Requests, Settled, resumed_effect},
    outbox,
    platform_events::{self, PlatformEvent},
    position::{BeyondEnd, Positions},
    record::RawRecord,
    store::Store,
    telemetry::{InputSpan, Spans},
    timers,
    work::WorkItem,
};

/// Handles batches, each whole or not at all.
pub(crate) struct Transactions<S: Store> {
    pub pool: Database,
    pub store: S,
    /// Whose rows they are.
    pub generation: u16,
    pub spans: Spans,
    pub has_effects: bool,
    /// Whether anybody is told which rows a batch has changed.
    pub tells_changes: bool,
    /// Where `history.keep` is set: the header of what is kept.
    pub history: Option<Uuid>,
}

/// What a committed batch came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub handled: usize,
    pub seen: usize,
    pub facts: usize,
    /// The verdicts on its commands, in their order.
    pub commands: Vec<Verdict>,
    pub wakeups: Wakeups,
    /// The rows that it changed, where anybody is told.
    pub changed: Vec<Row>,
    /// Of a projection: the partitions whose end was reached, and whether it lies before the position.
    pub ends: Vec<(Partition, Option<BeyondEnd>)>,
}

/// Who has something to do now that a batch is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wakeups {
    /// There are facts to publish.
    pub relay: bool,
    /// An effect is due, or one has ended behind which another may have waited.
    pub effects: bool,
    /// A timer is due before the clock is looked at anyway.
    pub timers: bool,
    /// A dead letter is to be handled again, or one was closed behind which others may wait.
    pub redriver: bool,
}

impl<S: Store> Transactions<S> {
    /// Commits what `items` come to, within bounds. On any failure nothing of it has happened, or it has been committed and the answer was
    /// lost: then the inbox knows it.
    pub async fn run_bounded(&self, items: &[WorkItem<S::Policy>]) -> Result<Committed, Failure> {
        let committed = caught(self.pool.transaction(async |tx| self.run(tx, items).await)).await;
        if let Err(Failure::Transient(_)) = committed {
            self.pool.renew();
        }
        let (committed, spans) = committed?;
        spans.into_iter().for_each(InputSpan::end);
        Ok(committed)
    }

    async fn run(
        &self,
        tx: &mut PgConnection,
        items: &[WorkItem<S::Policy>],
    ) -> Result<(Committed, Vec<InputSpan>), Failure> {
        let mut transaction = Transaction::new(self, tx, items);
        transaction.close_dead_letters().await?;
        transaction.carry_out_requests().await?;
        let mut positions = None;
        if is_projection::<S::Policy>() {
            transaction.lock_rows().await?;
            let taken = transaction.take_positions(items).await?;
            let now = generation::now(transaction.tx, self.generation).await?;
            transaction.decide(&Moment { now, claims: Claims::default() })?;
            transaction.save_rows().await?;
            transaction.write_history().await?;
            positions = Some(taken);
        } else if !transaction.batch.inputs.is_empty() {
            transaction.lock_rows().await?;
            let entered = transaction.enter_inbox().await?;
            transaction.hold_back(&entered).await?;
            let claims = transaction.claim_timers_and_outcomes().await?;
            transaction.decide(&Moment { now: entered.now, claims })?;
            transaction.save_rows().await?;
            transaction.write_history().await?;
            transaction.write_outbox().await?;
            transaction.write_effects_and_timers().await?;
            transaction.leave_inbox().await?;
        }
        transaction.keep_requests().await?;
        transaction.write_dead_letters().await?;
        transaction.state_platform_events().await?;
        if let Some(positions) = positions {
            transaction.move_positions(positions).await?;
        }
        Ok((transaction.committed, transaction.spans))
    }
}

/// A transaction under way, and what its steps have found.
struct Transaction<'a, 'b, S: Store> {
    of: &'a Transactions<S>,
    tx: &'a mut PgConnection,
    batch: Batch<'b, S::Policy>,
    spans: Vec<InputSpan>,
    requests: Requests,
    /// Dead letters that are handled again.
    closed: BTreeSet<Uuid>,
    /// What is stated of this transaction's letters, effects and requests, each with its version.
    platform_events: Vec<(i64, PlatformEvent)>,
    /// The rows touched, as they were and as they become.
    before: <S::Policy as Policy>::State,
    state: <S::Policy as Policy>::State,
    /// The rows touched, where anybody is told which of them changed.
    touched: Vec<Row>,
    /// The keys of those rows that go some time after their end.
    ending: Vec<String>,
    settled: Settled,
    processed: Processed<S::Policy>,
    history: Vec<String>,
    committed: Committed,
}

impl<'a, 'b, S: Store> Transaction<'a, 'b, S> {
    fn new(of: &'a Transactions<S>, tx: &'a mut PgConnection, items: &'b [WorkItem<S::Policy>]) -> Self {
        Self {
            of,
            tx,
            batch: Batch::sort(items),
            spans: vec![],
            requests: Requests::default(),
            closed: BTreeSet::new(),
            platform_events: vec![],
            before: Default::default(),
            state: Default::default(),
            touched: vec![],
            ending: vec![],
            settled: Settled::default(),
            processed: Processed::default(),
            history: vec![],
            committed: Committed::default(),
        }
    }

    /// Closes the dead letters that are handled again. One that was closed in the meantime is not handled.
    async fn close_dead_letters(&mut self) -> Result<(), Failure> {
        let letters: Vec<Uuid> = self.batch.redeliveries.iter().map(|(letter, _)| *letter).collect();
        let closed = dead_letters::close(self.tx, &letters).await?;
        self.committed.wakeups.redriver = !closed.is_empty();
        self.closed = closed.clone();
        self.batch.redeliver(closed);
        let spans = self.batch.inputs.iter_mut().filter_map(|input| self.of.spans.start(&mut input.envelope));
        self.spans = spans.collect();
        Ok(())
    }

    /// Carries out what operators ask. Their answers to effects are inputs like any other.
    async fn carry_out_requests(&mut self) -> Result<(), Failure> {
        let (requests, answers) = Requests::carry_out(self.tx, &self.batch.requests).await?;
        self.committed.wakeups.redriver |= requests.are_letters_due();
        self.requests = requests;
        let answers = answers.into_iter().map(|answer| BatchInput::new(Origin::Operator, Cow::Owned(answer), None));
        self.batch.inputs.extend(answers);
        Ok(())
    }

    /// Makes, locks and loads the rows that the inputs touch, in order of table and key.
    async fn lock_rows(&mut self) -> Result<(), Failure> {
        for table in S::Policy::TABLES {
            let mut keys = BTreeSet::new();
            for input in &self.batch.inputs {
                let rows = S::Policy::rows(&self.state, &input.envelope);
                keys.extend(rows.into_iter().filter(|row| row.table == *table).map(|row| row.key));
            }
            if self.of.tells_changes {
                self.touched.extend(keys.iter().map(|key| Row::new(table, key)));
            }
            if !keys.is_empty() {
                let keys: Vec<String> = keys.into_iter().collect();
                self.of.store.load(self.tx, table, &keys, &mut self.state).await?;
                if S::ENDED.is_some_and(|ended| ended.table == *table) {
                    self.ending = keys;
                }
            }
        }
        self.before = self.state.clone();
        Ok(())
    }

    /// Locks the positions of all partitions that the batch has to do with. A record below its partition's position was taken before, and counts
    /// as seen, whatever this instance makes of it.
    async fn take_positions(&mut self, items: &[WorkItem<S::Policy>]) -> Result<Positions, Failure> {
        let records = items.iter().filter_map(WorkItem::record).map(RawRecord::topic_partition);
        let partitions = records.chain(self.batch.reached.iter().map(|reached| reached.partition));
        let partitions: BTreeSet<Partition> = partitions.collect();
        let mut positions = Positions::lock(self.tx, &partitions.into_iter().collect::<Vec<_>>()).await?;
        for input in &mut self.batch.inputs {
            if let Origin::Record(record) = input.origin
                && !positions.take(record)
            {
                input.verdict = Verdict::Seen;
            }
        }
        self.batch.rejected.retain(|(record, _)| positions.take(record));
        // What is left are operators' requests, which are known by their ids.
        for record in items.iter().filter_map(WorkItem::record) {
            positions.take(record);
        }
        Ok(positions)
    }

    /// Enters the inputs' ids. One that is known, or that the batch brings twice, takes effect once.
    async fn enter_inbox(&mut self) -> Result<Entered, Failure> {
        let inputs = &mut self.batch.inputs;
        let ids: BTreeSet<Uuid> = inputs.iter().map(|input| input.envelope.id).collect();
        let former: Vec<(Uuid, Uuid)> =
            inputs.iter().filter_map(|input| Some((input.former?, input.envelope.id))).collect();
        let mut entered = inbox::enter(self.tx, &ids, &former, &self.ending).await?;
        for input in inputs {
            if !entered.fresh.remove(&input.envelope.id) {
                input.verdict = Verdict::Seen;
            }
        }
        Ok(entered)
    }

    /// Holds back records and commands of keys whose rows have gone, since the policies take an empty row for the beginning, and events behind a dead
    /// letter of their key.
    async fn hold_back(&mut self, entered: &Entered) -> Result<(), Failure> {
        let fresh = || self.batch.inputs.iter().filter(|input| input.is_fresh());
        let events: Vec<(&str, &str)> = fresh().filter_map(BatchInput::event).collect();
        let held = match entered.holding && !events.is_empty() {
            true => dead_letters::held(self.tx, &events).await?,
            false => BTreeSet::new(),
        };
        for input in self.batch.inputs.iter_mut().filter(|input| input.is_fresh()) {
            if is_about_gone::<S>(&self.state, &input.envelope, &entered.gone) {
                input.verdict = Verdict::TooOld;
            } else if input.event().is_some_and(|(topic, key)| held.contains(&(topic.to_owned(), key.to_owned()))) {
                input.verdict = Verdict::Waits;
            }
        }
        // The batch may bring a command twice, of which the inbox took the second for seen: nothing came of the first.
        let inputs = self.batch.inputs.iter();
        let too_old = inputs.filter(|input| input.verdict == Verdict::TooOld).map(|input| input.envelope.id);
        let too_old: BTreeSet<Uuid> = too_old.collect();
        let commands = self.batch.inputs.iter_mut().filter(|input| matches!(input.origin, Origin::Route));
        for command in commands.filter(|command| too_old.contains(&command.envelope.id)) {
            command.verdict = Verdict::TooOld;
        }
        Ok(())
    }

    /// Removes the rows of the timers that fire and of the effects that have had their outcome, and tells which other effects are claimed.
    ///
    /// A timer that was cleared, or an effect that has had its outcome, has no row any more: then the input counts as seen.
    async fn claim_timers_and_outcomes(&mut self) -> Result<Claims, Failure> {
        let inputs = &mut self.batch.inputs;
        let due = inputs.iter().filter(|input| matches!(input.envelope.input, Input::Timer(_)));
        let due: Vec<Uuid> = due.map(|input| input.envelope.id).collect();
        let fired = timers::remove(self.tx, &due).await?;
        let open = match self.of.has_effects {
            true => {
                let keys = inputs.iter().map(|input| input.envelope.key.as_str()).chain(self.requests.effect_keys());
                effects::lock(self.tx, keys).await?
            }
            false => effects::Open::default(),
        };
        let ended = &mut self.settled.ended;
        for BatchInput { envelope, origin, verdict, .. } in inputs {
            match &envelope.input {
                Input::Timer(_) if !fired.contains(&envelope.id) => *verdict = Verdict::Seen,
                Input::Outcome { effect, .. } => match ended.get(effect) {
                    // Of an operator's outcome and the outside's own in one batch the first counts. Where both say the same they are one
                    // input, with one id.
                    Some(_first) => *verdict = Verdict::Seen,
                    None if !open.ids.contains(effect) => *verdict = Verdict::Seen,
                    // What a try that is under way will have done is not a person's to say.
                    None if matches!(origin, Origin::Operator) && open.under_way.contains_key(effect) => {
                        if *verdict == Verdict::Fresh {
                            *verdict = Verdict::TooEarly;
                        }
                    }
                    None => {
                        ended.insert(*effect, envelope.id);
                    }
                },
                Input::Record(_) | Input::Gone(_) | Input::Timer(_) | Input::Command(_) => {}
            }
        }
        effects::remove(self.tx, &ended.keys().copied().collect::<Vec<_>>()).await?;
        for (effect, told) in open.parked.iter().filter(|(effect, _)| ended.contains_key(effect)) {
            self.platform_events.push((told + 1, resumed_effect(S::Policy::SERVICE, *effect, "answered")));
        }
        self.committed.wakeups.effects |= !ended.is_empty() && open.ids.len() > ended.len();
        self.settled.under_way = open.under_way;
        Ok(open.claimed)
    }

    /// Has the policy decide on each input in turn, and the state move on.
    fn decide(&mut self, moment: &Moment) -> Result<(), Failure> {
        for input in &self.batch.inputs {
            // A timer that an earlier input of the batch has cleared does not fire, though its row was there when the batch began.
            if !input.is_fresh() || is_cleared(&self.processed, &input.envelope) {
                self.committed.seen += 1;
                continue;
            }
            let unlocked = match self.of.history {
                Some(_) => S::Policy::record_unlocked(&self.state, &input.envelope),
                None => None,
            };
            let processed = process(&mut self.state, moment, &input.envelope);
            if let Some(header) = self.of.history {
                // Before the batch merges it: what one input wants another one of its batch may withdraw.
                self.history.push(history::decided(header, moment, &input.envelope, unlocked, &processed)?);
            }
            self.processed.then(processed);
            self.committed.handled += 1;
        }
        let commands = self.batch.inputs.iter().filter(|input| matches!(input.origin, Origin::Route));
        self.committed.commands = commands.map(|command| command.verdict).collect();
        let wakeups = &mut self.committed.wakeups;
        self.committed.facts = self.processed.facts.len();
        wakeups.relay = !self.processed.facts.is_empty();
        wakeups.effects |= !self.processed.effects.is_empty();
        wakeups.timers = self.processed.timers.iter().any(|timer| timer.due <= moment.now + timers::FALLBACK_POLL);
        let (before, after) = (&self.before, &self.state);
        self.committed.changed = self.touched.drain(..).filter(|row| is_changed(row, before, after)).collect();
        Ok(())
    }

    /// Saves the rows that were changed.
    async fn save_rows(&mut self) -> Result<(), Failure> {
        self.of.store.save(self.tx, &self.before, &self.state, &self.processed.facts).await?;
        Ok(())
    }

    /// Writes the decisions with all that they were made from, where a history is kept: under the same locks.
    async fn write_history(&mut self) -> Result<(), Failure> {
        history::insert(self.tx, &self.history).await?;
        Ok(())
    }

    /// Writes the facts: outbox numbers are drawn here, under the locks.
    async fn write_outbox(&mut self) -> Result<(), Failure> {
        outbox::insert_facts(self.tx, &self.processed.facts).await?;
        Ok(())
    }

    /// Writes the effects and timers that are wanted, and removes those that are no more.
    async fn write_effects_and_timers(&mut self) -> Result<(), Failure> {
        let (tx, processed) = (&mut *self.tx, &self.processed);
        effects::withdraw(tx, &processed.withdrawn).await?;
        effects::insert(tx, &processed.effects).await?;
        timers::clear(tx, &processed.cleared).await?;
        timers::insert(tx, &processed.timers).await?;
        Ok(())
    }

    /// Takes the ids of those inputs out of the inbox again that did not take effect now.
    async fn leave_inbox(&mut self) -> Result<(), Failure> {
        let not_now = self.batch.inputs.iter().filter(|input| input.leaves_inbox());
        inbox::leave(self.tx, &not_now.map(|input| input.envelope.id).collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// Keeps what came of each request, now that it is known.
    async fn keep_requests(&mut self) -> Result<(), Failure> {
        let events = &mut self.platform_events;
        let is_effect_due = self.requests.keep(self.tx, S::Policy::SERVICE, &self.settled, events).await?;
        self.committed.wakeups.effects |= is_effect_due;
        Ok(())
    }

    /// Writes what was rejected and what is held back. A dead letter that is held back again is opened again.
    async fn write_dead_letters(&mut self) -> Result<(), Failure> {
        let mut rejected = std::mem::take(&mut self.batch.rejected);
        for input in &self.batch.inputs {
            match (input.origin, input.rejection()) {
                (Origin::Record(record), Some(rejection)) => rejected.push((record, rejection)),
                (Origin::DeadLetter(letter), Some(rejection)) => {
                    dead_letters::reopen(self.tx, letter, &rejection).await?;
                }
                (Origin::Runtime | Origin::Operator | Origin::Route, _) | (_, None) => {}
            }
        }
        dead_letters::insert::<S::Policy>(self.tx, self.of.generation, &rejected).await?;
        Ok(())
    }

    /// States what began and ceased to wait for a person, and what came of their requests.
    async fn state_platform_events(&mut self) -> Result<(), Failure> {
        let letters: Vec<Uuid> = self.closed.iter().chain(self.requests.discarded()).copied().collect();
        self.platform_events.extend(dead_letters::number_closed(self.tx, S::Policy::SERVICE, &letters).await?);
        platform_events::insert(self.tx, S::Policy::SERVICE, &self.platform_events).await?;
        self.committed.wakeups.relay |= !self.platform_events.is_empty();
        Ok(())
    }

    /// Moves positions behind what was taken, and to where reading has come to.
    async fn move_positions(&mut self, positions: Positions) -> Result<(), Failure> {
        self.committed.ends = positions.advance(self.tx, &self.batch.reached).await?;
        Ok(())
    }
}

/// Whether an input is a record or a command about a key whose rows have gone.
fn is_about_gone<S: Store>(
    state: &<S::Policy as Policy>::State,
    input: &Envelope<S::Policy>,
    gone: &BTreeSet<String>,
) -> bool {
    let Some(ended) = S::ENDED.filter(|_| gone.contains(&input.key)) else { return false };
    if !matches!(input.input, Input::Record(_) | Input::Gone(_) | Input::Command(_)) {
        return false;
    }
    // Another kind of key may have the same letters: a user's id is the client's choice, and so is an order's.
    let rows = S::Policy::rows(state, input);
    rows.iter().any(|row| row.table == ended.table && row.key == input.key)
}

fn is_changed<T: Rows>(row: &Row, before: &T, after: &T) -> bool {
    let (mut was, mut is) = <(T, T)>::default();
    before.copy(row, &mut was);
    after.copy(row, &mut is);
    was != is
}

fn is_cleared<P: Policy>(processed: &Processed<P>, input: &Envelope<P>) -> bool {
    let Input::Timer(timer) = &input.input else { return false };
    let name = timer.name();
    processed.cleared.iter().any(|cleared| cleared.0 == input.key && cleared.1 == name)
}

/// What a service's author has written, policy and store, may panic: that is a poisoned input, not the end of the service.
async fn caught<T>(transaction: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    AssertUnwindSafe(transaction).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        Err(Failure::Poisoned(format!("the policy or the store panicked: {text}")))
    })
}
