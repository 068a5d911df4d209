//! The offsets that a person has this service pass over, as all of its instances know them.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use crate::{database::Database, work::Rejection};

/// Topic, partition and offset of each, with who asked and why.
#[derive(Default)]
pub(crate) struct Skips(RwLock<Known>);

type Known = BTreeMap<(String, i32, i64), (String, String)>;

#[derive(sqlx::FromRow)]
struct Skip {
    topic: String,
    partition: i32,
    offset: i64,
    who: String,
    why: String,
}

impl Skips {
    /// Learns what was asked since.
    pub async fn load(&self, database: &Database) -> sqlx::Result<()> {
        let skips: Vec<Skip> = sqlx::query_as("select topic, partition, \"offset\", who, why from skipped_offset")
            .fetch_all(database)
            .await?;
        let skips = skips.into_iter().map(|skip| ((skip.topic, skip.partition, skip.offset), (skip.who, skip.why)));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = skips.collect();
        Ok(())
    }

    /// Why the record at this offset is not handled, if a person said so.
    pub fn rejection(&self, topic: &str, partition: i32, offset: i64) -> Option<Rejection> {
        let skips = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // Mostly there are none.
        if skips.is_empty() {
            return None;
        }
        let (who, why) = skips.get(&(topic.to_owned(), partition, offset))?;
        Some(Rejection::new("skipped", "offset", format!("{who} had it passed over: {why}")))
    }
}
