//! The worker: takes what has arrived as one batch, commits it, and only then lets go of it.
//!
//! Batches form by themselves: under load more has arrived by the time a transaction ends, so the next one is larger; nothing lingers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::{counter, gauge, histogram};
use quadrille_core::{Input, TopicKind};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    arrival::{Arrival, Content, Origin, Rejection, input_name},
    backoff::Backoff,
    config,
    consumer::Consumer,
    dead_letters, effects,
    failure::Failure,
    health::Health,
    progress::Progress,
    relay::Wake,
    store::Store,
    timers,
    transaction::{Committed, Transactions},
};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// A unique failure is a race at first, and the input's own fault after this many tries.
const UNIQUE_TRIES: u32 = 3;
/// A try that took so long (no idle transaction is ended sooner) and failed may have been more than one transaction can do before it is given up. After so many of them each input of
/// the batch is tried by itself.
const SLOW: Duration = Duration::from_secs(5);
const SLOW_TRIES: u32 = 2;

/// A service's one worker. One, as services share rows between partitions: several would wait for each other's locks.
pub(crate) struct Worker<S: Store> {
    pub transactions: Transactions<S>,
    pub arrivals: mpsc::Receiver<Arrival<S::Policy>>,
    pub consumer: Arc<Consumer>,
    pub config: config::Batch,
    pub health: Arc<Health>,
    pub progress: Arc<Progress>,
    pub relay: Wake,
    pub effects: Arc<Notify>,
    pub timers: Arc<Notify>,
    pub redriver: Arc<Notify>,
}

/// The service stops while a batch could not be committed: nothing of it has happened, and its offsets stay.
struct Stopped;

