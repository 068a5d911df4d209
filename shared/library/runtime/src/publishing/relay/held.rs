//! Keys that wait because the broker refuses their next record for good.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use metrics::counter;
use tracing::error;

use super::Row;

/// A row that the broker refuses for good is tried again this often.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// By topic and key: the number of the refused row, and the time of its next try. Nothing behind it is sent before.
#[derive(Default)]
pub(super) struct Held(BTreeMap<(String, String), (i64, Instant)>);

impl Held {
    pub fn hold(&mut self, row: &Row, refusal: &str) {
        error!(topic = row.topic, key = row.key, event.id = %row.event_id,
            "The broker refuses an event; its key waits and is tried again in {RETRY_AFTER:?}: {refusal}");
        counter!("quadrille_refused_total", "topic" => row.topic.clone()).increment(1);
        self.0.entry((row.topic.clone(), row.key.clone())).or_insert((row.id, Instant::now() + RETRY_AFTER));
    }

    pub fn holds(&self, row: &Row) -> bool {
        // Mostly there is none, and a round has thousands of rows.
        !self.is_empty() && self.0.contains_key(&(row.topic.clone(), row.key.clone()))
    }

    /// Lets go of the keys that are to be tried again.
    pub fn release_due(&mut self) {
        self.0.retain(|_, (_, retry_at)| *retry_at > Instant::now());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The lowest number of a refused row.
    pub fn lowest(&self) -> Option<i64> {
        self.0.values().map(|(id, _)| *id).min()
    }

    /// Topics and keys, as columns.
    pub fn columns(&self) -> (Vec<&str>, Vec<&str>) {
        self.0.keys().map(|(topic, key)| (topic.as_str(), key.as_str())).unzip()
    }
}
