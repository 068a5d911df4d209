//! `malformed`: 100 malformed records of many kinds on every topic that services hear, between good orders. Nothing stops; each is a
//! dead letter or is skipped, exactly as the contract says.

mod odd;
mod specimens;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use quadrille_core::{Record as _, TopicKind, TopicType};
use quadrille_events::{RecordInfo, TOPICS};
use quadrille_platform::{DeadLetter, InstanceHeartbeat, RECORD_TYPES, RedriveRequested};
use quadrille_program::say;
use quadrille_shop::audit;
use quadrille_testkit::decoded;
use specimens::{Maker, Specimen};

use crate::{
    Goods, Kind, Placed, Shop, Tally, http,
    raw::RawProducer,
    report::Report,
    vocabulary::{Heard, heard},
};
use quadrille_roster::{SERVICES, declaration};

/// Malformed records on each topic.
const EACH: usize = 100;
/// Sound orders after so many malformed records on each topic.
const BETWEEN: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(120);

/// Where a record lies: topic, partition, offset.
type Place = (String, i32, i64);

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open("malformed", 1).await?;
    let goods = shop.stock().await?;
    let mut report = Report::default();
    let heard = heard();
    registered(&shop, &heard, &mut report).await?;
    let topics: BTreeSet<&str> = heard.values().flatten().map(|info| &*info.record.topic.name).collect();
    say!("services hear {} topics; logs in {}", topics.len(), shop.logs());

    let mut bench =
        Bench { producer: RawProducer::connect(&shop.settings)?, expected: Expected::default(), placed: vec![] };
    let mut series: BTreeMap<&str, Vec<Specimen>> = BTreeMap::new();
    for topic in &topics {
        series.insert(topic, series_for(&shop, topic, &heard).await?);
    }
    let kinds: BTreeSet<&str> = series.values().flatten().map(|specimen| specimen.what).collect();
    for number in 0..EACH {
        for (topic, specimens) in &series {
            bench.spoil(topic, &specimens[number], &heard).await?;
        }
        if number % BETWEEN == BETWEEN / 2 {
            bench.order(&shop, &goods).await?;
        }
    }
    say!(
        "{} malformed records of {} kinds are sent, between {} sound orders",
        EACH * topics.len(),
        kinds.len(),
        bench.placed.len()
    );

    let Bench { expected, placed, .. } = bench;
    shop.settled(&placed, TIMEOUT).await?;
    for service in SERVICES {
        let (topic, wanted) = (format!("{service}.dead-letters"), expected.of(service).len() as u64);
        let count = |tally: &Tally| tally.dead_letters.get(&topic).copied().unwrap_or_default();
        shop.follower
            .until(
                TIMEOUT,
                |tally| count(tally) >= wanted,
                |tally| format!("{} of {wanted} dead letters on {topic}", count(tally)),
            )
            .await?;
    }

    report.figure(format!(
        "{} malformed records of {} kinds on {} topics",
        EACH * topics.len(),
        kinds.len(),
        topics.len()
    ));
    let ended = placed.iter().filter(|order| order.ended_as_asked(&shop.follower.tally().story(&order.key()))).count();
    report.figure(format!("{ended} of {} sound orders between them delivered", placed.len()));
    report.must(ended == placed.len(), || format!("{} sound orders ended otherwise", placed.len() - ended));
    let mut letters = 0;
    for service in SERVICES {
        let wanted = expected.of(service);
        letters += wanted.len();
        compare(&mut report, &format!("rows of {service}"), &wanted, &rows(&shop, service).await?);
        let published = published(&shop, service, &mut report).await?;
        compare(&mut report, &format!("records of {service}.dead-letters"), &wanted, &published);
    }
    report.figure(format!("{letters} dead letters, each with its reason, in databases and on topics alike"));
    let skipped = compare_skipped(&shop, &expected, &heard, &mut report).await?;
    report.figure(format!("{skipped} skipped by who does not hear their type"));
    for instance in &mut shop.instances {
        let status = instance.process.status()?;
        report.must(status.is_none(), || format!("{} ended: {status:?}", instance.process.name()));
        let ready = http::is_ok(&format!("{}/health/ready", instance.http)).await;
        report.must(ready, || format!("{} is not ready", instance.process.name()));
    }
    let alarms = audit_alarms(&shop, &expected, &mut report).await?;
    report.figure(format!("audit: {alarms} alarms at dead letters that hold a saga up, as it must, and nothing else"));
    if !report.is_good() {
        say!("all records are kept in {}, logs beside them", shop.keep_records()?);
    }
    Ok(report)
}

