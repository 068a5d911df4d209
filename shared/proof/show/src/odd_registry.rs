//! A registry that answers oddly: a proxy before the real one, which for a while gives strangers' answers to what services ask.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{Html, IntoResponse, Response},
};
use tokio::task::JoinHandle;

/// Longer than any client of ours waits for an answer.
const HANG: Duration = Duration::from_secs(7);

/// The proxy. It ends with this value.
pub struct OddRegistry {
    /// Where it is.
    pub url: String,
    state: Arc<Registry>,
    serving: JoinHandle<()>,
}

struct Registry {
    real: String,
    client: reqwest::Client,
    /// So many of the next answers are odd.
    odd: AtomicUsize,
    given: AtomicUsize,
}

impl OddRegistry {
    /// Serves before the registry at `real`.
    pub async fn before(real: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let state = Registry { real: real.to_owned(), client, odd: AtomicUsize::new(0), given: AtomicUsize::new(0) };
        let state = Arc::new(state);
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let serving = tokio::spawn(async move {
            // Ends with the show.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, state, serving })
    }

    /// The next `count` answers are a stranger's.
    pub fn answer_oddly(&self, count: usize) {
        self.state.odd.store(count, Ordering::Relaxed);
    }

    /// How many odd answers were given.
    pub fn given(&self) -> usize {
        self.state.given.load(Ordering::Relaxed)
    }
}

impl Drop for OddRegistry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(registry): State<Arc<Registry>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let take = |left: usize| left.checked_sub(1);
    if registry.odd.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        return match registry.given.fetch_add(1, Ordering::Relaxed) % 7 {
            0 => (StatusCode::NOT_FOUND, Html("<h1>no route</h1>")).into_response(),
            1 => (StatusCode::OK, Html("<h1>sign in</h1>")).into_response(),
            2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            3 => (StatusCode::SERVICE_UNAVAILABLE, "{\"error_code\":50301,\"message\":\"later\"}").into_response(),
            4 => StatusCode::TOO_MANY_REQUESTS.into_response(),
            5 => StatusCode::FORBIDDEN.into_response(),
            _ => {
                tokio::time::sleep(HANG).await;
                StatusCode::GATEWAY_TIMEOUT.into_response()
            }
        };
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = registry.client.request(method, format!("{}{path}", registry.real));
    let sent = request.header(CONTENT_TYPE, "application/vnd.schemaregistry.v1+json").body(body).send().await;
    match sent {
        Ok(answer) => (answer.status(), answer.bytes().await.unwrap_or_default()).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
