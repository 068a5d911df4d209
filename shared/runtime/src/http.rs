//! An outside that is reached over HTTP: what its answers mean.

use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::Answer;

/// Sends `request` and reads what the outside says of an effect; `known` tells whether its body is a verdict on that effect.
///
/// **What is not known is not stated.** Only a body that says so in so many words is a verdict, whatever the status beside it. 404 says
/// that the outside has no trace of the key. All else (no connection, no answer in time, 5xx, other content) is unknown.
pub async fn verdict<V, O>(request: RequestBuilder, known: impl FnOnce(V) -> Option<O>) -> Answer<O>
where
    V: DeserializeOwned,
{
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => return Answer::Unknown("no answer in time".to_owned()),
        Err(error) if error.is_connect() => return Answer::Unknown("it cannot be reached".to_owned()),
        Err(error) => return Answer::Unknown(error.without_url().to_string()),
    };
    let status = response.status();
    if status == StatusCode::NOT_FOUND {
        return Answer::Nothing;
    }
    if status.is_server_error() {
        return Answer::Unknown(format!("it answered {status}"));
    }
    match response.json().await.ok().and_then(known) {
        Some(outcome) => Answer::Known(outcome),
        None => Answer::Unknown(format!("it answered {status} and no verdict")),
    }
}
