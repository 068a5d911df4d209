//! `foreign-workspace`: `docs/meters`, which has schemas, services and a command line of its own, is built as it stands and run on the real
//! servers, seen only through its own command line, its page and Kafka. kill -9 of both services amid readings; each has one answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use quadrille_cli::{Catalogue, Settings, kafka::Admin, settings::Overrides};
use quadrille_program::say;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    binaries, http,
    process::Process,
    raw::{RawProducer, RawRecord},
    report::Report,
    shell::{Running, Shell},
    shop::own_folder,
    stage::Stage,
};

const SERVICES: [&str; 2] = ["readings", "usage"];
const METERS: usize = 20;
/// Rounds, each with kill -9 of both services in its middle.
const ROUNDS: usize = 4;
/// Readings of each meter in a round.
const EACH: usize = 25;
/// Of a meter's readings one in so many is below the one before.
const REFUSED: usize = 5;
/// The services are killed when so many of a round's readings are answered.
const AMID: usize = 30;
/// A killed member holds its partitions until its group has waited long enough for it; the rest is work.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut report = Report::default();
    let logs = own_folder("foreign-workspace")?;
    build(&logs, &mut report).await?;
    let mut utility = Utility::open(&logs).await?;
    let sent = utility.read_and_killed(&mut report).await?;
    utility.balanced(&sent, &mut report).await?;
    utility.malformed(&mut report).await?;
    Ok(report)
}

fn workspace() -> PathBuf {
    binaries::root().join("docs/meters")
}

/// Builds the workspace with the library's lock, into the folder in which this program stands.
async fn build(logs: &Path, report: &mut Report) -> anyhow::Result<()> {
    let began = Instant::now();
    let programs = binaries::find("quadrille-show")?;
    let target = programs.parent().and_then(Path::parent).context("a target folder")?.display().to_string();
    let theirs = binaries::root().join("Cargo.lock");
    std::fs::copy(&theirs, workspace().join("Cargo.lock")).context("the library's Cargo.lock")?;
    let command = r#"cd -- "$1" && exec cargo build --workspace --bins --target-dir "$2""#;
    let arguments = ["-c", command, "sh", &workspace().display().to_string(), &target].map(str::to_owned);
    let log = logs.join("build.log");
    let mut cargo = Process::start("the workspace's build", Path::new("/bin/sh"), &arguments, &[], log.clone())?;
    let status = cargo.ended().await?;
    let told = std::fs::read_to_string(&log)?;
    ensure!(status.success(), "the workspace's build ended with {status}:\n{told}");
    let compiled: Vec<&str> = told.lines().filter_map(|line| line.trim_start().strip_prefix("Compiling ")).collect();
    let registered = compiled.iter().filter(|line| !line.ends_with(')')).count();
    report.figure(format!(
        "built in {:.0} s, {} crates of which {registered} of the registry",
        began.elapsed().as_secs_f64(),
        compiled.len()
    ));
    let theirs = locked(&std::fs::read_to_string(theirs)?);
    let own = locked(&std::fs::read_to_string(workspace().join("Cargo.lock"))?);
    let other: Vec<String> = own.difference(&theirs).cloned().collect();
    report.must_be_none("packages that the library's Cargo.lock does not have", &other);
    Ok(())
}

/// The packages of a `Cargo.lock` that come from a registry, with version and checksum.
fn locked(lock: &str) -> BTreeSet<String> {
    let packages = lock.split("[[package]]\n").filter(|package| package.contains("\nchecksum = "));
    let line = |line: &&str| ["name = ", "version = ", "checksum = "].iter().any(|key| line.starts_with(key));
    packages.map(|package| package.lines().filter(line).collect::<Vec<_>>().join(", ")).collect()
}

/// The utility at work: its topics, databases and services, all gone with this value.
struct Utility {
    // In the order in which they end.
    watch: Watch,
    stage: Stage<Topics>,
    shell: Shell,
}

