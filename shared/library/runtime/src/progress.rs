//! Whether an instance is able to work: a database that takes a write, and progress where work waits, whatever the cause if there is none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{consumer::Consumer, limits, resources::Resources};

/// How often it is looked.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the database is tried, and how often a standstill is said again.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const WARN_EVERY: Duration = Duration::from_secs(30);

/// When something was last done, and what stands in the way.
pub(crate) struct Progress(Mutex<State>);

struct State {
    /// When something was last done, or nothing waited.
    last: Instant,
    /// When the worker was last done with something, or had no batch in hand.
    worked: Instant,
    /// A batch is in hand.
    busy: bool,
    /// Why the last try to commit it failed.
    failure: String,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State { last: now, worked: now, busy: false, failure: String::new() }))
    }
}

impl Progress {
    /// Records of no concern are passed over.
    pub fn made(&self) {
        self.state().last = Instant::now();
    }

    /// The worker is done with something: a batch is committed, or what cannot be handled is put aside.
    pub fn worked(&self) {
        let mut state = self.state();
        state.last = Instant::now();
        state.worked = state.last;
        state.failure.clear();
    }

    /// The worker has a batch in hand, or has none.
    pub fn busy(&self, busy: bool) {
        self.state().busy = busy;
    }

    /// The batch in hand could not be committed.
    pub fn failed(&self, cause: &str) {
        cause.clone_into(&mut self.state().failure);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long work has waited while nothing was done; `waiting` says what else waits beside the batch in hand.
    fn standstill(&self, waiting: Option<String>) -> Option<(Duration, String)> {
        let mut state = self.state();
        let Some(what) = waiting.or_else(|| state.busy.then(|| "a batch in hand".to_owned())) else {
            state.last = Instant::now();
            return None;
        };
        Some((state.last.elapsed(), format!("{what} waits{}", state.why())))
    }

    /// How long the worker has had batches in hand and was done with nothing of them: the broker has no part in it.
    fn worker_standstill(&self) -> Option<(Duration, String)> {
        let mut state = self.state();
        if !state.busy {
            state.worked = Instant::now();
            return None;
        }
        Some((state.worked.elapsed(), format!("a batch is in hand{}", state.why())))
    }
}

impl State {
    fn why(&self) -> String {
        if self.failure.is_empty() { String::new() } else { format!(": {}", self.failure) }
    }
}

/// Looks until `stop`, and tells health, metrics and log.
pub(crate) async fn watch(
    resources: Arc<Resources>,
    consumer: Arc<Consumer>,
    progress: Arc<Progress>,
    stop: CancellationToken,
) {
    let mut said = None::<Instant>;
    while !stop.is_cancelled() {
        consumer.tell_membership();
        match progress.standstill(consumer.waiting()) {
            Some((since, why)) if since >= limits::NO_PROGRESS => {
                gauge!("quadrille_no_progress_seconds").set(since.as_secs_f64());
                let cause = format!("nothing has been done for {} s, although {why}", since.as_secs());
                if said.is_none_or(|said| said.elapsed() >= WARN_EVERY) {
                    warn!("No progress: {cause}");
                    said = Some(Instant::now());
                }
                resources.health.error("progress", &cause);
            }
            _ => {
                gauge!("quadrille_no_progress_seconds").set(0.0);
                resources.health.ok("progress");
                said = None;
            }
        }
        match progress.worker_standstill() {
            Some((since, why)) if since >= limits::NO_PROGRESS => {
                let cause = format!("the worker has done nothing for {} s, although {why}", since.as_secs());
                resources.health.error("worker", &cause);
            }
            _ => resources.health.ok("worker"),
        }
        stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await;
    }
}

/// Tries until `stop` whether the database takes a write: a server that was demoted answers reads as before.
pub(crate) async fn try_database(resources: Arc<Resources>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match sqlx::query("delete from inbox where id = '00000000-0000-0000-0000-000000000000'")
            .execute(&resources.pool)
            .await
        {
            Ok(_) => resources.health.ok("database"),
            Err(error) => {
                warn!(%error, "The database takes no write");
                resources.health.error("database", &error.to_string());
            }
        }
        stop.run_until_cancelled(tokio::time::sleep(PROBE_INTERVAL)).await;
    }
}
