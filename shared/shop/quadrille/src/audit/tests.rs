//! Every check must be able to fail: a sound history, and each rule broken in it by one change.

use std::collections::{BTreeMap, HashMap, HashSet};

use quadrille_cli::{codec::Decoded, kafka::Unreadable};
use serde_json::json;
use uuid::Uuid;

use super::{
    books::Books,
    checks::Checks,
    databases::{Database, Databases, DeadLetter, Requested, Stock},
    provider::{Ledger, Sums},
    report::{Report, Rule},
};
use crate::testing::Made;

const ORDER: &str = "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30";
/// Long after everything that histories hold, and not long enough for retention.
const LATER: i64 = 60_000_000;

/// Records by name, in the order in which they were made.
#[derive(Clone)]
struct History(Vec<Made>);

impl History {
    /// Goods came in.
    fn stocked() -> Self {
        let requested = Made::request("StockReplenishmentRequested", "TEA-1").with("/quantity", json!(100));
        let replenished =
            Made::event("StockReplenished", "TEA-1", 1).with("/quantity", json!(100)).caused_by(&requested);
        Self(vec![requested, replenished])
    }

    /// And an order came to its good end.
    fn delivered() -> Self {
        Self::stocked().then(&[
            ("OrderRequested", "-", 0),
            ("OrderCreated", "OrderRequested", 1),
            ("CustomerVerified", "OrderCreated", 1),
            ("StockReserved", "CustomerVerified", 1),
            ("PaymentCaptured", "StockReserved", 1),
            ("OrderConfirmed", "PaymentCaptured", 2),
            ("ShipmentDispatched", "OrderConfirmed", 1),
            ("ReservationCommitted", "ShipmentDispatched", 2),
            ("OrderShipped", "ShipmentDispatched", 3),
            ("ShipmentDelivered", "OrderConfirmed", 2),
            ("OrderDelivered", "ShipmentDelivered", 4),
        ])
    }

    /// Or was cancelled after it was paid for, and undone.
    fn cancelled() -> Self {
        Self::stocked().then(&[
            ("OrderRequested", "-", 0),
            ("OrderCreated", "OrderRequested", 1),
            ("CustomerVerified", "OrderCreated", 1),
            ("StockReserved", "CustomerVerified", 1),
            ("OrderCancellationRequested", "-", 0),
            ("OrderCancelled", "OrderCancellationRequested", 2),
            ("ReservationReleased", "OrderCancelled", 2),
            ("PaymentCaptured", "StockReserved", 1),
            ("PaymentRefunded", "OrderCancelled", 2),
        ])
    }