fn program(service: &str) -> anyhow::Result<PathBuf> {
    binaries::find(&format!("meters-{service}"))
}

/// `meters watch` at work, and which readings it has shown to be answered.
struct Watch {
    running: Running,
    answered: BTreeSet<String>,
}

impl Watch {
    /// Watches until so many readings are answered.
    async fn until(&mut self, count: usize) -> anyhow::Result<()> {
        while self.answered.len() < count {
            let line = self.running.until(TIMEOUT, |_| true).await;
            let line = line.with_context(|| format!("{} of {count} readings are answered", self.answered.len()))?;
            self.answered.insert(Fact::read(&line)?.reading);
        }
        Ok(())
    }
}

/// Deletes the topics that the workspace's command line has made.
struct Topics {
    settings: Settings,
    names: Vec<String>,
}

impl Drop for Topics {
    fn drop(&mut self) {
        let (settings, names) = (self.settings.clone(), std::mem::take(&mut self.names));
        let deleted = std::thread::spawn(move || -> anyhow::Result<()> {
            let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio.block_on(async { Admin::connect(&settings.kafka)?.delete(&names).await })
        });
        if !matches!(deleted.join(), Ok(Ok(()))) {
            say!("the topics under {} are left behind", self.settings.kafka.topic_prefix);
        }
    }
}

/// The readings that were sent: of each id the meter, and what it showed.
type Sent = Vec<(Uuid, String, i64)>;

impl Utility {
    /// Prepares servers by the workspace's own command line, and starts both services.
    async fn open(logs: &Path) -> anyhow::Result<Self> {
        let prefix = format!("t{}.", &Uuid::new_v4().simple().to_string()[..10]);
        let overrides = Overrides { topic_prefix: Some(prefix.clone()), ..Overrides::default() };
        // Of no topic and no service: what there is is the workspace's business.
        let mut settings = Settings::load(Catalogue::default(), overrides)?;
        settings.database.prefix = format!("quadrille_test_{}_", prefix.trim_end_matches('.'));
        settings.kafka.group_prefix = prefix;
        let shell = Shell::new(&settings, workspace())?;
        for command in ["check", "topics apply", "schemas apply"] {
            let (good, told) = shell.last_line(&format!("meters {command}")).await?;
            say!("$ meters {command}\n  {told}");
            ensure!(good, "`meters {command}` failed");
        }
        let listed: Value = serde_json::from_str(&shell.run("meters topics list --json").await?)?;
        let names = listed.as_array().context("a list of topics")?.iter();
        let names = names.filter_map(|topic| topic["topic"].as_str()).map(str::to_owned).collect();
        let topics = Topics { settings: settings.clone(), names };
        let kafka = &settings.kafka;
        let environment = [
            ("KAFKA__BROKERS", kafka.brokers.as_str()),
            ("KAFKA__TOPIC_PREFIX", &kafka.topic_prefix),
            ("KAFKA__GROUP_PREFIX", &kafka.group_prefix),
            ("KAFKA__SESSION_TIMEOUT_MS", "6000"),
            ("REGISTRY__URL", &settings.registry.url),
            ("HTTP__BIND", "127.0.0.1:0"),
            // Small batches: there is a middle to be killed in.
            ("BATCH__MAX_INPUTS", "5"),
        ];
        let environment = environment.map(|(key, value)| (format!("QUADRILLE__{key}"), value.to_owned())).to_vec();
        let stage = Stage::over(topics, &SERVICES, settings, logs.to_owned(), environment).await;
        let running = shell.start("meters watch reading.events --from beginning --json")?;
        let mut utility = Self { watch: Watch { running, answered: BTreeSet::new() }, stage, shell };
        for service in SERVICES {
            utility.stage.migrate(service, program(service)?).await?;
        }
        utility.start().await?;
        say!("{} topics; both services are ready; logs in {}", utility.stage.world.names.len(), logs.display());
        Ok(utility)
    }

