//! The reaction table's rows of the user service, one test or more each.

mod common;

use common::*;
use quadrille_core::{Claims, Envelope, Input, Moment, Policy, Trace};
use quadrille_events::{
    Bytes, Secret, Uuid,
    common::Personal,
    digest_hex,
    user::{
        UserDeactivated, UserProfileUpdateRequested, UserProfileUpdated, UserRegistered, UserRegistrationRequested,
    },
    verification::{CustomerRejected, CustomerVerified},
};
use quadrille_testkit::{Given, given, start};
use quadrille_user::{State, Stated, Users, policy::Status};

fn ann() -> Given<Users> {
    given::<Users>().heard(registration(ANN, "ann", "ann@example.com"))
}

fn gone_ann() -> Given<Users> {
    ann().heard(deactivation(ANN))
}

fn rejected_ann() -> Given<Users> {
    given::<Users>().heard(registration(ANN, "", "ann@example.com"))
}

fn status(state: &State, user: Uuid) -> &Status {
    state.users.get(&user.to_string()).map_or(&Status::Unknown, |user| &user.status)
}

#[track_caller]
fn rejected(story: &Given<Users>, reason: &str, field: &str) {
    match &story.stated()[..] {
        [Stated::UserRegistrationRejected(rejected)] => {
            assert_eq!((rejected.reason.as_str(), rejected.field.as_str()), (reason, field));
            assert!(rejected.detail.starts_with(&format!("{field} must ")), "{}", rejected.detail);
            assert_eq!(rejected.request_digest.len(), 64);
        }
        other => panic!("{other:#?}"),
    }
}

#[track_caller]
fn refused(story: &Given<Users>, request: &str, reason: &str, field: &str) {
    match &story.stated()[..] {
        [Stated::UserRequestRefused(refused)] => {
            let told = (refused.request.as_str(), refused.reason.as_str(), refused.field.as_str());
            assert_eq!(told, (request, reason, field));
            assert!(refused.detail.starts_with(&format!("{field} must ")), "{}", refused.detail);
        }
        other => panic!("{other:#?}"),
    }
}

// Registration.

#[test]
fn a_sound_and_free_registration_makes_a_user() {
    let asked = registration(ANN, " Ann ", "Ann@Example.com");
    let story = given::<Users>().heard(asked.clone()).then_states([UserRegistered {
        // As it was given: mail goes to the address as given.
        user_name: " Ann ".into(),
        personal: personal("Ann@Example.com"),
        profile: asked.profile.clone(),
        request_digest: digest_hex(&asked),
        ..UserRegistered::new(ANN)
    }]);
    match status(story.state(), ANN) {
        Status::Active(account) => assert_eq!(account.password_hash, Some(Secret::new(HASH))),
        other => panic!("{other:?}"),
    }
    let names: Vec<&str> = story.state().names.keys().map(String::as_str).collect();
    assert_eq!(names, ["email:ann@example.com", "name:ann"]);
}

#[test]
fn an_email_address_is_no_must() {
    for email in [None, Some(String::new())] {
        let mut asked = registration(ANN, "ann", "");
        asked.personal.email = email;
        match &given::<Users>().heard(asked).stated()[..] {
            [Stated::UserRegistered(registered)] => assert_eq!(registered.personal.email, None),
            other => panic!("{other:#?}"),
        }
    }
}

#[test]
fn a_name_that_somebody_has_is_rejected_in_whatever_spelling() {
    let unseen = ["an\u{ad}n", "ann\u{200b}", "\u{202e}ann", "ann\u{3164}", "\u{feff}Ann"];
    for spelling in ["ann", "ANN", " Ann\u{3000}", "\u{ff21}\u{ff4e}\u{ff4e}"].into_iter().chain(unseen) {
        let story = ann().heard(registration(BOB, spelling, "bob@example.com"));
        rejected(&story, "user_name_taken", "user_name");
        assert_eq!(story.state().names.get("email:bob@example.com"), None);
    }
    for spelling in ["Ann@Example.com", "ann@example.com ", "ANN@EXAMPLE.COM", "ann\u{200b}@exam\u{ad}ple.com"] {
        rejected(&ann().heard(registration(BOB, "bob", spelling)), "email_taken", "personal.email");
    }
    let composed = given::<Users>().heard(registration(ANN, "Ren\u{e9}", "r@example.com"));
    rejected(&composed.heard(registration(BOB, "rene\u{301}", "b@example.com")), "user_name_taken", "user_name");
}

