//! The reaction table's rows of the order service, one test or more each.

mod common;

use chrono::TimeDelta;
use common::*;
use quadrille_core::{Claims, Envelope, Input, Moment, Policy, Trace};
use quadrille_events::{
    Bytes, Money, Uuid, digest_hex,
    order::{
        OrderCancelled, OrderConfirmed, OrderCreated, OrderDelivered, OrderRecallRequested, OrderRequested,
        OrderShipped, RequestedLine,
    },
};
use quadrille_order::{
    Heard, Orders, Stated, Timer,
    policy::{Order, Stage, State, Status},
};
use quadrille_testkit::{Given, given, start};

fn listed_products() -> Given<Orders> {
    given::<Orders>().heard(listed("TEA-1", 1999)).heard(listed("MUG-1", 500))
}

fn pending() -> Given<Orders> {
    listed_products().heard(requested())
}

fn confirmed() -> Given<Orders> {
    pending().heard(captured())
}

fn shipped() -> Given<Orders> {
    confirmed().heard(dispatched())
}

fn recalling() -> Given<Orders> {
    confirmed().heard(cancellation(""))
}

fn expired() -> Given<Orders> {
    confirmed().fired(ORDER, Timer::EndBy)
}

fn delivered_order() -> Given<Orders> {
    shipped().heard(delivered())
}

fn cancelled_order() -> Given<Orders> {
    pending().heard(declined())
}

fn rejected_order() -> Given<Orders> {
    given::<Orders>().heard(requested())
}

fn cancelled(reason: &str, detail: &str) -> OrderCancelled {
    OrderCancelled {
        reason: reason.into(),
        detail: detail.into(),
        currency: "EUR".into(),
        ..OrderCancelled::new(ORDER, CUSTOMER, Money::cents(4498))
    }
}

fn stage(story: &Given<Orders>) -> Option<Stage> {
    match &story.state().orders.get(&ORDER.to_string())?.status {
        Status::Accepted(accepted) => Some(accepted.stage),
        Status::Unknown | Status::Rejected { .. } => None,
    }
}

// Requests.

#[test]
fn a_sound_request_of_known_skus_becomes_an_order_with_the_prices_of_now() {
    let story = pending()
        .then_states([OrderCreated {
            confirm_by: start() + TimeDelta::minutes(15),
            request_digest: digest_hex(&requested()),
            ..OrderCreated::new(ORDER, details())
        }])
        .then_sets([(Timer::ConfirmBy, start() + TimeDelta::minutes(15))]);
    assert_eq!(stage(&story), Some(Stage::Pending));
}

#[test]
fn the_price_list_follows_the_newest_version_only() {
    let total = |story: Given<Orders>| match &story.heard(requested()).stated()[..] {
        [Stated::OrderCreated(created)] => created.details.total.to_string(),
        other => panic!("{other:#?}"),
    };
    let changed = listed_products().heard(price_changed("TEA-1", 2500));
    assert_eq!(total(changed.clone()), "55.00");
    // What is older, as old, or of no version changes nothing.
    for version in [2, 1, 0] {
        assert_eq!(total(changed.clone().heard_as(version, price_changed("TEA-1", 1))), "55.00");
    }
    // A gap is none of ours: retention may have taken what was before.
    assert_eq!(total(changed.heard_as(9, price_changed("TEA-1", 1))), "5.02");
}

#[test]
fn a_later_price_does_not_change_an_order() {
    pending().heard(price_changed("TEA-1", 9999)).heard(captured()).then_states([OrderConfirmed {
        end_by: start() + TimeDelta::days(14),
        charge_id: "ch_1".into(),
        ..OrderConfirmed::new(ORDER, details())
    }]);
}

#[test]
fn one_sku_may_stand_on_several_lines_in_any_spelling() {
    let asked = OrderRequested {
        lines: vec![RequestedLine::new("tea-1".into(), 2), RequestedLine::new("TEA-1".into(), 3)],
        ..requested()
    };
    match &listed_products().heard(asked).stated()[..] {
        [Stated::OrderCreated(created)] => {
            let lines: Vec<_> = created.details.lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
            assert_eq!(lines, [("TEA-1", 2), ("TEA-1", 3)]);
            assert_eq!(created.details.total, Money::cents(9995));
        }
        other => panic!("{other:#?}"),
    }
}

