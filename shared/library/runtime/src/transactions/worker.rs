//! The worker: takes the work that waits as one batch, commits it, and only then lets go of it.
//!
//! Batches form by themselves: under load more waits by the time a transaction ends, so the next one is larger; nothing lingers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    backoff::Backoff,
    changes::Announcer,
    config,
    consumer::{Consumer, Partition},
    dead_letters, effects,
    failure::Failure,
    health::Health,
    position::{BeyondEnd, BeyondEnds},
    progress::Progress,
    relay::Wake,
    store::Store,
    timers,
    transaction::{Committed, Transactions},
    work::{Work, WorkItem},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// A unique failure is a race at first, and the input's own fault after this many tries.
const UNIQUE_TRIES: u32 = 3;
/// A try that took so long (no idle transaction is ended sooner) and failed may have been more than one transaction can do before it is
/// given up. After so many of them each item of the batch is tried by itself.
const SLOW: Duration = Duration::from_secs(5);
const SLOW_TRIES: u32 = 2;

/// A service's one worker. One, as services share rows between partitions: several would wait for each other's locks.
pub(crate) struct Worker<S: Store> {
    pub transactions: Transactions<S>,
    /// Commands, which a batch takes first.
    pub commands: mpsc::Receiver<WorkItem<S::Policy>>,
    /// Everything else.
    pub work: mpsc::Receiver<WorkItem<S::Policy>>,
    pub consumer: Arc<Consumer>,
    pub config: config::Batch,
    pub health: Arc<Health>,
    pub progress: Arc<Progress>,
    pub relay: Wake,
    pub effects: Arc<Notify>,
    pub timers: Arc<Notify>,
    pub redriver: Arc<Notify>,
    /// Who is told which rows have changed.
    pub changes: Option<Arc<Announcer>>,
    /// Of a projection: the partitions that were seen to end before their positions.
    pub beyond_end: BeyondEnds,
}

/// The service stops while a batch could not be committed: nothing of it has happened, and its offsets stay.
struct Stopped;