/// The audit must raise an alarm at each dead letter that holds a saga up, and find nothing else. Returns how many alarms it raised.
async fn audit_alarms(shop: &Shop, expected: &Expected, report: &mut Report) -> anyhow::Result<u64> {
    let audited = audit::settled(&shop.settings, audit::Options::default()).await?;
    let mut alarms = 0;
    for (rule, finding) in &audited.findings {
        if *rule == audit::Rule::DeadLetters {
            alarms = finding.offences;
        } else {
            report.must(finding.offences == 0, || {
                format!("the audit finds {} offences under {}", finding.offences, rule.title())
            });
        }
    }
    report
        .must(alarms == expected.alarms, || format!("the audit raises {alarms} alarms, {} were due", expected.alarms));
    if !report.is_good() {
        audited.print()?;
    }
    Ok(alarms)
}

/// The service registry must say of each service that it hears the topics of its types.
async fn registered(shop: &Shop, heard: &Heard, report: &mut Report) -> anyhow::Result<()> {
    let beats = shop.world.read_until("platform.instances", |records| {
        let services: BTreeSet<String> =
            records.iter().filter_map(|record| Some(decoded::<InstanceHeartbeat>(record).ok()?.service)).collect();
        SERVICES.iter().all(|service| services.contains(*service))
    });
    for beat in beats.await? {
        let beat: InstanceHeartbeat = decoded(&beat)?;
        let types = heard.get(beat.service.as_str()).context("a service of ours")?;
        let mut topics: BTreeSet<&str> = types.iter().map(|info| &*info.record.topic.name).collect();
        // What operators ask every service hears, whatever its policy hears.
        topics.insert(&RedriveRequested::TYPE.topic.name);
        let said: BTreeSet<&str> = beat.hears.iter().map(String::as_str).collect();
        report.must(said == topics, || format!("{} says that it hears {said:?}, and hears {topics:?}", beat.service));
    }
    Ok(())
}

/// The malformed records for one topic: every kind of every type that is heard there, again and again.
async fn series_for(shop: &Shop, topic: &str, heard: &Heard) -> anyhow::Result<Vec<Specimen>> {
    let registry = shop.settings.registry()?;
    let id_of = |info: &'static RecordInfo| {
        let registry = registry.clone();
        async move {
            let id = registry.id_of(&info.record.subject(), info.record.schema).await?;
            anyhow::Ok((info, id.with_context(|| format!("{} is not registered", info.record.name))?))
        }
    };
    let mut types: Vec<&'static RecordInfo> =
        heard.values().flatten().copied().filter(|info| info.record.topic.name == topic).collect();
    types.sort_by_key(|info| info.record.name);
    types.dedup_by_key(|info| info.record.name);
    let foreign = RECORD_TYPES
        .iter()
        .find(|info| info.record.name == "quadrille.platform.RedriveRequested")
        .context("a foreign type")?;
    let declared = declared(topic)?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let retention_ms = declared.retention.map(|kept| i64::try_from(kept.as_millis())).transpose()?;
    let mut series = vec![];
    while series.len() < EACH {
        for info in &types {
            let (info, id) = id_of(info).await?;
            series.extend(Maker { info, id, foreign: id_of(foreign).await?, retention_ms, now_ms }.all()?);
        }
    }
    series.truncate(EACH);
    Ok(series)
}

fn declared(topic: &str) -> anyhow::Result<&'static TopicType> {
    TOPICS.iter().find(|declared| declared.name == topic).copied().context("a declared topic")
}

