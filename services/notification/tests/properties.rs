//! Any order and any repetition of a customer's inputs ends as the contract allows: each mail is stated once, sent or failed.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use proptest::prelude::*;
use quadrille_core::{Envelope, Input, Moment, Named, Records, Trace, ids};
use quadrille_events::Uuid;
use quadrille_notification::{
    About, Heard, Mail, Notification, Outcome, State, Stated, Timer,
    policy::{ADDRESS, NOTICE},
};
use quadrille_testkit::{start, step_on_touched_rows};

/// What may happen next. Orders are numbered from 1, mails as [`ABOUT`] has them.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A mail becomes due.
    Due(u128, usize),
    /// The user's event of this version, 1 to 5.
    User(i64),
    /// A timer fires, if it is set.
    Fire(u128, usize),
    /// The first mail of an order is answered: taken, or refused.
    Answer(u128, bool),
}

const ABOUT: [About; 4] = [About::OrderConfirmed, About::OrderShipped, About::OrderCancelled, About::PaymentRefunded];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..3_u128, 0..4_usize).prop_map(|(order, mail)| Step::Due(order, mail)),
        1 => (1..6_i64).prop_map(Step::User),
        1 => (1..3_u128, 0..4_usize).prop_map(|(order, mail)| Step::Fire(order, mail)),
        2 => (1..3_u128, any::<bool>()).prop_map(|(order, taken)| Step::Answer(order, taken)),
    ]
}

#[derive(Default)]
struct World {
    state: State,
    /// Open mails in their order.
    mails: Vec<(Uuid, Mail)>,
    timers: BTreeSet<(String, String)>,
    stated: BTreeMap<Uuid, Vec<Stated>>,
    due: BTreeSet<(u128, &'static str)>,
    inputs: u32,
}

impl World {
    fn input(&mut self, key: Uuid, version: i64, input: Input<Notification>) {
        self.inputs += 1;
        let envelope = Envelope {
            id: ids::v5(&["step", &self.inputs.to_string()]),
            cause: Uuid::nil(),
            key: key.to_string(),
            version,
            trace: Trace::default(),
            input,
        };
        let moment = Moment { now: start(), claims: [].into_iter().collect() };
        let decided = step_on_touched_rows(&mut self.state, &moment, &envelope, |from, to, row| match row.table {
            ADDRESS => to.addresses.extend(from.addresses.get(&row.key).map(|found| (row.key.clone(), found.clone()))),
            NOTICE => to.notices.extend(from.notices.get(&row.key).map(|found| (row.key.clone(), found.clone()))),
            other => panic!("no table {other}"),
        });
        for row in decided.effects {
            let open = self.mails.iter().any(|(_, mail)| mail.name() == row.effect.name());
            assert!(!open, "a mail is wanted twice");
            self.mails.push((row.id, row.effect));
        }
        for cleared in &decided.cleared {
            self.timers.remove(cleared);
        }
        self.timers.extend(decided.timers.into_iter().map(|row| (row.key, row.timer.name())));
        for fact in decided.facts {
            let stated = self.stated.entry(key).or_default();
            stated.push(fact.record);
            assert_eq!(fact.version, stated.len() as i64, "versions have no gaps");
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Due(order, about) => {
                self.due.insert((order, ABOUT[about].name()));
                let heard: Heard = match ABOUT[about] {
                    About::OrderConfirmed => confirmed(id(order)).into(),
                    About::OrderShipped => shipped(id(order)).into(),
                    About::OrderCancelled => cancelled(id(order)).into(),
                    About::PaymentRefunded => refunded(id(order)).into(),
                };
                self.input(id(order), 1, Input::Record(heard));
            }
            // The user had no address at first, lost it in between, and has one in the end.
            Step::User(version) => {
                let heard: Heard = match version {
                    1 => registered(None).into(),
                    3 => moved(None).into(),
                    _ => moved(Some("ann@example.com")).into(),
                };
                self.input(CUSTOMER, version, Input::Record(heard));
            }
            Step::Fire(order, about) => {
                let timer = Timer::GiveUp { customer_id: CUSTOMER, about: ABOUT[about] };
                if self.timers.remove(&(id(order).to_string(), timer.name())) {
                    self.input(id(order), 0, Input::Timer(timer));
                }
            }
            Step::Answer(order, taken) => {
                let Some(index) = self.mails.iter().position(|(_, mail)| mail.order_id == id(order)) else { return };
                let (effect, mail) = self.mails.remove(index);
                let outcome = if taken { Outcome::Sent { about: mail.about } } else { refused(mail.about) };
                for _ in 0..2 {
                    self.input(id(order), 0, Input::Outcome { effect, outcome: outcome.clone() });
                }
            }
        }
    }

    fn told(&self) -> Vec<(Uuid, String)> {
        let kind = |fact: &Stated| match fact {
            Stated::NotificationSent(sent) => sent.kind.clone(),
            Stated::NotificationFailed(failed) => failed.kind.clone(),
        };
        self.stated.values().flatten().map(|fact| (fact.key().parse().unwrap_or_default(), kind(fact))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_mail_is_told_of_once(steps in prop::collection::vec(step(), 0..40), address_comes in any::<bool>()) {
        let mut world = World::default();
        for step in &steps {
            world.step(*step);
            for (customer, address) in &world.state.addresses {
                prop_assert_eq!(customer, &CUSTOMER.to_string());
                let timers: BTreeSet<_> = world.timers.iter().map(|(order, _)| order.clone()).collect();
                prop_assert_eq!(&address.waiting, &timers, "who waits is listed, and has a timer");
            }
        }
        // In the end the address comes or does not, and all that is open is answered.
        if address_comes {
            world.step(Step::User(5));
        }
        for (order, about) in (1..3).flat_map(|order| (0..4).map(move |about| (order, about))) {
            world.step(Step::Fire(order, about));
        }
        for order in [1, 1, 1, 1, 2, 2, 2, 2] {
            world.step(Step::Answer(order, true));
        }
        prop_assert!(world.mails.is_empty() && world.timers.is_empty());
        let mut told = world.told();
        told.sort();
        let due: Vec<_> = world.due.iter().map(|(order, about)| (id(*order), (*about).to_owned())).collect();
        prop_assert_eq!(told, due);
    }
}