/// What the story makes of `requested` with a change.
fn rejection(story: Given<Orders>, change: impl FnOnce(&mut OrderRequested)) -> (String, String, String) {
    let mut asked = requested();
    change(&mut asked);
    let story = story.heard(asked.clone());
    match &story.stated()[..] {
        [Stated::OrderRejected(rejected)] => {
            assert_eq!(rejected.request_digest, digest_hex(&asked));
            assert_eq!(rejected.customer_id, CUSTOMER);
            assert!(rejected.detail.starts_with(&rejected.field), "{}", rejected.detail);
            assert_eq!(story.outcome().timers, []);
            (rejected.reason.clone(), rejected.field.clone(), rejected.detail.clone())
        }
        other => panic!("{other:#?}"),
    }
}

#[test]
fn a_request_beyond_bounds_is_rejected_by_its_field() {
    let bounds = |field: &str, change: &dyn Fn(&mut OrderRequested)| {
        let (reason, at, _) = rejection(listed_products(), change);
        assert_eq!((reason.as_str(), at.as_str()), ("bounds", field));
    };
    bounds("lines", &|asked| asked.lines.clear());
    bounds("lines", &|asked| asked.lines = vec![RequestedLine::new("TEA-1".into(), 1); 101]);
    for quantity in [0, -1, i32::MIN, 1_000_001] {
        bounds("lines[1].quantity", &|asked| asked.lines[1].quantity = quantity);
    }
    bounds("lines[0].quantity", &|asked| {
        asked.lines = vec![RequestedLine::new("TEA-1".into(), -1), RequestedLine::new("TEA-1".into(), 2)];
    });
    for sku in ["", "TEA 1", "-TEA", "TEA\0", &"A".repeat(41)] {
        bounds("lines[1].sku", &|asked| asked.lines[1].sku = sku.into());
    }
    for currency in ["", "eur", "EURO"] {
        bounds("currency", &|asked| asked.currency = currency.into());
    }
    for token in ["", " ", "tok\n", &"x".repeat(501)] {
        bounds("payment_token", &|asked| asked.payment_token = token.into());
    }
    bounds("delivery.method", &|asked| asked.delivery.method = "x".repeat(501));
    bounds("delivery.personal.name", &|asked| asked.delivery.personal.name = Some("Ann\r\nBcc: bob@b.b".into()));
    bounds("delivery.personal.address", &|asked| asked.delivery.personal.address = Some("\0".into()));
    bounds("delivery.personal.email", &|asked| asked.delivery.personal.email = Some("x".repeat(501)));
    bounds("delivery.personal.sealed", &|asked| asked.delivery.personal.sealed = Some(Bytes(vec![0; 16_385])));
    for cents in [0, -1] {
        bounds("expected_total", &|asked| asked.expected_total = Some(Money::cents(cents)));
    }
    for ms in [0, -1, i64::MIN] {
        bounds("confirm_within_ms", &|asked| asked.confirm_within_ms = Some(ms));
        bounds("end_within_ms", &|asked| asked.end_within_ms = Some(ms));
    }
}

#[test]
fn bounds_themselves_are_within_bounds() {
    let asked = OrderRequested { lines: vec![RequestedLine::new("PEN".into(), 1_000_000); 100], ..requested() };
    listed_products().heard(listed("PEN", 1)).heard(asked).then_states_types(["OrderCreated"]);
    let mut asked = OrderRequested { confirm_within_ms: Some(1), end_within_ms: Some(1), ..requested() };
    asked.delivery.personal.sealed = Some(Bytes(vec![0; 16_384]));
    listed_products().heard(asked).then_states_types(["OrderCreated"]);
    let (reason, ..) = rejection(listed_products(), |asked| asked.expected_total = Some(Money::cents(1)));
    assert_eq!(reason, "price_changed", "a cent is an amount");
}

#[test]
fn an_unknown_sku_is_rejected_for_good() {
    let (reason, field, detail) = rejection(listed_products(), |asked| asked.lines[1].sku = "cup-1".into());
    assert_eq!((reason.as_str(), field.as_str()), ("unknown_sku", "lines[1].sku"));
    assert!(detail.contains("CUP-1"), "{detail}");
    rejected_order().heard(listed("TEA-1", 1999)).heard(listed("MUG-1", 500)).heard(requested()).then_nothing();
}

#[test]
fn another_total_than_expected_is_rejected_with_the_real_one() {
    let (reason, field, detail) = rejection(listed_products(), |asked| asked.expected_total = Some(Money::cents(4497)));
    assert_eq!((reason.as_str(), field.as_str()), ("price_changed", "expected_total"));
    assert!(detail.contains("44.98"), "{detail}");
    let expected = OrderRequested { expected_total: Some(Money::cents(4498)), ..requested() };
    listed_products().heard(expected).then_states_types(["OrderCreated"]);
}

