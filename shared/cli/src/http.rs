//! One way to make HTTP clients: with the TLS provider that is compiled in, and with patience that ends.

use std::time::Duration;

use anyhow::Context;

/// How long an answer may take.
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// The settings of every HTTP client of ours.
pub fn builder() -> reqwest::ClientBuilder {
    // Only the first call installs the provider; that it is there already is what the others want.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(TIMEOUT)
}

/// A client of its own.
pub fn client() -> anyhow::Result<reqwest::Client> {
    builder().build().context("The HTTP client cannot be made")
}
