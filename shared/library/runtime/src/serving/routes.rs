//! A service's own routes, within bounds: so many requests at once, so large a body, so long until an answer begins. A client that
//! takes nothing of it loses its connection, and its place with that (`serve.rs`).
//!
//! Health and metrics stand beside them and know no such bound: they answer while all the room is taken.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};
use http_body_util::Limited;
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// A service's routes, for `most` requests at once.
pub(crate) fn bounded(routes: Router, most: usize) -> Router {
    routes.layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(most)), admit))
}

/// An answer that the same request may well not have a moment later.
pub(crate) fn unavailable(why: impl Into<String>) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why.into()).into_response()
}

async fn admit(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(permit) = room.try_acquire_owned() else {
        counter!("quadrille_http_refused_total").increment(1);
        return unavailable("as many requests are under way as this instance takes (http.requests): try again");
    };
    let request = request.map(|body| Body::new(Limited::new(body, limits::ROUTE_BODY)));
    match tokio::time::timeout(limits::ROUTE, next.run(request)).await {
        Ok(response) => response.map(|body| Body::new(Held { body, _permit: permit })),
        Err(_elapsed) => (StatusCode::GATEWAY_TIMEOUT, "no answer within the time that one may take").into_response(),
    }
}

/// An answer's body that keeps its request's place until it has been sent, or its client has gone: a stream of events is under way for as long
/// as it is open.
struct Held {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
