//! The contract's reaction table for payment, row by row.

mod common;

use common::*;
use quadrille_events::{Money, Uuid, payment::*};
use quadrille_payment::{CHARGE, Effect, Outcome, Payment, REFUND, policy::Status};
use quadrille_testkit::{Given, given, outcomes_as_declared};

fn new() -> Given<Payment> {
    given::<Payment>()
}

fn charging() -> Given<Payment> {
    new().heard(reserved())
}

fn charging_cancelled() -> Given<Payment> {
    charging().claimed(ORDER, CHARGE).heard(cancelled())
}

fn money() -> Given<Payment> {
    charging().answered(ORDER, CHARGE, captured())
}

fn refunding() -> Given<Payment> {
    money().heard(cancelled())
}

fn refund_failed() -> Given<Payment> {
    refunding().answered(ORDER, REFUND, refused())
}

trait Becomes {
    fn becomes(self, status: Status) -> Self;
}

impl Becomes for Given<Payment> {
    #[track_caller]
    fn becomes(self, status: Status) -> Self {
        self.then_state(|state| state.accounts[&ORDER.to_string()].status == status)
    }
}

fn payment_captured() -> PaymentCaptured {
    PaymentCaptured { currency: "EUR".into(), charge_id: "ch_1".into(), ..PaymentCaptured::new(ORDER, AMOUNT) }
}

fn payment_refunded() -> PaymentRefunded {
    PaymentRefunded {
        currency: "EUR".into(),
        charge_id: "ch_1".into(),
        refund_id: "re_1".into(),
        ..PaymentRefunded::new(ORDER, CUSTOMER, AMOUNT)
    }
}

#[test]
fn reserved_goods_are_charged() {
    let _ = new()
        .heard(reserved())
        .then_states::<PaymentCaptured>([])
        .then_performs([charge("tok_approve")])
        .becomes(Status::Charging)
        .again()
        .then_nothing();
}

#[test]
fn a_cancellation_before_the_question_is_kept_and_answers_it() {
    let _ = new()
        .heard(cancelled())
        .then_nothing()
        .becomes(Status::Ended)
        .again()
        .then_nothing()
        .heard(reserved())
        .then_states_types(["PaymentDeclined"])
        .then_performs([])
        .becomes(Status::Declined)
        .again()
        .then_nothing();
}

#[test]
fn an_unclaimed_charge_is_withdrawn() {
    let story = charging().heard(cancelled()).then_withdraws([CHARGE]).then_performs([]).becomes(Status::Declined);
    let [quadrille_payment::Stated::PaymentDeclined(declined)] = &story.stated()[..] else {
        panic!("{:?}", story.stated());
    };
    assert_eq!(declined.reason, "order_cancelled");
    story.again().then_nothing();
}

#[test]
fn a_claimed_charge_is_not_withdrawn_and_the_cancellation_is_remembered() {
    let _ = charging_cancelled().then_nothing().becomes(Status::ChargingCancelled).again().then_nothing();
}

#[test]
fn declined_is_declined() {
    for story in [charging(), charging_cancelled()] {
        let _ = story
            .answered(ORDER, CHARGE, declined())
            .then_states([PaymentDeclined {
                reason: "card_declined".into(),
                detail: "The card was declined.".into(),
                ..PaymentDeclined::new(ORDER)
            }])
            .then_performs([])
            .becomes(Status::Declined)
            .heard(cancelled())
            .then_nothing()
            .becomes(Status::Declined);
    }
}

#[test]
fn captured_is_captured() {
    let _ = charging()
        .answered(ORDER, CHARGE, captured())
        .then_states([payment_captured()])
        .then_performs([])
        .becomes(Status::Captured)
        .heard(reserved())
        .then_nothing();
}

#[test]
fn captured_after_the_cancellation_goes_back_at_once() {
    let _ = charging_cancelled()
        .answered(ORDER, CHARGE, captured())
        .then_states([payment_captured()])
        .then_performs([refund("ch_1")])
        .becomes(Status::Refunding)
        .answered(ORDER, REFUND, refunded())
        .then_states([payment_refunded()]);
}

#[test]
fn a_cancellation_gives_captured_money_back_once() {
    let _ = money()
        .heard(cancelled())
        .then_states::<PaymentRefunded>([])
        .then_performs([refund("ch_1")])
        .becomes(Status::Refunding)
        .again()
        .then_nothing()
        .answered(ORDER, REFUND, refunded())
        .then_states([payment_refunded()])
        .becomes(Status::Refunded)
        .heard(cancelled())
        .then_nothing()
        .heard(reserved())
        .then_nothing();
}

