//! `quadrille stream`: an order's events as its event store has them, told by the database alone: no broker, no registry.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use quadrille_cli::{
    Settings, databases,
    output::{self, Table},
    render,
};
use quadrille_core::KeyKind;
use quadrille_schemas::wire::{RecordInfo, WriterSchema};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// A stored event.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Stored {
    pub version: i64,
    pub id: Uuid,
    pub record: String,
    pub cause: Uuid,
    pub time: DateTime<Utc>,
    pub value: Value,
}

/// The events of an order's stream, in order. A payload is read by the schema that it was written with, which the store keeps beside it.
pub async fn read(settings: &Settings, order: &str) -> anyhow::Result<Vec<Stored>> {
    let Ok(key) = KeyKind::Uuid.normalize(Some(order.as_bytes())) else {
        bail!("'{order}' is no order id: it is a UUID (`quadrille orders` lists them)");
    };
    let mut connection = databases::connect(settings, "order")
        .await
        .with_context(|| format!("the database {} cannot be read", settings.database("order")))?;
    let events = quadrille_event_store::read(&mut connection, Uuid::try_parse(&key)?, 1).await?;
    events.into_iter().map(|event| stored(settings.catalogue.records, event)).collect()
}

fn stored(records: &[RecordInfo], event: quadrille_event_store::Recorded) -> anyhow::Result<Stored> {
    let info = records.iter().find(|info| info.record.name == event.record);
    let info = info
        .with_context(|| format!("version {} is a {}, which this build does not know", event.version, event.record))?;
    let datum = WriterSchema::new(&event.schema)?.prepare(&info.record)?.apply(&event.payload)?.into_owned();
    let value = serde_json::from_str(&info.to_json(&datum)?)?;
    let (version, id, record) = (event.version, event.id, event.record);
    Ok(Stored { version, id, record, cause: event.cause, time: event.time, value })
}

/// Shows an order's stream.
pub async fn run(settings: &Settings, order: &str, json: bool) -> anyhow::Result<()> {
    let events = read(settings, order).await?;
    if json {
        return output::json(&events);
    }
    let mut table = Table::new(["version", "time", "event", "id", "cause", "what it says"]);
    for event in &events {
        let info = settings.catalogue.records.iter().find(|info| info.record.name == event.record);
        table.row([
            event.version.to_string(),
            render::clock(event.time.timestamp_millis()),
            event.record.rsplit('.').next().unwrap_or_default().to_owned(),
            event.id.to_string(),
            event.cause.to_string(),
            info.map(|info| render::brief(info, &event.value.to_string())).unwrap_or_default(),
        ]);
    }
    table.print()?;
    output::line(&format!("{} events in the stream of {order}.", events.len()))
}