    fn then(mut self, steps: &[(&'static str, &str, i64)]) -> Self {
        for (name, cause, version) in steps {
            let made = if *cause == "-" {
                Made::request(name, ORDER).header("ce_id", name)
            } else {
                Made::event(name, ORDER, *version).caused_by(self.get(cause))
            };
            self.0.push(made);
        }
        self
    }

    fn get(&self, name: &str) -> &Made {
        self.0.iter().find(|made| made.name == name).expect(name)
    }

    /// With one record changed.
    fn change(mut self, name: &str, change: impl FnOnce(Made) -> Made) -> Self {
        let at = self.0.iter().position(|made| made.name == name).expect(name);
        let made = self.0.remove(at);
        self.0.insert(at, change(made));
        self
    }

    /// With one record left out.
    fn without(mut self, name: &str) -> Self {
        self.0.retain(|made| made.name != name);
        self
    }

    fn and(mut self, made: Made) -> Self {
        self.0.push(made);
        self
    }

    fn audit(&self) -> Report {
        self.audit_with(&Databases::default(), None)
    }

    fn audit_with(&self, databases: &Databases, ledger: Option<&Ledger>) -> Report {
        self.audit_at(LATER, databases, ledger).0
    }

    fn audit_at(&self, now_ms: i64, databases: &Databases, ledger: Option<&Ledger>) -> (Report, u64) {
        self.audit_books(Books::new(false), now_ms, databases, ledger)
    }

    fn audit_books(
        &self,
        mut books: Books,
        now_ms: i64,
        databases: &Databases,
        ledger: Option<&Ledger>,
    ) -> (Report, u64) {
        let mut report = Report::new();
        for made in &self.0 {
            books.enter(&made.fact(), false, now_ms, &mut report);
        }
        let young = Checks::new(&books, databases, ledger, now_ms, 10_000, &mut report).run();
        (report, young)
    }
}

#[track_caller]
fn offends(report: &Report, rule: Rule, what: &str) {
    let found = report.offences.iter().any(|offence| offence.rule == rule && offence.what.contains(what));
    assert!(found, "no offence against {rule:?} says '{what}': {:#?}", report.offences);
}

#[track_caller]
fn sound(report: &Report) {
    assert_eq!(report.total(), 0, "{:#?}", report.offences);
}

fn databases() -> Databases {
    let services = quadrille_roster::SERVICES;
    let services = services.into_iter().map(|service| (service.to_owned(), Database::default())).collect();
    Databases { services, ..Databases::default() }
}

#[test]
fn sound_histories_are_sound_and_counted() {
    let report = History::delivered().audit_with(&databases(), None);
    sound(&report);
    assert_eq!((report.orders.delivered, report.orders.open, report.waiting(), report.records), (1, 0, 0, 13));
    let report = History::cancelled().audit_with(&databases(), None);
    sound(&report);
    assert_eq!((report.orders.cancelled, report.waiting()), (1, 0));
    assert!(report.summary().ends_with("0 offences."), "{}", report.summary());
}

#[test]
fn an_exact_repeat_is_counted_and_no_offence() {
    let history = History::delivered();
    let report =
        history.clone().and(history.get("OrderConfirmed").again()).and(history.get("OrderRequested").again()).audit();
    sound(&report);
    assert_eq!(report.repeats, 2);
}

#[test]
fn stock_that_does_not_add_up() {
    let more = History::delivered().change("StockReserved", |made| made.with("/details/lines/0/quantity", json!(101)));
    let report = more.change("ReservationCommitted", |made| made.with("/lines/0/quantity", json!(101))).audit();
    offends(&report, Rule::Stock, "TEA-1: 0 reserved and 101 committed of 100 received");

    let report =
        History::cancelled().change("ReservationReleased", |made| made.with("/lines/0/quantity", json!(1))).audit();
    offends(&report, Rule::Stock, "moves {\"TEA-1\": 1}, but {\"TEA-1\": 2} are reserved");

    let history = History::delivered();
    let twice = Made::event("StockReplenished", "TEA-1", 2)
        .with("/quantity", json!(100))
        .caused_by(history.get("OrderRequested"));
    offends(&history.and(twice).audit(), Rule::Stock, "again");
}

#[test]
fn stock_that_the_database_tells_otherwise() {
    let row = Stock { received: 100, available: 98, reserved: 0, committed: 2 };
    let of = |row| Databases { stock: Some(BTreeMap::from([("TEA-1".to_owned(), row)])), ..databases() };
    sound(&History::delivered().audit_with(&of(row), None));
    let report = History::delivered().audit_with(&of(Stock { available: 99, ..row }), None);
    offends(&report, Rule::Stock, "TEA-1 does not add up");
    let report = History::delivered().audit_with(&of(Stock { committed: 0, reserved: 2, ..row }), None);
    offends(&report, Rule::Stock, "the database says");
    let report = History::delivered().audit_with(&Databases { stock: Some(BTreeMap::new()), ..databases() }, None);
    offends(&report, Rule::Stock, "the database says");
}

#[test]
fn money_that_does_not_add_up() {
    let history = History::cancelled();
    let second =
        |name: &'static str, version| Made::event(name, ORDER, version).caused_by(history.get("OrderRequested"));
    offends(&history.clone().and(second("PaymentCaptured", 3)).audit(), Rule::Money, "second PaymentCaptured");
    offends(&history.clone().and(second("PaymentRefunded", 3)).audit(), Rule::Money, "second PaymentRefunded");
    let report = history.clone().change("PaymentRefunded", |made| made.with("/amount", json!("39.97"))).audit();
    offends(&report, Rule::Money, "gives 39.97 back of 39.98");
    let report = history.clone().change("PaymentCaptured", |made| made.with("/amount", json!("39.99"))).audit();
    offends(&report, Rule::Money, "captures 39.99, the order's total is 39.98");
    let report = history.clone().without("PaymentCaptured").audit();
    offends(&report, Rule::Money, "never captured");
    let refund = Made::event("PaymentRefunded", ORDER, 2).caused_by(History::delivered().get("OrderRequested"));
    offends(&History::delivered().and(refund).audit(), Rule::Money, "not cancelled");
}

#[test]
fn money_that_the_provider_tells_otherwise() {
    let ledger = |charges, refunds, captured: &str, refunded: &str| {
        let (charge_ids, refund_ids) = (vec!["ch_1".to_owned()], vec!["re_1".to_owned()]);
        let (captured, refunded) = (captured.into(), refunded.into());
        let sums = Sums { charges, refunds, captured, refunded, net: "0.00".into(), charge_ids, refund_ids };
        Ledger::from([(ORDER.to_owned(), sums)])
    };
    let history = History::cancelled();
    sound(&history.audit_with(&databases(), Some(&ledger(1, 1, "39.98", "39.98"))));
    let report = history.audit_with(&databases(), Some(&ledger(1, 2, "39.98", "79.96")));
    offends(&report, Rule::Money, "refunded 2 times");
    offends(&report, Rule::Money, "79.96 of");
    // As somebody may answer in the provider's place.
    for (name, field) in [("PaymentCaptured", "/charge_id"), ("PaymentRefunded", "/refund_id")] {
        let other = if name == "PaymentCaptured" { "re_1" } else { "ch_1" };
        for id in ["ch_99", other] {
            let named = history.clone().change(name, |made| made.with(field, json!(id)));
            let report = named.audit_with(&databases(), Some(&ledger(1, 1, "39.98", "39.98")));
            offends(&report, Rule::Money, &format!("speaks of {id}"));
        }
    }
    let unstated = history.without("PaymentRefunded");
    let report = unstated.audit_with(&databases(), Some(&ledger(1, 1, "39.98", "39.98")));
    offends(
        &report,
        Rule::Money,
        "39.98 of 3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30 were refunded, but payment states 0.00",
    );
    // An effect that somebody is after accounts for it.
    let mut held = databases();
    held.services.get_mut("payment").expect("there").effects.insert(ORDER.into());
    sound(&unstated.audit_with(&held, Some(&ledger(1, 1, "39.98", "39.98"))));
    let other = unstated.audit_with(&databases(), Some(&Ledger::new()));
    assert!(other.not_compared.iter().any(|reason| reason.contains("another world's")), "{:?}", other.not_compared);
}

#[test]
fn orders_that_end_twice_or_never() {
    let history = History::delivered();
    let cancelled = Made::event("OrderCancelled", ORDER, 5).caused_by(history.get("OrderRequested"));
    let report = history.clone().and(cancelled).audit();
    offends(&report, Rule::Ends, "states OrderCancelled after the order's end");
    offends(&report, Rule::Cancelled, "a parcel is with the customer");

    let refusal = Made::event("OrderCancellationRefused", ORDER, 5).caused_by(history.get("OrderRequested"));
    sound(&history.clone().and(refusal).audit());

    let open = history.without("OrderDelivered");
    offends(&open.audit_with(&databases(), None), Rule::Ends, "is open, and the order service holds no deadline");
    let mut timed = databases();
    timed.services.get_mut("order").expect("there").timers.insert(ORDER.into());
    let report = open.audit_with(&timed, None);
    sound(&report);
    assert_eq!((report.orders.open, report.waiting()), (1, 1));

    let second = Made::event("OrderCreated", ORDER, 4).caused_by(open.get("CustomerVerified"));
    offends(&open.clone().and(second).audit(), Rule::Ends, "a second OrderCreated");
    let rejected = Made::event("OrderRejected", ORDER, 4).caused_by(open.get("CustomerVerified"));
    offends(&open.and(rejected).audit(), Rule::Ends, "rejects the order");
}

#[test]
fn a_rejected_order_that_holds_something() {
    let rejected = || History::stocked().then(&[("OrderRequested", "-", 0), ("OrderRejected", "OrderRequested", 1)]);
    sound(&rejected().audit());
    let report = rejected().then(&[("StockReserved", "OrderRejected", 1)]).audit();
    offends(&report, Rule::Ends, "StockReserved for an order that was rejected");
}

#[test]
fn an_input_that_took_effect_twice() {
    let history = History::delivered();
    let twin = Made::event("PaymentCaptured", ORDER, 2).caused_by(history.get("StockReserved"));
    offends(&history.clone().and(twin).audit(), Rule::Once, "took effect twice");
    let other = history.get("OrderConfirmed").again().with("/charge_id", json!("ch_2"));
    offends(&history.and(other).audit(), Rule::Once, "says something else");
}

#[test]
fn two_mails_with_one_cause_differ_in_kind() {
    let history = History::delivered();
    let mail = |kind: &str, version| {
        Made::event("NotificationSent", ORDER, version)
            .with("/kind", json!(kind))
            .caused_by(history.get("OrderRequested"))
    };
    let both = history.clone().and(mail("order_confirmed", 1)).and(mail("order_shipped", 2));
    sound(&both.audit());
    offends(&both.and(mail("order_shipped", 3)).audit(), Rule::Once, "took effect twice");
}

#[test]
fn versions_with_gaps_or_out_of_order() {
    let versioned = |version: &str| {
        History::delivered().change("OrderConfirmed", |made| made.header("ce_aggregateversion", version)).audit()
    };
    offends(
        &versioned("3"),
        Rule::Versions,
        "is version 3 of 3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30 on this topic, 2 was due",
    );
    offends(&versioned("1"), Rule::Versions, "2 was due");
    offends(&versioned(""), Rule::Versions, "no ce_aggregateversion");
    let report = History::delivered().change("OrderCreated", |made| made.header("ce_aggregateversion", "2")).audit();
    offends(&report, Rule::Versions, "1 was due");

    // Where retention has taken the beginning, the first version seen is as good as any.
    let (mut report, mut books) = (Report::new(), Books::new(true));
    let late = Made::event("OrderConfirmed", ORDER, 7).caused_by(History::delivered().get("OrderRequested"));
    books.enter(&late.fact(), true, LATER, &mut report);
    sound(&report);
}

#[test]
fn a_key_in_two_partitions() {
    let history = History::delivered();
    let (mut report, mut books) = (Report::new(), Books::new(false));
    for made in &history.0 {
        let mut fact = made.fact();
        fact.record.partition = i32::from(made.name == "OrderShipped");
        books.enter(&fact, false, LATER, &mut report);
    }
    offends(&report, Rule::Versions, "lies in partition 0 as well");
}

#[test]
fn causes_that_no_record_is() {
    let stranger = Made::event("OrderCreated", "11111111-7c41-4d8a-8e06-5a1c7d2e9f30", 1);
    let report = History::delivered().change("OrderConfirmed", |made| made.caused_by(&stranger)).audit();
    offends(&report, Rule::Causes, "which no record is");
    let report = History::delivered().change("OrderConfirmed", |made| made.without("ce_causationid")).audit();
    offends(&report, Rule::Causes, "no ce_causationid");
    let report = History::delivered().change("OrderConfirmed", |made| made.header("ce_correlationid", "other")).audit();
    offends(&report, Rule::Causes, "correlation id 'other'");
}

#[test]
fn the_cause_of_a_request_without_headers_is_computed() {
    let mut bare = Made::request("OrderRequested", ORDER).without_headers();
    let mut history = History::delivered();
    std::mem::swap(&mut history.0[2].offset, &mut bare.offset);
    history = history.change("OrderRequested", Made::without_headers);
    let cause = history.get("OrderRequested").clone();
    let sound_history = history.clone().change("OrderCreated", |made| made.caused_by(&cause));
    sound(&sound_history.audit());
    offends(&history.audit(), Rule::Causes, "which no record is");
}

#[test]
fn facts_that_are_committed_and_not_published() {
    let mut late = databases();
    let order = late.services.get_mut("order").expect("there");
    (order.outbox, order.oldest_ms) = (3, Some(0));
    let report = History::delivered().audit_with(&late, None);
    offends(&report, Rule::Committed, "3 facts are committed and not published");
    late.services.get_mut("order").expect("there").oldest_ms = Some(LATER - 1);
    sound(&History::delivered().audit_with(&late, None));
}

#[test]
fn requests_of_services_that_are_committed_and_not_on_their_topic_or_there_with_two_contents() {
    let id = Uuid::from_u128(7).to_string();
    let stated = || {
        Made::request("OrderCancellationRequested", ORDER).header("ce_source", "/quadrille/user").header("ce_id", &id)
    };
    let requested = Requested {
        r#type: "quadrille.order.OrderCancellationRequested".into(),
        topic: "order.requests".into(),
        key: ORDER.into(),
        id: id.clone(),
        ms: 0,
    };
    let with = |requested: Requested| {
        let mut databases = databases();
        databases.services.get_mut("user").expect("there").requests.push(requested);
        databases
    };
    // The order has ended, so that it is refused.
    let refused = |request: &Made| Made::event("OrderCancellationRefused", ORDER, 5).caused_by(request);
    let asked = stated();
    let published = History::delivered().and(asked.clone()).and(refused(&asked));
    sound(&published.audit_with(&with(requested.clone()), None));
    let lost = History::delivered().audit_with(&with(requested.clone()), None);
    offends(&lost, Rule::Committed, "is committed and not on order.requests");
    // That retention has taken other records excuses nothing; that it has taken this one does.
    let truncated =
        |now_ms| History::delivered().audit_books(Books::new(true), now_ms, &with(requested.clone()), None).0;
    offends(&truncated(LATER), Rule::Committed, "is committed and not on order.requests");
    let of_requests =
        |report: &Report| report.offences.iter().any(|offence| offence.what.contains("is committed and not on"));
    assert!(!of_requests(&truncated(400 * 86_400_000)), "older than any topic of requests keeps");
    sound(&History::delivered().audit_with(&with(Requested { ms: LATER - 1, ..requested.clone() }), None));
    let repeated = published.clone().and(asked.again());
    sound(&repeated.audit_with(&with(requested.clone()), None));
    let forged = published.and(asked.again().with("/reason", json!("another one")));
    offends(&forged.audit_with(&with(requested), None), Rule::Once, "but says something else");
}

#[test]
fn states_without_their_facts() {
    let of = |status: &str| {
        let orders = HashMap::from([(ORDER.to_owned(), status.to_owned())]);
        Databases { orders: Some(orders), ..databases() }
    };
    sound(&History::delivered().audit_with(&of("delivered"), None));
    let report = History::delivered().audit_with(&of("shipped"), None);
    offends(&report, Rule::Committed, "is shipped in the database and delivered by its facts");
    let report = History::stocked().audit_with(&of("pending"), None);
    offends(&report, Rule::Committed, "is pending in the database and requested by its facts");
    let report = History::delivered().audit_with(&Databases { orders: Some(HashMap::new()), ..databases() }, None);
    offends(&report, Rule::Committed, "is requested in the database");
    // Long after its end: the topic still has its facts, the database does not.
    let gone = HashSet::from([ORDER.to_owned()]);
    sound(&History::delivered().audit_with(&Databases { orders: Some(HashMap::new()), gone, ..databases() }, None));
    let gone = HashSet::from([ORDER.to_owned()]);
    let report = History::delivered().audit_with(&Databases { gone, ..of("shipped") }, None);
    offends(&report, Rule::Committed, "is shipped in the database and delivered by its facts");
}

#[test]
fn questions_without_an_answer_or_with_two() {
    for (question, answer) in [
        ("OrderCreated", "CustomerVerified"),
        ("CustomerVerified", "StockReserved"),
        ("StockReserved", "PaymentCaptured"),
        ("OrderConfirmed", "ShipmentDelivered"),
    ] {
        let report = History::delivered().without(answer).audit_with(&databases(), None);
        offends(&report, Rule::Answers, &format!("{question} of {ORDER} has no answer"));
        let report = History::delivered().without(question).audit_with(&databases(), None);
        offends(&report, Rule::Answers, &format!("{answer} of {ORDER} answers no {question}"));
    }
    for answer in ["ReservationReleased", "PaymentRefunded"] {
        let report = History::cancelled().without(answer).audit_with(&databases(), None);
        offends(&report, Rule::Answers, &format!("OrderCancelled of {ORDER} has no answer"));
    }
    let history = History::delivered();
    let both = Made::event("CustomerRejected", ORDER, 2).caused_by(history.get("OrderRequested"));
    offends(
        &history.clone().and(both).audit(),
        Rule::Answers,
        "CustomerRejected of 3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30 answers OrderCreated again",
    );
    let released = Made::event("ReservationReleased", ORDER, 3).caused_by(history.get("OrderRequested"));
    offends(&history.and(released).audit(), Rule::Answers, "answers no OrderCancelled");
}

#[test]
fn requests_without_an_answer_or_with_two() {
    let report = History::stocked().then(&[("OrderRequested", "-", 0)]).audit();
    offends(&report, Rule::Answers, "OrderRequested of 3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30 has no answer");
    let report = History::stocked().without("StockReplenished").audit();
    offends(&report, Rule::Answers, "StockReplenishmentRequested of TEA-1 has no answer");
    let late = History::delivered().then(&[("OrderCancellationRequested", "-", 0)]);
    offends(
        &late.audit(),
        Rule::Answers,
        "OrderCancellationRequested of 3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30 has no answer",
    );
    let refused = late.then(&[("OrderCancellationRefused", "OrderCancellationRequested", 5)]);
    sound(&refused.audit());
    let twice = Made::event("OrderRecallRequested", ORDER, 6).caused_by(refused.get("OrderCancellationRequested"));
    offends(&refused.and(twice).audit(), Rule::Answers, "has 2 answers");
    for name in
        ["UserRegistrationRequested", "UserProfileUpdateRequested", "UserDeactivationRequested", "RefundRetryRequested"]
    {
        let report = History(vec![Made::request(name, ORDER)]).audit_with(&databases(), None);
        offends(&report, Rule::Answers, "has no answer");
    }
    let report = History(vec![Made::request("ProductListingRequested", "TEA-1")]).audit();
    offends(&report, Rule::Answers, "ProductListingRequested of TEA-1 has no answer");
}

#[test]
fn what_is_young_or_held_by_somebody_is_waited_for() {
    let open = History::delivered().without("PaymentCaptured").without("OrderDelivered");
    let newest = open.0.iter().map(|made| made.timestamp_ms).max().expect("some");
    let (report, young) = open.audit_at(newest + 1_000, &databases(), None);
    assert!(young > 0 && report.waiting() > 0);
    assert!(!report.offences.iter().any(|offence| offence.rule == Rule::Answers), "{:#?}", report.offences);

    let mut held = databases();
    held.services.get_mut("payment").expect("there").effects.insert(ORDER.into());
    let report = open.audit_with(&held, None);
    assert!(!report.offences.iter().any(|offence| offence.what.contains("StockReserved")), "{:#?}", report.offences);

    // A refund that failed is a person's business.
    let failed = History::cancelled().without("PaymentRefunded").then(&[("RefundFailed", "OrderCancelled", 2)]);
    let report = failed.audit_with(&databases(), None);
    sound(&report);
    assert_eq!(report.waiting(), 1);
}

#[test]
fn headers_that_say_something_else() {
    for (name, value) in [
        ("ce_specversion", "0.3"),
        ("ce_type", "order"),
        ("ce_subject", "x"),
        ("content-type", "text/plain"),
        ("ce_time", "noon"),
    ] {
        let report = History::delivered().change("OrderConfirmed", |made| made.header(name, value)).audit();
        offends(&report, Rule::Headers, name);
    }
}

#[test]
fn records_that_are_neither_handled_nor_dead_letters() {
    let mut fact = Made::request("OrderRequested", ORDER).fact();
    fact.decoded = Decoded::bad("the value has 4 byte(s)");
    let audit = |databases: &Databases, letter: Option<Made>| {
        let (mut report, mut books) = (Report::new(), Books::new(false));
        books.enter(&fact, false, LATER, &mut report);
        if let Some(letter) = letter {
            let mut fact = letter.fact();
            fact.record.topic = "order.dead-letters".into();
            books.enter(&fact, false, LATER, &mut report);
        }
        Checks::new(&books, databases, None, LATER, 10_000, &mut report).run();
        report
    };
    offends(
        &audit(&databases(), None),
        Rule::DeadLetters,
        "neither handled nor made a dead letter: the value has 4 byte(s)",
    );

    let mut stored = databases();
    let letter = DeadLetter {
        topic: "order.requests".into(),
        partition: 0,
        offset: fact.record.offset,
        record_type: String::new(),
        reason: "bad_frame".into(),
        open: true,
    };
    stored.services.get_mut("order").expect("there").dead_letters.push(letter.clone());
    sound(&audit(&stored, None));
    for (service, topic, record_type) in [
        ("order", "shipment.events", "quadrille.shipment.ShipmentDelivered"),
        ("payment", "order.events", "quadrille.order.OrderCancelled"),
        ("shipping", "order.events", "quadrille.order.OrderRecallRequested"),
        // Its type cannot be told: it may be one of those.
        ("inventory", "order.events", ""),
        ("order", "shipment.events", ""),
    ] {
        let mut stored = databases();
        let lies_at = |service: &str| DeadLetter {
            topic: topic.into(),
            record_type: record_type.into(),
            offset: 1_000_000 + service.len() as i64,
            ..letter.clone()
        };
        stored.services.get_mut("order").expect("there").dead_letters.push(letter.clone());
        stored.services.entry("user".into()).or_default().dead_letters.push(lies_at("user"));
        // Known to be another one: the deadlines end what hangs on it.
        let harmless = DeadLetter { record_type: "quadrille.order.OrderShipped".into(), ..lies_at("payment") };
        stored.services.entry("payment".into()).or_default().dead_letters.push(harmless);
        sound(&audit(&stored, None));
        stored.services.entry(service.into()).or_default().dead_letters.push(lies_at(service));
        offends(&audit(&stored, None), Rule::DeadLetters, "its saga stands still");
        for letter in stored.services.values_mut().flat_map(|database| &mut database.dead_letters) {
            letter.open = false;
        }
        sound(&audit(&stored, None));
    }
}

#[test]
fn a_key_that_the_value_does_not_name_is_no_request() {
    let other = Made::request("OrderRequested", ORDER).with("/order_id", json!("11111111-7c41-4d8a-8e06-5a1c7d2e9f30"));
    offends(&History(vec![other]).audit(), Rule::DeadLetters, "the value speaks of 11111111");
}

#[test]
fn an_event_that_its_service_did_not_write_is_counted_as_foreign() {
    let report = History::delivered().change("OrderConfirmed", |made| made.header("ce_source", "/someone")).audit();
    assert_eq!(report.foreign, 1);
}

/// Of a topic that every service writes each of them is its writer.
#[test]
fn what_services_tell_of_themselves_is_theirs_and_has_versions() {
    let letter = "11111111-7c41-4d8a-8e06-5a1c7d2e9f30";
    let tells = |version| {
        let told = Made::event("DeadLetterClosed", letter, version);
        told.header("ce_source", "/quadrille/shipping")
    };
    let report = History(vec![tells(1)]).audit();
    sound(&report);
    assert_eq!(report.foreign, 0);
    offends(&History(vec![tells(1), tells(3)]).audit(), Rule::Versions, "is version 3");
    assert_eq!(History(vec![tells(1).header("ce_source", "/someone")]).audit().foreign, 1);
    // What its topic no longer keeps lies there until its segment goes; the version behind it is no gap.
    let day = 86_400_000;
    let parked_for_days = History(vec![tells(1).at(100 * day), tells(2).at(103 * day)]);
    sound(&parked_for_days.audit_at(131 * day, &databases(), None).0);
}

#[test]
fn what_no_service_wrote_and_none_hears_is_told_and_is_no_offence() {
    // OrderDelivered is heard by nobody: every service passes over it, whatever it holds.
    let strange = || Made::event("OrderDelivered", ORDER, 9).header("ce_source", "/someone");
    let other = json!("11111111-7c41-4d8a-8e06-5a1c7d2e9f30");
    for made in [
        strange(),
        strange().without("ce_id"),
        strange().without_headers(),
        strange().header("ce_id", "1"),
        strange().with("/order_id", other.clone()),
        strange().at(0),
    ] {
        let mut history = History::delivered();
        history.0.push(made.clone());
        let report = history.audit();
        sound(&report);
        assert_eq!((report.foreign, report.unheard.len()), (1, 1), "{made:?}");
        assert!(report.unheard[0].starts_with("OrderDelivered at order.events/0@"), "{:?}", report.unheard);
    }
    // What somebody hears takes effect, and what a service wrote itself is its own business: both are looked at as ever.
    let mut history = History::delivered();
    history.0.push(Made::event("OrderDelivered", ORDER, 9).with("/order_id", other.clone()));
    offends(&history.audit(), Rule::DeadLetters, "the value speaks of 11111111");
    let mut history = History::delivered();
    history.0.push(Made::event("OrderConfirmed", ORDER, 9).header("ce_source", "/someone").with("/order_id", other));
    offends(&history.audit(), Rule::DeadLetters, "the value speaks of 11111111");
}

#[test]
fn a_record_older_than_dead_letters_are_kept_needs_none() {
    let day = 86_400_000;
    let audit = |age: i64| {
        let (mut report, mut books) = (Report::new(), Books::new(false));
        let mut fact = Made::event("UserRegistered", ORDER, 1).at(100 * day).fact();
        fact.decoded = Decoded::bad("the value has 4 byte(s)");
        books.enter(&fact, false, 100 * day + age, &mut report);
        Checks::new(&books, &databases(), None, 100 * day + age, 10_000, &mut report).run();
        report
    };
    offends(&audit(29 * day), Rule::DeadLetters, "neither handled nor made a dead letter");
    // Users' events are kept without end, their dead letters a month.
    sound(&audit(31 * day));
}

#[test]
fn what_cannot_be_read_is_told_and_offends_until_it_is_a_dead_letter() {
    let audit = |offset: Option<i64>| {
        let (mut report, mut books) = (Report::new(), Books::new(false));
        books.unreadable = vec![Unreadable { topic: "order.requests".into(), partition: 4, from: 10, to: 15 }];
        let letter = offset.map(|offset| DeadLetter {
            topic: "order.requests".into(),
            partition: 4,
            offset,
            record_type: String::new(),
            reason: "unreadable".into(),
            open: true,
        });
        let mut databases = databases();
        databases.services.entry("order".into()).or_default().dead_letters.extend(letter);
        Checks::new(&books, &databases, None, LATER, 10_000, &mut report).run();
        report
    };
    let report = audit(None);
    offends(&report, Rule::DeadLetters, "whoever hears it stands still there");
    assert!(report.unreadable[0].starts_with("order.requests/4@10 to 14 cannot be read"), "{:?}", report.unreadable);
    sound(&audit(Some(10)));
    sound(&audit(Some(14)));
    offends(&audit(Some(15)), Rule::DeadLetters, "stands still");
}
