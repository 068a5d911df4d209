//! Commands: what a service is told over HTTP by routes of its own, each an input of its policy like a record.
//!
//! A handler hands a command to this instance's worker and waits for the commit of the batch that took it. The inbox makes it idempotent: an
//! answer that is lost on its way back is had again by the same command.

use std::{fmt, sync::Arc};

use axum::{
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use metrics::counter;
use quadrille_core::{Envelope, Input, Policy};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{batch::Verdict, health::Health, limits, routes::unavailable, telemetry, work::WorkItem};

/// Takes commands for this instance's worker: see [`Context::commands`](crate::Context::commands).
pub struct Commands<P: Policy> {
    queue: mpsc::Sender<WorkItem<P>>,
    health: Arc<Health>,
}

/// What came of a command. In both cases what it came to is committed, and can be read in the service's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It is committed now.
    Now,
    /// A command with this id was committed before: nothing new came of this one, whatever it says.
    Before,
}

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// As many commands wait as may (`http.commands`). Nothing of it has happened.
    #[error("as many commands wait as this instance takes (http.commands)")]
    Full,
    /// The instance has no database yet, or is stopping. Nothing of it has happened.
    #[error("this instance takes no commands now")]
    NotReady,
    /// It was not committed in time, as far as is known here: the database may be away, or the answer to its commit was lost.
    #[error("whether it was committed is not known")]
    Unknown,
    /// The rows of its key have gone, long after their end. Nothing of it has happened, or ever will.
    #[error("what it is about has ended long ago, and its rows have gone")]
    KeyGone,
    /// It cannot be handled: the policy panicked, or the database does not take what came of it. Nothing of it has happened, and nothing will
    /// until this service has another build. The cause is for logs, and is in this service's own.
    #[error("it could not be handled: {0}")]
    Failed(String),
}

/// A command on its way, and who waits for what comes of it.
pub(crate) struct Pending<P: Policy> {
    pub envelope: Envelope<P>,
    /// Its size as JSON, for the bound on a batch.
    pub bytes: usize,
    answer: Option<oneshot::Sender<Result<Handled, CommandError>>>,
}

impl<P: Policy> Commands<P> {
    pub(crate) fn new(queue: mpsc::Sender<WorkItem<P>>, health: Arc<Health>) -> Self {
        Self { queue, health }
    }

    /// Has the policy decide on a command about the aggregate `key`, and waits, 5 s at most, until that is committed. Neither Kafka nor the
    /// registry is waited for.
    ///
    /// `key` is in normal form, as a record's of its topic is: a client's text is made so before
    /// ([`KeyKind::normalize`](quadrille_core::KeyKind::normalize)), or parsed. What has another spelling is another aggregate, and where the
    /// rows' key is a UUID the command [fails](CommandError::Failed).
    ///
    /// `id` is computed, by [`ids::command`](quadrille_core::ids::command): a command with an id that was committed before has no second effect
    /// for as long as the inbox remembers it (`retention.inbox_days`), on whichever instance. `headers` are the request's: their trace context is
    /// carried on. A caller that goes away takes its command back if no batch has taken it yet.
    ///
    /// # Errors
    ///
    /// See [`CommandError`]. Where it [is transient](CommandError::is_transient) the same command, with the same id, is to be sent again.
    pub async fn send(
        &self,
        id: Uuid,
        key: impl ToString,
        command: P::Command,
        headers: &HeaderMap,
    ) -> Result<Handled, CommandError> {
        let came = self.wait(id, key.to_string(), command, headers).await;
        let result = match &came {
            Ok(Handled::Now) => "committed",
            Ok(Handled::Before) => "seen",
            Err(CommandError::Full) => "full",
            Err(CommandError::NotReady) => "not_ready",
            Err(CommandError::Unknown) => "unknown",
            Err(CommandError::KeyGone) => "key_gone",
            Err(CommandError::Failed(_)) => "failed",
        };
        counter!("quadrille_commands_total", "result" => result).increment(1);
        came
    }

    async fn wait(
        &self,
        id: Uuid,
        key: String,
        command: P::Command,
        headers: &HeaderMap,
    ) -> Result<Handled, CommandError> {
        if !self.health.is_taking() {
            return Err(CommandError::NotReady);
        }
        let json = serde_json::to_vec(&command).map_err(|error| CommandError::Failed(error.to_string()))?;
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let trace =
            telemetry::extract(id, header("traceparent").unwrap_or_default(), header("tracestate").unwrap_or_default());
        let envelope = Envelope { id, cause: id, key, version: 0, trace, input: Input::Command(command) };
        let (answer, answered) = oneshot::channel();
        let pending = Pending { envelope, bytes: json.len(), answer: Some(answer) };
        self.queue.try_send(pending.into()).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => CommandError::Full,
            mpsc::error::TrySendError::Closed(_) => CommandError::NotReady,
        })?;
        match tokio::time::timeout(limits::COMMAND, answered).await {
            Ok(Ok(came)) => came,
            // Let go of by a worker that stopped, perhaps between its commit and the answer.
            Ok(Err(_)) | Err(_) => Err(CommandError::Unknown),
        }
    }
}

impl<P: Policy> Clone for Commands<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), health: Arc::clone(&self.health) }
    }
}

impl<P: Policy> fmt::Debug for Commands<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commands")
    }
}

impl CommandError {
    /// Whether the same command, with the same id, may well be committed later, or is already.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full | Self::NotReady | Self::Unknown)
    }
}

/// 503 with `Retry-After` where it [is transient](CommandError::is_transient), 410 where its key has gone, 500 where it cannot be handled. The
/// cause of the last stays inside.
impl IntoResponse for CommandError {
    fn into_response(self) -> Response {
        match self {
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "it could not be handled").into_response(),
            Self::KeyGone => (StatusCode::GONE, self.to_string()).into_response(),
            Self::Full | Self::NotReady | Self::Unknown => {
                unavailable(format!("{self}: send it again with the same key"))
            }
        }
    }
}

impl<P: Policy> Pending<P> {
    /// Whether anybody still waits for it.
    pub fn is_awaited(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| !answer.is_closed())
    }

    /// Its batch is committed, with this verdict on it.
    pub fn committed(&mut self, verdict: Verdict) {
        self.answer(match verdict {
            Verdict::Fresh => Ok(Handled::Now),
            Verdict::Seen => Ok(Handled::Before),
            Verdict::TooOld => Err(CommandError::KeyGone),
            Verdict::Waits | Verdict::TooEarly => Err(CommandError::Unknown),
        });
    }

    /// It cannot be handled. It becomes no dead letter: whoever sent it is told.
    pub fn failed(&mut self, failure: &str) {
        self.answer(Err(CommandError::Failed(failure.to_owned())));
    }

    fn answer(&mut self, came: Result<Handled, CommandError>) {
        // Nobody may be waiting any more.
        let _ = self.answer.take().map(|answer| answer.send(came));
    }
}
