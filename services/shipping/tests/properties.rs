//! Any order and any repetition of one order's inputs ends as the contract allows.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::{Fact, Named, Records};
use quadrille_shipping::{Effect, HAND_OVER, Outcome, RECALL, Shipping, TRACK, Timer, policy::Status};
use quadrille_testkit::{Given, given};

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Confirmed,
    RecallRequested,
    /// The timer fires, if it is set.
    Fire,
    /// A worker claims the first open effect of a kind.
    Claim(&'static str),
    /// The first open effect of a kind is answered: by the way of the world, drawn from 0 to 2.
    Answer(&'static str, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let effect = prop_oneof![Just(HAND_OVER), Just(TRACK), Just(RECALL)];
    prop_oneof![
        Just(Step::Confirmed),
        Just(Step::RecallRequested),
        Just(Step::Fire),
        effect.clone().prop_map(Step::Claim),
        (effect, 0..3_u8).prop_map(|(effect, way)| Step::Answer(effect, way)),
    ]
}

/// The carrier's truth: where the parcel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Parcel {
    #[default]
    Here,
    UnderWay,
    With(&'static str),
}

/// What the carrier has and did.
#[derive(Default)]
struct Carrier {
    parcel: Parcel,
    hand_overs: usize,
}

impl Carrier {
    fn take(&mut self, story: Given<Shipping>, step: Step) -> Given<Shipping> {
        match step {
            Step::Confirmed => story.heard(confirmed()),
            Step::RecallRequested => story.heard(recall_requested()),
            Step::Fire if story.is_set(ORDER, &Timer::AskAgain) => story.fired(ORDER, Timer::AskAgain),
            Step::Fire => story,
            Step::Claim(kind) => match story.next_effect(ORDER, kind) {
                Some(effect) => story.claimed(ORDER, &effect.name()),
                None => story,
            },
            Step::Answer(kind, way) => match story.next_effect(ORDER, kind) {
                Some(effect) => story.answered(ORDER, &effect.name(), self.answer(&effect, way)),
                None => story,
            },
        }
    }

    /// What the carrier says is true when it says it.
    fn answer(&mut self, effect: &Effect, way: u8) -> Outcome {
        match effect {
            Effect::HandOver { .. } if way == 0 => refused(),
            Effect::HandOver { .. } => {
                self.hand_overs += 1;
                self.parcel = Parcel::UnderWay;
                accepted()
            }
            Effect::Track { .. } | Effect::Recall { .. } => {
                if self.parcel == Parcel::UnderWay && way > 0 {
                    self.parcel = Parcel::With(if way == 1 { "the customer" } else { "us" });
                }
                match self.parcel {
                    Parcel::With("the customer") => DELIVERED,
                    Parcel::With(_) => RETURNED,
                    Parcel::Here | Parcel::UnderWay => UNDER_WAY,
                }
            }
        }
    }
}

fn count(story: &Given<Shipping>, names: &[&str]) -> usize {
    let of =
        |fact: &&Fact<Shipping>| names.contains(&fact.record.record_type().name.rsplit('.').next().unwrap_or_default());
    story.facts().iter().filter(of).count()
}

const ENDS: [&str; 3] = ["ShipmentAborted", "ShipmentDelivered", "ShipmentRecalled"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_shipment_ends_once_and_truly(steps in prop::collection::vec(step(), 0..32), last_way in 1..3_u8) {
        let (mut story, mut carrier) = (given(), Carrier::default());
        for step in steps {
            story = carrier.take(story, step);
            let tracked = story.service().effects.iter().filter(|open| open.row.effect.kind() == TRACK);
            prop_assert!(tracked.count() <= 2);
        }
        prop_assert!(carrier.hand_overs <= 1);
        prop_assert!(count(&story, &ENDS) <= 1);

        // Then all that is open is answered, and the order's question is heard at last.
        story = carrier.take(story, Step::Confirmed);
        for _ in 0..20 {
            for kind in [HAND_OVER, TRACK, RECALL] {
                story = carrier.take(story, Step::Answer(kind, last_way));
            }
            story = carrier.take(story, Step::Fire);
        }
        prop_assert_eq!(story.service().effects.len(), 0, "nothing is asked for ever");
        prop_assert!(story.service().timers.is_empty());
        prop_assert_eq!(count(&story, &ENDS), 1, "the question is answered once");
        let parcel = match story.state().shipments[&ORDER.to_string()].status {
            Status::Aborted => Parcel::Here,
            Status::Delivered => Parcel::With("the customer"),
            Status::Recalled => Parcel::With("us"),
            status => return Err(TestCaseError::fail(format!("it does not end as {status:?}"))),
        };
        prop_assert_eq!(carrier.parcel, parcel, "what is stated is where the parcel is");
        prop_assert_eq!(count(&story, &["ShipmentDispatched"]), carrier.hand_overs);
    }
}

#[test]
fn an_outcome_that_comes_twice_states_nothing_new() {
    let story = given::<Shipping>().heard(confirmed());
    let story = story.answered(ORDER, HAND_OVER, accepted()).again();
    assert!(story.stated().is_empty());
    let story = story.answered(ORDER, TRACK, DELIVERED).again();
    assert!(story.stated().is_empty());
    assert_eq!(count(&story, &ENDS), 1);
}
