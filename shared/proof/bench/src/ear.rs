//! The measuring consumer: notes when a record was seen, and little else, so that it takes little from what it measures.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use quadrille_kafka::CloudEvent;
use quadrille_testkit::Settings;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::BorrowedMessage,
};

/// How long a record may be silent about before it counts as lost.
pub const TIMEOUT: Duration = Duration::from_secs(180);

/// A consumer of some topics, on a thread of its own.
pub struct Ear<H> {
    shared: Arc<Shared<H>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<H> {
    heard: Mutex<H>,
    broken: Mutex<Option<String>>,
    stop: AtomicBool,
}

/// Connects a consumer that reads `topics` (without prefix) from their beginning. It joins no group.
pub fn consumer(settings: &Settings, topics: &[&str]) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = settings
        .kafka
        .observer("quadrille-bench", "quadrille-bench")
        .set("fetch.min.bytes", "1")
        .set("fetch.queue.backoff.ms", "2")
        .create()?;
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(10))?;
    let mut assigned = TopicPartitionList::new();
    for topic in topics {
        let physical = settings.topic(topic);
        let found = metadata.topics().iter().find(|found| found.name() == physical);
        for partition in found.with_context(|| format!("there is no topic {physical}"))?.partitions() {
            assigned.add_partition_offset(&physical, partition.id(), Offset::Beginning)?;
        }
    }
    consumer.assign(&assigned)?;
    Ok(consumer)
}

impl<H: Default + Send + 'static> Ear<H> {
    /// Hears a topic; `note` is called with each record and the moment at which it was seen.
    pub fn open(
        settings: &Settings,
        topic: &str,
        mut note: impl FnMut(&mut H, &BorrowedMessage<'_>, Instant) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let consumer = consumer(settings, &[topic])?;
        let shared =
            Arc::new(Shared { heard: Mutex::default(), broken: Mutex::default(), stop: AtomicBool::default() });
        let theirs = Arc::clone(&shared);
        let listen = move || {
            while !theirs.stop.load(Ordering::Relaxed) {
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(message)) => {
                        let seen = Instant::now();
                        note(&mut theirs.heard.lock().unwrap_or_else(PoisonError::into_inner), &message, seen);
                    }
                    Some(Err(error)) => {
                        *theirs.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                    }
                    None => {}
                }
            }
        };
        let thread = Some(std::thread::Builder::new().name("ear".into()).spawn(listen)?);
        Ok(Self { shared, thread })
    }

    /// What was heard so far.
    pub fn heard(&self) -> MutexGuard<'_, H> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `holds`, and fails with what `missing` says where that does not come.
    pub async fn until(&self, holds: impl Fn(&H) -> bool, missing: impl Fn(&H) -> String) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while !holds(&self.heard()) {
            ensure!(Instant::now() < deadline, "{} after {TIMEOUT:?}{}", missing(&self.heard()), self.broken());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn broken(&self) -> String {
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.as_ref().map_or(String::new(), |error| format!("; the measuring consumer met: {error}"))
    }
}

impl<H> Drop for Ear<H> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a message's headers say.
pub fn event<'a>(message: &'a BorrowedMessage<'_>) -> CloudEvent<'a> {
    quadrille_kafka::headers(message, |headers| CloudEvent::read(headers)).unwrap_or_default()
}

/// When orders were confirmed and delivered, by their number.
#[derive(Default)]
pub struct Ends {
    pub confirmed: BTreeMap<u64, Instant>,
    pub delivered: BTreeMap<u64, Instant>,
    /// From the time that a fact bears, which is the database's once the locks are held, until it was seen.
    pub decided_to_seen: BTreeMap<u64, Duration>,
}

/// Hears how the orders of a run end.
pub fn ends(settings: &Settings, number: impl Fn(&[u8]) -> Option<u64> + Send + 'static) -> anyhow::Result<Ear<Ends>> {
    Ear::open(settings, "order.events", move |ends: &mut Ends, message, seen| {
        let Some(order) = message.key().and_then(&number) else { return };
        let event = event(message);
        match event.record_type {
            "quadrille.order.OrderConfirmed" => drop(ends.confirmed.entry(order).or_insert(seen)),
            "quadrille.order.OrderDelivered" => {
                ends.delivered.entry(order).or_insert(seen);
                let decided = DateTime::parse_from_rfc3339(event.time).ok();
                let since = decided.and_then(|decided| (Utc::now() - decided.to_utc()).to_std().ok());
                ends.decided_to_seen.entry(order).or_insert(since.unwrap_or_default());
            }
            _ => {}
        }
    })
}