    /// Starts both services, and waits until they are ready.
    async fn start(&mut self) -> anyhow::Result<()> {
        for service in SERVICES {
            self.stage.start_as(service, &program(service)?, &[]).await?;
        }
        self.stage.ready().await
    }

    /// Sends readings in rounds, every other one without headers by kcat, and kills both services amid each.
    async fn read_and_killed(&mut self, report: &mut Report) -> anyhow::Result<Sent> {
        let (mut sent, mut hit): (Sent, usize) = (vec![], 0);
        for round in 0..ROUNDS {
            let readings = readings(round);
            let document = |(id, meter, watt_hours): &(Uuid, String, i64)| {
                format!("{{\"meter\":\"{meter}\",\"reading_id\":\"{id}\",\"watt_hours\":{watt_hours}}}")
            };
            let file = self.stage.folder.join(format!("readings-{round}.json"));
            std::fs::write(&file, readings.iter().map(document).collect::<Vec<_>>().join("\n"))?;
            let kafka = &self.stage.settings.kafka;
            let send = match round % 2 {
                0 => format!("meters produce ReadingSubmitted '{}' | tail -n 1", file.display()),
                _ => format!(
                    "meters encode --keys ReadingSubmitted '{}' | kcat -P -b {} -t {}reading.requests -K ' ' -D :end-of-record:",
                    file.display(),
                    kafka.brokers,
                    kafka.topic_prefix
                ),
            };
            tokio::try_join!(self.shell.run(&send), self.watch.until(sent.len() + AMID))?;
            sent.extend(readings);
            self.stage.kill_all().await?;
            let answered: BTreeSet<String> = self.topic().await?.into_iter().map(|fact| fact.reading).collect();
            let open = sent.len() - answered.len();
            say!("round {}: kill -9 of both services with {open} of {} readings open", round + 1, sent.len());
            hit += open;
            self.start().await?;
            self.watch.until(sent.len()).await?;
        }
        report.must(hit > 0, || "no reading was open when the services were killed".to_owned());
        report.figure(format!("{} readings, half of them by kcat without headers", sent.len()));
        report.figure(format!("{ROUNDS} times kill -9 of both services, {hit} readings hit"));
        Ok(sent)
    }

    /// All that the topic of events holds.
    async fn topic(&self) -> anyhow::Result<Vec<Fact>> {
        let told = self.shell.run("meters watch reading.events --to-end --json").await?;
        told.lines().map(Fact::read).collect()
    }

    /// Each reading has one answer, the one that is due, and the page has their sums.
    async fn balanced(&self, sent: &Sent, report: &mut Report) -> anyhow::Result<()> {
        let usage = self.stage.instances.iter().find(|instance| instance.service == "usage").context("an instance")?;
        let page = http::json(&format!("{}/usage/at-least/{}", usage.http, sent.len())).await?;
        let facts = self.topic().await?;
        // A relay that was killed may have published what it says once more: the same event, by its id.
        let events: BTreeMap<&str, &Fact> = facts.iter().map(|fact| (fact.id.as_str(), fact)).collect();
        let mut answers: BTreeMap<&str, Vec<&Fact>> = BTreeMap::new();
        for fact in events.values() {
            answers.entry(&fact.reading).or_default().push(fact);
        }
        let (mut wrong, mut last) = (vec![], BTreeMap::<&str, i64>::new());
        let (mut used, mut measured, mut refused) = (0, 0, 0);
        for (id, meter, watt_hours) in sent {
            let last = last.entry(meter).or_default();
            let due = (watt_hours >= last).then(|| watt_hours - *last);
            match answers.get(id.to_string().as_str()).map(Vec::as_slice) {
                Some([fact]) if fact.used == due => {}
                other => wrong.push(format!("{id} of {meter} was to use {due:?} and has {other:?}")),
            }
            match due {
                Some(since) => {
                    (used, measured, *last) = (used + since, measured + 1, *watt_hours);
                }
                None => refused += 1,
            }
        }
        report.must_be_none("readings without the one answer that is due", &wrong);
        report.must(events.len() == sent.len(), || {
            format!("{} readings have {} different answers", sent.len(), events.len())
        });
        let told = ["meters", "used", "measured", "refused"].map(|name| page[name].as_i64());
        let due = [METERS as i64, used, measured, refused].map(Some);
        report.must(told == due, || format!("the page tells {told:?} where the topic has {due:?}"));
        report.figure(format!("each answered once, {measured} measured and {refused} refused"));
        report.figure(format!("{} events published again", facts.len() - events.len()));
        report.figure(format!("the page has the topic's {used} Wh of {METERS} meters"));
        let letters = self.dead_letters().await?;
        report.must(letters.is_empty(), || format!("sound readings became dead letters: {letters:?}"));
        Ok(())
    }

