//! `quadrille audit`: what always holds (the contract's section 3), checked over all topics, databases and the provider's ledger.
//!
//! The topics' ends are noted first, from what comes late in a saga to what comes early: so an answer that is read has its question
//! within what is read. What is younger than the grace period may be on its way; the audit looks again until nothing is, or its
//! time is over.

mod books;
mod checks;
pub mod databases;
mod provider;
mod report;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use quadrille_cli::{
    Settings,
    codec::Decoder,
    kafka::{Partition, Reader, Start},
    output::{self, Progress},
};

use crate::timeline::Fact;
use books::Books;
use checks::Checks;
use databases::Databases;
pub use provider::provider_url;
pub use report::{Finding, Offence, Orders, Report, Rule};

/// How an audit is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long to wait for what is on its way.
    pub settle: Duration,
    /// What is younger than this may still be under way.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { settle: Duration::from_secs(15), grace: Duration::from_secs(10) }
    }
}

/// Audits, tells, and says whether everything holds.
pub async fn run(settings: &Settings, options: Options, json: bool) -> anyhow::Result<bool> {
    let report = settled(settings, options).await?;
    if json {
        output::json(&report)?;
    } else {
        report.print()?;
    }
    Ok(report.total() == 0)
}

/// Audits again and again until nothing is on its way and nothing is wrong, or `settle` is over; the last report counts.
pub async fn settled(settings: &Settings, options: Options) -> anyhow::Result<Report> {
    let deadline = Instant::now() + options.settle;
    loop {
        let (report, young) = once(settings, options.grace).await?;
        if (young == 0 && report.total() == 0) || Instant::now() >= deadline {
            return Ok(report);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// One audit, and how much of what it found is only young.
async fn once(settings: &Settings, grace: Duration) -> anyhow::Result<(Report, u64)> {
    let mut report = Report::new();
    let now_ms = chrono::Utc::now().timestamp_millis();
    let books = tokio::task::block_in_place(|| read(settings, now_ms, &mut report))?;
    // After the topics: what was committed meanwhile is more than they say, and young.
    let databases = match other_world(settings) {
        Some(reason) => Databases { unread: vec![reason], ..Databases::default() },
        None => databases::read(settings, &books.sagas.keys().collect::<Vec<_>>()).await,
    };
    let ledger = match provider::read(settings).await {
        Ok(ledger) => Some(ledger),
        Err(error) => {
            report.not_compared.push(format!("the provider's ledger ({error})"));
            None
        }
    };
    let grace_ms = i64::try_from(grace.as_millis())?;
    let (databases, ledger) = (&databases, ledger.as_ref());
    let young = Checks::new(&books, databases, ledger, now_ms, grace_ms, &mut report).run();
    Ok((report, young))
}

/// An isolated world's topics have a prefix, and so have its databases: the usual ones are another world's.
fn other_world(settings: &Settings) -> Option<String> {
    (!settings.kafka.topic_prefix.is_empty() && settings.database.prefix == "quadrille_").then(|| {
        format!(
            "the databases, since the topics are those of the isolated world '{}' and QUADRILLE__DATABASE__PREFIX names no databases of its own",
            settings.kafka.topic_prefix
        )
    })
}

fn read(settings: &Settings, now_ms: i64, report: &mut Report) -> anyhow::Result<Books> {
    let (reader, decoder) = (Reader::connect(&settings.kafka)?, Decoder::connect(settings)?);
    // Topics are declared roughly in the order of a saga; see the module's doc for why it is turned round.
    let topics: Vec<&str> = settings.catalogue.topic_names().into_iter().rev().collect();
    let partitions = reader.partitions(&topics)?;
    let of: i64 = partitions.iter().map(|partition| partition.high - partition.low).sum();
    let (mut progress, mut done) = (Progress::new("Auditing"), 0);
    let mut books = Books::new(partitions.iter().any(is_truncated));
    for topic in topics {
        let of_topic: Vec<Partition> =
            partitions.iter().filter(|partition| &*partition.topic == topic).cloned().collect();
        let ends: BTreeMap<i32, &Partition> = of_topic.iter().map(|partition| (partition.number, partition)).collect();
        reader.read(&of_topic, Start::Beginning, |record| {
            done += 1;
            progress.at(done, of.unsigned_abs());
            let Some(partition) = ends.get(&record.partition).filter(|partition| record.offset < partition.high) else {
                return Ok(ControlFlow::Continue(()));
            };
            let decoded = decoder.decode(Some(topic), record.value.as_deref())?;
            books.enter(&Fact::of(&settings.catalogue, record, decoded), partition.low > 0, now_ms, report);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    books.unreadable = reader.unreadable();
    Ok(books)
}

/// Whether retention has taken what facts may have been caused by.
fn is_truncated(partition: &Partition) -> bool {
    let heartbeats = &*partition.topic == "platform.instances";
    let compacted = &*partition.topic == "user.credentials";
    partition.low > 0 && !heartbeats && !compacted
}

#[cfg(test)]
mod tests;
