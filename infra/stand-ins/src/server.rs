//! Serving over HTTP: started on any port, stopped in order, and able to keep silent.

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a request may weigh: far more than any sound one.
const BODY_BYTES: usize = 64 * 1024;
/// How long requests that are under way are waited for at the end.
const END: Duration = Duration::from_secs(3);

/// A stand-in at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where its HTTP side listens.
    pub http: SocketAddr,
    /// Where its SMTP side listens, if it has one.
    pub smtp: Option<SocketAddr>,
    tasks: JoinSet<io::Result<()>>,
    stop: DropGuard,
}

impl Running {
    /// Starts `router` on `bind`, and whatever else has been put into `tasks`.
    pub(crate) async fn start(bind: SocketAddr, router: Router, stop: CancellationToken) -> io::Result<Self> {
        let listener = listen(bind).await?;
        let http = listener.local_addr()?;
        let router = router
            .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
            .layer(DefaultBodyLimit::max(BODY_BYTES));
        let mut tasks = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        tasks.spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Ok(Self { http, smtp: None, tasks, stop: stop.drop_guard() })
    }

    /// Adds a second listener's work.
    pub(crate) fn with_smtp(
        mut self,
        address: SocketAddr,
        work: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> Self {
        self.smtp = Some(address);
        self.tasks.spawn(work);
        self
    }

    /// `http://host:port`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Ends it: what is under way may finish, for a few seconds.
    pub async fn stop(self) -> io::Result<()> {
        let Self { mut tasks, stop, .. } = self;
        drop(stop);
        let finished = tokio::time::timeout(END, async {
            while let Some(ended) = tasks.join_next().await {
                ended.map_err(io::Error::other)??;
            }
            Ok(())
        });
        // What has not finished by then is ended by the drop of its task.
        finished.await.unwrap_or(Ok(()))
    }

    /// Works until `signal`, then ends.
    pub async fn until(mut self, signal: impl Future<Output = ()>) -> io::Result<()> {
        tokio::select! {
            () = signal => self.stop().await,
            Some(ended) = self.tasks.join_next() => ended.map_err(io::Error::other)?,
        }
    }
}

pub(crate) async fn listen(bind: SocketAddr) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {bind}: {error}"));
    TcpListener::bind(bind).await.map_err(named)
}

/// Not answering, as a provider that has lost its tongue: the asker has to give up by its own time-out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence(pub(crate) CancellationToken);

impl Silence {
    /// Keeps silent until the asker is gone (then this is dropped), the stand-in ends or ten minutes have passed.
    pub(crate) async fn keep(&self) -> Problem {
        let _ = tokio::time::timeout(Duration::from_secs(600), self.0.cancelled()).await;
        unavailable("no answer")
    }
}

/// An answer that is no verdict.
#[derive(Debug)]
pub(crate) struct Problem(pub StatusCode, pub String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("the journal cannot be written: {error}"))
    }
}

/// Nothing is said of what was asked.
pub(crate) fn unavailable(why: &str) -> Problem {
    Problem(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
}

/// That a key is not known, in so many words: a 404 alone may be anybody's.
pub(crate) fn unknown_key(key: &str) -> Response {
    let told = json!({"status": "unknown_key", "idempotency_key": key, "error": "this key is not known"});
    (StatusCode::NOT_FOUND, Json(told)).into_response()
}

/// The request's idempotency key.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<String, Problem> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let sound = key.filter(|key| (1..=100).contains(&key.len()));
    let needed = "an Idempotency-Key header of 1 to 100 visible characters is needed";
    sound.map(str::to_owned).ok_or_else(|| Problem(StatusCode::BAD_REQUEST, needed.to_owned()))
}

/// The request's body.
pub(crate) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body).map_err(|rejection| Problem(rejection.status(), rejection.body_text()))
}

pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