impl<S: Store> Worker<S> {
    /// Runs until `stop`, and finishes the batch in hand.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish(&stop).await,
                first = self.arrivals.recv() => first,
            };
            let Some(first) = first else { return };
            let batch = self.batch(first);
            if self.handle(batch, &stop).await.is_err() {
                return;
            }
        }
    }

    /// Takes the timers and outcomes that still wait, whose rows are claimed by this instance: another one would have to wait for the
    /// claims to run out. Records that wait are read again by the partitions' next owners.
    async fn finish(mut self, stop: &CancellationToken) {
        let mut claimed = vec![];
        while let Ok(arrival) = self.arrivals.try_recv() {
            if arrival.record().is_none() {
                claimed.push(arrival);
            }
        }
        if !claimed.is_empty() {
            let _ = self.handle(claimed, stop).await;
        }
    }

    /// What has arrived, bounded in count and bytes.
    fn batch(&mut self, first: Arrival<S::Policy>) -> Vec<Arrival<S::Policy>> {
        let size = |arrival: &Arrival<S::Policy>| arrival.record().map_or(0, |record| record.bytes());
        let mut bytes = size(&first);
        let mut batch = vec![first];
        while batch.len() < self.config.max_inputs && bytes < self.config.max_bytes {
            let Ok(arrival) = self.arrivals.try_recv() else { break };
            bytes += size(&arrival);
            batch.push(arrival);
        }
        batch
    }

    /// Commits a batch; where one of its inputs cannot be handled, each by itself, so that it stops only itself.
    async fn handle(&self, batch: Vec<Arrival<S::Policy>>, stop: &CancellationToken) -> Result<(), Stopped> {
        self.progress.busy(true);
        let handled = self.handle_all(batch, stop).await;
        self.progress.busy(false);
        handled
    }

    async fn handle_all(&self, batch: Vec<Arrival<S::Policy>>, stop: &CancellationToken) -> Result<(), Stopped> {
        match self.commit(&batch, stop).await? {
            Ok(()) => Ok(()),
            Err(failure) if batch.len() == 1 => {
                for arrival in batch {
                    self.bury(arrival, &failure, stop).await?;
                }
                Ok(())
            }
            Err(failure) => {
                warn!("A batch of {} is handled one by one: {failure}", batch.len());
                for arrival in batch {
                    let alone = [arrival];
                    if let Err(failure) = self.commit(&alone, stop).await? {
                        let [arrival] = alone;
                        self.bury(arrival, &failure, stop).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Commits arrivals together, and tries as long as only the infrastructure or a race is in the way.
    async fn commit(
        &self,
        arrivals: &[Arrival<S::Policy>],
        stop: &CancellationToken,
    ) -> Result<Result<(), String>, Stopped> {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
        let (mut unique_tries, mut slow_tries) = (0, 0);
        loop {
            let began = Instant::now();
            let cause = match self.transactions.handle(arrivals).await {
                Ok(committed) => {
                    histogram!("quadrille_transaction_seconds").record(began.elapsed().as_secs_f64());
                    self.committed(arrivals, committed).await;
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
                Err(Failure::Passing(cause)) => {
                    slow_tries += u32::from(began.elapsed() >= SLOW);
                    if slow_tries >= SLOW_TRIES && arrivals.len() > 1 {
                        return Ok(Err(cause));
                    }
                    cause
                }
            };
            counter!("quadrille_transaction_retries_total").increment(1);
            let wait = backoff.wait();
            warn!("A batch of {} is tried again in {wait:?}: {cause}", arrivals.len());
            self.progress.failed(&cause);
            stop.run_until_cancelled(tokio::time::sleep(wait)).await.ok_or(Stopped)?;
        }
    }

    async fn committed(&self, arrivals: &[Arrival<S::Policy>], committed: Committed) {
        self.consumer.handled(arrivals.iter().filter_map(Arrival::record));
        self.progress.made();
        if committed.facts > 0 {
            self.relay.facts();
        }
        if committed.effects > 0 || committed.freed {
            self.effects.notify_one();
        }
        if committed.timers > 0 {
            self.timers.notify_one();
        }
        if committed.asking.effects {
            self.effects.notify_one();
        }
        if committed.asking.dead_letters {
            self.redriver.notify_one();
        }
        counter!("quadrille_inputs_total", "result" => "handled").increment(committed.handled as u64);
        counter!("quadrille_inputs_total", "result" => "seen").increment(committed.seen as u64);
        counter!("quadrille_facts_total").increment(committed.facts as u64);
        histogram!("quadrille_batch_inputs").record(arrivals.len() as f64);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        gauge!("quadrille_last_commit_timestamp_seconds").set(now.as_secs_f64());
    }

    /// Puts an input aside that cannot be handled: a record becomes a dead letter, a timer or an outcome waits and is shown.
    async fn bury(&self, arrival: Arrival<S::Policy>, failure: &str, stop: &CancellationToken) -> Result<(), Stopped> {
        let (id, name) = match &arrival.content {
            Content::Rejected(_) => return self.bury_bare(arrival, failure, stop).await,
            Content::Asked(asked) => (asked.id, "an operator's request".to_owned()),
            Content::Input(envelope, _) => (envelope.id, input_name::<S::Policy>(&envelope.input)),
        };
        error!(input.id = %id, "{name} cannot be handled: {failure}");
        let pool = &self.transactions.pool;
        let put_aside = match (&arrival.origin, arrival.content.input().map(|envelope| &envelope.input)) {
            (Origin::DeadLetter(id), _) => dead_letters::failed(pool, *id, "handling_failed", "", failure).await,
            (_, Some(Input::Timer(_))) => timers::back_off(pool, id, failure).await,
            (_, Some(Input::Outcome { effect, .. })) => effects::back_off(pool, *effect, failure).await,
            (_, Some(Input::Record(_)) | None) => {
                let content = Content::Rejected(self.rejection(&arrival, failure));
                return Box::pin(self.handle_all(vec![Arrival { content, ..arrival }], stop)).await;
            }
        };
        if let Err(error) = put_aside {
            warn!(%error, "{name} was not put aside; its claim runs out and it comes again");
        }
        Ok(())
    }

    /// A dead letter that cannot be written as it is, without what may be at fault: where it came from is kept, and the offset stays
    /// until it is.
    async fn bury_bare(
        &self,
        mut arrival: Arrival<S::Policy>,
        failure: &str,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        if let Origin::Record(record) = &mut arrival.origin {
            record.headers.clear();
            record.value = None;
        }
        if let Content::Rejected(rejection) = &mut arrival.content {
            rejection.detail = "the original could not be kept: see this service's log".to_owned();
            rejection.record_type.clear();
        }
        error!("A dead letter is kept without its original: {failure}");
        let alone = [arrival];
        while let Err(failure) = self.commit(&alone, stop).await? {
            error!("A dead letter cannot be written and is tried again: {failure}");
            self.health.error("dead_letters", &failure);
            stop.run_until_cancelled(tokio::time::sleep(LAST_BACKOFF)).await.ok_or(Stopped)?;
        }
        Ok(())
    }

    fn rejection(&self, arrival: &Arrival<S::Policy>, failure: &str) -> Rejection {
        use quadrille_core::Records;
        let mut rejection = Rejection::new("handling_failed", "", failure);
        if let (Some(envelope), Some(_)) = (arrival.content.input(), arrival.record()) {
            rejection.input = Some(envelope.id);
            if let Input::Record(heard) = &envelope.input {
                // Only an event's key waits behind it: requests of a key are not ordered among each other.
                let is_event = heard.record_type().topic.kind == TopicKind::Events;
                rejection.holds = is_event.then(|| envelope.key.clone());
                rejection.record_type = heard.record_type().name.to_owned();
            }
        }
        rejection
    }
}