impl<S: Store> Worker<S> {
    /// Runs until `stop`, and finishes the batch in hand.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish(&stop).await,
                batch = self.batch() => batch,
            };
            let Some(batch) = batch else { return };
            if self.process_batch(batch, &stop).await.is_err() {
                return;
            }
        }
    }

    /// Takes the commands that still wait, and the timers and outcomes, whose rows are claimed by this instance: another one would have to wait
    /// for the claims to run out. Records that wait are read again by the partitions' next owners.
    async fn finish(mut self, stop: &CancellationToken) {
        self.commands.close();
        let mut claimed = vec![];
        while let Ok(command) = self.commands.try_recv() {
            claimed.push(command);
        }
        while let Ok(item) = self.work.try_recv() {
            // Where reading has come to counts only behind the records before it.
            if item.record().is_none() && !matches!(item.work, Work::Reached(_)) {
                claimed.push(item);
            }
        }
        if !claimed.is_empty() {
            let _ = self.process_batch(claimed, stop).await;
        }
    }

    /// The work that waits, bounded in count and bytes; waits for it where there is none. `None` once there will never be any.
    ///
    /// Commands come first, as somebody waits for each; they take half of the room at most, and beside one there is always room for something
    /// else: so neither keeps the other waiting for ever.
    async fn batch(&mut self) -> Option<Vec<WorkItem<S::Policy>>> {
        let first = tokio::select! {
            biased;
            Some(command) = self.commands.recv() => command,
            first = self.work.recv() => first?,
        };
        let config::Batch { max_inputs, max_bytes, .. } = self.config;
        let mut others = usize::from(!matches!(first.work, Work::Command(_)));
        let mut bytes = first.bytes();
        let mut batch = vec![first];
        while batch.len() < max_inputs / 2 && bytes < max_bytes / 2 {
            let Ok(command) = self.commands.try_recv() else { break };
            bytes += command.bytes();
            batch.push(command);
        }
        while others == 0 || (batch.len() < max_inputs && bytes < max_bytes) {
            let Ok(item) = self.work.try_recv() else { break };
            bytes += item.bytes();
            batch.push(item);
            others += 1;
        }
        Some(batch)
    }

    /// Commits a batch; where one of its items cannot be handled, each by itself, so that it stops only itself.
    async fn process_batch(
        &mut self,
        batch: Vec<WorkItem<S::Policy>>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.progress.busy(true);
        let handled = self.isolate_failures(batch, stop).await;
        self.progress.busy(false);
        handled
    }

    async fn isolate_failures(
        &mut self,
        mut batch: Vec<WorkItem<S::Policy>>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let Err(failure) = self.commit_with_retry(&mut batch, stop).await? else { return Ok(()) };
        if batch.len() == 1 {
            return self.put_aside(batch.remove(0), failure, stop).await;
        }
        warn!("A batch of {} is handled one by one: {failure}", batch.len());
        for item in batch {
            let mut alone = vec![item];
            if let Err(failure) = self.commit_with_retry(&mut alone, stop).await? {
                self.put_aside(alone.remove(0), failure, stop).await?;
            }
        }
        Ok(())
    }

    /// Commits items together, and tries as long as only the infrastructure or a race is in the way. What fails is left in `items`.
    ///
    /// Before each try the commands are let go of whose callers have gone: nobody learns what comes of them, and one whose fault looks like the
    /// infrastructure's holds up the others no longer. Where a commit was tried whose answer was lost, the inbox knows them.
    async fn commit_with_retry(
        &mut self,
        items: &mut Vec<WorkItem<S::Policy>>,
        stop: &CancellationToken,
    ) -> Result<Result<(), String>, Stopped> {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
        let (mut unique_tries, mut slow_tries) = (0, 0);
        loop {
            items.retain(|item| !matches!(&item.work, Work::Command(pending) if !pending.is_awaited()));
            if items.is_empty() {
                return Ok(Ok(()));
            }
            let began = Instant::now();
            let cause = match self.transactions.run_bounded(items).await {
                Ok(committed) => {
                    histogram!("quadrille_transaction_seconds").record(began.elapsed().as_secs_f64());
                    self.after_commit(items, committed).await;
                    return Ok(Ok(()));
                }
                Err(Failure::Poisoned(cause)) => return Ok(Err(cause)),
                Err(Failure::Unique(cause)) => {
                    unique_tries += 1;
                    if unique_tries >= UNIQUE_TRIES {
                        return Ok(Err(cause));
                    }
                    cause
                }
                Err(Failure::Transient(cause)) => {
                    slow_tries += u32::from(began.elapsed() >= SLOW);
                    if slow_tries >= SLOW_TRIES && items.len() > 1 {
                        return Ok(Err(cause));
                    }
                    cause
                }
            };
            counter!("quadrille_transaction_retries_total").increment(1);
            let wait = backoff.wait();
            warn!("A batch of {} is tried again in {wait:?}: {cause}", items.len());
            self.progress.failed(&cause);
            stop.run_until_cancelled(tokio::time::sleep(wait)).await.ok_or(Stopped)?;
        }
    }

    async fn after_commit(&mut self, items: &mut [WorkItem<S::Policy>], committed: Committed) {
        self.consumer.store_offsets(items.iter().filter_map(WorkItem::record));
        let commands = items.iter_mut().filter_map(|item| match &mut item.work {
            Work::Command(pending) => Some(pending),
            _ => None,
        });
        commands.zip(committed.commands).for_each(|(pending, verdict)| pending.committed(verdict));
        self.progress.worked();
        if committed.wakeups.relay {
            self.relay.facts();
        }
        if committed.wakeups.effects {
            self.effects.notify_one();
        }
        if committed.wakeups.timers {
            self.timers.notify_one();
        }
        if committed.wakeups.redriver {
            self.redriver.notify_one();
        }
        if let Some(changes) = self.changes.as_ref().filter(|_| !committed.changed.is_empty()) {
            changes.announce(committed.changed);
        }
        self.note_ends(committed.ends);
        counter!("quadrille_inputs_total", "result" => "handled").increment(committed.handled as u64);
        counter!("quadrille_inputs_total", "result" => "seen").increment(committed.seen as u64);
        counter!("quadrille_facts_total").increment(committed.facts as u64);
        histogram!("quadrille_batch_inputs").record(items.len() as f64);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        gauge!("quadrille_last_commit_timestamp_seconds").set(now.as_secs_f64());
    }

    /// Says in health which partitions end before their positions.
    fn note_ends(&mut self, ends: Vec<(Partition, Option<BeyondEnd>)>) {
        if ends.is_empty() {
            return;
        }
        match self.beyond_end.note(ends, |partition| self.consumer.owns(partition)) {
            Some(BeyondEnd { partition: (topic, number), end, position }) => self.health.error(
                "positions",
                &format!(
                    "{topic}/{number} ends at {end}, and this service has taken it to {position}: the topic was made anew or has \
                     lost records, and what it has now is not taken"
                ),
            ),
            None => self.health.ok("positions"),
        }
    }

    /// Puts an item aside that cannot be handled. A record becomes a dead letter, however many tries that takes, and its offset stays until
    /// then; a command's caller is told; everything else has a row in which it waits and shows why.
    async fn put_aside(
        &mut self,
        mut item: WorkItem<S::Policy>,
        mut failure: String,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
        loop {
            error!("{} cannot be handled: {failure}", item.work.name());
            let mut dead_letter = match item.into_dead_letter(&failure) {
                Ok(dead_letter) => vec![dead_letter],
                Err(work) => return self.back_off(work, &failure).await,
            };
            let Err(again) = self.commit_with_retry(&mut dead_letter, stop).await? else { return Ok(()) };
            item = dead_letter.remove(0);
            self.health.error("dead_letters", &again);
            failure = again;
            stop.run_until_cancelled(tokio::time::sleep(backoff.wait())).await.ok_or(Stopped)?;
        }
    }

    async fn back_off(&self, work: Work<S::Policy>, failure: &str) -> Result<(), Stopped> {
        let pool = &self.transactions.pool;
        let done = match work {
            Work::Redrive(letter, _) => dead_letters::failed(pool, letter, "handling_failed", "", failure).await,
            Work::Timer(timer) => timers::back_off(pool, timer.id, failure).await,
            Work::Outcome(effect, _) => effects::back_off(pool, effect, failure).await,
            Work::Command(mut pending) => {
                pending.failed(failure);
                Ok(())
            }
            // It is told again.
            Work::Record(..) | Work::Rejected(..) | Work::Reached(_) => return Ok(()),
        };
        match done {
            Ok(()) => self.progress.worked(),
            Err(error) => warn!(%error, "It was not put aside; its claim runs out and it comes again"),
        }
        Ok(())
    }
}