#[test]
fn a_refused_refund_is_stated_for_a_person() {
    let _ = refunding()
        .answered(ORDER, REFUND, refused())
        .then_states([RefundFailed {
            currency: "EUR".into(),
            charge_id: "ch_1".into(),
            reason: "refund_refused".into(),
            detail: "Not this time.".into(),
            ..RefundFailed::new(ORDER, CUSTOMER, AMOUNT)
        }])
        .becomes(Status::RefundFailed)
        .heard(cancelled())
        .then_nothing();
}

#[test]
fn a_failed_refund_is_tried_again_under_a_new_key() {
    let first = refunding().outcome().effects[0].id;
    let story = refund_failed()
        .heard(retry())
        .then_states::<PaymentRefunded>([])
        .then_performs([refund("ch_1")])
        .becomes(Status::Refunding);
    assert_ne!(story.outcome().effects[0].id, first);
    let _ = story
        .answered(ORDER, REFUND, refused())
        .then_states_types(["RefundFailed"])
        .heard(retry())
        .answered(ORDER, REFUND, refunded())
        .then_states([payment_refunded()])
        .becomes(Status::Refunded);
}

#[test]
fn a_retry_of_anything_else_is_refused() {
    let story = |given: Given<Payment>, reason: &str| {
        let before = given.state().accounts.get(&ORDER.to_string()).map(|account| account.status);
        let after = given.heard(retry()).then_performs([]);
        let [quadrille_payment::Stated::PaymentRequestRefused(refused)] = &after.stated()[..] else {
            panic!("{:?}", after.stated());
        };
        assert_eq!((refused.request.as_str(), refused.reason.as_str()), ("RefundRetryRequested", reason));
        let _ = after.becomes(before.unwrap_or_default());
    };
    story(new(), "unknown_order");
    for given in [
        new().heard(cancelled()),
        charging(),
        charging_cancelled(),
        money(),
        charging().answered(ORDER, CHARGE, declined()),
        refunding(),
        refunding().answered(ORDER, REFUND, refunded()),
    ] {
        story(given, "no_failed_refund");
    }
}

#[test]
fn a_retry_beyond_the_bounds_is_refused() {
    let mut asked = retry();
    asked.why = "x".repeat(501);
    let story = refund_failed().heard(asked).then_performs([]).becomes(Status::RefundFailed);
    let [quadrille_payment::Stated::PaymentRequestRefused(refused)] = &story.stated()[..] else {
        panic!("{:?}", story.stated());
    };
    assert_eq!((refused.reason.as_str(), refused.detail.contains("why")), ("bounds", true));
}

#[test]
fn an_answer_to_another_question_changes_nothing() {
    for outcome in [refunded(), refused()] {
        let _ = charging().answered(ORDER, CHARGE, outcome).then_nothing().becomes(Status::Charging);
    }
    for outcome in [captured(), declined()] {
        let _ = refunding().answered(ORDER, REFUND, outcome).then_nothing().becomes(Status::Refunding);
    }
}

#[test]
fn a_person_answers_in_json() -> Result<(), serde_json::Error> {
    let said = r#"{"outcome": "captured", "charge_id": "ch_1"}"#;
    assert_eq!(serde_json::from_str::<Outcome>(said)?, captured());
    let said = r#"{"outcome": "refused", "reason": "refund_refused"}"#;
    assert!(matches!(serde_json::from_str(said)?, Outcome::Refused { .. }));
    assert!(serde_json::from_str::<Outcome>(r#"{"outcome": "captured"}"#).is_err());
    Ok(())
}

#[test]
fn the_outcomes_of_each_effect_are_the_declared_ones() {
    let charge_id = || "ch_1".to_owned();
    let (reason, detail) = (String::new, String::new);
    let effects = [
        Effect::Charge { order_id: Uuid::nil(), amount: Money::cents(1), currency: "EUR".into(), token: String::new() },
        Effect::Refund {
            order_id: Uuid::nil(),
            charge_id: charge_id(),
            amount: Money::cents(1),
            currency: "EUR".into(),
        },
    ];
    let outcomes = [
        Outcome::Captured { charge_id: charge_id() },
        Outcome::Declined { reason: reason(), detail: detail() },
        Outcome::Refunded { refund_id: charge_id() },
        Outcome::Refused { reason: reason(), detail: detail() },
    ];
    outcomes_as_declared::<Payment>(&effects, &outcomes);
}

/// Rows and ids bear these names: another spelling would lose what is stored.
#[test]
fn names_are_kept_and_found_again() {
    for status in Status::ALL {
        assert_eq!(Status::named(status.name()), Some(status));
    }
    assert_eq!(Status::ChargingCancelled.name(), "charging_cancelled");
}
