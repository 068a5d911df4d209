//! Any order and any repetition of a customer's inputs ends as the contract allows: each mail is stated once, sent or failed.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::*;
use proptest::prelude::*;
use quadrille_core::Named;
use quadrille_notification::{About, Heard, MAIL, Notification, Outcome, Stated, Timer};
use quadrille_testkit::{Given, given};

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

fn take(story: Given<Notification>, step: Step) -> Given<Notification> {
    match step {
        Step::Due(order, about) => story.heard_as(1, due(order, ABOUT[about])),
        // The user had no address at first, lost it in between, and has one in the end.
        Step::User(1) => story.heard_as(1, registered(None)),
        Step::User(3) => story.heard_as(3, moved(None)),
        Step::User(version) => story.heard_as(version, moved(Some("ann@example.com"))),
        Step::Fire(order, about) => {
            let timer = Timer::GiveUp { customer_id: CUSTOMER, about: ABOUT[about] };
            if story.is_set(id(order), &timer) { story.fired(id(order), timer) } else { story }
        }
        Step::Answer(order, taken) => match story.next_effect(id(order), MAIL) {
            Some(mail) => {
                let outcome = if taken { Outcome::Sent { about: mail.about } } else { refused(mail.about) };
                story.answered(id(order), &mail.name(), outcome).again().then_nothing()
            }
            None => story,
        },
    }
}

fn due(order: u128, about: About) -> Heard {
    match about {
        About::OrderConfirmed => confirmed(id(order)).into(),
        About::OrderShipped => shipped(id(order)).into(),
        About::OrderCancelled => cancelled(id(order)).into(),
        About::PaymentRefunded => refunded(id(order)).into(),
    }
}

fn told(story: &Given<Notification>) -> BTreeMap<(String, String), usize> {
    let mut told = BTreeMap::new();
    for fact in story.facts() {
        let kind = match &fact.record {
            Stated::NotificationSent(sent) => &sent.kind,
            Stated::NotificationFailed(failed) => &failed.kind,
        };
        *told.entry((fact.key.clone(), kind.clone())).or_default() += 1;
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn each_mail_is_told_of_once(steps in prop::collection::vec(step(), 0..40), address_comes in any::<bool>()) {
        let mut story = given();
        for step in &steps {
            story = take(story, *step);
            for (customer, address) in &story.state().addresses {
                prop_assert_eq!(customer, &CUSTOMER.to_string());
                let timers: BTreeSet<_> = story.service().timers.iter().map(|row| row.key.clone()).collect();
                prop_assert_eq!(&address.waiting, &timers, "who waits is listed, and has a timer");
            }
        }
        // In the end the address comes or does not, and all that is open is answered.
        if address_comes {
            story = take(story, Step::User(5));
        }
        let mails = || (1..3).flat_map(|order| (0..4).map(move |about| (order, about)));
        let ends = mails().map(|(order, about)| Step::Fire(order, about));
        let ends = ends.chain(mails().map(|(order, _)| Step::Answer(order, true)));
        let story = ends.fold(story, take);
        prop_assert!(story.service().effects.is_empty() && story.service().timers.is_empty());
        let due = steps.iter().filter_map(|step| match step {
            Step::Due(order, about) => Some(((id(*order).to_string(), ABOUT[*about].name().to_owned()), 1)),
            _ => None,
        });
        prop_assert_eq!(told(&story), due.collect());
    }
}