#[test]
fn one_currency_an_order() {
    let (reason, field, _) = rejection(listed_products(), |asked| asked.currency = "USD".into());
    assert_eq!((reason.as_str(), field.as_str()), ("currency", "lines[0].sku"));
    let dollars = quadrille_events::product::ProductListed { currency: "USD".into(), ..listed("CUP-1", 100) };
    let mixed = listed_products().heard(dollars);
    let (reason, field, _) = rejection(mixed, |asked| asked.lines.push(RequestedLine::new("CUP-1".into(), 1)));
    assert_eq!((reason.as_str(), field.as_str()), ("currency", "lines[2].sku"));
}

#[test]
fn a_total_that_overflows_is_rejected() {
    for (cents, quantity, lines) in
        [(999_999_999_999, 2, 1), (999_999_999_999, 1, 2), (999_999_999_999, 1_000_000, 100)]
    {
        let dear = listed_products().heard(listed("GOLD", cents));
        let (reason, field, _) = rejection(dear, |asked| {
            asked.lines = vec![RequestedLine::new("GOLD".into(), quantity); lines];
        });
        assert_eq!((reason.as_str(), field.as_str()), ("overflow", "lines"));
    }
}

#[test]
fn both_deadlines_wait_for_what_is_unread() {
    assert!([Timer::ConfirmBy, Timer::EndBy].iter().all(Orders::is_deadline));
}

/// A history keeps what was read without a lock, so that a replay decides on the same prices.
#[test]
fn what_a_request_reads_of_the_price_list_is_told_and_can_be_assumed() {
    let listed = listed_products();
    let input = Envelope {
        id: Uuid::max(),
        cause: Uuid::max(),
        key: ORDER.to_string(),
        version: 0,
        trace: Trace::default(),
        input: Input::Record(requested().into()),
    };
    let told = Orders::record_unlocked(listed.state(), &input).expect("prices are read");
    let mut assumed = State::default();
    Orders::restore_unlocked(&mut assumed, &input, told).expect("what was told is understood");
    let moment = Moment { now: start(), claims: Claims::default() };
    let decided = Orders::react(&assumed, &moment, &input);
    assert!(matches!(decided.facts[..], [Stated::OrderCreated(_)]), "{decided:?}");
    assert_eq!(decided, Orders::react(listed.state(), &moment, &input));
}

#[test]
fn a_time_to_end_that_is_not_shorter_than_our_own_is_not_carried_on() {
    let carried =
        |ms| match &listed_products().heard(OrderRequested { end_within_ms: Some(ms), ..requested() }).stated()[..] {
            [Stated::OrderCreated(created)] => created.end_within_ms,
            other => panic!("{other:#?}"),
        };
    let own = TimeDelta::days(14).num_milliseconds();
    assert_eq!((carried(own - 1), carried(own), carried(own + 1)), (Some(own - 1), None, None));
}

#[test]
fn a_client_may_shorten_its_deadlines_and_never_lengthen_them() {
    let asked = |confirm_ms, end_ms| OrderRequested {
        confirm_within_ms: Some(confirm_ms),
        end_within_ms: Some(end_ms),
        ..requested()
    };
    listed_products()
        .heard(asked(2_000, 5_000))
        .then_sets([(Timer::ConfirmBy, start() + TimeDelta::seconds(2))])
        .later(TimeDelta::seconds(1))
        .heard(captured())
        .then_sets([(Timer::EndBy, start() + TimeDelta::seconds(6))]);
    for long in [15 * 60_000, 14 * 86_400_000, i64::MAX] {
        listed_products()
            .heard(asked(long.max(900_000), long.max(14 * 86_400_000)))
            .then_sets([(Timer::ConfirmBy, start() + TimeDelta::minutes(15))])
            .heard(captured())
            .then_sets([(Timer::EndBy, start() + TimeDelta::days(14))]);
    }
}

#[test]
fn a_known_id_with_the_same_content_says_nothing_and_with_other_content_is_refused() {
    let other = OrderRequested { payment_token: "tok_other".into(), ..requested() };
    let known: [fn() -> Given<Orders>; 7] =
        [pending, confirmed, shipped, recalling, delivered_order, cancelled_order, rejected_order];
    for story in known {
        let before = story().state().orders[&ORDER.to_string()].status.clone();
        let story = story()
            .heard(requested())
            .then_nothing()
            .heard(other.clone())
            .then_states_types(["OrderRequestRefused"])
            .then_clears([]);
        assert_eq!(story.state().orders[&ORDER.to_string()].status, before);
    }
}

// Cancellations.

