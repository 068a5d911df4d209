//! Each way in which a decision can differ is found, and what is no whole history is refused.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not there")]

use std::{io::Cursor, slice};

use chrono::{DateTime, TimeDelta, Utc};
use quadrille_core::{Envelope, Input, Policy, Record, Trace, ids, memory::Service};
use quadrille_events::{
    Money, Uuid,
    common::Personal,
    order::{Delivery, OrderCancelled, OrderDetails, OrderRequested, RequestedLine},
    payment::{PaymentDeclined, PaymentRefunded},
    product::{PriceChanged, ProductListed},
    reservation::StockReserved,
};
use quadrille_history::{Datum, Decided, Header, Line, RecordedDecision, Taken};
use quadrille_order::Orders;
use quadrille_payment::{Outcome, Payment};
use quadrille_replay::{Build, Report, Service as Replayed};

/// A history as a service records it.
struct Recorder<P: Policy> {
    service: Service<P>,
    now: DateTime<Utc>,
    lines: Vec<Line>,
}

impl<P: Policy> Recorder<P> {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_800_000_000, 123_456_000).unwrap();
        Self { service: Service::default(), now, lines: vec![Line::Header(Header::of::<P>())] }
    }

    fn takes(&mut self, key: impl ToString, version: i64, input: Input<P>) {
        self.takes_reading(key, version, input, |_| {});
    }

    /// Takes an input whose decision reads something of another state than the last one: rows that are not locked.
    fn takes_reading(&mut self, key: impl ToString, version: i64, input: Input<P>, read: impl Fn(&mut P::State)) {
        let id = ids::v5(&[P::SERVICE, &self.lines.len().to_string()]);
        read(&mut self.service.state);
        self.decides(Envelope { id, cause: id, key: key.to_string(), version, trace: Trace::default(), input });
    }

    /// The effect that was wanted first has this outcome.
    fn answers(&mut self, outcome: P::Outcome) {
        self.service.effects[0].claimed = true;
        self.decides(self.service.outcome(0, outcome));
    }

    fn decides(&mut self, input: Envelope<P>) {
        self.now += TimeDelta::seconds(1);
        let moment = self.service.moment(self.now, slice::from_ref(&input));
        let unlocked = P::record_unlocked(&self.service.state, &input);
        let came_to = self.service.handle(self.now, &input);
        let header = Header::of::<P>().id;
        self.lines.push(Line::Decided(Decided::new(header, &moment, &input, unlocked, &came_to).unwrap()));
    }

    fn replayed(&self) -> anyhow::Result<Report> {
        replayed(&self.lines)
    }

    /// Changes what was recorded on a line, counted from the header's 1.
    fn change(mut self, line: usize, change: impl FnOnce(&mut Decided)) -> Self {
        match &mut self.lines[line - 1] {
            Line::Decided(decided) => change(decided),
            other => panic!("no decision: {other:?}"),
        }
        self
    }
}

fn replayed(lines: &[Line]) -> anyhow::Result<Report> {
    let lines = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n");
    build().replay(Cursor::new(lines.collect::<String>()), "history.jsonl")
}

fn build() -> Build {
    let services = vec![Replayed::of::<Orders>(), Replayed::of::<Payment>()];
    Build { services, records: quadrille_events::RECORD_TYPES }
}

fn refused(report: anyhow::Result<Report>) -> String {
    format!("{:#}", report.unwrap_err())
}

const ORDER: Uuid = Uuid::from_u128(0x3b2a9f5e_7c41_4d8a_8e06_5a1c7d2e9f30);
const OTHER: Uuid = Uuid::from_u128(0x3b2a9f5e_7c41_4d8a_8e06_5a1c7d2e9f31);
const CUSTOMER: Uuid = Uuid::from_u128(0x6f1d3c58_1f0e_4c5e_9a37_2b8f0d9e4a11);

