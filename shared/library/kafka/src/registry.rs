//! The schema registry's Confluent API: ids and schemas for services, which never register; subjects, versions and compatibility levels for
//! tools.
//!
//! An answer is final where the registry itself gives it: a schema, of whatever kind, or its own error code for one that it does not have.
//! All else passes: no connection, no answer in time, one beyond all bounds, a proxy's page, whatever its status.

use std::{error::Error, sync::Arc, time::Duration};

use anyhow::Context;
use async_trait::async_trait;
use http::Extensions;
use percent_encoding::percent_decode_str;
use quadrille_core::{RecordType, bounds};
use quadrille_program::Secret;
use reqwest::{Request, Response, header::CONTENT_TYPE};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next, RequestBuilder};
use schema_registry_converter::{
    async_impl::schema_registry::{
        SrSettings, get_all_subjects, get_all_versions, get_schema_by_id, get_schema_by_subject_and_version,
        perform_sr_call, post_schema,
    },
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SrCall, SuppliedSchema},
};
use serde::{Deserialize, Serialize};

/// The compatibility level of every subject: each version can read what each other version wrote.
pub const LEVEL: &str = "FULL_TRANSITIVE";

/// Confluent's codes for what a registry does not have. A bare 404 is somebody else's word.
const SUBJECT_NOT_FOUND: u32 = 40401;
const SCHEMA_NOT_FOUND: u32 = 40403;

/// What an answer may weigh. A schema weighs kilobytes, no registry takes one as large, and a list of subjects stays far below.
const MOST_BYTES: usize = 16 << 20;

/// `registry`: where the schema registry is.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The Confluent API's address, with the user and password to sign in by, if there are any.
    pub url: String,
}

impl Default for Settings {
    /// The registry of `make up`.
    fn default() -> Self {
        Self { url: "http://127.0.0.1:8081/apis/ccompat/v7".into() }
    }
}

/// A client of one registry.
#[derive(Clone)]
pub struct Registry {
    url: Arc<str>,
    user: Option<(String, Option<Secret>)>,
    calls: SrSettings,
    /// For compatibility levels, of which the library knows nothing.
    http: ClientWithMiddleware,
}

/// What the registry has under an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An Avro schema's text.
    Avro(String),
    /// A schema of another kind, named.
    Other(String),
    /// It knows no such id.
    Nothing,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The registry's number for it, from 1.
    pub number: u32,
    /// The schema id that frames carry.
    pub id: u32,
    /// The text as it was registered.
    pub text: String,
}

/// The registry could not be asked, or answered with an error that may pass. Never cached; names no user and no password.
#[derive(Debug, thiserror::Error)]
#[error("the schema registry at {url} {cause}")]
pub struct Unavailable {
    url: String,
    cause: String,
}

impl Registry {
    /// A client of the registry at an address, asked directly, whatever proxy the environment names: each request with its answer takes no
    /// longer than `timeout`, and an answer of more than 16 MiB is none. The first one tells whether a registry is there.
    ///
    /// A user and password in the address go into a header, and are not part of it from here on: it is shown in logs, health and errors.
    ///
    /// # Errors
    ///
    /// The address is none, or the HTTP client cannot be made.
    pub fn new(settings: &Settings, timeout: Duration) -> anyhow::Result<Self> {
        // Only the first call installs the provider; that it is there already is what the others want.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut address =
            reqwest::Url::parse(&settings.url).context("registry.url is no address like http://host:8081")?;
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (plain(address.username()), address.password().map(plain));
        if address.set_username("").and_then(|()| address.set_password(None)).is_err() {
            anyhow::bail!("registry.url is no address like http://host:8081");
        }
        let url = address.as_str().trim_end_matches('/');
        let mut calls = SrSettings::new_builder(url.to_owned());
        if !user.is_empty() {
            calls.set_basic_authorization(&user, password.as_deref());
        }
        let client = || reqwest::Client::builder().timeout(timeout).no_proxy();
        let calls = calls.with_middleware(Bounded).set_timeout(timeout).no_proxy().build_with(client())?;
        let http = ClientBuilder::new(client().build()?).with(Bounded).build();
        let user = (!user.is_empty()).then(|| (user, password.map(Secret::new)));
        Ok(Self { url: url.into(), user, calls, http })
    }