#[test]
fn a_name_that_nobody_sees_or_that_breaks_a_line_is_rejected() {
    for name in ["\u{200b}\u{2060}", "\u{3164}", "\u{301}", "\u{2800}", "a\u{2028}b", "a\u{2029}b", "ann\u{378}"] {
        rejected(&given::<Users>().heard(registration(ANN, name, "ann@example.com")), "bounds", "user_name");
        refused(&ann().heard(renamed(ANN, name)), "UserProfileUpdateRequested", "bounds", "user_name");
    }
    let mut asked = registration(ANN, "ann", "ann@example.com");
    asked.personal.address = Some("1 Harbour Street\u{2028}Bcc: bob@example.com".into());
    rejected(&given::<Users>().heard(asked), "bounds", "personal.address");
}

#[test]
fn a_profile_is_refused_with_what_is_wrong() {
    for (profile, what) in [
        ("{\"a\": 1e400}", "number out of range"),
        ("{\"a\": 1, \"a\": 2}", "a key comes twice"),
        ("[]", "JSON object"),
    ] {
        let asked =
            UserRegistrationRequested { profile: profile.into(), ..registration(ANN, "ann", "ann@example.com") };
        let story = given::<Users>().heard(asked);
        rejected(&story, "bounds", "profile");
        let [Stated::UserRegistrationRejected(rejected)] = &story.stated()[..] else { panic!("one answer") };
        assert!(rejected.detail.contains(what), "{}", rejected.detail);
    }
}

/// Who was registered before a bound was drawn closer changes the rest all the same.
#[test]
fn an_update_is_held_to_what_it_asks_for_only() {
    let mut state = ann().state().clone();
    let Some(Status::Active(account)) = state.users.get_mut(&ANN.to_string()).map(|user| &mut user.status) else {
        panic!("ann is active");
    };
    account.user_name = "\u{2800}".into();
    account.profile = "{\"a\": 1, \"a\": 2}".into();
    let input = Envelope {
        id: ORDER,
        cause: ORDER,
        key: ANN.to_string(),
        version: 0,
        trace: Trace::default(),
        input: Input::Record(moved(ANN, "new@example.com").into()),
    };
    let moment = Moment { now: start(), claims: Claims::default() };
    let facts = Users::react(&state, &moment, &input).facts;
    assert!(matches!(facts[..], [Stated::UserProfileUpdated(_)]), "{facts:#?}");
}

#[test]
fn a_user_name_is_not_an_email_address() {
    ann().heard(registration(BOB, "ann@example.com", "bob@example.com")).then_states_types(["UserRegistered"]);
}

/// A profile of so many bytes.
fn profile_of(bytes: usize) -> String {
    format!("{{\"a\": \"{}\"}}", "x".repeat(bytes - 9))
}

#[test]
fn bounds_themselves_are_within_bounds() {
    let mut asked = registration(ANN, "ann", "ann@example.com");
    asked.personal.sealed = Some(Bytes(vec![0; 16_384]));
    asked.profile = profile_of(65_536);
    assert_eq!(asked.profile.len(), 65_536);
    given::<Users>().heard(asked).then_states_types(["UserRegistered"]);
}

#[test]
fn a_registration_beyond_bounds_is_rejected_by_its_field() {
    let bounds = |field: &str, change: &dyn Fn(&mut UserRegistrationRequested)| {
        let mut asked = registration(ANN, "ann", "ann@example.com");
        change(&mut asked);
        let story = given::<Users>().heard(asked);
        rejected(&story, "bounds", field);
        assert!(story.state().names.is_empty());
    };
    for name in ["", "  ", "ann\n", "a\0", &"x".repeat(501), &"\u{fdfa}".repeat(500)] {
        bounds("user_name", &|asked| asked.user_name = name.into());
    }
    for email in ["ann", "a@b@c", "@", "ann@example.com\r\nBcc: bob@example.com", &format!("{}@b", "x".repeat(500))] {
        bounds("personal.email", &|asked| asked.personal.email = Some(email.into()));
    }
    bounds("personal.name", &|asked| asked.personal.name = Some("x".repeat(501)));
    bounds("personal.address", &|asked| asked.personal.address = Some("a\u{1}".into()));
    bounds("personal.sealed", &|asked| asked.personal.sealed = Some(Bytes(vec![0; 16_385])));
    for profile in ["", "[]", "{", "null", &profile_of(65_537)] {
        bounds("profile", &|asked| asked.profile = profile.into());
    }
}

