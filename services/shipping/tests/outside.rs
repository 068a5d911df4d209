//! The carrier over HTTP, against the real stand-in: what is not known is not stated, and is found out by asking.

mod common;

use std::time::Duration;

use common::*;
use quadrille_runtime::{Answer, Outside};
use quadrille_shipping::{
    Outcome,
    outside::{Carrier, CarrierSettings},
};
use quadrille_stand_ins::{Running, carrier};
use quadrille_testkit::outside::Speaker;

async fn carrier() -> (Running, Carrier) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let running = carrier::start(anywhere, None, 50).await.expect("the stand-in");
    let carrier = at(running.url());
    (running, carrier)
}

fn at(url: String) -> Carrier {
    let settings = CarrierSettings { url, timeout_ms: 300, ..CarrierSettings::default() };
    Carrier::new(&settings).expect("a client")
}

/// Hands a parcel over and says how it is called from then on.
async fn handed_over(carrier: &Carrier, method: &str) -> String {
    let answer = carrier.perform(id(99), &hand_over(method)).await;
    let Answer::Known(Outcome::Accepted { tracking_id }) = answer else {
        panic!("{answer:?}");
    };
    tracking_id
}

#[tokio::test]
async fn a_parcel_is_handed_over_and_followed() {
    let (_running, carrier) = carrier().await;
    let parcel = hand_over("standard");
    assert_eq!(carrier.ask(id(1), &parcel).await, Answer::Nothing);
    let answer = carrier.perform(id(1), &parcel).await;
    let Answer::Known(Outcome::Accepted { tracking_id }) = &answer else {
        panic!("{answer:?}");
    };
    assert_eq!(carrier.ask(id(1), &parcel).await, answer);
    assert_eq!(carrier.perform(id(2), &track(tracking_id)).await, Answer::Known(UNDER_WAY));
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(carrier.perform(id(3), &track(tracking_id)).await, Answer::Known(DELIVERED));
    assert_eq!(carrier.ask(id(3), &track(tracking_id)).await, Answer::Known(DELIVERED));
}

#[tokio::test]
async fn a_refusal_is_a_verdict_with_its_reason() {
    let (_running, carrier) = carrier().await;
    let answer = carrier.perform(id(1), &hand_over("refuse")).await;
    assert!(matches!(&answer, Answer::Known(Outcome::Refused { reason, .. }) if reason == "no_service"), "{answer:?}");
    assert_eq!(carrier.ask(id(1), &hand_over("refuse")).await, answer);
}

#[tokio::test]
async fn no_answer_is_unknown_and_a_question_finds_the_parcel_or_nothing() {
    let (_running, carrier) = carrier().await;
    let after = hand_over("timeout_after_accept");
    assert_eq!(carrier.perform(id(1), &after).await, Answer::Unknown("no answer in time".into()));
    assert!(matches!(carrier.ask(id(1), &after).await, Answer::Known(Outcome::Accepted { .. })));

    let before = hand_over("timeout_before_accept");
    assert_eq!(carrier.perform(id(2), &before).await, Answer::Unknown("no answer in time".into()));
    assert_eq!(carrier.ask(id(2), &before).await, Answer::Nothing);
    assert!(matches!(carrier.perform(id(2), &before).await, Answer::Known(Outcome::Accepted { .. })));
}

