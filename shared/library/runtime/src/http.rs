//! An outside that is reached over HTTP: how it is asked, and what its answers mean.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;

use crate::Answer;

/// What an answer may weigh. A sound one weighs some hundred bytes.
const BODY_BYTES: usize = 64 * 1024;

/// A client for an outside: each request with its answer takes no longer than `timeout`.
///
/// It is asked at its own address: a proxy of the environment would be a stranger between us, and a redirect would take what was wanted
/// to where nobody wanted it, a POST even as a GET.
pub fn client(timeout: Duration) -> reqwest::Result<Client> {
    Client::builder().timeout(timeout).no_proxy().redirect(redirect::Policy::none()).build()
}

/// What the outside says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<O> {
    /// This is what became of it.
    Verdict(O),
    /// It is refused, and this is how.
    Refusal(O),
    /// It has no trace of it.
    NoTrace,
}

/// Sends `request` and reads what the outside says of an effect; `said` tells whether its body speaks of that effect, and what it says.
///
/// **What is not known is not stated.** Only a body that says so in so many words is a verdict, with a status of 2xx, or of 402 or 422 too where
/// it refuses: a yes under such a status contradicts itself. That it has no trace of the key is its own word too, with 404: another 404 is a proxy's, or a wrong address. All else (no
/// connection, no answer in time, a redirect, 401, 403, 409, 429, 5xx, whatever stands in them) is unknown.
pub async fn verdict<V, O>(request: RequestBuilder, said: impl FnOnce(V) -> Option<Said<O>>) -> Answer<O>
where
    V: DeserializeOwned,
{
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Answer::Unknown(why(error)),
    };
    let status = response.status();
    let speaks = |status: StatusCode| status.is_success() || matches!(status.as_u16(), 402 | 404 | 422);
    if !speaks(status) {
        return Answer::Unknown(format!("it answered {status}"));
    }
    let body = match body(response).await {
        Ok(body) => body,
        Err(why) => return Answer::Unknown(format!("it answered {status}, and then: {why}")),
    };
    match (serde_json::from_slice(&body).ok().and_then(said), status) {
        (Some(Said::NoTrace), StatusCode::NOT_FOUND) => Answer::Nothing,
        (Some(Said::Verdict(outcome) | Said::Refusal(outcome)), status) if status.is_success() => {
            Answer::Known(outcome)
        }
        (Some(Said::Refusal(outcome)), status) if status != StatusCode::NOT_FOUND => Answer::Known(outcome),
        _ => Answer::Unknown(format!("it answered {status} and no verdict")),
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await.map_err(why)? {
        if body.len() + chunk.len() > BODY_BYTES {
            return Err(format!("more than {BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn why(error: reqwest::Error) -> String {
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "it cannot be reached".to_owned()
    } else {
        error.without_url().to_string()
    }
}
