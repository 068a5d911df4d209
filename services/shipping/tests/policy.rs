//! The contract's reaction table for shipping, row by row.

mod common;

use chrono::TimeDelta;
use common::*;
use quadrille_core::{Named, Policy};
use quadrille_events::{Uuid, shipment::*};
use quadrille_shipping::{
    ASK_AGAIN, Effect, HAND_OVER, Outcome, RECALL, Shipping, Stated, TRACK, Timer, policy::Status,
};
use quadrille_testkit::{Given, given, outcomes_as_declared, start};

fn new() -> Given<Shipping> {
    given::<Shipping>()
}

fn handing() -> Given<Shipping> {
    new().heard(confirmed())
}

fn handing_recalled() -> Given<Shipping> {
    handing().claimed(ORDER, HAND_OVER).heard(recall_requested())
}

fn dispatched() -> Given<Shipping> {
    handing().answered(ORDER, HAND_OVER, accepted())
}

fn recalling() -> Given<Shipping> {
    dispatched().heard(recall_requested())
}

trait Becomes {
    fn becomes(self, status: Status) -> Self;
    fn aborts(self, reason: &str) -> Self;
}

impl Becomes for Given<Shipping> {
    #[track_caller]
    fn becomes(self, status: Status) -> Self {
        self.then_state(|state| state.shipments[&ORDER.to_string()].status == status)
    }

    #[track_caller]
    fn aborts(self, reason: &str) -> Self {
        let [Stated::ShipmentAborted(aborted)] = &self.stated()[..] else {
            panic!("{:?}", self.stated());
        };
        assert_eq!(aborted.reason, reason);
        self.becomes(Status::Aborted)
    }
}

fn shipment_dispatched() -> ShipmentDispatched {
    ShipmentDispatched { tracking_id: "PARCEL-1".into(), ..ShipmentDispatched::new(ORDER) }
}

fn shipment_delivered() -> ShipmentDelivered {
    ShipmentDelivered { tracking_id: "PARCEL-1".into(), ..ShipmentDelivered::new(ORDER) }
}

#[test]
fn a_confirmed_order_is_handed_over() {
    let _ = new()
        .heard(confirmed())
        .then_states::<ShipmentDispatched>([])
        .then_performs([hand_over("standard")])
        .becomes(Status::Handing)
        .again()
        .then_nothing();
}

#[test]
fn a_recall_before_the_order_is_known_aborts_it_for_good() {
    let _ = new()
        .heard(recall_requested())
        .aborts("recalled")
        .again()
        .then_nothing()
        .heard(confirmed())
        .then_nothing()
        .becomes(Status::Aborted);
}

#[test]
fn an_unclaimed_hand_over_is_withdrawn() {
    let _ = handing()
        .heard(recall_requested())
        .then_withdraws([HAND_OVER])
        .then_performs([])
        .aborts("recalled")
        .again()
        .then_nothing();
}

#[test]
fn a_claimed_hand_over_is_not_withdrawn_and_the_recall_is_remembered() {
    let _ = handing_recalled().then_nothing().becomes(Status::HandingRecalled).again().then_nothing();
}

#[test]
fn a_refused_parcel_aborts_the_shipment() {
    for story in [handing(), handing_recalled()] {
        let _ = story
            .answered(ORDER, HAND_OVER, refused())
            .then_performs([])
            .aborts("no_service")
            .heard(recall_requested())
            .then_nothing();
    }
}

#[test]
fn an_accepted_parcel_is_followed() {
    let _ = handing()
        .answered(ORDER, HAND_OVER, accepted())
        .then_states([shipment_dispatched()])
        .then_performs([track("PARCEL-1")])
        .becomes(Status::Dispatched)
        .heard(confirmed())
        .then_nothing();
}

#[test]
fn an_accepted_parcel_that_was_recalled_meanwhile_is_called_back() {
    let _ = handing_recalled()
        .answered(ORDER, HAND_OVER, accepted())
        .then_states([shipment_dispatched()])
        .then_performs([recall("PARCEL-1")])
        .becomes(Status::Recalling);
}

#[test]
fn a_parcel_under_way_is_asked_for_again_ever_more_seldom_and_told_for_how_long() {
    let (mut story, mut under_way_s) = (dispatched(), 0);
    let every_5_minutes = std::iter::repeat_n(300, 600);
    for wait_s in [1, 2, 4, 8, 16, 32, 64, 128, 256].into_iter().chain(every_5_minutes) {
        under_way_s += wait_s;
        story = story
            .answered(ORDER, TRACK, UNDER_WAY)
            .then_states::<ShipmentDelivered>([])
            .then_sets([(Timer::AskAgain, start() + TimeDelta::seconds(wait_s))])
            .becomes(Status::Dispatched)
            .fired(ORDER, Timer::AskAgain)
            .then_states::<ShipmentDelivered>([])
            .then_performs([track_after("PARCEL-1", (under_way_s / 86_400) as u32)]);
    }
    assert!(under_way_s > 2 * 86_400);
    // A recall begins anew: the way back may be as long.
    let _ = story
        .heard(recall_requested())
        .answered(ORDER, RECALL, UNDER_WAY)
        .fired(ORDER, Timer::AskAgain)
        .then_performs([track("PARCEL-1")]);
}

#[test]
fn a_recall_on_the_way_asks_the_carrier() {
    let _ = dispatched()
        .heard(recall_requested())
        .then_states::<ShipmentRecalled>([])
        .then_performs([recall("PARCEL-1")])
        .becomes(Status::Recalling)
        .again()
        .then_nothing();
}

