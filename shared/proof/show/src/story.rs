//! One order, told by the facts that name it: where it stands, how it ended, whether anything is still owed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use quadrille_cli::kafka::Record;
use quadrille_core::Record as _;
use quadrille_events::{OrderCancelled, OrderRejected, ReservationCommitted};
use quadrille_shop::waits::QUESTIONS;
use quadrille_testkit::decoded;

/// Facts that may be stated of one order more than once.
const SEVERAL: [&str; 7] = [
    "OrderRequestRefused",
    "OrderCancellationRefused",
    "PaymentRequestRefused",
    "RefundFailed",
    "NotificationSent",
    "NotificationFailed",
    "StockRequestRefused",
];

/// Facts that end an order.
pub(crate) const ENDS: [&str; 3] = ["OrderDelivered", "OrderCancelled", "OrderRejected"];

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// How often each type was stated, exact repeats aside.
    facts: BTreeMap<String, u32>,
    /// Why it was rejected or cancelled.
    reason: String,
    first_ms: i64,
    end_ms: i64,
    /// When each of its facts was stated, in milliseconds.
    stated_ms: Vec<i64>,
    /// What left the stock for it: SKU and quantity.
    pub committed: Vec<(String, i64)>,
}

/// How an order ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// With the customer.
    Delivered,
    /// Undone, for this reason.
    Cancelled(String),
    /// It never came to be, for this reason.
    Rejected(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivered => write!(f, "delivered"),
            Self::Cancelled(reason) => write!(f, "cancelled ({reason})"),
            Self::Rejected(reason) => write!(f, "rejected ({reason})"),
        }
    }
}

impl Story {
    /// Takes a fact that was not heard before.
    pub(crate) fn hear(&mut self, name: &str, record: &Record) -> anyhow::Result<()> {
        *self.facts.entry(name.to_owned()).or_default() += 1;
        if self.first_ms == 0 {
            self.first_ms = record.timestamp_ms;
        }
        self.stated_ms.push(record.timestamp_ms);
        if ENDS.contains(&name) {
            self.end_ms = record.timestamp_ms;
        }
        if name == short(&OrderCancelled::TYPE) {
            self.reason = decoded::<OrderCancelled>(record)?.reason;
        } else if name == short(&OrderRejected::TYPE) {
            self.reason = decoded::<OrderRejected>(record)?.reason;
        } else if name == short(&ReservationCommitted::TYPE) {
            let lines = decoded::<ReservationCommitted>(record)?.lines;
            self.committed = lines.into_iter().map(|line| (line.sku, i64::from(line.quantity))).collect();
        }
        Ok(())
    }

    /// How often a type was stated, exact repeats aside.
    pub fn count(&self, name: &str) -> u32 {
        self.facts.get(name).copied().unwrap_or_default()
    }

    /// Whether a type was stated.
    pub fn has(&self, name: &str) -> bool {
        self.count(name) > 0
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<End> {
        if self.has("OrderDelivered") {
            Some(End::Delivered)
        } else if self.has("OrderCancelled") {
            Some(End::Cancelled(self.reason.clone()))
        } else if self.has("OrderRejected") {
            Some(End::Rejected(self.reason.clone()))
        } else {
            None
        }
    }

    /// How many facts were stated, and how long it took from the first of them to the end, in milliseconds.
    pub fn length(&self) -> (u32, i64) {
        (self.facts.values().sum(), self.end_ms - self.first_ms)
    }

    /// The longest time, in milliseconds, between two facts one after another, or between the request and the first one.
    pub fn longest_pause_ms(&self, requested: DateTime<Utc>) -> i64 {
        let mut stated_ms = vec![requested.timestamp_millis()];
        stated_ms.extend(&self.stated_ms);
        stated_ms.sort_unstable();
        stated_ms.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
    }

    /// Whether it has ended, every question about it is answered and every compensation is done: the ninth invariant of the
    /// contract, for one order. Mails are another matter: see [`Self::mails_owed`].
    pub fn is_settled(&self) -> bool {
        let answered = |question: &str, answers: &[&str]| {
            self.count(question) == answers.iter().map(|answer| self.count(answer)).sum::<u32>()
        };
        let undone = |deed: &str, compensations: &[&str]| {
            !self.has(deed) || compensations.iter().any(|compensation| self.has(compensation))
        };
        let let_go = !self.has("OrderCancelled")
            || undone("StockReserved", &["ReservationReleased"])
                && undone("PaymentCaptured", &["PaymentRefunded", "RefundFailed"]);
        let seen_off = undone("ShipmentDispatched", &["ReservationCommitted", "ReservationReleased"]);
        self.end().is_some()
            && QUESTIONS.iter().all(|question| answered(question.asked, &question.answers))
            && let_go
            && seen_off
    }

    /// How many mails are neither sent nor given up.
    pub fn mails_owed(&self) -> u32 {
        let wanted = ["OrderConfirmed", "OrderShipped", "OrderCancelled", "PaymentRefunded"];
        let wanted: u32 = wanted.iter().map(|name| self.count(name)).sum();
        wanted.saturating_sub(self.count("NotificationSent") + self.count("NotificationFailed"))
    }

    /// Types that were stated twice though they may be stated once only, and a second end.
    pub fn doubled(&self) -> Vec<String> {
        let once = self.facts.iter().filter(|(name, _)| !SEVERAL.contains(&name.as_str()));
        let mut doubled: Vec<String> =
            once.filter(|(_, times)| **times > 1).map(|(name, times)| format!("{times} {name}")).collect();
        if ENDS.iter().filter(|name| self.has(name)).count() > 1 {
            doubled.push("two ends".to_owned());
        }
        doubled
    }

    /// What was stated, for a message about an order that does not end.
    pub fn describe(&self) -> String {
        let facts: Vec<String> = self.facts.iter().map(|(name, times)| format!("{times} {name}")).collect();
        if facts.is_empty() { "nothing was stated of it".to_owned() } else { facts.join(", ") }
    }
}

fn short(record_type: &quadrille_core::RecordType) -> &'static str {
    record_type.name.rsplit('.').next().unwrap_or_default()
}
