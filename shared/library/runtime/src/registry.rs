//! The schema registry, read only: services look ids up and never register.
//!
//! An answer is final where the registry itself gives it: a schema, of whatever kind, or its own error code for one that it does not have.
//! All else passes: no connection, no answer in time, a proxy's page, whatever its status.

use std::{error::Error, sync::Arc};

use anyhow::Context;
use percent_encoding::percent_decode_str;
use quadrille_core::{RecordType, bounds};
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id, perform_sr_call},
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SrCall},
};

use crate::limits;

/// A client of one registry.
#[derive(Clone)]
pub struct Registry {
    url: Arc<str>,
    settings: SrSettings,
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

/// The registry could not be asked, or answered with an error that may pass. Never cached.
#[derive(Debug, thiserror::Error)]
#[error("the schema registry at {url} {cause}")]
pub struct Away {
    url: String,
    cause: String,
}

impl Registry {
    /// A client of the registry whose Confluent API is at `url`, asked directly, whatever proxy the environment names.
    ///
    /// A user and password in the address go into a header, and are not part of it from here on: it is shown in logs, health and errors.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let mut address = reqwest::Url::parse(url).context("registry.url is no address like http://host:8081")?;
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (plain(address.username()), address.password().map(plain));
        if address.set_username("").and_then(|()| address.set_password(None)).is_err() {
            anyhow::bail!("registry.url is no address like http://host:8081");
        }
        let url = address.as_str().trim_end_matches('/');
        let mut settings = SrSettings::new_builder(url.to_owned());
        if !user.is_empty() {
            settings.set_basic_authorization(&user, password.as_deref());
        }
        let settings = settings.set_timeout(limits::REGISTRY).no_proxy().build_with(reqwest::Client::builder())?;
        Ok(Self { url: url.into(), settings })
    }

    /// The id under which exactly this type's schema text is registered, or `None` where it is not.
    pub async fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>, Away> {
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        match perform_sr_call(&self.settings, SrCall::PostForVersion(subject, &body)).await {
            // A registry may look texts up by their meaning: only the very text is ours.
            Ok(found) => Ok(found.id.filter(|_| found.schema.as_deref().is_none_or(|found| found == schema))),
            Err(error) if matches!(code(&error), Some(SUBJECT_NOT_FOUND | SCHEMA_NOT_FOUND)) => Ok(None),
            Err(error) => Err(self.away(&error)),
        }
    }

    /// What the registry has under `id`.
    pub async fn schema(&self, id: u32) -> Result<Found, Away> {
        match get_schema_by_id(id, &self.settings).await {
            Ok(registered) => Ok(match registered.schema_type {
                SchemaType::Avro => Found::Avro(registered.schema),
                other => Found::Other(format!("{other:?}")),
            }),
            Err(error) if code(&error) == Some(SCHEMA_NOT_FOUND) => Ok(Found::Nothing),
            Err(error) => Err(self.away(&error)),
        }
    }

    /// The ids of all `types`, or the first subject that is missing.
    pub async fn ids_of(&self, types: &[RecordType]) -> Result<Result<Vec<u32>, String>, Away> {
        let mut ids = Vec::with_capacity(types.len());
        for record_type in types {
            match self.id_of(&record_type.subject(), record_type.schema).await? {
                Some(id) => ids.push(id),
                None => return Ok(Err(record_type.subject())),
            }
        }
        Ok(Ok(ids))
    }

    /// The registry answers, but has lost what services stand on.
    pub fn lost(&self, subject: &str) -> Away {
        self.said(&format!("has no subject {subject} with our schema; `quadrille schemas apply` puts it there"))
    }

    fn away(&self, error: &SRCError) -> Away {
        let mut cause = error.error.clone();
        let mut source = error.source();
        while let Some(inner) = source {
            cause = format!("{cause}: {inner}");
            source = inner.source();
        }
        self.said(&format!("does not answer: {cause}"))
    }

    fn said(&self, cause: &str) -> Away {
        Away { url: self.url.to_string(), cause: bounds::fitted(cause) }
    }
}

/// Confluent's codes for what a registry does not have. A bare 404 is somebody else's word.
const SUBJECT_NOT_FOUND: u32 = 40401;
const SCHEMA_NOT_FOUND: u32 = 40403;

fn code(error: &SRCError) -> Option<u32> {
    error.source()?.downcast_ref::<RawError>().map(|raw| raw.error_code)
}
