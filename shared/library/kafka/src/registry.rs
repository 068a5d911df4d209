//! The schema registry's Confluent API, as far as tools need it: subjects, versions, registering, compatibility levels.

use anyhow::{Context, anyhow};
use schema_registry_converter::{
    async_impl::schema_registry::{
        SrSettings, get_all_subjects, get_all_versions, get_schema_by_id, get_schema_by_subject_and_version,
        perform_sr_call, post_schema,
    },
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SrCall, SuppliedSchema},
};
use serde::Deserialize;

use quadrille_program::hide_secrets;

use crate::{Settings, http};

/// The compatibility level of every subject: each version can read what each other version wrote.
pub const LEVEL: &str = "FULL_TRANSITIVE";

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A connection to the registry.
#[derive(Clone)]
pub struct Registry {
    url: String,
    http: reqwest::Client,
    calls: SrSettings,
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

impl Registry {
    /// Prepares the connection; the first call tells whether a registry is there.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let url = settings.registry.url.clone();
        let calls = SrSettings::new_builder(url.clone())
            .set_timeout(http::TIMEOUT)
            .build_with(http::builder())
            .map_err(|error| anyhow!("The registry's client cannot be made: {}", error.error))?;
        Ok(Self { url, http: http::client()?, calls })
    }

    /// Every subject.
    pub async fn subjects(&self) -> anyhow::Result<Vec<String>> {
        get_all_subjects(&self.calls).await.map_err(|error| self.explained("list its subjects", &error))
    }

    /// Every version of a subject that exists, oldest first.
    pub async fn versions(&self, subject: &str) -> anyhow::Result<Vec<Version>> {
        let explained = |error: SRCError| self.explained(&format!("show the versions of {subject}"), &error);
        let mut versions = Vec::new();
        for number in get_all_versions(&self.calls, subject.to_owned()).await.map_err(explained)? {
            let schema =
                get_schema_by_subject_and_version(&self.calls, subject, Some(number)).await.map_err(explained)?;
            versions.push(Version { number, id: schema.id, text: schema.schema });
        }
        Ok(versions)
    }

    /// Registers a text under a subject and gives its schema id; the same text again gives the same id.
    pub async fn register(&self, subject: &str, text: &str) -> anyhow::Result<u32> {
        let schema = SuppliedSchema::new(None, SchemaType::Avro, text.to_owned());
        let registered = post_schema(&self.calls, subject.to_owned(), schema).await;
        Ok(registered.map_err(|error| self.explained(&format!("register {subject}"), &error))?.id)
    }

    /// The id under which a subject knows this very text, or `None`.
    pub async fn id_of(&self, subject: &str, text: &str) -> anyhow::Result<Option<u32>> {
        let body = serde_json::json!({ "schema": text, "schemaType": "AVRO" }).to_string();
        match perform_sr_call(&self.calls, SrCall::PostForVersion(subject, &body)).await {
            // A registry may look texts up by their meaning: only the very text is ours.
            Ok(found) => Ok(found.id.filter(|_| found.schema.as_deref().is_none_or(|found| found == text))),
            Err(error) if code(&error).is_some_and(|code| matches!(code, 40401 | 40403)) => Ok(None),
            Err(error) => Err(self.explained(&format!("look {subject} up"), &error)),
        }
    }

    /// The schema text of an id, or `None` where the registry has no such id.
    pub async fn text_of(&self, id: u32) -> anyhow::Result<Option<String>> {
        match get_schema_by_id(id, &self.calls).await {
            Ok(schema) => Ok(Some(schema.schema)),
            Err(error) if code(&error).is_some_and(|code| matches!(code, 404 | 40403)) => Ok(None),
            Err(error) => Err(self.explained(&format!("show schema id {id}"), &error)),
        }
    }

    /// A subject's own compatibility level, or the registry's where it has none.
    pub async fn level(&self, subject: &str) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Level {
            compatibility_level: String,
        }
        let request = self.http.get(format!("{}/config/{subject}?defaultToGlobal=true", self.url));
        let response = request.send().await.map_err(|error| self.away(&error))?;
        let level: Level =
            self.checked(response, subject).await?.json().await.context("the registry's answer is no level")?;
        Ok(level.compatibility_level)
    }

    /// Sets a subject's own compatibility level.
    ///
    /// Subject by subject, since the registry's global level may be other systems' business too.
    pub async fn set_level(&self, subject: &str) -> anyhow::Result<()> {
        let request = self
            .http
            .put(format!("{}/config/{subject}", self.url))
            .header(reqwest::header::CONTENT_TYPE, CONTENT_TYPE)
            .body(serde_json::json!({ "compatibility": LEVEL }).to_string());
        let response = request.send().await.map_err(|error| self.away(&error))?;
        self.checked(response, subject).await.map(|_| ())
    }

    async fn checked(&self, response: reqwest::Response, subject: &str) -> anyhow::Result<reqwest::Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let said = response.text().await.unwrap_or_default();
        Err(anyhow!("The schema registry refuses the compatibility level of {subject} ({status}): {said}"))
    }

    fn explained(&self, what: &str, error: &SRCError) -> anyhow::Error {
        match raw(error) {
            Some(raw) => {
                anyhow!(
                    "The schema registry at {} does not {what}: {} ({})",
                    hide_secrets(&self.url),
                    raw.message,
                    raw.error_code
                )
            }
            None => self.away(error),
        }
    }

    fn away(&self, error: &dyn std::error::Error) -> anyhow::Error {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        anyhow!(
            "No schema registry answers at {} ({cause}): `make up` brings one up here; QUADRILLE__REGISTRY__URL or --registry names another",
            hide_secrets(&self.url)
        )
    }
}

fn raw(error: &SRCError) -> Option<&RawError> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref::<RawError>())
}

fn code(error: &SRCError) -> Option<u32> {
    raw(error).map(|raw| raw.error_code)
}
