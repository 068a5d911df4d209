//! An audit's books: every record is entered once, and what can be told at once is told at once.
//!
//! Memory grows with ids and orders, not with what records hold.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
};

use quadrille_cli::{Place, codec::Decoded, kafka::Unreadable, render};
use quadrille_core::{KeyKind, TopicKind, TopicType, TopicWriter};
use quadrille_events::{Money, RecordInfo};
use quadrille_roster::DECLARATIONS;
use serde_json::Value;
use uuid::Uuid;

use super::report::{Report, Rule};
use crate::{CATALOGUE, timeline::Fact};

/// A request may be this large at most.
const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// A fact of a saga.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub place: Place,
    pub ms: i64,
}

/// What is known of one order.
#[derive(Clone, Debug, Default)]
pub struct Saga {
    /// First occurrences of its facts, each topic's in their order.
    pub entries: Vec<Entry>,
    /// What StockReserved set aside, by SKU.
    pub goods: BTreeMap<String, i64>,
    /// Cents: as accepted, captured, refunded.
    pub total: Option<i64>,
    pub captured: i64,
    pub refunded: i64,
    /// What the provider calls the charge and the refund, as payment says.
    pub charges: Vec<(Place, String)>,
    pub refunds: Vec<(Place, String)>,
}

impl Saga {
    /// The first fact of this type.
    pub fn first(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// All facts of these types.
    pub fn all<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(|entry| names.contains(&entry.name))
    }

    /// How often it has a type.
    pub fn count(&self, name: &str) -> usize {
        self.entries.iter().filter(|entry| entry.name == name).count()
    }

    pub fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }
}

/// A request that its service has to answer.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: &'static str,
    pub key: String,
    /// As it is spelled now, and as it was.
    pub ids: [Option<Uuid>; 2],
    pub place: Place,
    pub ms: i64,
    /// Its `replenishment_id`, where it has one.
    pub replenishment: String,
}

/// A fact under its cause.
#[derive(Clone, Copy, Debug)]
pub struct Caused {
    pub name: &'static str,
    pub place: Place,
    pub ms: i64,
    /// Key and kind.
    subject: u64,
}