/// Charged, cancelled, given back: lines 2, 3, 4, 5; and another order is charged on line 6.
fn paid_back() -> Recorder<Payment> {
    let mut payment = Recorder::new();
    payment.takes(ORDER, 1, Input::Record(reserved(ORDER).into()));
    payment.answers(Outcome::Captured { charge_id: "ch_1".into() });
    payment.takes(ORDER, 2, Input::Record(OrderCancelled::new(ORDER, CUSTOMER, Money::cents(3998)).into()));
    payment.answers(Outcome::Refunded { refund_id: "re_1".into() });
    payment.takes(OTHER, 1, Input::Record(reserved(OTHER).into()));
    payment
}

fn reserved(order: Uuid) -> StockReserved {
    StockReserved::new(
        order,
        OrderDetails { currency: "EUR".into(), ..OrderDetails::new(CUSTOMER, Money::cents(3998)) },
    )
}

/// A price list on lines 2 and 3, an order on line 4, and its end on line 5.
fn declined() -> Recorder<Orders> {
    let mut orders = Recorder::new();
    orders.takes("TEA-1", 1, Input::Record(listed(1999).into()));
    orders.takes("TEA-1", 2, Input::Record(changed(1850).into()));
    orders.takes(ORDER, 0, Input::Record(requested().into()));
    orders.takes(ORDER, 1, Input::Record(PaymentDeclined::new(ORDER).into()));
    orders
}

fn listed(cents: i64) -> ProductListed {
    ProductListed { currency: "EUR".into(), ..ProductListed::new("TEA-1".into(), Money::cents(cents)) }
}

fn changed(cents: i64) -> PriceChanged {
    PriceChanged {
        currency: "EUR".into(),
        ..PriceChanged::new("TEA-1".into(), Money::cents(cents), Money::cents(1999))
    }
}

fn requested() -> OrderRequested {
    OrderRequested {
        lines: vec![RequestedLine::new("TEA-1".into(), 2)],
        currency: "EUR".into(),
        payment_token: "tok_approve".into(),
        delivery: Delivery {
            method: "standard".into(),
            personal: Personal {
                name: Some("Ann Example".into()),
                address: Some("1 Harbour Street".into()),
                email: Some("ann@example.com".into()),
                sealed: None,
            },
        },
        ..OrderRequested::new(ORDER, CUSTOMER)
    }
}

#[test]
fn what_is_decided_alike_is_the_same() {
    let lines = [paid_back().lines, declined().lines].concat();
    let report = replayed(&lines).unwrap();
    assert!(report.is_same(), "{report}");
    assert_eq!((report.decisions, report.facts), (9, 4));
    assert_eq!(report.to_string(), "9 decisions with 4 facts, all the same, byte for byte");
}

