//! What holds whatever the user service hears, in whatever order and however often.

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::{collection::vec, prelude::*, sample::select};
use quadrille_events::Uuid;
use quadrille_testkit::{Given, given};
use quadrille_user::{Heard, State, Stated, Users, policy::Status};

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
    fn anything_in_any_order_and_however_often(story in vec(anything(select(&USER_IDS[..])), 0..50)) {
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
    fn a_registration_again_is_no_registration(story in vec(anything(select(&USER_IDS[..])), 1..30)) {
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
