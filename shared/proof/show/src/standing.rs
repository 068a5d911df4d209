//! Who stood still, and who said so: samples of every instance's readiness and of every partition's committed offset.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use quadrille_cli::Settings;
use quadrille_program::complain;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};

use crate::{http, vocabulary::heard};

const EACH: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that each was the case, and where.
#[derive(Clone, Debug, Default)]
pub struct Longest {
    /// An instance was ready while it had something to read and did nothing.
    pub ready_and_idle: (Duration, String),
    /// An instance was not ready while it went on working.
    pub unready_and_busy: (Duration, String),
    /// A partition had something to read and did not move.
    pub partition: (Duration, String),
}

/// Samples until it is dropped.
pub struct Standing {
    longest: Arc<Mutex<Longest>>,
    stop: Arc<AtomicBool>,
    sampling: tokio::task::JoinHandle<()>,
    looking: Option<JoinHandle<()>>,
}

/// An instance's last samples.
struct Sampled {
    done: f64,
    idle_since: Option<Instant>,
    busy_since: Option<Instant>,
}

impl Standing {
    /// Watches the instances with these names and addresses, and all partitions of their groups.
    pub fn watch(settings: &Settings, instances: Vec<(String, String)>) -> anyhow::Result<Self> {
        let (longest, stop) = <(Arc<Mutex<Longest>>, Arc<AtomicBool>)>::default();
        let sampling = tokio::spawn(sample(instances, Arc::clone(&longest)));
        let (settings, told, ended) = (settings.clone(), Arc::clone(&longest), Arc::clone(&stop));
        let looking = std::thread::Builder::new().name("partitions".to_owned()).spawn(move || {
            look(&settings, &told, &ended).unwrap_or_else(|error| complain(format_args!("partitions: {error:#}")))
        })?;
        Ok(Self { longest, stop, sampling, looking: Some(looking) })
    }

    /// What was seen so far.
    pub fn longest(&self) -> Longest {
        self.longest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.sampling.abort();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            let _ = looking.join();
        }
    }
}

fn note(longest: &mut (Duration, String), since: Option<Instant>, what: &str) {
    if let Some(lasted) = since.map(|since| since.elapsed()).filter(|lasted| *lasted > longest.0) {
        *longest = (lasted, what.to_owned());
    }
}

async fn sample(instances: Vec<(String, String)>, longest: Arc<Mutex<Longest>>) {
    let mut before: BTreeMap<String, Sampled> = BTreeMap::new();
    loop {
        for (name, url) in &instances {
            let Ok(metrics) = http::text(&format!("{url}/metrics")).await else { continue };
            let ready = http::is_ok(&format!("{url}/health/ready")).await;
            let sum = |metric: &str| -> f64 {
                let of_metric = metrics.lines().filter(|line| line.starts_with(metric));
                of_metric.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
            };
            let lag = sum("quadrille_consumer_lag");
            let done = sum("quadrille_inputs_total")
                + sum("quadrille_dead_letters_total")
                + sum("quadrille_records_skipped_total");
            let sampled = before.entry(name.clone()).or_insert(Sampled { done, idle_since: None, busy_since: None });
            let moved = done > sampled.done;
            sampled.done = done;
            sampled.idle_since =
                (ready && lag > 0.0 && !moved).then(|| sampled.idle_since.unwrap_or_else(Instant::now));
            sampled.busy_since = (!ready && moved).then(|| sampled.busy_since.unwrap_or_else(Instant::now));
            let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut longest.ready_and_idle, sampled.idle_since, name);
            note(&mut longest.unready_and_busy, sampled.busy_since, name);
        }
        tokio::time::sleep(EACH).await;
    }
}

/// Looks at the committed offsets of every group beside the ends of its topics.
fn look(settings: &Settings, longest: &Mutex<Longest>, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut groups = vec![];
    for (service, types) in heard() {
        let client: BaseConsumer = settings.kafka.observer("quadrille-show", &settings.group(service)).create()?;
        let mut topics: Vec<String> = types.iter().map(|info| settings.topic(&info.record.topic.name)).collect();
        topics.sort();
        topics.dedup();
        let mut list = TopicPartitionList::new();
        for topic in &topics {
            let metadata = client.fetch_metadata(Some(topic), TIMEOUT)?;
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                list.add_partition(topic, partition.id());
            }
        }
        groups.push((service, client, list));
    }
    let mut stood: BTreeMap<(&str, String, i32), (i64, Instant)> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        for (service, client, list) in &groups {
            // A broker that is asked while it is busy is asked again.
            let Ok(committed) = client.committed_offsets(list.clone(), TIMEOUT) else { continue };
            for element in committed.elements() {
                let Ok((low, end)) = client.fetch_watermarks(element.topic(), element.partition(), TIMEOUT) else {
                    continue;
                };
                let next = match element.offset() {
                    Offset::Offset(next) => next,
                    _ => low,
                };
                let key = (*service, element.topic().to_owned(), element.partition());
                if next >= end {
                    stood.remove(&key);
                    continue;
                }
                let (offset, since) = stood.get(&key).copied().unwrap_or((next, Instant::now()));
                let since = if offset == next { since } else { Instant::now() };
                let what = format!("{}/{} at {service}, at {next}", key.1, key.2);
                stood.insert(key, (next, since));
                let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
                note(&mut longest.partition, Some(since), &what);
            }
        }
        std::thread::sleep(EACH);
    }
    Ok(())
}
