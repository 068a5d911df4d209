//! The rules, once all books are written: a file each, and what they share.

mod answers;
mod committed;
mod dead_letters;
mod ends;
mod money;
mod stock;

use std::{collections::HashSet, fmt::Display};

use quadrille_cli::Place;

use super::{
    books::Books,
    databases::Databases,
    provider::Ledger,
    report::{Report, Rule},
};

/// Everything that an audit knows.
pub struct Checks<'a> {
    books: &'a Books,
    databases: &'a Databases,
    ledger: Option<&'a Ledger>,
    /// The origins of all dead letters.
    letters: HashSet<(&'a str, i32, i64)>,
    now_ms: i64,
    grace_ms: i64,
    report: &'a mut Report,
    /// What is on its way only because it is young: worth another look.
    young: u64,
}

impl<'a> Checks<'a> {
    /// Prepares the checks. `now_ms` is the audit's time; what is younger than `grace_ms` may still be under way.
    pub fn new(
        books: &'a Books,
        databases: &'a Databases,
        ledger: Option<&'a Ledger>,
        now_ms: i64,
        grace_ms: i64,
        report: &'a mut Report,
    ) -> Self {
        let published = books.letters.iter().map(|(topic, partition, offset)| (topic.as_str(), *partition, *offset));
        let stored = databases.services.values().flat_map(|database| &database.dead_letters);
        let stored = stored.map(|letter| (letter.topic.as_str(), letter.partition, letter.offset));
        let letters = published.chain(stored).collect();
        Self { books, databases, ledger, letters, now_ms, grace_ms, report, young: 0 }
    }

    /// Checks every rule, and tells how much is on its way only because it is young.
    pub fn run(mut self) -> u64 {
        self.report.records = self.books.records;
        self.report.repeats = self.books.repeats;
        self.report.foreign = self.books.foreign;
        self.report.unheard = self.books.unheard.clone();
        self.report.unreadable = self.books.unreadable.iter().map(ToString::to_string).collect();
        self.report.not_compared.extend(self.databases.unread.iter().cloned());
        for (key, saga) in &self.books.sagas {
            self.ends(key, saga);
            self.cancelled(saga);
            self.money(key, saga);
            self.answers(key, saga);
        }
        self.stock();
        self.ledger();
        self.requests();
        self.causes();
        self.committed();
        self.dead_letters();
        self.count();
        self.young
    }

    fn is_letter(&self, place: &Place) -> bool {
        self.letters.contains(&(place.topic, place.partition, place.offset))
    }

    /// Something that should be there is not: an offence, unless it may be on its way.
    ///
    /// `holder`: a service and a key whose open effect or timer accounts for the delay.
    fn missing(&mut self, rule: Rule, place: Place, ms: i64, holder: Option<(&str, &str)>, what: String) {
        if self.is_letter(&place) {
            self.report.finding(rule).waiting += 1;
        } else {
            self.missing_at(place, rule, ms, holder, what);
        }
    }

    fn missing_at(&mut self, place: impl Display, rule: Rule, ms: i64, holder: Option<(&str, &str)>, what: String) {
        let young = ms > self.now_ms - self.grace_ms;
        let held = holder.is_some_and(|(service, key)| {
            // Where the database cannot be asked, nothing can be held against the service.
            self.databases
                .services
                .get(service)
                .is_none_or(|database| database.effects.contains(key) || database.timers.contains(key))
        });
        if young || held {
            self.young += u64::from(young && !held);
            self.report.finding(rule).waiting += 1;
        } else {
            self.report.offence(rule, place, what);
        }
    }

    /// What the rules counted, beside those that say so themselves.
    fn count(&mut self) {
        let sagas = self.books.sagas.values();
        let captured: i64 = sagas.clone().map(|saga| saga.captured).sum();
        let refunded: i64 = sagas.clone().map(|saga| saga.refunded).sum();
        let count = |name: &str| sagas.clone().map(|saga| saga.count(name)).sum::<usize>();
        let ledger = if self.ledger.is_some() { "; the provider's ledger was read" } else { "" };
        let orders = self.report.orders;
        for (rule, counted) in [
            (
                Rule::Money,
                format!(
                    "{} captured in {} payments, {} refunded in {}, {} refunds failed{ledger}",
                    money(captured),
                    count("PaymentCaptured"),
                    money(refunded),
                    count("PaymentRefunded"),
                    count("RefundFailed")
                ),
            ),
            (
                Rule::Ends,
                format!(
                    "{} accepted orders: {} delivered, {} cancelled, {} open; {} rejected",
                    orders.accepted, orders.delivered, orders.cancelled, orders.open, orders.rejected
                ),
            ),
            (Rule::Cancelled, format!("{} orders", orders.cancelled)),
            (Rule::Once, format!("{} facts by their ids, {} exact repeats", self.books.facts, self.books.repeats)),
            (Rule::Versions, format!("{} keys of topics", self.books.keys())),
            (
                Rule::Answers,
                format!(
                    "{} requests, {} questions between services",
                    self.books.requests.len(),
                    count("OrderCreated")
                        + count("CustomerVerified")
                        + count("StockReserved")
                        + count("OrderConfirmed")
                        + count("OrderCancelled")
                ),
            ),
            (
                Rule::Headers,
                format!(
                    "{} facts, {} of them not written by the topic's service",
                    self.books.facts, self.books.foreign
                ),
            ),
        ] {
            self.report.finding(rule).counted = counted;
        }
    }
}

/// Cents as people write them.
fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
}
