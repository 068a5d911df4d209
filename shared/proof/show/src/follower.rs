//! Follows the topics of a world from their beginning, and tells what they hold so far. What happens is awaited here, not guessed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use quadrille_cli::{
    Settings,
    kafka::{Reader, Record, Start},
};
use quadrille_core::TopicKind;
use quadrille_shop::CATALOGUE;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::story::{ENDS, Story};

/// What the topics of events hold so far.
#[derive(Default)]
pub struct Tally {
    /// By record key: orders, users, SKUs.
    stories: BTreeMap<String, Story>,
    first: HashMap<Uuid, i64>,
    versions: HashMap<(Arc<str>, String), i64>,
    /// Events, exact repeats aside.
    pub events: u64,
    /// Orders that have ended.
    pub ended: usize,
    /// Exact repeats: the same id, the same version.
    pub repeats: u64,
    /// Records on dead-letter topics, by topic.
    pub dead_letters: BTreeMap<String, u64>,
    /// How many records services wrote, repeats included, by topic and type.
    pub written: BTreeMap<(Arc<str>, String), u64>,
    /// Records on topics of events that no service of ours wrote.
    pub strangers: u64,
    /// What breaks the contract: a version that is missing or stands too early, a repeat that differs, an event without an id.
    pub faults: Vec<String>,
    /// Following ended with this error.
    broken: Option<String>,
}

impl Tally {
    fn hear(&mut self, record: &Record) {
        match CATALOGUE.topic(&record.topic).map(|topic| topic.kind) {
            Some(TopicKind::DeadLetters) => {
                *self.dead_letters.entry(record.topic.to_string()).or_default() += 1;
                return;
            }
            Some(TopicKind::Requests) => return,
            _ => {}
        }
        let event = record.event();
        if !event.source.starts_with("/quadrille/") {
            self.strangers += 1;
            return;
        }
        let full_name = event.record_type;
        let name = full_name.rsplit('.').next().unwrap_or_default();
        *self.written.entry((record.topic.clone(), full_name.to_owned())).or_default() += 1;
        let (Ok(id), Ok(version)) = (Uuid::try_parse(event.id), event.version.parse::<i64>()) else {
            self.faults.push(format!("{}: no id or no version", record.place()));
            return;
        };
        if let Some(first) = self.first.get(&id) {
            self.repeats += 1;
            if *first != version {
                self.faults.push(format!("{}: {name} {id} came as version {first} and as {version}", record.place()));
            }
            return;
        }
        self.first.insert(id, version);
        self.events += 1;
        self.ended += usize::from(ENDS.contains(&name));
        let key = record.key_text();
        let last = self.versions.entry((record.topic.clone(), key.clone())).or_default();
        if version != *last + 1 {
            self.faults.push(format!("{}: {name} of {key} is version {version} after {last}", record.place()));
        }
        *last = version;
        if let Err(error) = self.stories.entry(key).or_default().hear(name, record) {
            self.faults.push(format!("{}: {error:#}", record.place()));
        }
    }

    /// What is known of a key; nothing, where nothing was stated of it.
    pub fn story(&self, key: &str) -> Story {
        self.stories.get(key).cloned().unwrap_or_default()
    }

    /// Whether `holds` for what is known of a key.
    pub fn is(&self, key: &str, holds: impl FnOnce(&Story) -> bool) -> bool {
        self.stories.get(key).is_some_and(holds)
    }
}

/// A thread that reads.
pub struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    tally: Mutex<Tally>,
    heard: Notify,
    stop: AtomicBool,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Follows the topics of events, dead letters and requests from `start` on; `watch` sees each record first.
    pub fn start(
        settings: &Settings,
        start: Start,
        mut watch: impl FnMut(&Record) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let reader = Reader::connect(&settings.kafka)?;
        let topics: Vec<&str> = CATALOGUE
            .topics
            .iter()
            // Heartbeats and credentials are compacted: they carry no history.
            .filter(|topic| topic.kind != TopicKind::State)
            .map(|topic| &*topic.name)
            .collect();
        let positions = reader.positions(&reader.partitions(&topics)?, start)?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let mut follow = move || -> anyhow::Result<()> {
            let follow = reader.follow(&positions)?;
            while !theirs.stop.load(Ordering::Relaxed) {
                if let Some(record) = follow.next(Duration::from_millis(200))? {
                    watch(&record);
                    theirs.tally().hear(&record);
                    theirs.heard.notify_waiters();
                }
            }
            Ok(())
        };
        let ended = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("follower".into()).spawn(move || {
            if let Err(error) = follow() {
                ended.tally().broken = Some(format!("{error:#}"));
                ended.heard.notify_waiters();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What was read so far.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.shared.tally()
    }

    /// Waits until `holds`; where it does not in time, fails with what `missing` names.
    pub async fn until(
        &self,
        patience: Duration,
        holds: impl Fn(&Tally) -> bool,
        missing: impl FnOnce(&Tally) -> String,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            // Registered before the look, so that what comes in between is not missed.
            let heard = self.shared.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            {
                let tally = self.tally();
                if let Some(error) = &tally.broken {
                    bail!("the topics cannot be followed: {error}");
                }
                if holds(&tally) {
                    return Ok(());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if tokio::time::timeout(left, heard).await.is_err() {
                let tally = self.tally();
                return if holds(&tally) { Ok(()) } else { Err(anyhow::anyhow!(missing(&tally))) }
                    .with_context(|| format!("not within {patience:?}"));
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