#[test]
fn what_is_no_hash_of_the_accepted_kind_is_rejected_and_never_repeated() {
    for value in ["hunter2 hunter2", "", &HASH.replace("argon2id", "argon2i"), &HASH.replace("19456", "4194304")] {
        let mut asked = registration(ANN, "ann", "ann@example.com");
        asked.password_hash = Secret::new(value);
        let story = given::<Users>().heard(asked);
        rejected(&story, "password_hash", "password_hash");
        let all = format!("{:?}{:?}", story.stated(), story.state());
        assert!(!all.contains("hunter2") && !all.contains("4194304"), "{all}");
    }
}

#[test]
fn a_hash_is_in_no_fact_and_in_nothing_that_is_shown() {
    let story = ann();
    let all = format!("{:?}{:?}{:?}", story.stated(), story.state(), registration(ANN, "ann", "a@b"));
    assert!(!all.contains("argon2id"), "{all}");
}

#[test]
fn a_rejection_is_final_for_that_id() {
    let other = registration(ANN, "ann", "ann@example.com");
    let story = rejected_ann().heard(other);
    refused(&story, "UserRegistrationRequested", "conflicting_content", "user_id");
    assert!(matches!(status(story.state(), ANN), Status::Rejected { .. }));
    given::<Users>().heard(registration(ANN, "", "ann@example.com")).again().then_nothing();
}

#[test]
fn a_known_id_with_the_same_content_says_nothing_and_with_other_content_is_refused() {
    for story in [ann, gone_ann] {
        let before = story().state().users.get(&ANN.to_string()).map(|user| user.status.clone());
        let story = story().heard(registration(ANN, "ann", "ann@example.com")).then_nothing().heard(registration(
            ANN,
            "ann",
            "other@example.com",
        ));
        refused(&story, "UserRegistrationRequested", "conflicting_content", "user_id");
        assert_eq!(story.state().users.get(&ANN.to_string()).map(|user| user.status.clone()), before);
        assert_eq!(story.state().names.get("email:other@example.com"), None);
    }
}

// Profiles.

#[test]
fn what_is_given_replaces_an_empty_text_clears_the_rest_stays() {
    ann()
        .heard(UserProfileUpdateRequested {
            personal: Personal { name: Some("Ann Other".into()), address: Some(String::new()), ..Personal::default() },
            profile: Some("{}".into()),
            ..update(ANN)
        })
        .then_states([UserProfileUpdated {
            user_name: "ann".into(),
            personal: Personal {
                name: Some("Ann Other".into()),
                address: None,
                email: Some("ann@example.com".into()),
                sealed: None,
            },
            profile: "{}".into(),
            ..UserProfileUpdated::new(ANN)
        }]);
}

#[test]
fn every_update_is_answered_even_one_that_changes_nothing() {
    ann().heard(update(ANN)).then_states_types(["UserProfileUpdated"]);
}

#[test]
fn a_name_that_is_given_up_is_free_and_the_new_one_taken() {
    let story = ann()
        .heard(renamed(ANN, "anna"))
        .then_states_types(["UserProfileUpdated"])
        .heard(moved(ANN, "anna@example.com"))
        .then_states_types(["UserProfileUpdated"]);
    rejected(&story.clone().heard(registration(BOB, "Anna", "ann@example.com")), "user_name_taken", "user_name");
    rejected(&story.clone().heard(registration(BOB, "ann", "ANNA@example.com")), "email_taken", "personal.email");
    story.heard(registration(BOB, "ann", "ann@example.com")).then_states_types(["UserRegistered"]);
}

#[test]
fn another_spelling_of_ones_own_name_is_ones_own() {
    let story = ann().heard(renamed(ANN, "Ann")).then_states_types(["UserProfileUpdated"]);
    rejected(&story.heard(registration(BOB, "ann", "bob@example.com")), "user_name_taken", "user_name");
}

