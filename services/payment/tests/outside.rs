//! The payment provider over HTTP, against the real stand-in: what is not known is not stated, and is found out by asking.

mod common;

use common::*;
use quadrille_payment::{
    Effect, Outcome,
    outside::{Provider, ProviderSettings},
};
use quadrille_runtime::{Answer, Outside};
use quadrille_stand_ins::{Running, payment};

async fn provider() -> (Running, Provider) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let anywhere = ([127, 0, 0, 1], 0).into();
    let running = payment::start(anywhere, None).await.expect("the stand-in");
    let provider = at(running.url());
    (running, provider)
}

fn at(url: String) -> Provider {
    let settings = ProviderSettings { url, timeout_ms: 300, ..ProviderSettings::default() };
    Provider::new(&settings).expect("a client")
}

fn is_captured(answer: &Answer<Outcome>) -> bool {
    matches!(answer, Answer::Known(Outcome::Captured { .. }))
}

#[tokio::test]
async fn a_charge_is_captured_and_a_question_hears_the_same() {
    let (_running, provider) = provider().await;
    let (key, charge) = (id(1), charge("tok_approve"));
    assert_eq!(provider.ask(key, &charge).await, Answer::Nothing);
    let answer = provider.perform(key, &charge).await;
    assert!(is_captured(&answer), "{answer:?}");
    assert_eq!(provider.ask(key, &charge).await, answer);
    assert_eq!(provider.perform(key, &charge).await, answer);
}

#[tokio::test]
async fn a_decline_is_a_verdict_with_its_reason() {
    let (_running, provider) = provider().await;
    let (key, charge) = (id(2), charge("tok_decline_stolen_card"));
    let answer = provider.perform(key, &charge).await;
    assert!(
        matches!(&answer, Answer::Known(Outcome::Declined { reason, .. }) if reason == "stolen_card"),
        "{answer:?}"
    );
    assert_eq!(provider.ask(key, &charge).await, answer);
}

#[tokio::test]
async fn no_answer_is_unknown_and_a_question_finds_the_charge_or_nothing() {
    let (_running, provider) = provider().await;
    let (key, after) = (id(3), charge("tok_timeout_after_charge"));
    assert_eq!(provider.perform(key, &after).await, Answer::Unknown("no answer in time".into()));
    assert!(is_captured(&provider.ask(key, &after).await));

    let (key, before) = (id(4), charge("tok_timeout_before"));
    assert_eq!(provider.perform(key, &before).await, Answer::Unknown("no answer in time".into()));
    assert_eq!(provider.ask(key, &before).await, Answer::Nothing);
    assert!(is_captured(&provider.perform(key, &before).await));
}

#[tokio::test]
async fn a_provider_out_of_order_is_unknown_whatever_it_is_asked() {
    let (_running, provider) = provider().await;
    let (key, failing) = (id(5), charge("tok_fail_twice"));
    for _ in 0..2 {
        assert!(matches!(provider.perform(key, &failing).await, Answer::Unknown(reason) if reason.contains("503")));
    }
    assert!(is_captured(&provider.perform(key, &failing).await));

    let (key, hidden) = (id(6), charge("tok_unknown"));
    assert!(matches!(provider.perform(key, &hidden).await, Answer::Unknown(_)));
    assert!(matches!(provider.ask(key, &hidden).await, Answer::Unknown(_)));
}

#[tokio::test]
async fn a_refund_has_verdicts_of_its_own() {
    let (_running, provider) = provider().await;
    let charged = provider.perform(id(7), &charge("tok_refuse_refund_once")).await;
    let Answer::Known(Outcome::Captured { charge_id }) = charged else {
        panic!("{charged:?}");
    };
    let (first, second, refund) = (id(8), id(9), refund(&charge_id));
    let answer = provider.perform(first, &refund).await;
    assert!(
        matches!(&answer, Answer::Known(Outcome::Refused { reason, .. }) if reason == "refund_refused"),
        "{answer:?}"
    );
    assert_eq!(provider.ask(first, &refund).await, answer);
    let answer = provider.perform(second, &refund).await;
    assert!(matches!(answer, Answer::Known(Outcome::Refunded { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_key_that_stands_for_something_else_is_no_verdict() {
    let (_running, provider) = provider().await;
    let key = id(10);
    provider.perform(key, &charge("tok_approve")).await;
    let answer = provider.perform(key, &charge("tok_decline")).await;
    assert!(matches!(&answer, Answer::Unknown(reason) if reason.contains("409")), "{answer:?}");
}

#[tokio::test]
async fn a_provider_that_is_away_or_says_anything_else_is_unknown() {
    let (running, provider) = provider().await;
    let charge = charge("tok_approve");
    // Somebody else's server: every page is 404 there, which says nothing of a charge that was just wanted.
    let elsewhere = at(format!("{}/elsewhere", running.url()));
    assert!(matches!(elsewhere.perform(id(11), &charge).await, Answer::Unknown(_)));
    let health = at(format!("{}/health?", running.url()));
    assert!(matches!(health.ask(id(12), &charge).await, Answer::Unknown(_)));
    running.stop().await.expect("an end");
    let answer = provider.perform(id(13), &charge).await;
    assert_eq!(answer, Answer::Unknown("it cannot be reached".into()));
    assert_eq!(provider.ask(id(14), &charge).await, answer);
}

#[test]
fn an_effect_that_nobody_answers_is_parked_before_the_provider_forgets_its_key() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let limit = at("http://127.0.0.1:1".into()).limit(&charge("tok_unknown"));
    assert_eq!(limit.after.as_secs(), 20 * 3600);
    let effect: Effect =
        serde_json::from_value(serde_json::json!(charge("tok_unknown"))).expect("what was stored is read");
    assert_eq!(effect, charge("tok_unknown"));
}