    /// The places of the open dead letters, as the workspace's command line lists them.
    async fn dead_letters(&self) -> anyhow::Result<BTreeSet<(i64, i64)>> {
        let told: Value = serde_json::from_str(&self.shell.run("meters dead-letters list --json").await?)?;
        let letters = told.as_array().context("a list of dead letters")?.iter();
        let place = |letter: &Value| Some((letter["partition"].as_i64()?, letter["offset"].as_i64()?));
        Ok(letters.filter_map(place).collect())
    }

    /// Malformed records become dead letters, each, and no other does.
    async fn malformed(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let sound = self.stage.folder.join("sound.bin");
        let encode =
            format!("meters example ReadingSubmitted | meters encode ReadingSubmitted > '{}'", sound.display());
        self.shell.run(&encode).await?;
        let sound = std::fs::read(&sound)?;
        let values: [(&str, Vec<u8>); 5] = [
            ("E-BAD-1", b"no Avro at all".to_vec()),
            ("E-BAD-2", br#"{"meter":"E-BAD-2"}"#.to_vec()),
            ("E-BAD-3", vec![]),
            ("E-BAD-4", sound.clone()),
            ("no meter!", sound.clone()),
        ];
        let producer = RawProducer::connect(&self.stage.settings)?;
        let mut places = BTreeSet::new();
        for (key, value) in values {
            let record = RawRecord { key: Some(key.into()), value: Some(value), ..RawRecord::default() };
            let placed = producer.send("reading.requests", &record).await?;
            places.insert((i64::from(placed.partition), placed.offset));
        }
        let deadline = Instant::now() + TIMEOUT;
        while self.dead_letters().await? != places && Instant::now() < deadline {}
        let found = self.dead_letters().await?;
        report.must(found == places, || format!("{places:?} were to be dead letters, and {found:?} are"));
        report.figure(format!("{} malformed records are {} dead letters", places.len(), found.len()));
        Ok(())
    }
}

/// What each meter shows in a round: more each time, and now and then less than before.
fn readings(round: usize) -> Sent {
    let mut sent = vec![];
    for step in round * EACH..(round + 1) * EACH {
        for meter in 0..METERS {
            let shown = (step as i64 + 1) * 100 + meter as i64;
            let shown = if step % REFUSED == REFUSED - 1 { shown - 150 } else { shown };
            sent.push((Uuid::new_v4(), format!("E-{meter}"), shown));
        }
    }
    sent
}

/// An answer, as `watch --json` shows it.
#[derive(Debug)]
struct Fact {
    id: String,
    reading: String,
    /// What was used; nothing where the reading was refused.
    used: Option<i64>,
}

impl Fact {
    fn read(line: &str) -> anyhow::Result<Self> {
        let told: Value = serde_json::from_str(line).with_context(|| format!("`meters watch --json` wrote {line}"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("a field of {line}"));
        let is_measured = told["type"] == "utility.reading.ConsumptionMeasured";
        let used = is_measured.then(|| told["value"]["used"].as_i64().context("what was used")).transpose()?;
        Ok(Self { id: text(&told["id"])?, reading: text(&told["value"]["reading_id"])?, used })
    }
}
