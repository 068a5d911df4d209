//! What was committed, told to every instance of the service: one NOTIFY per batch, outside its transaction.
//!
//! Nothing hangs on a NOTIFY. One may be lost with its connection or its process; so "anything may have changed" is said whenever the connection
//! is made anew, and every [`FALLBACK_POLL`] whatever becomes of it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quadrille_core::Row;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::{
    generation,
    listener::{Heard, Listener, Listens},
};

/// A NOTIFY that is lost costs at most this time.
const FALLBACK_POLL: Duration = Duration::from_secs(5);
/// The channel on which instances tell each other: those of a generation among themselves.
fn channel(generation: u16) -> String {
    match generation {
        generation::FIRST => "quadrille_committed".to_owned(),
        number => format!("quadrille_committed_{number}"),
    }
}

/// A NOTIFY's payload at most: PostgreSQL takes less than 8,000 bytes.
const MOST_BYTES: usize = 4 * 1024;
/// So many changes wait for a slow receiver, which is told of the rest as [`Changed::Anything`].
const MOST_WAITING: usize = 256;

/// What transactions of this service have changed, on whichever instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These rows, as table and key: those that [`Policy::rows`](quadrille_core::Policy::rows) named and that are not as they were.
    Rows(Arc<[(String, String)]>),
    /// Too many to be named, or it is not known which, perhaps none: whoever shows rows looks at them again.
    Anything,
}

/// A receiver of what is committed from its making on: see [`Context::committed`](crate::Context::committed).
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Changed>);

impl Changes {
    /// Those of an instance that has ended.
    pub(crate) fn ended() -> Self {
        Self(broadcast::channel(1).1)
    }

    /// Waits for the next change. A receiver that is too slow misses none: it is told [`Changed::Anything`]. `None` when the instance ends.
    pub async fn next(&mut self) -> Option<Changed> {
        match self.0.recv().await {
            Ok(changed) => Some(changed),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Changed::Anything),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Tells all instances what this one commits, and this one what all commit.
pub(crate) struct Announcer {
    listener: Listener,
    /// What the others are still to be told.
    untold: Mutex<Untold>,
    wake: Notify,
    heard: broadcast::Sender<Changed>,
}

/// Changes that one NOTIFY can tell: of several batches, where they come faster than it goes.
#[derive(Debug, Default)]
struct Untold {
    rows: BTreeSet<(String, String)>,
    /// Those of the payload, at most.
    bytes: usize,
}

impl Untold {
    fn add(&mut self, rows: Vec<Row>) {
        for Row { table, key } in rows {
            // Beyond the bound nothing is kept but that it was passed.
            if self.bytes <= MOST_BYTES {
                let row = (table.to_owned(), key);
                // With a comma, or the list's brackets. An escape has up to six bytes.
                let bytes = serde_json::to_string(&row).map_or(MOST_BYTES, |json| json.len()) + 2;
                if self.rows.insert(row) {
                    self.bytes += bytes;
                }
            }
        }
    }

    /// The payload, if there is anything to tell: rows as a list of table and key, or `null` where they are too many.
    fn take(&mut self) -> Option<String> {
        let Self { rows, bytes } = std::mem::take(self);
        match rows.is_empty() {
            true => None,
            false if bytes > MOST_BYTES => Some("null".to_owned()),
            false => serde_json::to_string(&rows).ok(),
        }
    }
}

impl Changed {
    /// A payload; what cannot be read, such as another build's, says no more than that something has changed.
    fn of_payload(payload: &str) -> Self {
        match serde_json::from_str::<Option<Vec<(String, String)>>>(payload) {
            Ok(Some(rows)) => Self::Rows(rows.into()),
            Ok(None) | Err(_) => Self::Anything,
        }
    }
}

impl Announcer {
    pub fn new(database: PgConnectOptions, generation: u16) -> Self {
        let (heard, _) = broadcast::channel(MOST_WAITING);
        Self {
            listener: Listener { database, channel: channel(generation) },
            untold: Mutex::default(),
            wake: Notify::new(),
            heard,
        }
    }

    /// A batch is committed that has changed these rows. Nobody waits for the others to be told.
    pub fn announce(&self, rows: Vec<Row>) {
        self.lock_untold().add(rows);
        self.wake.notify_one();
    }

    /// A receiver of what is heard from now on.
    pub fn receiver(&self) -> Changes {
        Changes(self.heard.subscribe())
    }

    /// Listens and tells, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(async { tokio::join!(self.poll(), self.listener.run(self.as_ref())) }).await;
    }

    /// Whatever becomes of the connection.
    async fn poll(&self) {
        loop {
            tokio::time::sleep(FALLBACK_POLL).await;
            self.say(Changed::Anything);
        }
    }

    /// An error only says that nobody listens.
    fn say(&self, changed: Changed) {
        let _ = self.heard.send(changed);
    }

    fn lock_untold(&self) -> std::sync::MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listens for Announcer {
    fn hear(&self, heard: Heard<'_>) {
        self.say(match heard {
            // What was told before is not heard.
            Heard::Begun => Changed::Anything,
            Heard::Told(payload) => Changed::of_payload(payload),
        });
    }

    async fn untold(&self) -> String {
        loop {
            self.wake.notified().await;
            if let Some(payload) = self.lock_untold().take() {
                return payload;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(rows: usize) -> String {
        payload_of((0..rows).map(|n| format!("SKU-\"{n}")))
    }

    fn payload_of(keys: impl Iterator<Item = String> + Clone) -> String {
        let mut untold = Untold::default();
        untold.add(keys.clone().map(|key| Row::new("tally", key)).collect());
        // Told twice, it is told once.
        untold.add(keys.take(1).map(|key| Row::new("tally", key)).collect());
        untold.take().expect("there is something to tell")
    }

    #[test]
    fn what_is_told_is_bounded_and_read_back() {
        let two = [("tally".to_owned(), "SKU-\"0".to_owned()), ("tally".to_owned(), "SKU-\"1".to_owned())];
        assert_eq!(Changed::of_payload(&payload(2)), Changed::Rows(two.into()));
        for rows in [10, 100, 200, 10_000] {
            assert!(payload(rows).len() <= MOST_BYTES, "{rows}");
        }
        assert_eq!(Changed::of_payload(&payload(10_000)), Changed::Anything);
        // Each of their characters has six bytes in JSON.
        let controls = |keys: usize| payload_of((0..keys).map(|n| format!("{n}{}", "\u{1}".repeat(100))));
        assert!(matches!(Changed::of_payload(&controls(5)), Changed::Rows(rows) if rows.len() == 5));
        for keys in 1..100 {
            assert!(controls(keys).len() <= MOST_BYTES, "{keys}");
        }
        assert_eq!(Changed::of_payload("of another build"), Changed::Anything);
        assert_eq!(Untold::default().take(), None);
    }
}