#[test]
fn a_recalled_parcel_is_followed_until_it_is_back_and_asked_for_soon() {
    let _ = dispatched()
        .answered(ORDER, TRACK, UNDER_WAY)
        .fired(ORDER, Timer::AskAgain)
        .answered(ORDER, TRACK, UNDER_WAY)
        .heard(recall_requested())
        .answered(ORDER, RECALL, UNDER_WAY)
        .then_sets([(Timer::AskAgain, start() + TimeDelta::seconds(1))])
        .becomes(Status::Recalling)
        .fired(ORDER, Timer::AskAgain)
        .then_performs([track("PARCEL-1")])
        .answered(ORDER, TRACK, RETURNED)
        .then_states_types(["ShipmentRecalled"]);
}

#[test]
fn delivered_is_delivered_asked_or_not() {
    let tracked = dispatched().answered(ORDER, TRACK, DELIVERED);
    let tracked_meanwhile = recalling().answered(ORDER, TRACK, DELIVERED);
    let too_late = recalling().answered(ORDER, RECALL, DELIVERED);
    for story in [tracked, tracked_meanwhile, too_late] {
        let _ = story
            .then_states([shipment_delivered()])
            .then_clears([ASK_AGAIN])
            .then_performs([])
            .becomes(Status::Delivered)
            .heard(recall_requested())
            .then_nothing()
            .fired(ORDER, Timer::AskAgain)
            .then_nothing();
    }
}

#[test]
fn returned_is_recalled_asked_or_not() {
    let by_itself = dispatched().answered(ORDER, TRACK, RETURNED);
    let asked = recalling().answered(ORDER, RECALL, RETURNED);
    for (story, reason) in [(by_itself, "returned"), (asked, "recalled")] {
        let story = story.then_clears([ASK_AGAIN]).then_performs([]).becomes(Status::Recalled);
        let [Stated::ShipmentRecalled(recalled)] = &story.stated()[..] else {
            panic!("{:?}", story.stated());
        };
        assert_eq!((recalled.reason.as_str(), recalled.tracking_id.as_str()), (reason, "PARCEL-1"));
        let _ = story.heard(recall_requested()).then_nothing().fired(ORDER, Timer::AskAgain).then_nothing();
    }
}

#[test]
fn what_was_asked_before_the_end_and_is_answered_after_it_changes_nothing() {
    let _ = recalling()
        .answered(ORDER, RECALL, RETURNED)
        .answered(ORDER, TRACK, DELIVERED)
        .then_nothing()
        .becomes(Status::Recalled);
}

#[test]
fn an_answer_to_another_question_changes_nothing() {
    for outcome in [UNDER_WAY, DELIVERED, RETURNED] {
        let _ = handing().answered(ORDER, HAND_OVER, outcome).then_nothing().becomes(Status::Handing);
    }
    for outcome in [accepted(), refused()] {
        let _ = dispatched().answered(ORDER, TRACK, outcome).then_nothing().becomes(Status::Dispatched);
    }
}

#[test]
fn a_person_answers_in_json() -> Result<(), serde_json::Error> {
    assert_eq!(serde_json::from_str::<Outcome>(r#"{"outcome": "delivered"}"#)?, DELIVERED);
    let said = r#"{"outcome": "accepted", "tracking_id": "PARCEL-1"}"#;
    assert_eq!(serde_json::from_str::<Outcome>(said)?, accepted());
    for wrong in [r#"{"outcome": "lost"}"#, r#"{"outcome": "accepted"}"#, r#"{"outcome": "delivered", "to": "x"}"#] {
        assert!(serde_json::from_str::<Outcome>(wrong).is_err(), "{wrong}");
    }
    Ok(())
}

#[test]
fn the_outcomes_of_each_effect_are_the_declared_ones() {
    let tracking_id = || "T-1".to_owned();
    let (method, name, address) = (String::new(), String::new(), String::new());
    let effects = [
        Effect::HandOver { order_id: Uuid::nil(), method, name, address },
        Effect::Track { tracking_id: tracking_id(), under_way_days: 0 },
        Effect::Recall { tracking_id: tracking_id() },
    ];
    let outcomes = [
        Outcome::Accepted { tracking_id: tracking_id() },
        Outcome::Refused { reason: String::new(), detail: String::new() },
        Outcome::UnderWay {},
        Outcome::Delivered {},
        Outcome::Returned {},
    ];
    outcomes_as_declared::<Shipping>(&effects, &outcomes);
}

/// Rows and ids bear these names: another spelling would lose what is stored.
#[test]
fn names_are_kept_and_found_again() {
    for status in Status::ALL {
        assert_eq!(Status::named(status.name()), Some(status));
    }
    assert_eq!(Status::HandingRecalled.name(), "handing_recalled");
    assert_eq!((Timer::AskAgain.kind(), Outcome::UnderWay {}.kind()), (ASK_AGAIN, "under_way"));
}

#[test]
fn an_accepted_parcel_has_a_name() {
    let (order_id, method, name, address) = (Uuid::nil(), String::new(), String::new(), String::new());
    let hand_over = Effect::HandOver { order_id, method, name, address };
    let accepted = |tracking_id: &str| Outcome::Accepted { tracking_id: tracking_id.into() };
    assert!(Shipping::answers(&hand_over, &accepted("T-1")));
    assert!(!Shipping::answers(&hand_over, &accepted(" ")), "nobody could track or recall it");
}
