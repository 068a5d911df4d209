//! What an instance says of itself: `/health/live`, `/health/ready`, `/health` and `/metrics`.

use std::{
    collections::BTreeMap,
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
    stopping: AtomicBool,
}

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

    /// The instance takes nothing any more.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether every part works and the instance takes work.
    pub fn is_ready(&self) -> bool {
        let checks = self.checks();
        let sound = !checks.is_empty() && checks.values().all(|check| !matches!(check, Check::Error(_)));
        sound && !self.stopping.load(Ordering::Relaxed)
    }

    /// All parts' states.
    pub fn checks(&self) -> BTreeMap<&'static str, Check> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, part: &'static str, check: Check) {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(part, check);
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
    let checks = health.checks();
    let text = |check: &Check| match check {
        Check::Healthy => "healthy".to_owned(),
        Check::Warning(what) => format!("warning: {what}"),
        Check::Error(cause) => format!("error: {cause}"),
    };
    let status = if !health.is_ready() {
        "error"
    } else if checks.values().any(|check| matches!(check, Check::Warning(_))) {
        "warning"
    } else {
        "ok"
    };
    let code = if status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks: BTreeMap<_, _> = checks.iter().map(|(part, check)| (*part, text(check))).collect();
    let timestamp = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
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
