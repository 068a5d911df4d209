//! `quadrille dead-letters`: what services could not handle, and what waits behind it.

use anyhow::bail;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    Settings,
    audit::databases,
    codec::{Decoded, Decoder},
    operate::{self, Person},
    output::{self, Paint, Table},
};

/// An open dead letter.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DeadLetter {
    #[sqlx(default)]
    pub service: String,
    pub id: Uuid,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub record_time: DateTime<Utc>,
    pub record_type: String,
    #[serde(skip)]
    pub key: Option<Vec<u8>>,
    #[serde(skip)]
    pub value: Option<Vec<u8>>,
    pub value_size: i64,
    pub withheld: bool,
    pub reason: String,
    pub field: String,
    pub detail: String,
    /// The key that waits behind it.
    pub holds: Option<String>,
    pub attempts: i32,
    pub failed_at: DateTime<Utc>,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// One dead letter
    #[arg(required_unless_present_any = ["topic", "key"])]
    pub id: Option<Uuid>,
    /// All that came from this topic
    #[arg(long, requires = "service")]
    pub topic: Option<String>,
    /// All that had this record key
    #[arg(long, requires = "service")]
    pub key: Option<String>,
    /// The service that failed
    #[arg(long)]
    pub service: Option<String>,
}

/// The open dead letters, the oldest first; and the databases that could not be read.
pub async fn open(settings: &Settings, service: Option<&str>) -> anyhow::Result<(Vec<DeadLetter>, Vec<String>)> {
    let (mut letters, unread) = databases::each(settings, service, of).await?;
    letters.sort_by_key(|letter| letter.failed_at);
    Ok((letters, unread))
}

async fn of(settings: &Settings, service: &str) -> sqlx::Result<Vec<DeadLetter>> {
    let mut connection = databases::connect(settings, service).await?;
    let mut letters: Vec<DeadLetter> = sqlx::query_as(
        "select id, topic, partition, \"offset\", record_time, record_type, key, value, value_size, withheld, reason, field, detail,
             holds, attempts, failed_at
         from dead_letter where closed_at is null",
    )
    .fetch_all(&mut connection)
    .await?;
    letters.iter_mut().for_each(|letter| service.clone_into(&mut letter.service));
    Ok(letters)
}

/// Shows open dead letters.
pub async fn list(settings: &Settings, service: Option<&str>, json: bool) -> anyhow::Result<()> {
    let (letters, unread) = open(settings, service).await?;
    if json {
        return output::json(&letters);
    }
    let paint = Paint::detect();
    let mut table = Table::new(["service", "id", "reason", "record", "place", "key", "attempts", "what is wrong"]);
    for letter in &letters {
        table.row([
            letter.service.clone(),
            letter.id.to_string(),
            letter.reason.clone(),
            letter.record_type.rsplit('.').next().unwrap_or_default().to_owned(),
            letter.place(),
            paint.saga(&letter.key_text(), &output::printable(&letter.key_text())),
            letter.attempts.to_string(),
            output::printable(&letter.detail),
        ]);
    }
    table.print()?;
    unread.iter().try_for_each(|sentence| output::line(sentence))?;
    let held: std::collections::BTreeSet<_> =
        letters.iter().filter_map(|letter| Some((&letter.service, &letter.topic, letter.holds.as_ref()?))).collect();
    output::line(&format!("{} open dead letters, {} keys held.", letters.len(), held.len()))
}

/// Shows one dead letter with its original.
pub async fn show(settings: &Settings, id: Uuid, json: bool) -> anyhow::Result<()> {
    let letter = find(settings, id).await?;
    if json {
        return output::json(&letter);
    }
    output::line(&format!(
        "{} could not handle {} of key {}",
        letter.service,
        letter.place(),
        output::printable(&letter.key_text())
    ))?;
    output::line(&format!(
        "reason      {} {} (attempt {}, {})",
        letter.reason, letter.field, letter.attempts, letter.failed_at
    ))?;
    output::line(&format!("detail      {}", output::printable(&letter.detail)))?;
    if let Some(key) = &letter.holds {
        output::line(&format!("holds       later events of {key} on {} wait behind it", letter.topic))?;
    }
    let decoder = Decoder::connect(settings)?;
    let original = match (&letter.value, letter.withheld) {
        (_, true) => "withheld: it may have secrets, and stays in the service's database".to_owned(),
        (value, false) => match tokio::task::block_in_place(|| decoder.decode(Some(&letter.topic), value.as_deref())) {
            Ok(Decoded::Record { json, .. }) => json,
            Ok(Decoded::Bad(why)) => format!("cannot be read: {}", output::printable(&why)),
            Ok(_) | Err(_) => format!("{} bytes", letter.value_size),
        },
    };
    output::line(&format!("original    {original}"))?;
    output::line(&format!("  quadrille dead-letters redrive {id} --who YOU --why REASON"))?;
    output::line(&format!("  quadrille dead-letters discard {id} --who YOU --why REASON"))
}

/// Has dead letters handled again, by the service that failed alone. Whether it was asked of it.
pub async fn redrive(settings: &Settings, which: &Which, person: &Person, json: bool) -> anyhow::Result<bool> {
    let service = match (which.id, &which.service) {
        (Some(id), _) => find(settings, id).await?.service,
        (None, Some(service)) => service.clone(),
        (None, None) => bail!("name a dead letter, or --service with --topic or --key"),
    };
    let fields = json!({
        "dead_letter_id": which.id,
        "topic": which.topic.as_deref().unwrap_or_default(),
        "key": which.key.as_deref().unwrap_or_default(),
    });
    operate::tell(&operate::ask(settings, "RedriveRequested", &service, person, fields).await?, json)
}

/// Gives a dead letter up; what waited behind it goes on. Whether it was done.
pub async fn discard(settings: &Settings, id: Uuid, person: &Person, json: bool) -> anyhow::Result<bool> {
    let service = find(settings, id).await?.service;
    operate::tell(
        &operate::ask(settings, "DiscardRequested", &service, person, json!({"dead_letter_id": id})).await?,
        json,
    )
}

async fn find(settings: &Settings, id: Uuid) -> anyhow::Result<DeadLetter> {
    let (letters, unread) = open(settings, None).await?;
    match letters.into_iter().find(|letter| letter.id == id) {
        Some(letter) => Ok(letter),
        None if unread.is_empty() => bail!("there is no open dead letter {id} (`quadrille dead-letters list`)"),
        None => bail!("no dead letter {id} was found. {}", unread.join(" ")),
    }
}

impl DeadLetter {
    fn place(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }

    fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }
}
