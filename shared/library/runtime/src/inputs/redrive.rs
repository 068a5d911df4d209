//! Dead letters that are handled again: those that a person redrives, and those that waited behind one. They take the way of any other
//! input, into this service alone; nothing is published for others to hear again.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use quadrille_core::{Policy, TopicType};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    database::Database,
    dead_letters::{self, Due},
    decode::{Decoded, Decoder},
    health::Health,
    skips::Skips,
    work::{Rejection, Work, WorkItem},
};

/// The longest sleep between two polls, for lost wake-ups and other instances' letters.
const FALLBACK_POLL: Duration = Duration::from_secs(2);

/// So many letters wait for the worker at most: each may have half a mebibyte.
const MOST: usize = 100;

/// Hands due dead letters to the worker.
pub(crate) struct Redriver<P: Policy> {
    pub pool: Database,
    pub generation: u16,
    pub decoder: Arc<Decoder>,
    pub topics: Vec<&'static TopicType>,
    pub worker: mpsc::Sender<WorkItem<P>>,
    pub wake: Arc<Notify>,
    pub health: Arc<Health>,
    pub skips: Arc<Skips>,
}

impl<P: Policy> Redriver<P> {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(MOST));
        while !stop.is_cancelled() {
            let passed = async {
                let due = dead_letters::claim(&self.pool, self.generation, room.available_permits()).await?;
                for letter in due {
                    let id = letter.id;
                    let room = Arc::clone(&room).try_acquire_owned().ok();
                    if let Err(failure) = self.hand_on(letter, room).await {
                        dead_letters::failed(&self.pool, id, failure.reason, &failure.field, &failure.detail).await?;
                    }
                }
                self.look().await
            };
            if let Err(error) = passed.await {
                warn!(%error, "Dead letters could not be looked at");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(FALLBACK_POLL) => {}
            }
        }
    }

    async fn hand_on(&self, letter: Due, room: Option<OwnedSemaphorePermit>) -> Result<(), Rejection> {
        let id = letter.id;
        let failure = |detail: &dyn std::fmt::Display| Rejection::new("handling_failed", "", detail);
        let record = letter.record(&self.topics).map_err(|why| failure(&why))?;
        let message = loop {
            match self.decoder.decode::<P>(&record, chrono::Utc::now().timestamp_millis()) {
                Decoded::Message(message) => break message,
                Decoded::Rejected(rejection) => return Err(rejection),
                Decoded::Skipped(name) => return Err(failure(&format!("this service does not hear {name}"))),
                Decoded::NeedsSchema(schema) => {
                    if let Err(away) = self.decoder.fetch(&record.topic.name, schema).await {
                        // Nobody is to blame: the claim runs out, and the registry is asked again.
                        warn!(%away, dead_letter.id = %id, "A dead letter waits for its schema");
                        return Ok(());
                    }
                }
            }
        };
        // A worker that has ended takes nothing more: the claim runs out, and another instance goes on.
        let _ = self.worker.send(WorkItem::sized(Work::Redrive(id, message), room)).await;
        Ok(())
    }

    /// Shows what waits for a person.
    async fn look(&self) -> sqlx::Result<()> {
        self.skips.load(&self.pool).await?;
        let (parked, open, held): (i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from effect where parked_at is not null), (select count(*) from dead_letter where closed_at is null),
                 (select count(distinct (topic, holds)) from dead_letter where closed_at is null and holds is not null)",
        )
        .fetch_one(&self.pool)
        .await?;
        let kinds: Vec<(String, String, i64)> = sqlx::query_as(
            "select topic, record_type, count(*) from dead_letter where closed_at is null group by 1, 2",
        )
        .fetch_all(&self.pool)
        .await?;
        let alarming = kinds.iter().filter(|(topic, name, _)| P::CHOREOGRAPHY.alarms_at(topic, name));
        let alarming: i64 = alarming.map(|(.., count)| count).sum();
        gauge!("quadrille_effects_parked").set(parked as f64);
        gauge!("quadrille_dead_letters_open").set(open as f64);
        gauge!("quadrille_dead_letters_alarming").set(alarming as f64);
        gauge!("quadrille_keys_held").set(held as f64);
        match parked {
            0 => self.health.ok("effects"),
            _ => self.health.warn("effects", &format!("{parked} are parked: `quadrille effects list --parked`")),
        }
        match alarming {
            0 => self.health.ok("sagas_held_up"),
            _ => self.health.warn(
                "sagas_held_up",
                &format!("{alarming} dead letters leave sagas open: `quadrille dead-letters list`"),
            ),
        }
        match held {
            0 => self.health.ok("held_keys"),
            _ => self
                .health
                .warn("held_keys", &format!("{held} wait behind dead letters: `quadrille dead-letters list`")),
        }
        Ok(())
    }
}
