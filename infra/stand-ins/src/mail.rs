//! The mail catcher: an SMTP server that takes mail for everybody and delivers it to nobody, and a page that shows it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | the newest mails as a page; `GET /mails/{number}` one of them |
//! | `GET /api/mails`, with `?to=`, `?message_id=`, `?limit=` | counts, and the newest mails: copies and Message-IDs are counted apart |
//! | `DELETE /api/mails` | forgets all |

mod addresses;
mod faults;
mod kept;
mod page;
mod smtp;

use std::{
    io,
    net::SocketAddr,
    path::Path as FilePath,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use faults::{Fault, Faults, Misanswer, Phase};
use kept::Kept;
pub use kept::Mail;

use crate::server::{Problem, Running, listen};

/// So many mails are kept whole unless it is told otherwise; of older ones the Message-IDs are counted still.
pub const KEEP: usize = 10_000;

/// Starts the mail catcher: its page on `bind`, its SMTP side on `smtp`. Mails are kept in the file `journal`, if one is given.
pub async fn start(bind: SocketAddr, smtp: SocketAddr, journal: Option<&FilePath>, keep: usize) -> io::Result<Running> {
    start_with(bind, smtp, journal, keep, Faults::default()).await
}

/// The same, with a server that misbehaves.
pub async fn start_with(
    bind: SocketAddr,
    smtp: SocketAddr,
    journal: Option<&FilePath>,
    keep: usize,
    faults: Faults,
) -> io::Result<Running> {
    let stop = CancellationToken::new();
    let catcher = Catcher(Arc::new(Mutex::new(Kept::open(journal, keep)?)));
    let router = Router::new()
        .route("/", get(newest))
        .route("/mails/{number}", get(one))
        .route("/api/mails", get(told).delete(forget))
        .with_state(catcher.clone());
    let listener = listen(smtp).await?;
    let address = listener.local_addr()?;
    let running = Running::start(bind, router, stop.clone()).await?;
    Ok(running.with_smtp(address, smtp::serve(listener, catcher, faults, stop)))
}

/// What SMTP sessions and the page share.
#[derive(Clone)]
struct Catcher(Arc<Mutex<Kept>>);

impl Catcher {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Filter {
    to: Option<String>,
    message_id: Option<String>,
    #[serde(default = "Filter::limit")]
    limit: usize,
}

impl Filter {
    fn limit() -> usize {
        100
    }
}

async fn told(State(catcher): State<Catcher>, Query(filter): Query<Filter>) -> Json<Value> {
    let kept = catcher.kept();
    let chosen = kept.newest().filter(|mail| {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        same(&filter.message_id, &mail.message_id) && mail.to.iter().any(|to| same(&filter.to, to))
    });
    let mails: Vec<Value> = chosen.take(filter.limit).map(|mail| described(&kept, mail)).collect();
    let mut told = json!(kept.counts());
    told["mails"] = json!(mails);
    Json(told)
}

fn described(kept: &Kept, mail: &Mail) -> Value {
    let mut told = json!(mail);
    told["copies"] = json!(kept.copies(&mail.message_id));
    told
}

async fn forget(State(catcher): State<Catcher>) -> Result<StatusCode, Problem> {
    catcher.kept().forget()?;
    Ok(StatusCode::NO_CONTENT)
}

async fn newest(State(catcher): State<Catcher>) -> Response {
    html(page::newest(&catcher.kept()))
}

async fn one(State(catcher): State<Catcher>, Path(number): Path<u64>) -> Result<Response, Problem> {
    let kept = catcher.kept();
    match kept.newest().find(|mail| mail.number == number) {
        Some(mail) => Ok(html(page::one(mail, kept.copies(&mail.message_id)))),
        None => {
            let why = "no such mail is kept";
            Err(Problem(StatusCode::NOT_FOUND, why.to_owned()))
        }
    }
}

fn html(page: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // Mails are strangers' text: nothing of it may run or load, even if escaping failed.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, page).into_response()
}
