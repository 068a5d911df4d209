//! What one input comes to: ids, causes, versions, and what is left of two inputs in one transaction.

mod common;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use common::*;
use quadrille_core::{
    Claims, Decision, Declaration, Envelope, Fact, Input, Moment, Named, Nothing, Perform, Policy, Processed, Records,
    Row, SetTimer, Trace, changed, ids, process,
};
use uuid::Uuid;

const INPUT: Uuid = Uuid::from_u128(7);

fn moment() -> Moment {
    Moment { now: NOW, claims: Claims::default() }
}

/// One input's way in a state of its own.
fn came_to(input: &Envelope<Tally>) -> Processed<Tally> {
    process(&mut State::default(), &moment(), input)
}

#[test]
fn a_fact_has_its_record_s_key_and_its_input_s_cause_trace_and_time() {
    let cause = Uuid::from_u128(1);
    let input = Envelope { cause, ..asked(7, "a", &[Do::Note]) };
    let Fact { cause: said, key, time, trace, record, .. } = came_to(&input).facts.remove(0);
    assert_eq!((said, key.as_str(), time, trace), (Some(cause), "a", NOW, input.trace));
    assert_eq!(record, noted("a", 0, &[]));
}

#[test]
fn facts_of_one_type_are_told_apart_by_their_place_among_them() {
    let mut state = State::default();
    process(&mut state, &moment(), &joined(6, "a", "g"));
    let came_to = process(&mut state, &moment(), &asked(7, "a", &[Do::Note, Do::Sum, Do::Note, Do::Note]));
    let id = |ty, ordinal| ids::fact("tally", INPUT, ty, ordinal);
    assert_eq!(
        came_to.facts.iter().map(|fact| fact.id).collect::<Vec<_>>(),
        [id("test.tally.Noted", 0), id("test.tally.Summed", 0), id("test.tally.Noted", 1), id("test.tally.Noted", 2)]
    );
}

#[test]
fn versions_rise_by_one_for_each_key_and_topic() {
    let mut state = State::default();
    let mut versions = vec![];
    for input in [
        joined(1, "a", "a"),
        asked(2, "a", &[Do::Note, Do::Note, Do::Sum]),
        joined(3, "b", "a"),
        asked(4, "b", &[Do::Note, Do::Sum]),
        asked(5, "a", &[Do::Sum, Do::Note]),
    ] {
        let facts = process(&mut state, &moment(), &input).facts;
        versions.extend(
            facts.into_iter().map(|fact| (fact.record.record_type().topic.name.to_string(), fact.key, fact.version)),
        );
    }
    let of = |topic: &str, key: &str| {
        let of = versions.iter().filter(|(t, k, _)| (t.as_str(), k.as_str()) == (topic, key));
        of.map(|(.., version)| *version).collect::<Vec<_>>()
    };
    assert_eq!(of("tally.events", "a"), [1, 2, 3].map(Some));
    assert_eq!(of("tally.events", "b"), [Some(1)]);
    assert_eq!(of("sum.events", "a"), [1, 2, 3].map(Some));
}

/// Many write a topic of requests, and whoever is asked begins anew.
#[test]
fn a_request_that_is_stated_has_neither_version_nor_cause() {
    let facts = came_to(&asked(7, "a", &[Do::Note, Do::Want, Do::Note])).facts;
    let of = |fact: &Fact<Tally>| (fact.version, fact.cause.is_some(), fact.key.clone());
    let a = "a".to_owned();
    assert_eq!(
        facts.iter().map(of).collect::<Vec<_>>(),
        [(Some(1), true, a.clone()), (None, false, a.clone()), (Some(2), true, a)]
    );
    assert_eq!(facts[1].id, ids::fact("tally", INPUT, "test.tally.Wanted", 0));
}

#[test]
fn the_state_moves_on_once_and_after_the_decision() {
    let mut state = State::default();
    let input = asked(7, "a", &[Do::Note]);
    let facts = [(); 2].map(|()| process(&mut state, &moment(), &input).facts.remove(0).record);
    assert_eq!(facts, [noted("a", 0, &[]), noted("a", 1, &[])]);
    assert_eq!(state.tallies["a"], Counted { inputs: 2, group: String::new(), version: 2 });
}

#[test]
fn effects_and_timers_have_the_ids_of_their_input_name_and_place() {
    let cause = Uuid::from_u128(1);
    let due = Do::Set(Timer::Remind, 5);
    let input = Envelope { cause, ..asked(7, "a", &[mail("ann"), mail("bob"), mail("ann"), due.clone(), due]) };
    let came_to = came_to(&input);

    let [ann, bob, again] = came_to.effects.as_slice() else { panic!("three mails: {came_to:?}") };
    let named = [("mail/ann", 0), ("mail/bob", 0), ("mail/ann", 1)];
    assert_eq!([ann.id, bob.id, again.id], named.map(|(name, ordinal)| ids::effect("tally", INPUT, name, ordinal)));
    assert_ne!(ann.id, again.id, "an answer is to one of them");
    assert_eq!((ann.key.as_str(), ann.cause, &ann.trace), ("a", cause, &input.trace));
    assert_eq!(ann.effect, Effect::Mail { to: "ann".into() });

    let [first, second] = came_to.timers.as_slice() else { panic!("two timers: {came_to:?}") };
    assert_eq!([first.id, second.id], [0, 1].map(|ordinal| ids::timer("tally", INPUT, REMIND, ordinal)));
    assert_eq!((first.key.as_str(), first.cause, &first.trace), ("a", cause, &input.trace));
    assert_eq!((&first.timer, first.due), (&Timer::Remind, NOW + TimeDelta::minutes(5)));
}