/// Every field of what a decision came to is compared.
#[test]
fn each_kind_of_difference_is_found() {
    type Change = (&'static str, usize, fn(&mut RecordedDecision));
    let of_payment: [Change; 10] = [
        ("wants charge", 2, |came_to| came_to.effects.clear()),
        ("wants charge", 2, |came_to| came_to.effects[0].id = Uuid::nil()),
        ("wants charge", 2, |came_to| came_to.effects[0].cause = Uuid::nil()),
        ("wants charge", 2, |came_to| came_to.effects[0].effect["amount"] = "1.00".into()),
        ("states PaymentRefunded", 5, |came_to| came_to.facts.clear()),
        ("states PaymentRefunded", 5, |came_to| came_to.facts[0].id = Uuid::nil()),
        ("states PaymentRefunded", 5, |came_to| came_to.facts[0].cause = Some(Uuid::nil())),
        ("states PaymentRefunded", 5, |came_to| came_to.facts[0].version = Some(0)),
        ("states PaymentRefunded", 5, |came_to| came_to.facts[0].time += TimeDelta::microseconds(1)),
        ("states PaymentRefunded", 5, |came_to| came_to.facts[0].datum = other_datum(&came_to.facts[0].datum)),
    ];
    let of_order: [Change; 6] = [
        ("sets confirm_by", 4, |came_to| came_to.timers.clear()),
        ("sets confirm_by", 4, |came_to| came_to.timers[0].due += TimeDelta::microseconds(1)),
        ("sets confirm_by", 4, |came_to| came_to.timers[0].id = Uuid::nil()),
        ("sets confirm_by", 4, |came_to| came_to.timers[0].key = OTHER.to_string()),
        ("clears confirm_by", 5, |came_to| came_to.cleared.clear()),
        ("states OrderCreated", 4, |came_to| came_to.facts[0].r#type = "quadrille.order.OrderOther".into()),
    ];
    let found = |report: Report, what: &str, line: usize| {
        let [difference] = &report.differences[..] else { panic!("{what}: {report}") };
        assert_eq!((difference.line, difference.follows), (line, None), "{what}");
        assert!(difference.now.iter().any(|now| now.starts_with(what)), "{what}: {difference:?}");
        assert_ne!(difference.then, difference.now, "{what}");
        let told = report.to_string();
        assert!(told.contains("decides now: ") && told.ends_with("1 differ"), "{told}");
    };
    for (what, line, change) in of_payment {
        found(paid_back().change(line, |decided| change(&mut decided.came_to)).replayed().unwrap(), what, line);
    }
    for (what, line, change) in of_order {
        found(declined().change(line, |decided| change(&mut decided.came_to)).replayed().unwrap(), what, line);
    }
    let withdrawn = paid_back().change(4, |decided| {
        decided.came_to.withdrawn.push(quadrille_history::Key { name: "charge".into(), key: ORDER.to_string() })
    });
    let report = withdrawn.replayed().unwrap();
    assert_eq!(report.first().unwrap().then, [format!("withdraws charge of {ORDER}")]);
}

/// Another refund, of the same length.
fn other_datum(datum: &Datum) -> Datum {
    let mut refunded = PaymentRefunded::decode(&datum.0).unwrap();
    refunded.refund_id = "re_2".into();
    Datum::of(&quadrille_payment::Stated::from(refunded))
}

/// The first input is another one than it was: what comes of it differs, and what rests on it may. Another order's does not.
#[test]
fn what_may_follow_from_an_earlier_difference_says_so() {
    let history = paid_back().change(2, |decided| {
        let mut details = OrderDetails::new(CUSTOMER, Money::cents(100));
        details.currency = "EUR".into();
        decided.input = record(StockReserved::new(ORDER, details));
    });
    let report = history.change(6, |decided| decided.came_to.effects.clear()).replayed().unwrap();
    let told: Vec<_> = report.differences.iter().map(|difference| (difference.line, difference.follows)).collect();
    assert_eq!(told, [(2, None), (3, Some(2)), (4, Some(2)), (5, Some(2)), (6, None)]);
    assert_eq!(report.first().unwrap().line, 2);
    assert!(report.to_string().ends_with("5 differ, 3 of them may follow from others"), "{report}");
}

fn record(reserved: StockReserved) -> Taken {
    let mut datum = vec![];
    reserved.encode(&mut datum);
    Taken::Record { r#type: StockReserved::TYPE.name.into(), datum: Datum(datum) }
}

/// Cases: the price list is read without a lock. An order that was decided by the price of before stands behind the change.
#[test]
fn a_price_that_was_read_before_it_changed_is_read_again() {
    let mut orders = Recorder::<Orders>::new();
    orders.takes("TEA-1", 1, Input::Record(listed(1999).into()));
    let before = orders.service.state.prices.clone();
    orders.takes("TEA-1", 2, Input::Record(changed(1850).into()));
    orders.takes_reading(ORDER, 0, Input::Record(requested().into()), |state| state.prices.clone_from(&before));
    assert!(orders.replayed().unwrap().is_same());
    let orders = orders.change(4, |decided| decided.unlocked = None);
    assert_eq!(orders.replayed().unwrap().differences.len(), 1, "the price list has moved on");
}

#[test]
fn a_history_without_its_beginning_or_with_a_gap_is_refused() {
    let mut lines = paid_back().lines;
    lines.remove(2); // the charge's outcome, and PaymentCaptured with it
    let error = refused(replayed(&lines));
    assert!(error.contains("line 4") && error.contains("begins in the middle: version 2 of"), "{error}");
    assert!(error.contains("version 1 of it is not in the history") && error.contains("set history.keep"), "{error}");

    let later = paid_back().change(5, |decided| decided.came_to.facts[0].version = Some(9));
    let error = refused(later.replayed());
    assert!(error.contains("has a gap: version 9 of") && error.contains("versions 2 to 8"), "{error}");
}

/// What stands before a gap can be replayed, what stands behind it cannot.
#[test]
fn a_history_that_an_instance_did_not_keep_ends_there() {
    let gap = |service: &str| Line::Gap { service: service.into() };
    let mut lines = paid_back().lines;
    lines.push(gap("payment"));
    lines.extend(declined().lines);
    assert!(replayed(&lines).unwrap().is_same());
    lines.insert(2, gap("payment"));
    let error = refused(replayed(&lines));
    assert!(
        error.contains("line 4: the payment history has a gap on line 3") && error.contains("set history.keep"),
        "{error}"
    );
}

/// A build of before had no `detail`: its facts are compared as this build reads them.
#[test]
fn facts_of_an_older_schema_are_compared_in_this_builds() {
    let older = |header: &mut Header| {
        let schema = header.schemas.get_mut("quadrille.payment.PaymentDeclined").unwrap();
        let mut json: serde_json::Value = serde_json::from_str(schema).unwrap();
        json["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "detail");
        *schema = json.to_string();
    };
    let mut payment = Recorder::<Payment>::new();
    payment.takes(ORDER, 1, Input::Record(reserved(ORDER).into()));
    payment.answers(Outcome::Declined { reason: "no".into(), detail: String::new() });
    let mut payment = payment.change(3, |decided| {
        // Without the empty text at its end, which is one byte.
        decided.came_to.facts[0].datum.0.pop();
    });
    let Line::Header(header) = &mut payment.lines[0] else { panic!("a header comes first") };
    older(header);
    let report = payment.replayed().unwrap();
    assert!(report.is_same(), "{report}");
}

/// A build that no longer hears a type passes over it: that differs where something came of it.
#[test]
fn a_type_that_this_build_does_not_hear_comes_to_nothing() {
    let history = paid_back().change(6, |decided| {
        let Taken::Record { r#type, .. } = &mut decided.input else { panic!("a record") };
        *r#type = "quadrille.reservation.StockSetAside".into();
    });
    let report = history.replayed().unwrap();
    let [difference] = &report.differences[..] else { panic!("{report}") };
    assert_eq!((difference.input.as_str(), difference.now.len()), ("StockSetAside", 0));
}

#[test]
fn what_is_no_history_is_refused_with_the_fix() {
    let error = refused(build().replay(Cursor::new(""), "empty.jsonl"));
    assert!(error.contains("empty.jsonl holds no history") && error.contains("quadrille history export"), "{error}");
    let error = refused(build().replay(Cursor::new("{\"order\": 1}\n"), "orders.jsonl"));
    assert!(error.contains("orders.jsonl, line 1: this is no line of a history"), "{error}");

    let mut lines = paid_back().lines;
    lines.remove(0);
    let error = refused(replayed(&lines));
    assert!(error.contains("line 1: the header") && error.contains("export the history again"), "{error}");

    let newer = Header { format: 2, ..Header::of::<Payment>() };
    let error = refused(replayed(&[Line::Header(newer)]));
    assert!(error.contains("format 2, and this build reads 1"), "{error}");
    let strange = Header { service: "bakery".into(), ..Header::of::<Payment>() };
    let error = refused(replayed(&[Line::Header(strange)]));
    assert!(error.contains("no service 'bakery'"), "{error}");
    let error = refused(paid_back().change(3, |decided| decided.input = Taken::Timer("never".into())).replayed());
    assert!(error.contains("line 3: this build cannot read the timer \"never\""), "{error}");
}
