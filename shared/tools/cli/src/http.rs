//! One way to make HTTP clients: with the TLS provider that is compiled in, and with patience that ends.

use std::time::Duration;

use anyhow::Context;

/// How long an answer may take.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// The settings of every HTTP client of ours.
pub fn builder() -> reqwest::ClientBuilder {
    // Only the first call installs the provider; that it is there already is what the others want.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // What we ask is named in our settings, and is asked directly: a shell's proxy is for others.
    reqwest::Client::builder().timeout(TIMEOUT).no_proxy()
}

/// A client of its own.
pub fn client() -> anyhow::Result<reqwest::Client> {
    builder().build().context("The HTTP client cannot be made")
}