/// What is to come of what was sent.
#[derive(Default)]
struct Expected {
    /// Dead letters, by service: where the record lies, and the reason.
    letters: BTreeMap<(&'static str, Place), &'static str>,
    /// Skipped records, by service, topic and type.
    skipped: BTreeMap<(&'static str, String, String), u64>,
    /// Dead letters at which an alarm is due, since nothing but a person ends what waits for them.
    alarms: u64,
}

impl Expected {
    fn of(&self, service: &str) -> BTreeMap<Place, String> {
        let of_service = self.letters.iter().filter(|((whose, _), _)| *whose == service);
        of_service.map(|((_, place), reason)| (place.clone(), (*reason).to_owned())).collect()
    }
}

struct Bench {
    producer: RawProducer,
    expected: Expected,
    placed: Vec<Placed>,
}

impl Bench {
    /// Sends a malformed record, and notes what each service that hears its topic is to make of it.
    async fn spoil(&mut self, topic: &str, specimen: &Specimen, heard: &Heard) -> anyhow::Result<()> {
        let placed = self.producer.send(topic, &specimen.record).await.with_context(|| specimen.what)?;
        for (service, types) in heard {
            let names: Vec<&str> =
                types.iter().filter(|info| info.record.topic.name == topic).map(|info| info.record.name).collect();
            if names.is_empty() {
                continue;
            }
            let declared = declared(topic)?;
            match (specimen.verdict.reason(declared.kind == TopicKind::Requests, &names), specimen.verdict) {
                (Some(reason), verdict) => {
                    let record_type = match verdict {
                        specimens::Verdict::OfType(name, _) => name,
                        specimens::Verdict::Letter(_) => "",
                    };
                    let alarming = declaration(service).is_some_and(|declared| declared.alarms_at(topic, record_type));
                    self.expected.alarms += u64::from(alarming);
                    let place = (topic.to_owned(), placed.partition, placed.offset);
                    self.expected.letters.insert((service, place), reason);
                }
                (None, specimens::Verdict::OfType(name, _)) => {
                    // Another topic's type may be a stranger's for all that a service knows.
                    let label = if declared.records.iter().any(|known| known == name) { name } else { "other" };
                    *self.expected.skipped.entry((service, topic.to_owned(), label.to_owned())).or_default() += 1;
                }
                (None, specimens::Verdict::Letter(_)) => {}
            }
        }
        Ok(())
    }

    /// Places a sound order in each of the ways that look odd.
    async fn order(&mut self, shop: &Shop, goods: &Goods) -> anyhow::Result<()> {
        let framed = shop.clients.framed(&Placed::new(Kind::Good).request(goods)).await?;
        let id = u32::from_be_bytes([framed[1], framed[2], framed[3], framed[4]]);
        for way in 0..odd::WAYS {
            let order = Placed::new(Kind::Good);
            self.producer.send("order.requests", &odd::request(&order, goods, id, way)).await?;
            self.placed.push(order);
        }
        Ok(())
    }
}

async fn rows(shop: &Shop, service: &str) -> anyhow::Result<BTreeMap<Place, String>> {
    let rows: Vec<(String, i32, i64, String)> =
        sqlx::query_as("select topic, partition, \"offset\", reason from dead_letter")
            .fetch_all(&shop.database(service)?.pool)
            .await?;
    Ok(rows.into_iter().map(|(topic, partition, offset, reason)| ((topic, partition, offset), reason)).collect())
}

async fn published(shop: &Shop, service: &str, report: &mut Report) -> anyhow::Result<BTreeMap<Place, String>> {
    let mut letters = BTreeMap::new();
    for record in shop.world.read(&format!("{service}.dead-letters")).await? {
        let letter: DeadLetter = decoded(&record)?;
        // What carries secrets stays in the database.
        let open = letter.value.is_some() && letter.topic == "user.requests";
        report.must(!open, || format!("{}: a dead letter of user.requests shows its value", record.place()));
        letters.insert((letter.topic, letter.partition, letter.offset), letter.reason);
    }
    Ok(letters)
}

fn compare(report: &mut Report, what: &str, wanted: &BTreeMap<Place, String>, found: &BTreeMap<Place, String>) {
    let told = |(topic, partition, offset): &Place| format!("{topic}/{partition}@{offset}");
    let mut wrong = vec![];
    for (place, reason) in wanted {
        match found.get(place) {
            None => wrong.push(format!("{} is missing ({reason})", told(place))),
            Some(other) if other != reason => wrong.push(format!("{} is {other}, not {reason}", told(place))),
            Some(_) => {}
        }
    }
    wrong.extend(
        found
            .iter()
            .filter(|(place, _)| !wanted.contains_key(*place))
            .map(|(place, reason)| format!("{} is one ({reason})", told(place))),
    );
    report.must_be_none(what, &wrong);
}

/// Holds what services say that they skipped against what is on the topics: malformed records, and sound ones of types that they
/// do not hear. Returns how many of the malformed ones were skipped.
async fn compare_skipped(shop: &Shop, expected: &Expected, heard: &Heard, report: &mut Report) -> anyhow::Result<u64> {
    let mut wrong = vec![];
    for instance in &shop.instances {
        let metrics = http::text(&format!("{}/metrics", instance.http)).await?;
        let types = heard.get(instance.service).context("a service that hears")?;
        let topics: BTreeSet<&str> = types.iter().map(|info| &*info.record.topic.name).collect();
        let mut wanted: BTreeMap<(String, String), u64> = BTreeMap::new();
        for ((_, topic, name), count) in
            expected.skipped.iter().filter(|((service, ..), _)| *service == instance.service)
        {
            *wanted.entry((topic.clone(), name.clone())).or_default() += count;
        }
        for ((topic, name), count) in &shop.follower.tally().written {
            if topics.contains(&**topic) && !types.iter().any(|info| info.record.name == name) {
                *wanted.entry((topic.to_string(), name.clone())).or_default() += count;
            }
        }
        for ((topic, name), count) in wanted {
            let line = format!("quadrille_records_skipped_total{{topic=\"{topic}\",type=\"{name}\"}} ");
            let found = metrics.lines().find_map(|text| text.strip_prefix(&line)).unwrap_or("0");
            if found != count.to_string() {
                wrong.push(format!("{} skipped {found} {name} of {topic}, not {count}", instance.service));
            }
        }
    }
    report.must_be_none("records skipped", &wrong);
    Ok(expected.skipped.values().sum())
}
