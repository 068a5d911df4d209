//! What an instance says of itself: `/health/live`, `/health/ready`, `/health` and `/metrics`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, bail};
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio::net::TcpListener;

/// The state of an instance's parts, by name.
#[derive(Default)]
pub struct Health {
    checks: Mutex<BTreeMap<&'static str, Check>>,
    started: AtomicBool,
    stopping: AtomicBool,
}

/// The parts without which an instance does no work. All others are a person's business, or show here in time: where a schema cannot be had
/// and nothing else is to be done, progress ends.
const NEEDED: [&str; 4] = ["kafka", "group", "database", "progress"];

/// One part's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// It works.
    Healthy,
    /// It works, and something wants a look.
    Warning(String),
    /// It does not work, with the cause.
    Error(String),
}

impl Health {
    /// The part works.
    pub fn ok(&self, part: &'static str) {
        self.set(part, Check::Healthy);
    }

    /// The part works, and something wants a look.
    pub fn warn(&self, part: &'static str, what: &str) {
        self.set(part, Check::Warning(what.to_owned()));
    }

    /// The part does not work.
    pub fn error(&self, part: &'static str, cause: &str) {
        self.set(part, Check::Error(cause.to_owned()));
    }

    /// All that is waited for at a start is there.
    pub(crate) fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The instance takes nothing any more.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the instance is able to work: it has started and is not stopping, is in its group or coming into it, has a database that takes
    /// a write, and goes on where work waits.
    pub fn is_ready(&self) -> bool {
        let checks = self.checks();
        let works = |part| !matches!(checks.get(part), Some(Check::Error(_)));
        let taking = self.started.load(Ordering::Relaxed) && !self.stopping.load(Ordering::Relaxed);
        taking && NEEDED.into_iter().all(works)
    }

    /// `ok`, `warning`, `error` or `stopping`, and what is not healthy.
    pub fn summary(&self) -> (&'static str, String) {
        let checks = self.checks();
        let unhealthy = checks.iter().filter(|(_, check)| **check != Check::Healthy);
        let detail: Vec<String> = unhealthy.map(|(part, check)| format!("{part}: {check}")).collect();
        let status = if self.stopping.load(Ordering::Relaxed) {
            "stopping"
        } else if !self.started.load(Ordering::Relaxed) || checks.values().any(|check| matches!(check, Check::Error(_)))
        {
            "error"
        } else if detail.is_empty() {
            "ok"
        } else {
            "warning"
        };
        (status, detail.join("; "))
    }

    /// All parts' states.
    pub fn checks(&self) -> BTreeMap<&'static str, Check> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, part: &'static str, check: Check) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(part, check);
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Warning(what) => write!(f, "warning: {what}"),
            Self::Error(cause) => write!(f, "error: {cause}"),
        }
    }
}

/// The HTTP surface of an instance.
pub(crate) fn router(health: Arc<Health>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/health/live", get(|| async { "live" }))
        .route("/health/ready", get(ready))
        .route("/health", get(whole))
        .with_state(health)
        .route("/metrics", get(move || async move { metrics.render() }))
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    match health.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    }
}

async fn whole(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let (status, _) = health.summary();
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks: BTreeMap<_, _> = health.checks().iter().map(|(part, check)| (*part, check.to_string())).collect();
    let timestamp = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    // What users of the platform know: three words, no matter why.
    let status = if status == "stopping" { "error" } else { status };
    (code, Json(json!({ "status": status, "timestamp": timestamp, "checks": checks })))
}

/// Listens where `http.bind` says; instance n 100 x (n - 1) ports higher.
pub(crate) async fn listen(bind: &str, instance: u16) -> anyhow::Result<TcpListener> {
    let mut address: std::net::SocketAddr =
        bind.parse().with_context(|| format!("http.bind '{bind}' is no address like 127.0.0.1:9101"))?;
    if instance == 0 {
        bail!("instance is counted from 1");
    }
    if address.port() != 0 {
        let port = u32::from(address.port()) + 100 * u32::from(instance - 1);
        address.set_port(u16::try_from(port).with_context(|| format!("instance {instance} has no port left"))?);
    }
    TcpListener::bind(address).await.with_context(|| format!("http.bind: {address} is not free"))
}

/// The process's metrics: installed by the first service in it.
pub(crate) fn metrics() -> anyhow::Result<&'static PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets(&[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0])?
        .build_recorder();
    let handle = recorder.handle();
    if ::metrics::set_global_recorder(recorder).is_err() {
        // Another service of this process was faster; its handle is in place or about to be.
        return Ok(HANDLE.get_or_init(|| handle));
    }
    Ok(HANDLE.get_or_init(|| handle))
}