#[track_caller]
fn refuses_cancellation(story: Given<Orders>, reason: &str) {
    let before = story.state().orders.get(&ORDER.to_string()).map(|order| order.status.clone());
    let story = story.heard(cancellation("Changed my mind."));
    match &story.stated()[..] {
        [Stated::OrderCancellationRefused(refused)] => {
            assert_eq!((refused.reason.as_str(), refused.request_id), (reason, Some(story.last_id())));
            assert!(!refused.detail.is_empty());
        }
        other => panic!("{other:#?}"),
    }
    assert_eq!(story.state().orders[&ORDER.to_string()].status, before.unwrap_or_default());
}

#[test]
fn a_cancellation_is_refused_where_there_is_nothing_to_cancel() {
    refuses_cancellation(listed_products(), "unknown_order");
    refuses_cancellation(rejected_order(), "rejected");
    refuses_cancellation(cancelled_order(), "cancelled");
    refuses_cancellation(delivered_order(), "delivered");
    refuses_cancellation(recalling(), "recall_under_way");
    refuses_cancellation(expired(), "recall_under_way");
}

#[test]
fn a_cancellation_before_its_order_is_refused_and_not_remembered() {
    let story = listed_products()
        .heard(cancellation(""))
        .then_states_types(["OrderCancellationRefused"])
        .heard(requested())
        .then_states_types(["OrderCreated"]);
    // The refusal is an event of the order's stream, too: versions have no gaps.
    assert_eq!(story.outcome().facts[0].version, Some(2));
}

#[test]
fn a_cancellation_beyond_bounds_is_refused_and_cancels_nothing() {
    for reason in ["x".repeat(501), "\0".into()] {
        let story = pending().heard(cancellation(&reason)).then_states_types(["OrderCancellationRefused"]);
        assert_eq!(stage(&story), Some(Stage::Pending));
    }
}

#[test]
fn a_pending_order_is_cancelled_on_request() {
    pending()
        .heard(cancellation("Changed my mind."))
        .then_states([cancelled("requested", "a client asked for it: Changed my mind.")])
        .then_clears(["confirm_by"]);
    pending().heard(cancellation(" ")).then_states([cancelled("requested", "a client asked for it")]);
}

#[test]
fn from_the_confirmation_on_a_cancellation_is_a_recall() {
    for (story, shipped) in [(confirmed(), false), (shipped(), true)] {
        let story = story
            .heard(cancellation("Changed my mind."))
            .then_states([OrderRecallRequested { reason: "requested".into(), ..OrderRecallRequested::new(ORDER) }])
            .then_clears(["end_by"]);
        assert_eq!(stage(&story), Some(Stage::Recalling { asked: true, shipped }));
    }
}

// The saga before its confirmation.

#[test]
fn a_pending_order_ends_with_the_first_no() {
    let nos: [(Heard, OrderCancelled); 3] = [
        (customer_rejected().into(), cancelled("unknown_customer", "no such user")),
        (reservation_rejected().into(), cancelled("insufficient_stock", "2 of TEA-1 wanted, 0 available")),
        (declined().into(), cancelled("declined", "card_declined: no money")),
    ];
    for (no, end) in nos {
        pending().heard(no).then_states([end]).then_clears(["confirm_by"]).again().then_nothing();
    }
}

#[test]
fn a_pending_order_expires() {
    pending()
        .later(TimeDelta::minutes(15))
        .fired(ORDER, Timer::ConfirmBy)
        .then_states([cancelled("expired", "the order was not confirmed in time")]);
}

#[test]
fn a_captured_payment_confirms_the_order_once() {
    pending()
        .later(TimeDelta::minutes(1))
        .heard(captured())
        .then_states([OrderConfirmed {
            end_by: start() + TimeDelta::minutes(1) + TimeDelta::days(14),
            charge_id: "ch_1".into(),
            ..OrderConfirmed::new(ORDER, details())
        }])
        .then_clears(["confirm_by"])
        .then_sets([(Timer::EndBy, start() + TimeDelta::minutes(1) + TimeDelta::days(14))])
        .again()
        .then_nothing();
}

#[test]
fn what_comes_for_an_order_that_is_not_there_changes_nothing() {
    for story in [given::<Orders>, rejected_order] {
        for heard in everything() {
            story().heard(heard).then_nothing();
        }
        story().fired(ORDER, Timer::ConfirmBy).then_nothing();
        story().fired(ORDER, Timer::EndBy).then_nothing();
    }
}

// The saga after its confirmation.

