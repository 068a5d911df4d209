//! The payment provider: charges and refunds under idempotency keys.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /charges` `{order_id, amount, currency, token}` | `{"status": "captured", "charge_id"}`, or 402 `{"status": "declined", "reason", "detail"}` |
//! | `POST /refunds` `{order_id, charge_id, amount, currency}` | `{"status": "refunded", "refund_id"}`, or 422 `{"status": "refused", "reason", "detail"}` |
//! | `GET /charges/{key}`, `GET /refunds/{key}` | what became of the key, 404 `{"status": "unknown_key"}` where it is not known |
//! | `GET /ledger`, `GET /ledger?order_id=` | all that was done, the sums of each order, how often each key came |
//! | `POST /forget` | forgets all idempotency keys, but not what was done |
//!
//! Both POSTs want an `Idempotency-Key`; the same key with other content is answered 409. Whatever is said of a key names it in
//! `idempotency_key`. A status of 5xx, 404 or 409 is no verdict. **It does what it is told**: two refunds of one charge under two keys are two refunds, and the ledger shows them.

mod ledger;
mod tokens;

use std::{
    io,
    net::SocketAddr,
    path::Path as FilePath,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use ledger::{Kind, Operation};
use ledger::{Ledger, Reply, Wanted};

use crate::{
    money::Cents,
    server::{Problem, Running, Silence, body, idempotency_key, unavailable, unknown_key},
};

/// Starts the payment provider; what it does is kept in the file `journal`, if one is given.
pub async fn start(bind: SocketAddr, journal: Option<&FilePath>) -> io::Result<Running> {
    let stop = CancellationToken::new();
    let provider = Provider { ledger: Arc::new(Mutex::new(Ledger::open(journal)?)), silence: Silence(stop.clone()) };
    let router = Router::new()
        .route("/charges", post(charge))
        .route("/refunds", post(refund))
        .route("/charges/{key}", get(charged))
        .route("/refunds/{key}", get(refunded))
        .route("/ledger", get(ledger))
        .route("/forget", post(forget))
        .with_state(provider);
    Running::start(bind, router, stop).await
}

#[derive(Clone)]
struct Provider {
    ledger: Arc<Mutex<Ledger>>,
    silence: Silence,
}

impl Provider {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn perform(&self, kind: Kind, headers: &HeaderMap, wanted: Wanted) -> Result<Response, Problem> {
        let key = idempotency_key(headers)?;
        wanted.check().map_err(|why| Problem(StatusCode::BAD_REQUEST, why))?;
        let reply = self.ledger().request(kind, key, wanted)?;
        match reply {
            Reply::Verdict(operation, slow_ms) => {
                tokio::time::sleep(Duration::from_millis(slow_ms.min(600_000))).await;
                let status = match operation.accepted {
                    true => StatusCode::OK,
                    false if kind == Kind::Charge => StatusCode::PAYMENT_REQUIRED,
                    false => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Ok((status, Json(told(&operation))).into_response())
            }
            Reply::Silence => Err(self.silence.keep().await),
            Reply::Unavailable => Err(unavailable("not now")),
            Reply::OtherContent => {
                let why = "this idempotency key was used with other content";
                Err(Problem(StatusCode::CONFLICT, why.to_owned()))
            }
        }
    }

    fn ask(&self, kind: Kind, key: &str) -> Response {
        match self.ledger().ask(kind, key) {
            Some(Reply::Verdict(operation, _)) => Json(told(&operation)).into_response(),
            Some(_) => unavailable("not now").into_response(),
            None => unknown_key(key),
        }
    }
}

/// What is told of an operation.
fn told(operation: &Operation) -> Value {
    let Operation { id, key, reason, detail, .. } = operation;
    let mut told = match (operation.kind, operation.accepted) {
        (Kind::Charge, true) => json!({"status": "captured", "charge_id": id}),
        (Kind::Charge, false) => json!({"status": "declined", "reason": reason, "detail": detail}),
        (Kind::Refund, true) => json!({"status": "refunded", "refund_id": id}),
        (Kind::Refund, false) => json!({"status": "refused", "reason": reason, "detail": detail}),
    };
    told["idempotency_key"] = json!(key);
    told
}

#[derive(Deserialize)]
struct Charge {
    order_id: String,
    amount: Cents,
    currency: String,
    token: String,
}

#[derive(Deserialize)]
struct Refund {
    order_id: String,
    charge_id: String,
    amount: Cents,
    currency: String,
}

async fn charge(
    State(provider): State<Provider>,
    headers: HeaderMap,
    charge: Result<Json<Charge>, JsonRejection>,
) -> Result<Response, Problem> {
    let Charge { order_id, amount, currency, token } = body(charge)?;
    let wanted = Wanted { order_id, amount, currency, source: token };
    provider.perform(Kind::Charge, &headers, wanted).await
}

async fn refund(
    State(provider): State<Provider>,
    headers: HeaderMap,
    refund: Result<Json<Refund>, JsonRejection>,
) -> Result<Response, Problem> {
    let Refund { order_id, charge_id, amount, currency } = body(refund)?;
    let wanted = Wanted { order_id, amount, currency, source: charge_id };
    provider.perform(Kind::Refund, &headers, wanted).await
}

async fn charged(State(provider): State<Provider>, Path(key): Path<String>) -> Response {
    provider.ask(Kind::Charge, &key)
}

async fn refunded(State(provider): State<Provider>, Path(key): Path<String>) -> Response {
    provider.ask(Kind::Refund, &key)
}

#[derive(Deserialize)]
struct Of {
    order_id: Option<String>,
}

async fn ledger(State(provider): State<Provider>, Query(of): Query<Of>) -> Json<Value> {
    Json(provider.ledger().told(of.order_id.as_deref()))
}

async fn forget(State(provider): State<Provider>) -> Result<Json<Value>, Problem> {
    let keys = provider.ledger().forget()?;
    Ok(Json(json!({ "forgotten": keys })))
}