#[test]
fn an_email_address_can_be_cleared() {
    ann()
        .heard(moved(ANN, ""))
        .then_states_types(["UserProfileUpdated"])
        .heard(registration(BOB, "bob", "ann@example.com"))
        .then_states_types(["UserRegistered"]);
}

#[test]
fn an_update_to_what_somebody_else_has_or_beyond_bounds_is_refused() {
    let both = || ann().heard(registration(BOB, "bob", "bob@example.com"));
    let request = "UserProfileUpdateRequested";
    refused(&both().heard(renamed(ANN, "BOB")), request, "user_name_taken", "user_name");
    refused(&both().heard(moved(ANN, "Bob@example.com")), request, "email_taken", "personal.email");
    refused(&both().heard(renamed(ANN, "")), request, "bounds", "user_name");
    refused(&both().heard(moved(ANN, "ann")), request, "bounds", "personal.email");
    let profile = UserProfileUpdateRequested { profile: Some("[]".into()), ..update(ANN) };
    let story = both().heard(profile);
    refused(&story, request, "bounds", "profile");
    assert_eq!(status(story.state(), ANN), status(ann().state(), ANN));
}

#[test]
fn who_is_not_active_does_not_change() {
    let unknown = given::<Users>;
    for (story, reason) in
        [(unknown as fn() -> Given<Users>, "unknown_user"), (rejected_ann, "rejected"), (gone_ann, "deactivated")]
    {
        refused(&story().heard(renamed(ANN, "anna")), "UserProfileUpdateRequested", reason, "user_id");
        refused(&story().heard(deactivation(ANN)), "UserDeactivationRequested", reason, "user_id");
    }
}

// Deactivation.

#[test]
fn a_deactivated_user_keeps_its_names_and_loses_its_hash() {
    let story = ann()
        .heard(deactivation(ANN))
        .then_states([UserDeactivated { reason: "Left the shop.".into(), ..UserDeactivated::new(ANN) }]);
    match status(story.state(), ANN) {
        Status::Deactivated(account) => assert_eq!(account.password_hash, None),
        other => panic!("{other:?}"),
    }
    rejected(&story.heard(registration(BOB, "ann", "bob@example.com")), "user_name_taken", "user_name");
}

#[test]
fn a_deactivation_beyond_bounds_is_refused() {
    let mut asked = deactivation(ANN);
    asked.reason = "x".repeat(501);
    refused(&ann().heard(asked), "UserDeactivationRequested", "bounds", "reason");
}

// Verdicts.

#[test]
fn an_active_customer_is_verified_and_the_baton_goes_on() {
    ann()
        .heard(created(ORDER, ANN))
        .then_states([CustomerVerified::new(ORDER, created(ORDER, ANN).details)])
        .again()
        .then_nothing();
}

#[test]
fn who_is_not_active_may_not_order() {
    let unknown = given::<Users>;
    for (story, reason) in [
        (unknown as fn() -> Given<Users>, "unknown_customer"),
        (rejected_ann, "unknown_customer"),
        (gone_ann, "deactivated_customer"),
    ] {
        let story = story().heard(created(ORDER, ANN));
        match &story.stated()[..] {
            [Stated::CustomerRejected(CustomerRejected { customer_id, reason: told, detail, .. })] => {
                assert_eq!((*customer_id, told.as_str()), (ANN, reason));
                assert!(!detail.is_empty());
            }
            other => panic!("{other:#?}"),
        }
        story.again().then_nothing();
    }
}

#[test]
fn a_verdict_stands_whatever_becomes_of_the_user() {
    ann().heard(created(ORDER, ANN)).heard(deactivation(ANN)).heard(created(ORDER, ANN)).then_nothing();
    given::<Users>()
        .heard(created(ORDER, ANN))
        .heard(registration(ANN, "ann", "ann@example.com"))
        .heard(created(ORDER, ANN))
        .then_nothing();
}

#[test]
fn users_and_orders_are_numbered_each_by_itself() {
    let story = ann().heard(deactivation(ANN)).heard(created(ORDER, ANN)).heard(deactivation(ANN));
    assert_eq!(story.state().users[&ANN.to_string()].version, 3);
    assert_eq!(story.state().verdicts[&ORDER.to_string()].version, 1);
}
