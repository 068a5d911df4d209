//! What holds whatever the user service hears, in whatever order and however often.

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::{collection::vec, prelude::*};
use quadrille_events::Uuid;
use quadrille_testkit::{Given, given};
use quadrille_user::{Heard, State, Stated, Users, policy::Status};

const USER_IDS: [Uuid; 3] = [ANN, BOB, Uuid::from_u128(0xc0)];
const ORDERS: [Uuid; 2] = [ORDER, Uuid::from_u128(0x0b)];

/// Anything that may be heard, of few users and fewer names, so that inputs meet.
fn anything() -> impl Strategy<Value = Heard> {
    let user = || prop::sample::select(&USER_IDS[..]);
    let name = || prop::sample::select(&["ann", "ANN", "bob", "Ren\u{e9}", "rene\u{301}", "", "a\0"][..]);
    let email = || prop::sample::select(&["ann@b.c", "Ann@B.c", "bob@b.c", "", "no address"][..]);
    prop_oneof![
        4 => (user(), name(), email()).prop_map(|(user, name, email)| registration(user, name, email).into()),
        2 => (user(), name()).prop_map(|(user, name)| renamed(user, name).into()),
        2 => (user(), email()).prop_map(|(user, email)| moved(user, email).into()),
        1 => user().prop_map(|user| deactivation(user).into()),
        // One order's customer never changes: the baton.
        2 => prop::sample::select(vec![0, 1]).prop_map(|at| created(ORDERS[at], USER_IDS[at]).into()),
    ]
}

/// Plays a story; every input has one answer at most, every first request exactly one.
fn play(story: Vec<Heard>) -> Given<Users> {
    let mut played = given();
    for heard in story {
        let must_answer = matches!(heard, Heard::UserProfileUpdateRequested(_) | Heard::UserDeactivationRequested(_));
        played = played.heard(heard);
        let stated = played.stated();
        assert!(stated.len() <= 1 && (stated.len() == 1 || !must_answer), "{stated:#?}");
        names_are_held_by_who_has_them(played.state());
    }
    played
}

/// Each registered user holds its names, nobody holds another, and no two hold one.
fn names_are_held_by_who_has_them(state: &State) {
    let mut expected = BTreeMap::<String, Uuid>::new();
    for (id, user) in &state.users {
        let (Status::Active(account) | Status::Deactivated(account)) = &user.status else {
            continue;
        };
        let id: Uuid = id.parse().expect("a key is an id");
        // The rule again, for these names only: the service's own is tested beside it.
        let normal = |text: &str| text.to_lowercase().replace("e\u{301}", "\u{e9}");
        let mut names = vec![format!("name:{}", normal(&account.user_name))];
        names.extend(account.personal.email.iter().map(|email| format!("email:{}", normal(email))));
        for name in names {
            assert_eq!(expected.insert(name.clone(), id), None, "two users hold {name}");
        }
    }
    let held: BTreeMap<String, Uuid> =
        state.names.iter().filter_map(|(name, holder)| Some((name.clone(), (*holder)?))).collect();
    assert_eq!(held, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn anything_in_any_order_and_however_often(story in vec(anything(), 0..50)) {
        let asked = |order: Uuid| story.iter().any(|heard| matches!(heard, Heard::OrderCreated(created) if created.order_id == order));
        let expected = ORDERS.map(|order| usize::from(asked(order)));
        let played = play(story.clone());
        let facts = played.facts();

        for (order, expected) in ORDERS.into_iter().zip(expected) {
            let verdicts = facts.iter().filter(|fact| {
                fact.key == order.to_string()
                    && matches!(fact.record, Stated::CustomerVerified(_) | Stated::CustomerRejected(_))
            });
            prop_assert_eq!(verdicts.count(), expected, "every question is answered once");
        }
        for user in USER_IDS {
            let beginnings = facts.iter().filter(|fact| {
                fact.key == user.to_string()
                    && matches!(fact.record, Stated::UserRegistered(_) | Stated::UserRegistrationRejected(_))
            });
            prop_assert!(beginnings.count() <= 1, "a user begins once");
        }
    }

    /// The same registration again has no answer, whatever came between.
    #[test]
    fn a_registration_again_is_no_registration(story in vec(anything(), 1..30)) {
        let first = story.iter().find_map(|heard| match heard {
            Heard::UserRegistrationRequested(asked) => Some(asked.clone()),
            _ => None,
        });
        prop_assume!(first.is_some());
        let first = first.map(Heard::from);
        let once = play(story.clone());
        let twice = play(story.into_iter().chain(first).collect());
        prop_assert_eq!(once.facts().len(), twice.facts().len());
    }
}