    /// The id under which exactly this schema text is registered, or `None` where it is not.
    pub async fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>, Unavailable> {
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        match perform_sr_call(&self.calls, SrCall::PostForVersion(subject, &body)).await {
            // A registry may look texts up by their meaning: only the very text is ours.
            Ok(found) => Ok(found.id.filter(|_| found.schema.as_deref().is_none_or(|found| found == schema))),
            Err(error) if matches!(code(&error), Some(SUBJECT_NOT_FOUND | SCHEMA_NOT_FOUND)) => Ok(None),
            Err(error) => Err(self.away(&format!("look {subject} up"), &error)),
        }
    }

    /// The ids of all `types`, or the first subject that is missing.
    pub async fn ids_of(&self, types: &[RecordType]) -> Result<Result<Vec<u32>, String>, Unavailable> {
        let mut ids = Vec::with_capacity(types.len());
        for record_type in types {
            match self.id_of(&record_type.subject(), record_type.schema).await? {
                Some(id) => ids.push(id),
                None => return Ok(Err(record_type.subject())),
            }
        }
        Ok(Ok(ids))
    }

    /// What the registry has under `id`: one question, whatever it is.
    pub async fn schema(&self, id: u32) -> Result<Found, Unavailable> {
        match get_schema_by_id(id, &self.calls).await {
            Ok(registered) => Ok(match registered.schema_type {
                SchemaType::Avro => Found::Avro(registered.schema),
                other => Found::Other(format!("{other:?}")),
            }),
            Err(error) if code(&error) == Some(SCHEMA_NOT_FOUND) => Ok(Found::Nothing),
            Err(error) => Err(self.away(&format!("show schema id {id}"), &error)),
        }
    }

    /// Every subject.
    pub async fn subjects(&self) -> Result<Vec<String>, Unavailable> {
        get_all_subjects(&self.calls).await.map_err(|error| self.away("list its subjects", &error))
    }

    /// Every version of a subject that exists, oldest first.
    pub async fn versions(&self, subject: &str) -> Result<Vec<Version>, Unavailable> {
        let away = |error: SRCError| self.away(&format!("show the versions of {subject}"), &error);
        let mut versions = Vec::new();
        for number in get_all_versions(&self.calls, subject.to_owned()).await.map_err(away)? {
            let schema = get_schema_by_subject_and_version(&self.calls, subject, Some(number)).await.map_err(away)?;
            versions.push(Version { number, id: schema.id, text: schema.schema });
        }
        Ok(versions)
    }

    /// Registers a text under a subject and gives its schema id; the same text again gives the same id.
    pub async fn register(&self, subject: &str, text: &str) -> Result<u32, Unavailable> {
        let schema = SuppliedSchema::new(None, SchemaType::Avro, text.to_owned());
        let registered = post_schema(&self.calls, subject.to_owned(), schema).await;
        Ok(registered.map_err(|error| self.away(&format!("register {subject}"), &error))?.id)
    }

