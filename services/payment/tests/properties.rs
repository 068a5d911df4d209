//! Any order and any repetition of one order's inputs ends as the contract allows.

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::prelude::*;
use quadrille_core::{Envelope, Input, Moment, Records, Trace, ids};
use quadrille_events::Uuid;
use quadrille_payment::{CHARGE, Effect, Heard, Outcome, Payment, REFUND, State, Stated, policy::Status};
use quadrille_testkit::{start, step_on_touched_rows};

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

/// The service's world for one order: its rows, its effects, and all that it stated.
#[derive(Default)]
struct World {
    state: State,
    /// By name: id, claimed. As the runtime keeps them.
    effects: BTreeMap<String, (Uuid, Effect, bool)>,
    stated: Vec<Stated>,
    captures: u32,
    refunds: u32,
    inputs: u32,
}

impl World {
    fn input(&mut self, input: Input<Payment>) {
        self.inputs += 1;
        let envelope = Envelope {
            id: ids::v5(&["step", &self.inputs.to_string()]),
            cause: Uuid::nil(),
            key: ORDER.to_string(),
            version: 0,
            trace: Trace::default(),
            input,
        };
        let claimed = self.effects.iter().filter(|(_, (.., claimed))| *claimed);
        let moment =
            Moment { now: start(), claims: claimed.map(|(name, _)| (ORDER.to_string(), name.clone())).collect() };
        let decided = step_on_touched_rows(&mut self.state, &moment, &envelope, |from, to, row| {
            let account = from.accounts.get_key_value(&row.key);
            to.accounts.extend(account.map(|(key, account)| (key.clone(), account.clone())));
        });

        for (_, name) in &decided.withdrawn {
            let withdrawn = self.effects.remove(name);
            assert!(withdrawn.is_some_and(|(.., claimed)| !claimed), "a claimed effect was withdrawn");
        }
        for row in decided.effects {
            let name = quadrille_core::Named::name(&row.effect);
            let open = self.effects.insert(name, (row.id, row.effect, false));
            assert!(open.is_none(), "an effect is wanted twice");
        }
        for fact in decided.facts {
            self.stated.push(fact.record);
            assert_eq!(fact.version, self.stated.len() as i64, "versions have no gaps");
        }
    }

    fn answer(&mut self, name: &str, done: bool) {
        let Some((effect, wanted, _)) = self.effects.remove(name) else { return };
        let outcome = match (&wanted, done) {
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
        };
        self.input(Input::Outcome { effect, outcome: outcome.clone() });
        // The inbox knows the second one; where it has forgotten, the state must.
        self.repeat(effect, outcome);
    }

    fn repeat(&mut self, effect: Uuid, outcome: Outcome) {
        let stated = self.stated.len();
        self.input(Input::Outcome { effect, outcome });
        assert_eq!(self.stated.len(), stated, "a repeated outcome states something");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Reserved => self.input(Input::Record(Heard::from(reserved()))),
            Step::Cancelled => self.input(Input::Record(Heard::from(cancelled()))),
            Step::Retry => self.input(Input::Record(Heard::from(retry()))),
            Step::Answer(name, done) => self.answer(name, done),
            Step::Claim(name) => {
                if let Some((.., claimed)) = self.effects.get_mut(name) {
                    *claimed = true;
                }
            }
        }
    }

    fn count(&self, name: &str) -> usize {
        let of = |fact: &&Stated| fact.record_type().name.rsplit('.').next() == Some(name);
        self.stated.iter().filter(of).count()
    }

    fn status(&self) -> Status {
        self.state.accounts[&ORDER.to_string()].status
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn money_is_taken_once_and_goes_back_once(steps in prop::collection::vec(step(), 0..24)) {
        let mut world = World::default();
        for step in &steps {
            world.step(*step);
        }
        prop_assert!(world.captures <= 1 && world.refunds <= 1);
        prop_assert!(world.count("PaymentCaptured") + world.count("PaymentDeclined") <= 1);
        prop_assert!(world.count("PaymentRefunded") <= 1);
        let retries = steps.iter().filter(|step| matches!(step, Step::Retry)).count();
        let answers = world.count("PaymentRequestRefused") as i32 + world.state.accounts.values().map(|account| (account.refunds - 1).max(0)).sum::<i32>();
        prop_assert_eq!(retries as i32, answers, "each request has one immediate answer: a refusal or a new refund");

        // Then all that is open is answered, and the order's question and its end are heard at last.
        world.step(Step::Reserved);
        world.step(Step::Cancelled);
        while let Some(name) = world.effects.keys().next().cloned() {
            world.answer(&name, true);
        }
        prop_assert_eq!(world.count("PaymentCaptured") + world.count("PaymentDeclined"), 1, "the question is answered once");
        match world.status() {
            Status::Declined => prop_assert_eq!(world.captures, 0),
            Status::Refunded => prop_assert_eq!((world.captures, world.refunds), (1, 1)),
            Status::RefundFailed => prop_assert_eq!((world.captures, world.refunds), (1, 0)),
            status => prop_assert!(false, "it does not end as {:?}", status),
        }
    }
}