#[tokio::test]
async fn a_lost_parcel_is_unknown_for_ever_never_delivered_or_returned() {
    let (_running, carrier) = carrier().await;
    let lost = handed_over(&carrier, "lose").await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    for answer in [
        carrier.perform(id(1), &track(&lost)).await,
        carrier.ask(id(1), &track(&lost)).await,
        carrier.perform(id(2), &recall(&lost)).await,
    ] {
        assert!(matches!(answer, Answer::Unknown(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_recall_brings_it_back_now_later_or_too_late() {
    let (_running, carrier) = carrier().await;
    let kept = handed_over(&carrier, "keep").await;
    assert_eq!(carrier.perform(id(1), &recall(&kept)).await, Answer::Known(RETURNED));
    assert_eq!(carrier.ask(id(1), &recall(&kept)).await, Answer::Known(RETURNED));

    let (_running, carrier) = self::carrier().await;
    let slow = handed_over(&carrier, "recall_slow_50").await;
    assert_eq!(carrier.perform(id(1), &recall(&slow)).await, Answer::Known(UNDER_WAY));
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(carrier.perform(id(2), &track(&slow)).await, Answer::Known(RETURNED));

    let (_running, carrier) = self::carrier().await;
    let late = handed_over(&carrier, "recall_too_late").await;
    assert_eq!(carrier.perform(id(1), &recall(&late)).await, Answer::Known(DELIVERED));
}

#[tokio::test]
async fn a_recall_without_an_answer_is_asked_for() {
    let (_running, carrier) = carrier().await;
    let parcel = handed_over(&carrier, "recall_timeout_after").await;
    assert_eq!(carrier.perform(id(1), &recall(&parcel)).await, Answer::Unknown("no answer in time".into()));
    assert_eq!(carrier.ask(id(1), &recall(&parcel)).await, Answer::Known(RETURNED));
    assert_eq!(carrier.ask(id(2), &recall(&parcel)).await, Answer::Nothing);
}

#[tokio::test]
async fn a_carrier_that_is_away_or_out_of_order_is_unknown() {
    let (running, carrier) = carrier().await;
    let failing = hand_over("accept_fail_twice");
    assert!(matches!(carrier.perform(id(1), &failing).await, Answer::Unknown(reason) if reason.contains("503")));
    let elsewhere = at(format!("{}/elsewhere/", running.url()));
    assert!(matches!(elsewhere.perform(id(2), &failing).await, Answer::Unknown(_)));
    running.stop().await.expect("an end");
    assert_eq!(carrier.perform(id(3), &failing).await, Answer::Unknown("it cannot be reached".into()));
}

/// Where another parcel is says nothing of this one; of a hand-over that was just wanted, nor does what became of another.
#[tokio::test]
async fn only_a_word_on_this_very_key_or_parcel_is_a_verdict() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = id(1);
    let keyed = |rest: &str| format!(r#"{{"idempotency_key": "{key}", {rest}}}"#);
    let accepted = || Answer::Known(Outcome::Accepted { tracking_id: "PARCEL-1".into() });
    let cases = [
        (
            hand_over("standard"),
            "200 OK",
            keyed(r#""status": "accepted", "tracking_id": " PARCEL-1""#),
            Some(accepted()),
        ),
        (hand_over("standard"), "200 OK", keyed(r#""status": "accepted", "tracking_id": " ""#), None),
        (hand_over("standard"), "200 OK", r#"{"status": "accepted", "tracking_id": "PARCEL-1"}"#.into(), None),
        (hand_over("standard"), "200 OK", keyed(r#""status": "delivered", "tracking_id": "PARCEL-1""#), None),
        (hand_over("standard"), "404 Not Found", keyed(r#""status": "unknown_key""#), Some(Answer::Nothing)),
        (hand_over("standard"), "404 Not Found", "<html>no route</html>".into(), None),
        (recall("PARCEL-1"), "404 Not Found", keyed(r#""status": "unknown_key""#), Some(Answer::Nothing)),
        (recall("PARCEL-1"), "200 OK", r#"{"status": "returned", "tracking_id": "PARCEL-2"}"#.into(), None),
        (recall("PARCEL-1"), "503 Away", r#"{"status": "returned", "tracking_id": "PARCEL-1"}"#.into(), None),
        (
            track("PARCEL-1"),
            "200 OK",
            r#"{"status": "delivered", "tracking_id": "PARCEL-1"}"#.into(),
            Some(Answer::Known(DELIVERED)),
        ),
        (track("PARCEL-1"), "200 OK", r#"{"status": "delivered"}"#.into(), None),
        (track("PARCEL-1"), "200 OK", keyed(r#""status": "accepted", "tracking_id": "PARCEL-1""#), None),
    ];
    for (effect, status, body, wanted) in cases {
        let speaker = Speaker::answers(status, &body).await.expect("a server");
        let answer = at(speaker.url.clone()).ask(key, &effect).await;
        match wanted {
            Some(wanted) => assert_eq!(answer, wanted, "{effect:?}: {body}"),
            None => assert!(matches!(answer, Answer::Unknown(_)), "{effect:?}: {body}: {answer:?}"),
        }
    }
}

/// For ever under way is no answer: a person sees it, once the time for it has passed.
#[tokio::test]
async fn a_parcel_that_is_under_way_for_too_long_is_unknown_until_the_carrier_says_where_it_ended() {
    let (_running, carrier) = carrier().await;
    let kept = handed_over(&carrier, "keep").await;
    assert_eq!(carrier.perform(id(1), &track_after(&kept, 29)).await, Answer::Known(UNDER_WAY));
    let answer = carrier.perform(id(2), &track_after(&kept, 30)).await;
    assert!(matches!(&answer, Answer::Unknown(why) if why.contains("under way for 30 days")), "{answer:?}");
    assert_eq!(carrier.ask(id(2), &track_after(&kept, 30)).await, answer);
    assert_eq!(carrier.perform(id(3), &recall(&kept)).await, Answer::Known(RETURNED));
    assert_eq!(carrier.ask(id(2), &track_after(&kept, 30)).await, Answer::Known(RETURNED));
}

#[tokio::test]
async fn a_tracking_id_cannot_lead_elsewhere() {
    let (_running, carrier) = carrier().await;
    for tracking_id in ["../health", "..", "", "PARCEL-1/recall", "?x=1", "#", "a b\n"] {
        let answer = carrier.perform(id(1), &track(tracking_id)).await;
        assert!(matches!(answer, Answer::Unknown(_)), "{tracking_id:?}: {answer:?}");
    }
}

/// What was wanted before the carrier's answers were counted.
#[test]
fn an_effect_of_an_earlier_build_is_read() {
    let stored = serde_json::json!({"effect": "track", "tracking_id": "PARCEL-1"});
    assert_eq!(serde_json::from_value::<quadrille_shipping::Effect>(stored).expect("it is read"), track("PARCEL-1"));
}

#[test]
fn an_effect_that_nobody_answers_is_parked_before_the_carrier_forgets_its_key() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    assert_eq!(at("http://127.0.0.1:1".into()).limit(&track("PARCEL-1")).after.as_secs(), 20 * 3600);
}
