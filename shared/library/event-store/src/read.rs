use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

/// An event as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its number in the stream, from 1.
    pub version: i64,
    /// Its id.
    pub id: Uuid,
    /// Its record type.
    pub record: String,
    /// The text of the schema that the payload was written with.
    pub schema: Arc<str>,
    /// The payload.
    pub payload: Vec<u8>,
    /// The id of what caused it.
    pub cause: Uuid,
    /// When it was stated.
    pub time: DateTime<Utc>,
}

/// A stream's events from version `from` on, in order. 0 and 1 both mean from the beginning.
pub async fn read(tx: &mut PgConnection, stream: Uuid, from: i64) -> sqlx::Result<Vec<Recorded>> {
    #[derive(FromRow)]
    struct Row {
        version: i64,
        event_id: Uuid,
        record: String,
        schema: i64,
        payload: Vec<u8>,
        causation_id: Uuid,
        time: DateTime<Utc>,
    }

    let rows: Vec<Row> = sqlx::query_as(
        "select version, event_id, record, schema, payload, causation_id, time
         from event where stream = $1 and version >= $2 order by version",
    )
    .bind(stream)
    .bind(from)
    .fetch_all(&mut *tx)
    .await?;
    // Apart from the events, since few schemas stand behind many events.
    let fingerprints: Vec<i64> = rows.iter().map(|row| row.schema).collect();
    let schemas: Vec<(i64, String)> =
        sqlx::query_as("select fingerprint, text from event_schema where fingerprint = any($1)")
            .bind(fingerprints)
            .fetch_all(tx)
            .await?;
    let schemas: BTreeMap<i64, Arc<str>> = schemas.into_iter().map(|(id, text)| (id, text.into())).collect();
    rows.into_iter()
        .map(|row| {
            Ok(Recorded {
                version: row.version,
                id: row.event_id,
                record: row.record,
                schema: schemas.get(&row.schema).cloned().ok_or(sqlx::Error::RowNotFound)?,
                payload: row.payload,
                cause: row.causation_id,
                time: row.time,
            })
        })
        .collect()
}
