//! The carrier: takes parcels, says where they are, brings them back.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /parcels` `{order_id, method, ...}` | `{"status": "accepted", "tracking_id"}`, or 422 `{"status": "refused", "reason", "detail"}` |
//! | `GET /hand-overs/{key}` | what became of a hand-over's key, 404 `{"status": "unknown_key"}` where it is not known |
//! | `GET /parcels/{tracking_id}` | `{"status": "under_way"}`, `"delivered"` or `"returned"`; 404 where nothing is known |
//! | `POST /parcels/{tracking_id}/recall` | the same: `"returned"` where it worked, `"under_way"` while it comes back, `"delivered"` where it was too late |
//! | `GET /recalls/{key}` | what became of a recall's key, 404 `{"status": "unknown_key"}` where it is not known |
//! | `GET /parcels`, `GET /parcels?order_id=` | all parcels and refusals, how often each key came |
//! | `POST /forget` | forgets all idempotency keys, but not what was done |
//!
//! Both POSTs want an `Idempotency-Key`; the same key with other content is answered 409. What is said of a hand-over, and that a key is
//! not known, names the key in `idempotency_key`; where a parcel is names it in `tracking_id`. A status of 5xx, 404 or 409 is no verdict.

mod methods;
mod parcels;

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

use parcels::{Parcels, Reply};

use crate::server::{Problem, Running, Silence, body, idempotency_key, unavailable, unknown_key};

/// How long a parcel is under way unless its method says otherwise.
pub const DELIVERS_AFTER_MS: i64 = 300;

/// Starts the carrier; what it does is kept in the file `journal`, if one is given.
pub async fn start(bind: SocketAddr, journal: Option<&FilePath>, delivers_after_ms: i64) -> io::Result<Running> {
    let stop = CancellationToken::new();
    let carrier = Carrier {
        parcels: Arc::new(Mutex::new(Parcels::open(journal, delivers_after_ms)?)),
        silence: Silence(stop.clone()),
    };
    let router = Router::new()
        .route("/parcels", post(hand_over).get(all))
        .route("/parcels/{tracking_id}", get(track))
        .route("/parcels/{tracking_id}/recall", post(recall))
        .route("/hand-overs/{key}", get(handed_over))
        .route("/recalls/{key}", get(recalled))
        .route("/forget", post(forget))
        .with_state(carrier);
    Running::start(bind, router, stop).await
}

#[derive(Clone)]
struct Carrier {
    parcels: Arc<Mutex<Parcels>>,
    silence: Silence,
}

impl Carrier {
    fn parcels(&self) -> MutexGuard<'_, Parcels> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what was asked under `key`.
    async fn answer(&self, key: &str, reply: Reply) -> Result<Response, Problem> {
        match reply {
            Reply::Accepted { tracking_id } => {
                let told = json!({"status": "accepted", "tracking_id": tracking_id, "idempotency_key": key});
                Ok(Json(told).into_response())
            }
            Reply::Refused { reason, detail } => {
                let told = json!({"status": "refused", "reason": reason, "detail": detail, "idempotency_key": key});
                Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response())
            }
            Reply::Whereabouts(status, tracking_id) => {
                Ok(Json(json!({"status": status, "tracking_id": tracking_id})).into_response())
            }
            Reply::UnknownKey => Ok(unknown_key(key)),
            Reply::Silence => Err(self.silence.keep().await),
            Reply::Unavailable => Err(unavailable("not now")),
            Reply::NothingKnown => {
                let why = "nothing is known of it";
                Err(Problem(StatusCode::NOT_FOUND, why.to_owned()))
            }
            Reply::OtherContent => {
                let why = "this idempotency key was used with other content";
                Err(Problem(StatusCode::CONFLICT, why.to_owned()))
            }
        }
    }
}

/// Name and address are taken and not kept: nothing here needs them.
#[derive(Deserialize)]
struct HandOver {
    order_id: String,
    #[serde(default)]
    method: String,
}

async fn hand_over(
    State(carrier): State<Carrier>,
    headers: HeaderMap,
    parcel: Result<Json<HandOver>, JsonRejection>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let HandOver { order_id, method } = body(parcel)?;
    if order_id.is_empty() || order_id.len() > 100 || method.len() > 600 {
        let why = "order_id: 1 to 100 bytes are needed; method: at most 600 are accepted";
        return Err(Problem(StatusCode::BAD_REQUEST, why.to_owned()));
    }
    let slow_ms = methods::method(&method).hand_over.slow_ms;
    let told_of = key.clone();
    let reply = carrier.parcels().hand_over(key, order_id, method)?;
    tokio::time::sleep(Duration::from_millis(slow_ms.min(600_000))).await;
    carrier.answer(&told_of, reply).await
}

async fn recall(
    State(carrier): State<Carrier>,
    headers: HeaderMap,
    Path(tracking_id): Path<String>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let reply = carrier.parcels().recall(key.clone(), &tracking_id)?;
    carrier.answer(&key, reply).await
}

async fn track(State(carrier): State<Carrier>, Path(tracking_id): Path<String>) -> Result<Response, Problem> {
    let reply = carrier.parcels().track(&tracking_id);
    carrier.answer("", reply).await
}

async fn handed_over(State(carrier): State<Carrier>, Path(key): Path<String>) -> Result<Response, Problem> {
    let reply = carrier.parcels().ask_hand_over(&key);
    match reply {
        // A question that is answered is answered 200, whatever the verdict was.
        Reply::Refused { reason, detail } => {
            let told = json!({"status": "refused", "reason": reason, "detail": detail, "idempotency_key": key});
            Ok(Json(told).into_response())
        }
        reply => carrier.answer(&key, reply).await,
    }
}

async fn recalled(State(carrier): State<Carrier>, Path(key): Path<String>) -> Result<Response, Problem> {
    let reply = carrier.parcels().ask_recall(&key);
    carrier.answer(&key, reply).await
}

#[derive(Deserialize)]
struct Of {
    order_id: Option<String>,
}

async fn all(State(carrier): State<Carrier>, Query(of): Query<Of>) -> Json<Value> {
    Json(carrier.parcels().told(of.order_id.as_deref()))
}

async fn forget(State(carrier): State<Carrier>) -> Result<Json<Value>, Problem> {
    let keys = carrier.parcels().forget()?;
    Ok(Json(json!({ "forgotten": keys })))
}