#[test]
fn a_dispatched_parcel_ships_the_order_once() {
    let story = confirmed()
        .heard(dispatched())
        .then_states([OrderShipped { tracking_id: "PARCEL-1".into(), ..OrderShipped::new(ORDER, CUSTOMER) }])
        .then_clears([])
        .again()
        .then_nothing();
    assert_eq!(stage(&story), Some(Stage::Shipped));
}

#[test]
fn a_parcel_that_left_during_a_recall_is_stated_and_the_recall_goes_on() {
    for (story, asked) in [(recalling(), true), (expired(), false)] {
        let story = story.heard(dispatched()).then_states_types(["OrderShipped"]);
        assert_eq!(stage(&story), Some(Stage::Recalling { asked, shipped: true }));
        story.again().then_nothing();
    }
}

#[test]
fn an_order_that_has_not_ended_in_time_is_recalled() {
    for (story, shipped) in [(confirmed(), false), (shipped(), true)] {
        let story = story
            .fired(ORDER, Timer::EndBy)
            .then_states([OrderRecallRequested { reason: "expired".into(), ..OrderRecallRequested::new(ORDER) }])
            .again()
            .then_nothing();
        assert_eq!(stage(&story), Some(Stage::Recalling { asked: false, shipped }));
    }
}

#[test]
fn shippings_last_word_ends_the_order_whether_asked_or_not() {
    for story in [confirmed, shipped, recalling, expired] {
        story().heard(aborted()).then_states([cancelled("shipment_aborted", "carrier_refused")]).again().then_nothing();
        story()
            .heard(recalled())
            .then_states([cancelled("shipment_recalled", "returned: nobody at home")])
            .again()
            .then_nothing();
    }
    for story in [confirmed, shipped, expired] {
        story().heard(delivered()).then_states([OrderDelivered::new(ORDER, CUSTOMER)]).again().then_nothing();
    }
}

#[test]
fn a_client_whose_recall_came_too_late_is_told() {
    let story = recalling().heard(delivered());
    match &story.stated()[..] {
        [Stated::OrderDelivered(_), Stated::OrderCancellationRefused(notice)] => {
            assert_eq!((notice.reason.as_str(), notice.request_id), ("recall_failed", None));
        }
        other => panic!("{other:#?}"),
    }
    assert_eq!(story.outcome().facts.iter().map(|fact| fact.version).collect::<Vec<_>>(), [Some(4), Some(5)]);
    // One that asked while a deadline's recall was under way was refused, and needs no notice.
    expired().heard(cancellation("")).heard(delivered()).then_states([OrderDelivered::new(ORDER, CUSTOMER)]);
}

#[test]
fn deadlines_go_with_what_they_were_set_for() {
    confirmed().heard(aborted()).then_clears(["end_by"]);
    shipped().heard(delivered()).then_clears(["end_by"]);
    shipped().heard(dispatched()).then_clears([]);
    recalling().heard(recalled()).then_clears([]);
}

#[test]
fn ends_absorb_everything() {
    for story in [delivered_order, cancelled_order] {
        for heard in everything() {
            story().heard(heard).then_nothing();
        }
        story().fired(ORDER, Timer::ConfirmBy).then_nothing();
        story().fired(ORDER, Timer::EndBy).then_nothing();
    }
}

#[test]
fn what_cannot_come_yet_changes_nothing() {
    for heard in [dispatched().into(), delivered().into(), aborted().into(), Heard::from(recalled())] {
        pending().heard(heard).then_nothing();
    }
    pending().fired(ORDER, Timer::EndBy).then_nothing();
    for story in [confirmed, shipped, recalling] {
        for heard in [declined().into(), customer_rejected().into(), Heard::from(reservation_rejected())] {
            story().heard(heard).then_nothing();
        }
        story().fired(ORDER, Timer::ConfirmBy).then_nothing();
    }
}

/// All that others state of an order.
fn everything() -> Vec<Heard> {
    vec![
        customer_rejected().into(),
        reservation_rejected().into(),
        captured().into(),
        declined().into(),
        dispatched().into(),
        delivered().into(),
        aborted().into(),
        recalled().into(),
    ]
}

#[test]
fn an_order_is_its_facts_folded() {
    let mut stated = vec![];
    let mut story = listed_products();
    for heard in [
        cancellation("too early").into(),
        Heard::from(requested()),
        requested().into(),
        captured().into(),
        cancellation("").into(),
        dispatched().into(),
        cancellation("again").into(),
        delivered().into(),
    ] {
        story = story.heard(heard);
        stated.extend(story.stated());
        assert_eq!(Order::fold(&stated), story.state().orders[&ORDER.to_string()]);
    }
    assert_eq!(stated.len(), 8);
}
