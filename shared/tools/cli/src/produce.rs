//! `quadrille produce`: JSON in, records on their topic, with the contract's headers.

use std::{path::Path, pin::pin};

use anyhow::bail;
use chrono::{SecondsFormat, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use quadrille_core::{KeyKind, TopicType};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    Settings,
    codec::{Encoder, Framed, documents},
    input,
    kafka::{CloudEvent, Producer},
    output, types, watch,
};

/// How many records may be under way at once.
const IN_FLIGHT: usize = 500;

/// The `ce_source` of what is sent from here.
pub const SOURCE: &str = "/quadrille/cli";

/// What to send beside the value.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The record key; else the one that the value names.
    pub key: Option<String>,
    /// `ce_id`; else a new one for each record.
    pub id: Option<String>,
    /// `ce_source`.
    pub source: Option<String>,
    /// No headers at all, as a client that knows none.
    pub no_headers: bool,
    /// Also to topics that only a service may write, and under keys that no service takes.
    pub anyway: bool,
    /// Results as JSON lines.
    pub json: bool,
}

/// A record that was sent.
#[derive(Debug, Serialize)]
struct Sent<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type")]
    record_type: &'a str,
}

/// Sends all documents of a file, one after another.
pub async fn run(settings: &Settings, name: &str, file: Option<&Path>, options: &Options) -> anyhow::Result<()> {
    let info = types::named(&settings.catalogue, name)?;
    if !types::is_request(info) && !options.anyway {
        bail!(
            "{} is written by its service only, and listeners rely on that: send a request instead (--anyway sends it all the same, for tests)",
            info.record.topic.name
        );
    }
    let taken = |key: &String| {
        if options.anyway { Ok(()) } else { is_taken(info.record.topic, key) }
    };
    options.key.iter().try_for_each(taken)?;
    let encoder = Encoder::connect(settings, info, None).await?;
    let text = input::text(file)?;
    let documents = documents(&text)?;
    if documents.len() > 1 && (options.key.is_some() || options.id.is_some()) {
        bail!("--key and --id are for one record, and the input holds {}", documents.len());
    }
    // All or none is encoded before the first is sent: a mistake in the last document leaves no half behind.
    let framed = documents.iter().map(|json| encoder.encode(json)).collect::<anyhow::Result<Vec<_>>>()?;
    if options.key.is_none() {
        framed.iter().try_for_each(|record| taken(&record.key))?;
    }
    let producer = Producer::connect(&settings.kafka)?;
    let send = async |record: &Framed| {
        let key = options.key.clone().unwrap_or_else(|| record.key.clone());
        let id = options.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        let source = options.source.as_deref();
        let headers = if options.no_headers { vec![] } else { headers(&encoder, &key, &id, source) };
        let placed = producer.send(&info.record.topic.name, Some(key.as_bytes()), &record.value, &headers).await?;
        anyhow::Ok((key, id, placed))
    };
    // Sent in order, acknowledged in their own time.
    let mut sent = pin!(stream::iter(&framed).map(send).buffered(IN_FLIGHT));
    while let Some((key, id, placed)) = sent.try_next().await? {
        let sent = Sent {
            topic: &info.record.topic.name,
            partition: placed.partition,
            offset: placed.offset,
            key: &key,
            id: (!options.no_headers).then_some(&id),
            record_type: info.record.name,
        };
        if options.json {
            output::json_text(&serde_json::to_string(&sent)?)?;
        } else {
            let place = format!("{}/{}@{}", sent.topic, sent.partition, sent.offset);
            output::line(&format!("{} to {place}, key {key}", info.short_name()))?;
        }
    }
    Ok(())
}

/// Refuses a key of which every service would make a dead letter.
fn is_taken(topic: &TopicType, key: &str) -> anyhow::Result<()> {
    if topic.key.normalize(Some(key.as_bytes())).is_err() {
        bail!(
            "'{key}' is no key of {}, whose keys are {}: no service takes such a record (--anyway sends it all the same, for tests)",
            topic.name,
            watch::told_kind(&topic.key)
        );
    }
    Ok(())
}

/// Sends documents as this command line's own requests, in order, and returns the `ce_id` of each.
pub async fn own(settings: &Settings, name: &str, documents: &[String]) -> anyhow::Result<Vec<String>> {
    let encoder = Encoder::connect(settings, types::named(&settings.catalogue, name)?, None).await?;
    // All or none is encoded before the first is sent.
    let records = documents.iter().map(|json| encoder.encode(json)).collect::<anyhow::Result<Vec<_>>>()?;
    let producer = Producer::connect(&settings.kafka)?;
    let send = async |record: &Framed| {
        let id = Uuid::now_v7().to_string();
        let headers = headers(&encoder, &record.key, &id, None);
        producer.send(&encoder.info().record.topic.name, Some(record.key.as_bytes()), &record.value, &headers).await?;
        anyhow::Ok(id)
    };
    stream::iter(&records).map(send).buffered(IN_FLIGHT).try_collect().await
}

/// The CloudEvents headers of a client's request.
fn headers(encoder: &Encoder, key: &str, id: &str, source: Option<&str>) -> Vec<(&'static str, String)> {
    let info = encoder.info();
    // As services write it; a key that is none stays as it is, and is refused by whoever hears it.
    let subject = match &info.record.topic.key {
        KeyKind::Text => key.to_owned(),
        kind => kind.normalize(Some(key.as_bytes())).unwrap_or_else(|_| key.to_owned()),
    };
    let event = CloudEvent {
        id,
        source: source.unwrap_or(SOURCE),
        record_type: info.record.name,
        subject: &subject,
        time: &Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        ..CloudEvent::default()
    };
    event.pairs().map(|(name, value)| (name, value.to_owned())).collect()
}
