//! Any order and any repetition of one order's inputs ends as the contract allows.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::{Fact, Records};
use quadrille_payment::{CHARGE, Effect, Outcome, Payment, REFUND, policy::Status};
use quadrille_testkit::{Given, given};

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Reserved,
    Cancelled,
    Retry,
    /// A worker claims an effect.
    Claim(&'static str),
    /// An effect is answered: done, or refused. A second time if it was answered before.
    Answer(&'static str, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let effect = prop_oneof![Just(CHARGE), Just(REFUND)];
    prop_oneof![
        Just(Step::Reserved),
        Just(Step::Cancelled),
        Just(Step::Retry),
        effect.clone().prop_map(Step::Claim),
        (effect, any::<bool>()).prop_map(|(effect, done)| Step::Answer(effect, done)),
    ]
}

/// What the provider did.
#[derive(Default)]
struct Provider {
    captures: u32,
    refunds: u32,
}

impl Provider {
    fn take(&mut self, story: Given<Payment>, step: Step) -> Given<Payment> {
        match step {
            Step::Reserved => story.heard(reserved()),
            Step::Cancelled => story.heard(cancelled()),
            Step::Retry => story.heard(retry()),
            Step::Claim(name) if story.next_effect(ORDER, name).is_some() => story.claimed(ORDER, name),
            Step::Claim(_) => story,
            Step::Answer(name, done) => match story.next_effect(ORDER, name) {
                Some(effect) => story.answered(ORDER, name, self.answer(&effect, done)).again().then_nothing(),
                None => story,
            },
        }
    }

    fn answer(&mut self, effect: &Effect, done: bool) -> Outcome {
        match (effect, done) {
            (Effect::Charge { .. }, true) => {
                self.captures += 1;
                captured()
            }
            (Effect::Charge { .. }, false) => declined(),
            (Effect::Refund { .. }, true) => {
                self.refunds += 1;
                refunded()
            }
            (Effect::Refund { .. }, false) => refused(),
        }
    }
}

fn count(story: &Given<Payment>, name: &str) -> usize {
    let of = |fact: &&Fact<Payment>| fact.record.record_type().name.rsplit('.').next() == Some(name);
    story.facts().iter().filter(of).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn money_is_taken_once_and_goes_back_once(steps in prop::collection::vec(step(), 0..24)) {
        let (mut story, mut provider) = (given(), Provider::default());
        for step in &steps {
            story = provider.take(story, *step);
        }
        prop_assert!(provider.captures <= 1 && provider.refunds <= 1);
        prop_assert!(count(&story, "PaymentCaptured") + count(&story, "PaymentDeclined") <= 1);
        prop_assert!(count(&story, "PaymentRefunded") <= 1);
        let retries = steps.iter().filter(|step| matches!(step, Step::Retry)).count();
        let again: i32 = story.state().accounts.values().map(|account| (account.refunds - 1).max(0)).sum();
        let answers = count(&story, "PaymentRequestRefused") as i32 + again;
        prop_assert_eq!(retries as i32, answers, "each request has one immediate answer: a refusal or a new refund");

        // Then all that is open is answered, and the order's question and its end are heard at last.
        let end = [Step::Reserved, Step::Cancelled, Step::Answer(CHARGE, true), Step::Answer(REFUND, true)];
        let story = end.into_iter().fold(story, |story, step| provider.take(story, step));
        prop_assert!(story.service().effects.is_empty());
        prop_assert_eq!(count(&story, "PaymentCaptured") + count(&story, "PaymentDeclined"), 1, "the question is answered once");
        match story.state().accounts[&ORDER.to_string()].status {
            Status::Declined => prop_assert_eq!(provider.captures, 0),
            Status::Refunded => prop_assert_eq!((provider.captures, provider.refunds), (1, 1)),
            Status::RefundFailed => prop_assert_eq!((provider.captures, provider.refunds), (1, 0)),
            status => prop_assert!(false, "it does not end as {:?}", status),
        }
    }
}
