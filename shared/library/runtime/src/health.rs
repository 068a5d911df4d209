//! What an instance says of itself: `/health/live`, `/health/ready`, `/health` and `/metrics`.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use quadrille_core::bounds;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};

use crate::{config, limits};

/// Connections that the system keeps until they are accepted.
const WAITING_CONNECTIONS: u32 = 1024;

/// The state of an instance's parts, by name.
#[derive(Default)]
pub struct Health {
    checks: Mutex<BTreeMap<&'static str, Check>>,
    started: AtomicBool,
    takes_commands: AtomicBool,
    stopping: AtomicBool,
    filling: AtomicBool,
}

/// The parts without which an instance does no work. All others are a person's business, or show here in time: where a schema cannot be had
/// and nothing else is to be done, progress ends.
const NEEDED: [&str; 4] = ["kafka", "group", "database", "progress"];
/// Of a service that takes commands: those of whoever asks whether it is ready wait for nothing else.
const NEEDED_FOR_COMMANDS: [&str; 2] = ["database", "worker"];

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

    /// The part works, and something wants a look. It may quote anybody: it is [fitted](bounds::fitted).
    pub fn warn(&self, part: &'static str, what: &str) {
        self.set(part, Check::Warning(bounds::fitted(what)));
    }

    /// The part does not work. The cause may quote anybody: it is [fitted](bounds::fitted).
    pub fn error(&self, part: &'static str, cause: &str) {
        self.set(part, Check::Error(bounds::fitted(cause)));
    }

    /// All that is waited for at a start is there.
    pub(crate) fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The instance takes commands, which need neither broker nor registry.
    pub(crate) fn takes_commands(&self) {
        self.takes_commands.store(true, Ordering::Relaxed);
    }

    /// The instance takes nothing any more.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The instance's generation does not serve yet, or does now.
    pub(crate) fn filling(&self, is_filling: bool) {
        self.filling.store(is_filling, Ordering::Relaxed);
    }

    /// Whether the instance's generation does not serve yet.
    pub(crate) fn is_filling(&self) -> bool {
        self.filling.load(Ordering::Relaxed)
    }

    /// Whether the instance has started and is not stopping.
    pub(crate) fn is_taking(&self) -> bool {
        self.started.load(Ordering::Relaxed) && !self.stopping.load(Ordering::Relaxed)
    }

    /// Whether the instance is able to work: it has started and is not stopping, is in its group or coming into it, has a database that takes
    /// a write, goes on where work waits, and keeps a generation that serves. One that takes commands is while its database takes a write and
    /// its worker gets on with what it has in hand: whoever sends them is not turned away because a broker is.
    pub fn is_ready(&self) -> bool {
        let checks = self.checks();
        let works = |part: &&str| !matches!(checks.get(*part), Some(Check::Error(_)));
        let needed = match self.takes_commands.load(Ordering::Relaxed) {
            true => NEEDED_FOR_COMMANDS.as_slice(),
            false => NEEDED.as_slice(),
        };
        self.is_taking() && !self.is_filling() && needed.iter().all(works)
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

/// What every instance answers; what it does not know may be a route of its service.
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
pub(crate) fn listen(bind: &str, instance: u16) -> anyhow::Result<TcpListener> {
    let address = config::listens_at(bind, instance).context("http.bind and instance name no address")?;
    listen_at(address).with_context(|| format!("http.bind: {address} is not free"))
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    // The connections that are accepted inherit it.
    socket.set_send_buffer_size(limits::SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(WAITING_CONNECTIONS)
}

/// Buckets of histograms whose names end with `_seconds`.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
/// Buckets of all others, which count.
const COUNTS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0];

fn recorder() -> anyhow::Result<PrometheusRecorder> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)?.set_buckets(&COUNTS)?;
    Ok(builder.build_recorder())
}

/// The process's metrics: installed by the first service in it.
pub(crate) fn metrics() -> anyhow::Result<&'static PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let recorder = recorder()?;
    let handle = recorder.handle();
    if ::metrics::set_global_recorder(recorder).is_err() {
        // Another service of this process was faster; its handle is in place or about to be.
        return Ok(HANDLE.get_or_init(|| handle));
    }
    Ok(HANDLE.get_or_init(|| handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A heartbeat has it, and whoever hears that may keep it in a database.
    #[test]
    fn what_is_not_well_is_told_within_bounds() {
        let health = Health::default();
        health.error("database", &format!("a\0b{}", "c".repeat(1_000)));
        health.warn("relay", "d\ne");
        let told = format!("database: error: a b{}; relay: warning: d e", "c".repeat(bounds::TEXT - 3));
        assert_eq!(health.summary(), ("error", told));
    }

    /// A batch of 500 and a transaction of two milliseconds both tell something.
    #[test]
    fn histograms_of_counts_have_counts_and_those_of_seconds_have_seconds() {
        let recorder = recorder().expect("the buckets are sound");
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("quadrille_batch_inputs").record(500.0);
            ::metrics::histogram!("quadrille_transaction_seconds").record(0.0015);
        });
        let rendered = recorder.handle().render();
        let buckets = |name: &str| -> Vec<(f64, u64)> {
            let lines = rendered.lines().filter_map(|line| line.strip_prefix(&format!("{name}_bucket{{le=\"")));
            lines
                .filter_map(|line| line.split_once("\"} "))
                .filter_map(|(le, count)| Some((le.parse().ok()?, count.parse().ok()?)))
                .collect()
        };
        let counts = buckets("quadrille_batch_inputs");
        assert!(counts.iter().all(|(le, _)| le.fract() == 0.0 || le.is_infinite()), "{rendered}");
        assert!(counts.contains(&(200.0, 0)) && counts.contains(&(500.0, 1)), "{rendered}");
        let seconds = buckets("quadrille_transaction_seconds");
        assert!(seconds.contains(&(0.001, 0)) && seconds.contains(&(0.002, 1)), "{rendered}");
        assert!(seconds.iter().all(|(le, _)| *le <= 30.0 || le.is_infinite()), "{rendered}");
    }
}
