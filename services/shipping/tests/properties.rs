//! Any order and any repetition of one order's inputs ends as the contract allows.

mod common;

use common::*;
use proptest::prelude::*;
use quadrille_core::{Envelope, Input, Moment, Named, Records, Trace, ids};
use quadrille_events::Uuid;
use quadrille_shipping::{
    Effect, HAND_OVER, Heard, Outcome, RECALL, Shipping, State, Stated, TRACK, Timer, policy::Status,
};
use quadrille_testkit::{start, step_on_touched_rows};

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

/// The service's world for one order: its rows, its effects, its timer, and all that it stated.
#[derive(Default)]
struct World {
    state: State,
    /// Open effects in their order: id, effect, claimed. As the runtime keeps them.
    effects: Vec<(Uuid, Effect, bool)>,
    timer: bool,
    parcel: Parcel,
    hand_overs: u32,
    stated: Vec<Stated>,
    inputs: u32,
}

impl World {
    fn input(&mut self, input: Input<Shipping>) {
        self.inputs += 1;
        let envelope = Envelope {
            id: ids::v5(&["step", &self.inputs.to_string()]),
            cause: Uuid::nil(),
            key: ORDER.to_string(),
            version: 0,
            trace: Trace::default(),
            input,
        };
        let claimed = self.effects.iter().filter(|(.., claimed)| *claimed);
        let moment =
            Moment { now: start(), claims: claimed.map(|(_, effect, _)| (ORDER.to_string(), effect.name())).collect() };
        let decided = step_on_touched_rows(&mut self.state, &moment, &envelope, |from, to, row| {
            let shipment = from.shipments.get_key_value(&row.key);
            to.shipments.extend(shipment.map(|(key, shipment)| (key.clone(), shipment.clone())));
        });

        for (_, name) in &decided.withdrawn {
            assert!(!moment.claims.contains(&ORDER.to_string(), name), "a claimed effect was withdrawn");
            self.effects.retain(|(_, effect, _)| effect.name() != *name);
        }
        self.effects.extend(decided.effects.into_iter().map(|row| (row.id, row.effect, false)));
        self.timer = !decided.timers.is_empty() || (self.timer && decided.cleared.is_empty());
        for fact in decided.facts {
            self.stated.push(fact.record);
            assert_eq!(fact.version, self.stated.len() as i64, "versions have no gaps");
        }
    }

    /// The first open effect of a kind is answered. What the carrier says is true when it says it.
    fn answer(&mut self, kind: &str, way: u8) {
        let Some(index) = self.effects.iter().position(|(_, effect, _)| effect.kind() == kind) else { return };
        let (id, effect, _) = self.effects.remove(index);
        let outcome = match &effect {
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
        };
        self.input(Input::Outcome { effect: id, outcome });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Confirmed => self.input(Input::Record(Heard::from(confirmed()))),
            Step::RecallRequested => self.input(Input::Record(Heard::from(recall_requested()))),
            Step::Answer(kind, way) => self.answer(kind, way),
            Step::Fire => {
                if std::mem::take(&mut self.timer) {
                    self.input(Input::Timer(Timer::AskAgain));
                }
            }
            Step::Claim(kind) => {
                if let Some((.., claimed)) = self.effects.iter_mut().find(|(_, effect, _)| effect.kind() == kind) {
                    *claimed = true;
                }
            }
        }
    }

    fn count(&self, names: &[&str]) -> usize {
        let of = |fact: &&Stated| names.contains(&fact.record_type().name.rsplit('.').next().unwrap_or_default());
        self.stated.iter().filter(of).count()
    }

    fn status(&self) -> Status {
        self.state.shipments[&ORDER.to_string()].status
    }
}

const ENDS: [&str; 3] = ["ShipmentAborted", "ShipmentDelivered", "ShipmentRecalled"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_shipment_ends_once_and_truly(steps in prop::collection::vec(step(), 0..32), last_way in 1..3_u8) {
        let mut world = World::default();
        for step in &steps {
            world.step(*step);
            prop_assert!(world.effects.iter().filter(|(_, effect, _)| effect.kind() == TRACK).count() <= 2);
        }
        prop_assert!(world.hand_overs <= 1);
        prop_assert!(world.count(&ENDS) <= 1);

        // Then all that is open is answered, and the order's question is heard at last.
        world.step(Step::Confirmed);
        for _ in 0..20 {
            for kind in [HAND_OVER, TRACK, RECALL] {
                world.step(Step::Answer(kind, last_way));
            }
            world.step(Step::Fire);
        }
        prop_assert_eq!(world.effects.len(), 0, "nothing is asked for ever");
        prop_assert!(!world.timer);
        prop_assert_eq!(world.count(&ENDS), 1, "the question is answered once");
        let parcel = match world.status() {
            Status::Aborted => Parcel::Here,
            Status::Delivered => Parcel::With("the customer"),
            Status::Recalled => Parcel::With("us"),
            status => return Err(TestCaseError::fail(format!("it does not end as {status:?}"))),
        };
        prop_assert_eq!(world.parcel, parcel, "what is stated is where the parcel is");
        prop_assert_eq!(world.count(&["ShipmentDispatched"]), world.hand_overs as usize);
    }
}

#[test]
fn an_outcome_that_comes_twice_states_nothing_new() {
    let outcomes: [Outcome; 2] = [accepted(), DELIVERED];
    let mut world = World::default();
    world.step(Step::Confirmed);
    for outcome in outcomes {
        let (effect, ..) = world.effects.remove(0);
        world.input(Input::Outcome { effect, outcome: outcome.clone() });
        let stated = world.stated.len();
        world.input(Input::Outcome { effect, outcome });
        assert_eq!(world.stated.len(), stated);
    }
    assert_eq!(world.count(&ENDS), 1);
}