#[test]
fn a_timer_that_is_set_clears_the_one_of_its_name_after_those_that_are_cleared() {
    let came_to = came_to(&asked(7, "a", &[Do::Set(Timer::Remind, 5), clear(ANSWER_BY), withdraw("mail/ann")]));
    let named = |name: &str| ("a".to_owned(), name.to_owned());
    assert_eq!(came_to.cleared, [named(ANSWER_BY), named(REMIND)]);
    assert_eq!(came_to.withdrawn, [named("mail/ann")]);
}

#[test]
fn a_decision_says_all_that_was_added_to_it_in_order() {
    let remind = SetTimer { key: "a".into(), timer: Timer::Remind, due: NOW };
    let ann = Effect::Mail { to: "ann".into() };
    let decision = Decision::<Tally>::fact(noted("a", 0, &[]))
        .and(Summed { key: "g".into() })
        .perform("a", ann.clone())
        .withdraw("a", "mail/bob")
        .set("a", Timer::Remind, NOW)
        .clear("a", ANSWER_BY);
    assert_eq!(decision.facts, [noted("a", 0, &[]), Summed { key: "g".into() }.into()]);
    assert_eq!(decision.perform, [Perform { key: "a".into(), effect: ann }]);
    assert_eq!(decision.withdraw, [("a".into(), "mail/bob".into())]);
    assert_eq!(decision.set, [remind]);
    assert_eq!(decision.clear, [("a".into(), ANSWER_BY.into())]);
}

#[test]
fn what_a_later_input_withdraws_or_clears_within_a_transaction_never_becomes_a_row() {
    let [remind, answer] = [Timer::Remind, Timer::AnswerBy].map(|timer| Do::Set(timer, 5));
    let mut all = came_to(&asked(1, "a", &[Do::Note, mail("ann"), mail("bob"), remind.clone(), answer]));
    all.then(came_to(&asked(2, "b", &[mail("ann"), remind])));
    all.then(came_to(&asked(3, "a", &[Do::Note, withdraw("mail/ann"), clear(REMIND)])));

    let effects: Vec<_> = all.effects.iter().map(|row| (row.key.as_str(), row.effect.name())).collect();
    assert_eq!(effects, [("a", "mail/bob".to_owned()), ("b", "mail/ann".to_owned())]);
    let timers: Vec<_> = all.timers.iter().map(|row| (row.key.as_str(), row.timer.kind())).collect();
    assert_eq!(timers, [("a", ANSWER_BY), ("b", REMIND)]);
    // An effect or a timer of that name may be stored from before: it goes too.
    assert_eq!(all.withdrawn, [("a".into(), "mail/ann".into())]);
    assert_eq!(all.cleared.last(), Some(&("a".into(), REMIND.into())));
    assert_eq!(
        all.facts.iter().map(|fact| fact.cause).collect::<Vec<_>>(),
        [1, 3].map(|cause| Some(Uuid::from_u128(cause)))
    );
}

#[test]
fn what_is_withdrawn_and_wanted_anew_in_one_decision_is_wanted() {
    let mut all = came_to(&asked(1, "a", &[mail("ann"), Do::Set(Timer::Remind, 5)]));
    all.then(came_to(&asked(2, "a", &[withdraw("mail/ann"), mail("ann"), Do::Set(Timer::Remind, 9)])));
    assert_eq!(all.effects.iter().map(|row| row.cause).collect::<Vec<_>>(), [Uuid::from_u128(2)]);
    assert_eq!(all.timers.iter().map(|row| row.due).collect::<Vec<_>>(), [NOW + TimeDelta::minutes(9)]);
}

#[test]
fn only_rows_that_are_new_or_other_than_before_have_to_be_saved() {
    let before = BTreeMap::from([("same", 1), ("other", 2), ("gone", 3)]);
    let after = BTreeMap::from([("same", 1), ("other", 4), ("new", 5)]);
    assert_eq!(changed(&before, &after).collect::<Vec<_>>(), [(&"new", &5), (&"other", &4)]);
}

/// A policy that says no more than it must.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Quiet;

impl Policy for Quiet {
    const SERVICE: &'static str = "quiet";
    const TABLES: &'static [&'static str] = &["quiet"];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Effect;
    type Outcome = Outcome;
    type Timer = Timer;
    type Command = Nothing;
    type State = BTreeMap<String, i64>;

    fn rows(_: &Self::State, _: &Envelope<Self>) -> Vec<Row> {
        vec![]
    }

    fn react(_: &Self::State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
        Decision::nothing()
    }

    fn evolve(_: &mut Self::State, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut Self::State, fact: &Stated) -> &'a mut i64 {
        state.entry(fact.key()).or_default()
    }
}

#[test]
fn unless_a_policy_says_otherwise_any_outcome_answers_no_timer_is_a_deadline_and_all_that_is_read_is_locked() {
    assert!(Quiet::answers(&Effect::Mail { to: "ann".into() }, &Outcome::Lost));
    assert!(!Quiet::is_deadline(&Timer::AnswerBy));
    let (id, key) = (INPUT, "a".to_owned());
    let mut state = BTreeMap::new();
    let input =
        Envelope { id, cause: id, key, version: 0, trace: Trace::default(), input: Input::Timer(Timer::Remind) };
    assert_eq!(Quiet::record_unlocked(&state, &input), None);
    assert!(Quiet::restore_unlocked(&mut state, &input, serde_json::Value::Null).is_ok());
    assert_eq!(Quiet::CHOREOGRAPHY, Declaration::new("quiet", Heard::TYPES, Stated::TYPES));
    assert_eq!(process(&mut state, &moment(), &input), Processed::default());
}

#[test]
fn nothing_has_no_values_to_read() {
    assert!(serde_json::from_str::<Nothing>("\"anything\"").is_err());
}
