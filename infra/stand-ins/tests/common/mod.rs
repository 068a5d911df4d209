//! What the tests of all stand-ins share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

pub const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A client that gives up soon.
pub struct Asker {
    client: Client,
    url: String,
}

impl Asker {
    pub fn new(url: String) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_millis(400)).no_proxy().build();
        Self { client: client.expect("a client"), url }
    }

    /// Status and body; status 0: no answer.
    pub async fn post(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).header("Idempotency-Key", key);
        Self::answer(request.json(&body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        Self::answer(self.client.get(format!("{}{path}", self.url))).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        Self::answer(self.client.delete(format!("{}{path}", self.url))).await
    }

    pub async fn text(&self, path: &str) -> String {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.expect("a text")
    }

    async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                (status, response.json().await.unwrap_or(json!(null)))
            }
            Err(error) if error.is_timeout() => (0, json!(null)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A file of this test's own, not there yet.
pub fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("quadrille-stand-ins-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}
