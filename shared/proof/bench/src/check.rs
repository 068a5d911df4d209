//! Whether everything came out right: each order's facts counted on the topics, goods and money in the databases and at the provider.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Context;
use quadrille_core::TopicKind;
use quadrille_events::TOPICS;
use rdkafka::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ear::{consumer, event},
    load::{Load, QUANTITY},
    stage::Stage,
};

/// What is stated of an order that is delivered, each once.
const FACTS: [(&str, u32); 11] = [
    ("OrderCreated", 1),
    ("CustomerVerified", 1),
    ("StockReserved", 1),
    ("PaymentCaptured", 1),
    ("OrderConfirmed", 1),
    ("ShipmentDispatched", 1),
    ("OrderShipped", 1),
    ("ReservationCommitted", 1),
    ("ShipmentDelivered", 1),
    ("OrderDelivered", 1),
    ("NotificationSent", 2),
];

/// How long facts may still be on their way.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the check found. All but `orders`, `facts` and `repeats` must be nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Checked {
    pub orders: u64,
    pub facts: u64,
    /// Records that came again, exactly: same id, same version.
    pub repeats: u64,
    /// Orders that lack a fact.
    pub lost: u64,
    /// Orders of which a fact was stated twice, or one that should not be.
    pub doubled: u64,
    /// In words, the first few.
    pub wrong: Vec<String>,
}

/// Reads every topic of events from its beginning until all that is due is there.
pub async fn all(stage: &Stage, load: &Load) -> anyhow::Result<Checked> {
    let mut checked = tokio::task::block_in_place(|| facts(stage, load))?;
    goods(stage, load, &mut checked).await?;
    money(stage, load, &mut checked).await?;
    Ok(checked)
}

fn facts(stage: &Stage, load: &Load) -> anyhow::Result<Checked> {
    let topics: Vec<&str> =
        TOPICS.iter().filter(|topic| topic.kind == TopicKind::Events).map(|topic| &*topic.name).collect();
    let consumer = consumer(&stage.world.settings, &topics)?;
    let number = load.numbers();
    let mut checked = Checked { orders: load.placed(), ..Checked::default() };
    let due = load.placed() * FACTS.iter().map(|(_, times)| u64::from(*times)).sum::<u64>();
    let mut known: HashSet<Uuid> = HashSet::new();
    let mut orders = vec![[0_u32; FACTS.len()]; usize::try_from(load.placed())?];
    let mut strange: BTreeMap<u64, String> = BTreeMap::new();
    let (mut last, mut quiet) = (Instant::now(), 0);
    // A while longer than needed: what is doubled may come late.
    while last.elapsed() < TIMEOUT && (checked.facts < due || quiet < 3) {
        let Some(message) = consumer.poll(Duration::from_millis(300)) else {
            quiet += 1;
            continue;
        };
        let message = message?;
        quiet = 0;
        let Some(order) = message.key().and_then(&number) else { continue };
        last = Instant::now();
        let event = event(&message);
        let id = Uuid::try_parse(event.id).context("a fact without an id")?;
        if !known.insert(id) {
            checked.repeats += 1;
            continue;
        }
        checked.facts += 1;
        let name = event.record_type.rsplit('.').next().unwrap_or_default();
        match (FACTS.iter().position(|(fact, _)| *fact == name), orders.get_mut(order as usize)) {
            (Some(fact), Some(order)) => order[fact] += 1,
            _ => drop(strange.insert(order, name.to_owned())),
        }
    }
    for (number, order) in orders.iter().enumerate() {
        let counted = || FACTS.iter().zip(order);
        let told = || counted().map(|((name, _), times)| format!("{times} {name}")).collect::<Vec<_>>().join(", ");
        let lost = counted().any(|((_, due), times)| times < due);
        let odd = strange.get(&(number as u64));
        let doubled = odd.is_some() || counted().any(|((_, due), times)| times > due);
        checked.lost += u64::from(lost);
        checked.doubled += u64::from(doubled);
        if lost || doubled {
            checked.note(format!("order {number}: {} {}", told(), odd.map_or("", String::as_str)));
        }
    }
    Ok(checked)
}

async fn goods(stage: &Stage, load: &Load, checked: &mut Checked) -> anyhow::Result<()> {
    let query = "select sum(received - available - committed)::bigint, sum(reserved)::bigint, sum(committed)::bigint from stock";
    let (missing, reserved, committed): (i64, i64, i64) =
        sqlx::query_as(query).fetch_one(&stage.database("inventory")?.pool).await?;
    let sold = i64::try_from(load.placed())? * 2 * i64::from(QUANTITY);
    if (missing, reserved, committed) != (0, 0, sold) {
        checked.note(format!("goods: {missing} missing, {reserved} reserved, {committed} committed instead of {sold}"));
    }
    for service in quadrille_roster::SERVICES {
        for table in ["outbox", "effect", "dead_letter"] {
            let query = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
            let rows: i64 = sqlx::query_scalar(query).fetch_one(&stage.database(service)?.pool).await?;
            if rows > 0 {
                checked.note(format!("{service} has {rows} rows in {table}"));
            }
        }
    }
    Ok(())
}

async fn money(stage: &Stage, load: &Load, checked: &mut Checked) -> anyhow::Result<()> {
    let Some(outside) = stage.outside() else { return Ok(()) };
    let ledger = outside.ledger().await?;
    let once = ledger.orders.values().filter(|account| (account.charges, account.refunds) == (1, 0)).count() as u64;
    if once != load.placed() || !ledger.doubled.is_empty() {
        checked
            .note(format!("the provider has one charge of {once} orders, and {} doubled keys", ledger.doubled.len()));
    }
    let mails = outside.mails().await?.message_ids;
    if mails != load.placed() * 2 {
        checked.note(format!("{mails} mails came of {} orders", load.placed()));
    }
    Ok(())
}

impl Checked {
    fn note(&mut self, what: String) {
        if self.wrong.len() < 10 {
            self.wrong.push(what);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}
