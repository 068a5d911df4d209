//! Asking over HTTP, with patience that ends.

use std::{sync::OnceLock, time::Duration};

use anyhow::Context;
use serde_json::Value;

fn client() -> anyhow::Result<&'static reqwest::Client> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    // Only the first call installs the provider; that it is there already is what the others want.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build()?;
    Ok(CLIENT.get_or_init(|| client))
}

/// The JSON at `url`.
pub async fn json(url: &str) -> anyhow::Result<Value> {
    let asked =
        || async { client()?.get(url).send().await?.error_for_status()?.json().await.map_err(anyhow::Error::from) };
    asked().await.with_context(|| format!("GET {url}"))
}

/// The text at `url`.
pub async fn text(url: &str) -> anyhow::Result<String> {
    let asked =
        || async { client()?.get(url).send().await?.error_for_status()?.text().await.map_err(anyhow::Error::from) };
    asked().await.with_context(|| format!("GET {url}"))
}

/// Whether `url` answers 200 now.
pub async fn is_ok(url: &str) -> bool {
    let Ok(client) = client() else { return false };
    client
        .get(url)
        .timeout(Duration::from_secs(2))
        .send()
        .await
        .is_ok_and(|answer| answer.status() == reqwest::StatusCode::OK)
}