/// Everything that topics told.
#[derive(Debug, Default)]
pub struct Books {
    pub records: u64,
    pub facts: u64,
    pub repeats: u64,
    pub foreign: u64,
    /// Those of them that no service hears, so that nothing comes of them: the first few.
    pub unheard: Vec<String>,
    pub unknown_types: u64,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// The newest fact's time.
    pub newest_ms: i64,
    /// Whether retention has taken records from any topic that facts are caused by.
    pub truncated: bool,
    pub sagas: BTreeMap<String, Saga>,
    /// Units received by SKU.
    pub received: BTreeMap<String, i64>,
    /// Deliveries of goods that were counted, by their ids.
    pub replenishments: HashMap<String, Place>,
    /// Users and products that came to be or were rejected, by name of the record and key.
    pub answered: HashSet<(&'static str, String)>,
    pub requests: Vec<Request>,
    pub caused: HashMap<Uuid, Vec<Caused>>,
    /// What no service can handle: place, time, why.
    pub malformed: Vec<(Place, i64, String)>,
    /// Origins of the dead letters that were published.
    pub letters: HashSet<(String, i32, i64)>,
    /// Partitions that hold records which are older than their topic keeps: of these, too, the beginning counts as gone.
    outdated: HashSet<(&'static str, i32)>,
    ids: HashMap<Uuid, (u64, Place)>,
    versions: HashMap<(&'static str, String), (i64, i32)>,
}

impl Books {
    /// Empty books. `truncated`: retention has taken records that facts may have been caused by.
    pub fn new(truncated: bool) -> Self {
        Self { truncated, ..Self::default() }
    }

    /// Whether a record of this id was entered.
    pub fn knows(&self, id: &Uuid) -> bool {
        self.ids.contains_key(id)
    }

    /// How many keys have versions.
    pub fn keys(&self) -> usize {
        self.versions.len()
    }

    /// Enters a record. `truncated`: retention has taken the beginning of its partition. `now_ms` is the audit's time.
    pub fn enter(&mut self, fact: &Fact, truncated: bool, now_ms: i64, report: &mut Report) {
        let Some(topic) = CATALOGUE.topic(&fact.record.topic) else { return };
        self.records += 1;
        // Heartbeats state nothing; compaction takes them as it likes.
        if topic.name == "platform.instances" {
            return;
        }
        let place = Place { topic: &topic.name, partition: fact.record.partition, offset: fact.record.offset };
        let info = match &fact.decoded {
            Decoded::Record { info, .. } => *info,
            Decoded::Dynamic { .. } if topic.kind != TopicKind::Requests => {
                self.unknown_types += 1;
                return;
            }
            Decoded::Dynamic { name, .. } => {
                return self.malformed(fact, place, format!("{name} is no type of its topic"));
            }
            Decoded::Null => return self.malformed(fact, place, "no value".into()),
            Decoded::Bad { of: Some(info), .. } if is_idle(fact, topic, info) => return self.idle(place, info),
            Decoded::Bad { reason, .. } => return self.malformed(fact, place, reason.clone()),
        };
        let value = fact.value();
        if topic.kind == TopicKind::DeadLetters {
            self.enter_letter(&value);
            return;
        }
        if !fact.key.is_empty() && is_idle(fact, topic, info) {
            return self.idle(place, info);
        }
        if let Some(reason) = unacceptable(fact, topic, info, &value) {
            return self.malformed(fact, place, reason);
        }
        if is_too_old(fact, topic, now_ms) {
            self.outdated.insert((place.topic, place.partition));
            return self.malformed(fact, place, "older than its topic keeps".into());
        }
        let truncated = truncated || self.outdated.contains(&(place.topic, place.partition));
        match (topic.kind, fact.id) {
            (TopicKind::Requests, Some(id)) => self.enter_request(fact, id, place, &value, report),
            (_, Some(id)) => self.enter_event(fact, id, place, topic, &value, truncated, report),
            (_, None) => self.malformed(fact, place, "an event without ce_id".into()),
        }
    }

    /// A record that no service of ours wrote and none hears.
    fn idle(&mut self, place: Place, info: &RecordInfo) {
        self.foreign += 1;
        if self.unheard.len() < super::report::TOLD {
            self.unheard.push(format!("{} at {place}", info.short_name()));
        }
    }

    fn malformed(&mut self, fact: &Fact, place: Place, why: String) {
        self.malformed.push((place, fact.record.timestamp_ms, why));
    }

    fn enter_letter(&mut self, value: &Value) {
        let number = |field: &str| value[field].as_i64().unwrap_or(-1);
        let partition = i32::try_from(number("partition")).unwrap_or(-1);
        self.letters.insert((text(&value["topic"]), partition, number("offset")));
    }

    fn enter_request(&mut self, fact: &Fact, id: Uuid, place: Place, value: &Value, report: &mut Report) {
        let content = content(fact);
        // The same input again is answered once, whatever it says the second time. A service, though, says one thing under one id.
        if let Some((known, first)) = self.ids.get(&id) {
            self.repeats += 1;
            if *known != content && is_of_a_service(fact) {
                let what = format!("has the id of the request at {first}, but says something else");
                report.offence(Rule::Once, place, what);
            }
            return;
        }
        self.ids.insert(id, (content, place));
        if let Some(former) = fact.former {
            self.ids.entry(former).or_insert((content, place));
        }
        self.requests.push(Request {
            name: fact.name(),
            key: fact.key.clone(),
            ids: [Some(id), fact.former],
            place,
            ms: fact.record.timestamp_ms,
            replenishment: text(&value["replenishment_id"]),
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn enter_event(
        &mut self,
        fact: &Fact,
        id: Uuid,
        place: Place,
        topic: &'static TopicType,
        value: &Value,
        truncated: bool,
        report: &mut Report,
    ) {
        let content = content(fact);
        if let Some((known, first)) = self.ids.get(&id) {
            if *known == content {
                self.repeats += 1;
            } else {
                report.offence(
                    Rule::Once,
                    place,
                    format!("has the id {id} of the record at {first}, but says something else"),
                );
            }
            return;
        }
        self.ids.insert(id, (content, place));
        self.facts += 1;
        self.newest_ms = self.newest_ms.max(fact.record.timestamp_ms);

        if is_of_its_service(fact, topic) {
            self.check_version(fact, place, topic, truncated, report);
            check_headers(fact, place, report);
        } else {
            self.foreign += 1;
        }
        self.enter_cause(fact, place, value, report);
        self.enter_content(fact, place, value, report);
    }

    fn check_version(
        &mut self,
        fact: &Fact,
        place: Place,
        topic: &'static TopicType,
        truncated: bool,
        report: &mut Report,
    ) {
        // Of a compacted topic the overtaken versions are gone.
        if topic.kind == TopicKind::State {
            return;
        }
        let Some(version) = fact.version else {
            return report.offence(Rule::Versions, place, "has no ce_aggregateversion");
        };
        let before = self.versions.insert((place.topic, fact.key.clone()), (version, place.partition));
        let expected = match before {
            None if truncated => version,
            None => 1,
            Some((before, _)) => before + 1,
        };
        if version != expected {
            let what = format!("is version {version} of {} on this topic, {expected} was due", fact.key);
            report.offence(Rule::Versions, place, what);
        }
        if let Some((_, partition)) = before.filter(|(_, partition)| *partition != place.partition) {
            let what = format!("{} lies in partition {partition} as well, so its order is lost", fact.key);
            report.offence(Rule::Versions, place, what);
        }
    }

    fn enter_cause(&mut self, fact: &Fact, place: Place, value: &Value, report: &mut Report) {
        let said = fact.record.event().correlation;
        if said != fact.key {
            report.offence(Rule::Causes, place, format!("has the correlation id '{said}', its saga is {}", fact.key));
        }
        if quadrille_platform::TOPICS.iter().any(|topic| topic.name == place.topic) {
            // It tells of an effect, a letter or a request, which is no record's doing.
            return;
        }
        let Some(cause) = fact.cause else {
            return report.offence(Rule::Causes, place, "has no ce_causationid");
        };
        // Mails of one order have one type and may have one cause: the address that they waited for. Their kind tells them apart.
        let subject = hash(&(&fact.key, value["kind"].as_str()));
        let caused = Caused { name: fact.name(), place, ms: fact.record.timestamp_ms, subject };
        let siblings = self.caused.entry(cause).or_default();
        if let Some(twin) = siblings.iter().find(|sibling| sibling.name == caused.name && sibling.subject == subject) {
            let what = format!(
                "is a second {} that {cause} caused, beside {}: the input took effect twice",
                fact.name(),
                twin.place
            );
            report.offence(Rule::Once, place, what);
        }
        siblings.push(caused);
    }

    fn enter_content(&mut self, fact: &Fact, place: Place, value: &Value, report: &mut Report) {
        let name = fact.name();
        match name {
            "StockReplenished" => {
                *self.received.entry(fact.key.clone()).or_default() += value["quantity"].as_i64().unwrap_or_default();
                let id = text(&value["replenishment_id"]);
                if let Some(first) = self.replenishments.insert(id.clone(), place) {
                    report.offence(Rule::Stock, place, format!("counts the delivery {id} again, after {first}"));
                }
            }
            "UserRegistered" | "UserRegistrationRejected" | "ProductListed" => {
                self.answered.insert((name, fact.key.clone()));
            }
            _ => {}
        }
        if render::key_field(info(fact)) != "order_id" {
            return;
        }
        let saga = self.sagas.entry(fact.key.clone()).or_default();
        check_end(saga, name, place, report);
        match name {
            "OrderCreated" => saga.total = cents(&value["details"]["total"]),
            "PaymentCaptured" => {
                saga.captured += cents(&value["amount"]).unwrap_or_default();
                saga.charges.push((place, text(&value["charge_id"])));
            }
            "PaymentRefunded" => {
                saga.refunded += cents(&value["amount"]).unwrap_or_default();
                saga.refunds.push((place, text(&value["refund_id"])));
            }
            "StockReserved" => saga.goods = goods(&value["details"]["lines"]),
            "ReservationCommitted" | "ReservationReleased" if saga.has("StockReserved") => {
                let lines = goods(&value["lines"]);
                if lines != saga.goods {
                    report.offence(Rule::Stock, place, format!("moves {lines:?}, but {:?} are reserved", saga.goods));
                }
            }
            _ => {}
        }
        saga.entries.push(Entry { name, place, ms: fact.record.timestamp_ms });
    }
}

/// Whether a record says that the service wrote it whose topic it is, or one of the services where it is every service's.
fn is_of_its_service(fact: &Fact, topic: &TopicType) -> bool {
    match &topic.writer {
        TopicWriter::Service(service) => fact.record.event().source == format!("/quadrille/{service}"),
        TopicWriter::All => is_of_a_service(fact),
        TopicWriter::Clients => false,
    }
}

/// Whether a record says that one of our services wrote it.
fn is_of_a_service(fact: &Fact) -> bool {
    let source = fact.record.header("ce_source").unwrap_or_default();
    source.strip_prefix("/quadrille/").is_some_and(|service| DECLARATIONS.iter().any(|known| known.service == service))
}

/// Whether nothing can come of a record: it is of a type that no service hears, so all pass over it whatever it holds, and no service
/// wrote it.
fn is_idle(fact: &Fact, topic: &TopicType, info: &RecordInfo) -> bool {
    let is_heard = || DECLARATIONS.iter().any(|service| service.hears.contains(&info.record));
    matches!(topic.kind, TopicKind::Events | TopicKind::State)
        && topic.writer != TopicWriter::All
        && !is_of_its_service(fact, topic)
        && !is_heard()
}

/// Why a decodable record is none that a service may act upon.
fn unacceptable(fact: &Fact, topic: &TopicType, info: &RecordInfo, value: &Value) -> Option<String> {
    let kind = &topic.key;
    if fact.key.is_empty() {
        return Some("the key is missing or of the wrong kind".into());
    }
    let named = text(&value[render::key_field(info)]);
    if *kind != KeyKind::Text && kind.normalize(Some(named.as_bytes())).ok().as_ref() != Some(&fact.key) {
        return Some(format!("the key is {}, the value speaks of {named}", fact.key));
    }
    if topic.kind == TopicKind::Requests
        && fact.record.value.as_ref().is_some_and(|value| value.len() > MAX_REQUEST_BYTES)
    {
        return Some("a request of more than 256 KiB".into());
    }
    None
}

/// Whether a record is older than its topic keeps, which brokers take away a segment at a time.
fn is_too_old(fact: &Fact, topic: &TopicType, now_ms: i64) -> bool {
    let oldest = topic.retention.map(|retention| now_ms - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
    oldest.is_some_and(|oldest| (0..oldest).contains(&fact.record.timestamp_ms))
}

/// After an order's end only refusals are stated.
fn check_end(saga: &Saga, name: &str, place: Place, report: &mut Report) {
    let is_orders_own = place.topic == "order.events";
    let ended = saga.all(&["OrderDelivered", "OrderCancelled", "OrderRejected"]).next();
    if let (true, Some(end)) = (is_orders_own, ended)
        && !matches!(name, "OrderRequestRefused" | "OrderCancellationRefused")
    {
        report.offence(
            Rule::Ends,
            place,
            format!("states {name} after the order's end ({} at {})", end.name, end.place),
        );
    }
}

/// What the contract's section 3 says of a fact's headers, as far as no other rule looks at them.
fn check_headers(fact: &Fact, place: Place, report: &mut Report) {
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_type", info(fact).record.name),
        ("ce_subject", fact.key.as_str()),
        ("content-type", "application/avro"),
    ];
    for (name, expected) in expected {
        let said = fact.record.header(name);
        if said != Some(expected) {
            let said = said.unwrap_or("nothing");
            report.offence(Rule::Headers, place, format!("{name} says {said}, the contract {expected}"));
        }
    }
    if fact.record.header("ce_time").is_none_or(|time| chrono::DateTime::parse_from_rfc3339(time).is_err()) {
        report.offence(Rule::Headers, place, "ce_time is no time");
    }
}

fn info(fact: &Fact) -> &'static RecordInfo {
    match &fact.decoded {
        Decoded::Record { info, .. } => info,
        // Only decoded records come here; any entry stands in for the rest.
        _ => &CATALOGUE.records[0],
    }
}

/// What makes two records under one id the same: type, version, key and value.
fn content(fact: &Fact) -> u64 {
    hash(&(fact.name(), fact.version, &fact.key, &fact.record.value))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Quantities summed by SKU.
fn goods(lines: &Value) -> BTreeMap<String, i64> {
    let mut goods = BTreeMap::new();
    for line in lines.as_array().into_iter().flatten() {
        *goods.entry(text(&line["sku"])).or_default() += line["quantity"].as_i64().unwrap_or_default();
    }
    goods
}

fn cents(amount: &Value) -> Option<i64> {
    Money::from_str(amount.as_str()?).ok().map(Money::as_cents)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
