//! The schema registry, read only: services look ids up and never register.

use std::{sync::Arc, time::Duration};

use quadrille_core::RecordType;
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id_and_type},
    schema_registry_common::SchemaType,
};
use serde::Deserialize;

/// A client of one registry.
#[derive(Clone)]
pub struct Registry {
    url: Arc<str>,
    http: reqwest::Client,
    settings: SrSettings,
}

/// The registry could not be asked, or answered with an error that may pass. Never cached.
#[derive(Debug, thiserror::Error)]
#[error("the schema registry at {url} {cause}")]
pub struct Away {
    url: String,
    cause: String,
}

impl Registry {
    /// A client of the registry whose Confluent API is at `url`.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let url = url.trim_end_matches('/');
        let builder = || reqwest::Client::builder().timeout(Duration::from_secs(5));
        let settings = SrSettings::new_builder(url.to_owned()).build_with(builder())?;
        Ok(Self { url: url.into(), http: builder().build()?, settings })
    }

    /// The id under which exactly this type's schema text is registered, or `None` where it is not.
    pub async fn id_of(&self, subject: &str, schema: &str) -> Result<Option<u32>, Away> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let url = format!("{}/subjects/{subject}", self.url);
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" });
        let response = self.http.post(url).json(&body).send().await.map_err(|error| self.away(&error))?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.error_for_status().map_err(|error| self.away(&error))?;
        let registered: Registered = response.json().await.map_err(|error| self.away(&error))?;
        Ok(Some(registered.id))
    }

    /// The text of schema `id`, or `None` where the registry knows no such id.
    pub async fn schema(&self, id: u32) -> Result<Option<String>, Away> {
        match get_schema_by_id_and_type(id, &self.settings, SchemaType::Avro).await {
            Ok(registered) => Ok(Some(registered.schema)),
            // The converter reports an answer that is an error as not retriable: then ask for the status itself.
            Err(error) if !error.retriable => self.exists(id).await.and_then(|exists| match exists {
                true => Err(self.away(&error)),
                false => Ok(None),
            }),
            Err(error) => Err(self.away(&error)),
        }
    }

    async fn exists(&self, id: u32) -> Result<bool, Away> {
        let url = format!("{}/schemas/ids/{id}", self.url);
        let response = self.http.get(url).send().await.map_err(|error| self.away(&error))?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(false);
        }
        response.error_for_status().map(|_| true).map_err(|error| self.away(&error))
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
        let cause = format!("has no subject {subject} with our schema; `quadrille schemas apply` puts it there");
        Away { url: self.url.to_string(), cause }
    }

    fn away(&self, error: &dyn std::error::Error) -> Away {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            cause = format!("{cause}: {inner}");
            source = inner.source();
        }
        Away { url: self.url.to_string(), cause: format!("does not answer: {cause}") }
    }
}
