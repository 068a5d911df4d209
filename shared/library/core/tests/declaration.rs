//! What a service says of itself, held against what it does.

mod common;

use chrono::TimeDelta;
use common::*;
use quadrille_core::{
    Claims, Declaration, Envelope, Input, Moment, Policy, Processed, Record,
    declaration::{Cause, End, Reaction, Wait},
    process,
};

const DECLARED: Declaration = Declaration {
    file: "choreography.rs",
    reactions: &[
        Reaction::heard(Asked::TYPE).states(&[Noted::TYPE]).wants(&["mail"]).sets(&[ANSWER_BY, REMIND]),
        Reaction::outcome(SENT).states(&[Noted::TYPE]),
        Reaction::timer(REMIND).states(&[Noted::TYPE]),
    ],
    waits: &[
        Wait { state: "for a person", questions: &[], end: End::person("calls") },
        Wait { state: "for an answer", questions: &[], end: End::deadline(ANSWER_BY, TimeDelta::minutes(5)) },
    ],
    alarms: &[Joined::TYPE],
    ..Tally::CHOREOGRAPHY
};

fn covers(declared: &Declaration, input: &Envelope<Tally>) -> Result<(), String> {
    let moment = Moment { now: NOW, claims: Claims::default() };
    let came_to = process(&mut State::default(), &moment, input);
    declared.covers(&moment, input, &came_to)
}

/// An input of this kind; what comes of it is one `Noted`.
fn with(input: Input<Tally>) -> Envelope<Tally> {
    Envelope { input, ..asked(1, "a", &[]) }
}

fn outcome(outcome: Outcome) -> Envelope<Tally> {
    with(Input::Outcome { effect: asked(1, "a", &[]).id, outcome })
}

#[test]
fn what_is_declared_may_come_of_an_input() {
    for input in [
        asked(1, "a", &[]),
        asked(1, "a", &[Do::Note, mail("ann"), Do::Set(Timer::Remind, 99)]),
        // A deadline within the time of its wait, which is over at its very end.
        asked(1, "a", &[Do::Set(Timer::AnswerBy, 4)]),
        asked(1, "a", &[Do::Set(Timer::AnswerBy, 5)]),
        outcome(Outcome::Sent),
        with(Input::Timer(Timer::Remind)),
    ] {
        assert_eq!(covers(&DECLARED, &input), Ok(()), "{input:?}");
    }
}

#[test]
fn what_is_not_declared_is_told_with_the_file_to_fix() {
    for (input, told) in [
        (joined(1, "a", "g"), "no reaction on Joined is declared"),
        (outcome(Outcome::Lost), "no reaction on lost is declared"),
        (with(Input::Timer(Timer::AnswerBy)), "no reaction on answer_by is declared"),
        (asked(1, "a", &[Do::Note, Do::Sum]), "on Asked the policy states Summed, which is not declared"),
        (
            asked(1, "a", &[Do::Set(Timer::AnswerBy, 6)]),
            "on Asked the policy sets for later than its wait ends answer_by, which is not declared",
        ),
    ] {
        assert_eq!(covers(&DECLARED, &input), Err(format!("choreography.rs: {told}")), "{input:?}");
    }
}

#[test]
fn a_reaction_that_declares_no_effect_and_no_timer_may_have_none() {
    let bare = Declaration { reactions: const { &[Reaction::heard(Asked::TYPE)] }, ..DECLARED };
    for (step, told) in
        [(Do::Note, "states Noted"), (mail("ann"), "wants mail"), (Do::Set(Timer::Remind, 1), "sets remind")]
    {
        let told = format!("choreography.rs: on Asked the policy {told}, which is not declared");
        assert_eq!(covers(&bare, &asked(1, "a", &[step])), Err(told));
    }
    assert_eq!(covers(&bare, &asked(1, "a", &[])), Ok(()));
}

#[test]
fn a_deadline_belongs_to_a_wait() {
    let unawaited = Declaration { waits: &[], ..DECLARED };
    let told = "choreography.rs: on Asked the policy sets the deadline answer_by, which is not declared";
    assert_eq!(covers(&unawaited, &asked(1, "a", &[Do::Set(Timer::AnswerBy, 5)])), Err(told.into()));
    assert_eq!(covers(&unawaited, &asked(1, "a", &[Do::Set(Timer::Remind, 99)])), Ok(()));
}

#[test]
fn a_service_that_declares_no_reactions_is_held_to_none() {
    assert_eq!(covers(&Tally::CHOREOGRAPHY, &asked(1, "a", &[Do::Note, Do::Sum, mail("ann")])), Ok(()));
}

#[test]
fn what_came_of_nothing_declared_is_an_error_even_if_it_is_nothing() {
    let moment = Moment { now: NOW, claims: Claims::default() };
    assert!(DECLARED.covers(&moment, &joined(1, "a", "g"), &Processed::default()).is_err());
}

#[test]
fn a_dead_letter_is_alarmed_by_its_type_or_where_that_is_not_known_by_its_topic() {
    assert!(DECLARED.alarms_at("group.events", "test.tally.Joined"));
    assert!(!DECLARED.alarms_at("group.events", "test.tally.Left"));
    assert!(DECLARED.alarms_at("group.events", ""));
    assert!(!DECLARED.alarms_at("tally.requests", ""));
    assert!(!DECLARED.alarms_at("tally.requests", "test.tally.Asked"));
    assert!(!Tally::CHOREOGRAPHY.alarms_at("group.events", "test.tally.Joined"));
}

#[test]
fn a_reaction_says_what_it_was_told_and_nothing_else() {
    let reaction = Reaction { on: Cause::Heard(Asked::TYPE), states: &[], wants: &[], sets: &[], until: "" };
    assert_eq!(Reaction::heard(Asked::TYPE), reaction);
    assert_eq!(Reaction::outcome(SENT), Reaction { on: Cause::Outcome(SENT), ..reaction });
    assert_eq!(Reaction::timer(REMIND), Reaction { on: Cause::Timer(REMIND), ..reaction });
    assert_eq!(reaction.states(&[Noted::TYPE]), Reaction { states: &[Noted::TYPE], ..reaction });
    assert_eq!(reaction.wants(&["mail"]), Reaction { wants: &["mail"], ..reaction });
    assert_eq!(reaction.sets(&[REMIND]), Reaction { sets: &[REMIND], ..reaction });
    assert_eq!(reaction.until("Ended"), Reaction { until: "Ended", ..reaction });
}
