//! What an instance says of itself: `/health/live`, `/health/ready`, `/health` and `/metrics`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

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