    /// A subject's own compatibility level, or the registry's where it has none.
    pub async fn level(&self, subject: &str) -> Result<String, Unavailable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Level {
            compatibility_level: String,
        }
        let request = self.http.get(format!("{}/config/{subject}?defaultToGlobal=true", self.url));
        let level: Level = self.answered(request, subject).await?.json().await.map_err(|error| self.silent(&error))?;
        Ok(level.compatibility_level)
    }

    /// Sets a subject's own compatibility level to [`LEVEL`].
    ///
    /// Subject by subject, since the registry's global level may be other systems' business too.
    pub async fn set_level(&self, subject: &str) -> Result<(), Unavailable> {
        let request = self
            .http
            .put(format!("{}/config/{subject}", self.url))
            .header(CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")
            .body(serde_json::json!({ "compatibility": LEVEL }).to_string());
        self.answered(request, subject).await.map(drop)
    }

    async fn answered(&self, request: RequestBuilder, subject: &str) -> Result<Response, Unavailable> {
        let request = match &self.user {
            Some((user, password)) => request.basic_auth(user, password.as_ref().map(Secret::expose)),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.silent(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = response.text().await.unwrap_or_default();
        Err(self.said(&format!("refuses the compatibility level of {subject} ({status}): {said}")))
    }

    /// The registry answers, but has lost what services stand on.
    pub fn lost(&self, subject: &str) -> Unavailable {
        self.said(&format!("has no subject {subject} with our schema; `quadrille schemas apply` puts it there"))
    }

    fn away(&self, what: &str, error: &SRCError) -> Unavailable {
        match raw(error).filter(|raw| raw.error_code != 0) {
            Some(raw) => self.said(&format!("does not {what}: {} ({})", raw.message, raw.error_code)),
            None => self.said(&format!("does not answer: {}: {} ({HINT})", error.error, deepest(error))),
        }
    }

    fn silent(&self, error: &dyn Error) -> Unavailable {
        self.said(&format!("does not answer: {} ({HINT})", deepest(error)))
    }

    fn said(&self, cause: &str) -> Unavailable {
        Unavailable { url: self.url.to_string(), cause: bounds::fitted(cause) }
    }
}

/// Reads each answer whole before anybody else does, and no further than it may go: a server may send without end.
struct Bounded;

#[async_trait]
impl Middleware for Bounded {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let mut response = next.run(request, extensions).await?;
        let mut body = vec![];
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(anyhow::anyhow!("its answer has more than {MOST_BYTES} bytes").into());
            }
            body.extend_from_slice(&chunk);
        }
        let mut whole = http::Response::new(body);
        *whole.status_mut() = response.status();
        *whole.headers_mut() = std::mem::take(response.headers_mut());
        Ok(whole.into())
    }
}

const HINT: &str = "registry.url names it; `make up` starts the local one";

/// The cause that says most: what stands before it is that a request failed.
fn deepest(error: &dyn Error) -> &dyn Error {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

fn raw(error: &SRCError) -> Option<&RawError> {
    error.source().and_then(|source| source.downcast_ref::<RawError>())
}

fn code(error: &SRCError) -> Option<u32> {
    raw(error).map(|raw| raw.error_code)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_server_that_sends_without_end_is_heard_for_so_long_only() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", server.local_addr().expect("bound"));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = server.accept().await {
                tokio::spawn(async move {
                    // A client takes no answer for one that comes before it has asked.
                    connection.read_buf(&mut Vec::with_capacity(4_096)).await?;
                    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"").await?;
                    while connection.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
                    std::io::Result::Ok(())
                });
            }
        });
        // Never reached: the bound on its size ends each.
        let registry = Registry::new(&Settings { url }, Duration::from_secs(600)).expect("a client");
        for away in [
            registry.schema(1).await.map(drop).expect_err("no schema"),
            registry.id_of("a", "{}").await.map(drop).expect_err("no id"),
            registry.subjects().await.map(drop).expect_err("no list"),
            registry.level("a").await.map(drop).expect_err("no level"),
        ] {
            let shown = away.to_string();
            assert!(shown.contains("its answer has more than 16777216 bytes"), "{shown}");
        }
    }

    #[tokio::test]
    async fn no_error_has_the_password_of_the_address() {
        let settings = Settings { url: "http://me:s3cret@127.0.0.1:9/v7/".into() };
        let registry = Registry::new(&settings, Duration::from_secs(5)).expect("a client");
        for away in [
            registry.schema(1).await.map(drop).expect_err("nobody listens"),
            registry.level("a").await.map(drop).expect_err("nobody listens"),
            registry.lost("a"),
        ] {
            let (shown, debugged) = (away.to_string(), format!("{away:?}"));
            assert!(shown.starts_with("the schema registry at http://127.0.0.1:9/v7 "), "{shown}");
            assert!(!shown.contains("s3cret") && !debugged.contains("s3cret"), "{shown} {debugged}");
        }
    }
}
