//! What a transaction is, in the order in which `memory` tells it.

mod common;

use std::{collections::BTreeMap, slice};

use common::*;
use quadrille_core::{
    EffectRow, Envelope, Input, Named, Processed, Row, Rows, ids,
    memory::{OpenEffect, Service, on_touched_rows},
};
use uuid::Uuid;

/// What each input of a batch stated.
fn stated(came_to: &[Processed<Tally>]) -> Vec<Vec<Stated>> {
    let records = |one: &Processed<Tally>| one.facts.iter().map(|fact| fact.record.clone()).collect();
    came_to.iter().map(records).collect()
}

/// Its open effects: of which key, by which name, and whether claimed.
fn effects(service: &Service<Tally>) -> Vec<(&str, String, bool)> {
    service.effects.iter().map(|open| (&*open.row.key, open.row.effect.name(), open.claimed)).collect()
}

/// Its timers: of which key, which, and due in how many minutes.
fn timers(service: &Service<Tally>) -> Vec<(&str, Timer, i64)> {
    service.timers.iter().map(|row| (&*row.key, row.timer.clone(), (row.due - NOW).num_minutes())).collect()
}

fn set(timer: Timer, minutes: i64) -> Do {
    Do::Set(timer, minutes)
}

/// With an effect of this key that a worker has claimed.
fn claimed(key: &str, to: &str) -> Service<Tally> {
    let mut service = after(&[asked(1, key, &[mail(to)])]);
    service.effects[0].claimed = true;
    service
}

// 1. The rows that the inputs name, and no others.

#[test]
fn a_decision_sees_the_rows_that_its_batch_names_and_no_others() {
    let mut service = after(&[joined(1, "a", "g"), joined(2, "b", "h"), joined(3, "c", "i")]);
    // That a's group is g, only a's row knows.
    let batch = [asked(4, "a", &[]), joined(5, "c", "h"), asked(6, "new", &[])];
    let seen = on_touched_rows::<Tally, _>(&mut service.state, &batch, |rows| rows.clone());
    assert_eq!(seen.tallies.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(seen.groups.keys().collect::<Vec<_>>(), ["g", "h"]);
}

#[test]
fn what_is_decided_goes_back_into_the_rows_named_and_leaves_the_others_as_they_are() {
    let mut service = after(&[joined(1, "a", "g"), joined(2, "b", "h"), asked(3, "b", &[Do::Sum])]);
    let others = service.state.clone();
    service.handle(NOW, &asked(4, "a", &[Do::Sum]));
    assert_eq!(service.state.tallies["a"].inputs, 2);
    assert_eq!(service.state.groups["g"], 1);
    assert_eq!(service.state.tallies["b"], others.tallies["b"]);
    assert_eq!(service.state.groups["h"], 1);
}

#[test]
#[should_panic(expected = "a row was changed that is none of")]
fn a_policy_that_changes_a_row_which_no_input_names_panics() {
    after(&[asked(1, "a", &[Do::Change("b".into())])]);
}

#[test]
fn a_row_that_another_input_of_the_batch_names_may_be_changed() {
    let mut service = Service::default();
    service.batch(NOW, &[asked(1, "a", &[Do::Change("b".into())]), asked(2, "b", &[])]);
    assert_eq!(service.state.tallies["b"].inputs, 2);
}

#[test]
fn the_map_of_a_single_table_is_a_state_too() {
    let rows = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let mut copied = BTreeMap::new();
    for key in ["b", "missing"] {
        rows.copy(&Row::new("any", key), &mut copied);
    }
    assert_eq!(copied, BTreeMap::from([("b".to_owned(), 2)]));
}

// 2. The inbox.

#[test]
fn an_input_that_was_seen_does_nothing() {
    let request = asked(1, "a", &[Do::Note, mail("ann"), set(Timer::Remind, 5)]);
    let mut service = Service::default();
    assert_ne!(service.handle(NOW, &request), Processed::default());
    let before = service.clone();
    assert_eq!(service.handle(NOW, &request), Processed::default());
    assert_eq!(service, before);
}

#[test]
fn an_input_that_its_batch_brings_twice_takes_effect_once() {
    let request = asked(1, "a", &[Do::Note]);
    let mut service = Service::default();
    let came_to = service.batch(NOW, &[request.clone(), request]);
    assert_eq!(stated(&came_to), [vec![noted("a", 0, &[])], vec![]]);
    assert_eq!(service.state.tallies["a"].inputs, 1);
}

#[test]
fn a_command_takes_effect_once_by_its_id() {
    let command = Envelope { input: Input::Command(Command::Call), ..asked(1, "a", &[]) };
    let mut service = Service::default();
    assert_eq!(stated(&service.batch(NOW, &[command.clone(), command.clone()])), [vec![noted("a", 0, &[])], vec![]]);
    assert_eq!(service.handle(NOW, &command), Processed::default());
    assert_eq!(service.inbox, [command.id].into());
}

#[test]
fn every_id_that_came_is_in_the_inbox() {
    let service = after(&[asked(1, "a", &[]), asked(2, "b", &[]), asked(1, "a", &[])]);
    assert_eq!(service.inbox, [1, 2].map(Uuid::from_u128).into());
}

// 3. What is claimed.

#[test]
fn a_decision_is_told_which_effects_of_its_key_are_claimed() {
    let mut service = after(&[asked(1, "a", &[mail("ann"), mail("bob")]), asked(2, "b", &[mail("cid")])]);
    service.effects[1].claimed = true;
    service.effects[2].claimed = true;
    let came_to = service.handle(NOW, &asked(3, "a", &[Do::Note]));
    assert_eq!(stated(&[came_to]), [[noted("a", 1, &["mail/bob"])]]);
}

#[test]
fn what_is_claimed_is_told_of_the_keys_of_the_batch_alone() {
    let mut service = after(&[asked(1, "a", &[mail("ann")]), asked(2, "b", &[mail("ann")])]);
    service.effects.iter_mut().for_each(|open| open.claimed = true);
    let moment = service.moment(NOW, &[asked(3, "b", &[])]);
    assert_eq!(moment.now, NOW);
    assert!(moment.claims.contains("b", "mail/ann"));
    assert!(!moment.claims.contains("a", "mail/ann"));
    assert!(!moment.claims.contains("b", "mail/bob"));
    assert_eq!(moment.claims.of("b").collect::<Vec<_>>(), ["mail/ann"]);
    assert_eq!(moment.claims.of("a").count(), 0);
}

#[test]
fn a_claim_is_told_also_where_the_batch_brings_its_outcome() {
    let mut service = claimed("a", "ann");
    let came_to = service.batch(NOW, &[service.outcome(0, Outcome::Sent), asked(2, "a", &[Do::Note])]);
    assert_eq!(stated(&came_to), [[noted("a", 1, &["mail/ann"])], [noted("a", 2, &["mail/ann"])]]);
    assert_eq!(effects(&service), []);
}

// 4. Timers and outcomes, which have a row once.

#[test]
fn a_timer_that_fires_loses_its_row_and_no_other_does() {
    let mut service = after(&[asked(1, "a", &[set(Timer::AnswerBy, 5), set(Timer::Remind, 7)])]);
    let came_to = service.handle(NOW, &service.due(0));
    assert_eq!(stated(&[came_to]), [[noted("a", 1, &[])]]);
    assert_eq!(timers(&service), [("a", Timer::Remind, 7)]);
}

#[test]
fn a_timer_whose_row_is_gone_counts_as_seen() {
    let mut service = after(&[asked(1, "a", &[set(Timer::Remind, 5)])]);
    let late = service.due(0);
    service.handle(NOW, &asked(2, "a", &[clear(REMIND)]));
    let before = service.clone();
    assert_eq!(service.handle(NOW, &late), Processed::default());
    assert!(service.inbox.contains(&late.id));
    assert_eq!(service.state, before.state);
}

#[test]
fn an_outcome_takes_the_row_of_its_effect_and_no_other() {
    let mut service = after(&[asked(1, "a", &[mail("ann"), mail("bob")])]);
    let came_to = service.handle(NOW, &service.outcome(0, Outcome::Sent));
    assert_eq!(stated(&[came_to]), [[noted("a", 1, &[])]]);
    assert_eq!(effects(&service), [("a", "mail/bob".into(), false)]);
}

#[test]
fn of_two_outcomes_of_one_effect_the_first_of_the_batch_counts() {
    let mut service = claimed("a", "ann");
    let came_to =
        service.batch(NOW, &[service.outcome(0, Outcome::Lost), service.outcome(0, Outcome::Sent), asked(2, "a", &[])]);
    assert_eq!(stated(&came_to), [vec![noted("a", 1, &["mail/ann"])], vec![], vec![]]);
    assert_eq!(service.state.tallies["a"].inputs, 3);
    assert_eq!(effects(&service), []);
}

#[test]
fn an_outcome_of_an_effect_that_has_had_one_counts_as_seen() {
    let mut service = claimed("a", "ann");
    let [sent, lost] = [Outcome::Sent, Outcome::Lost].map(|outcome| service.outcome(0, outcome));
    service.handle(NOW, &sent);
    let before = service.clone();
    assert_eq!(service.handle(NOW, &lost), Processed::default());
    assert!(service.inbox.contains(&lost.id));
    assert_eq!(service.state, before.state);
}

#[test]
fn an_outcome_of_a_withdrawn_effect_counts_as_seen() {
    let mut service = after(&[asked(1, "a", &[mail("ann")])]);
    let sent = service.outcome(0, Outcome::Sent);
    service.handle(NOW, &asked(2, "a", &[withdraw("mail/ann")]));
    assert_eq!(service.handle(NOW, &sent), Processed::default());
}

#[test]
fn a_timer_and_an_outcome_carry_on_the_cause_and_the_trace_of_what_set_them() {
    let first = asked(1, "a", &[mail("ann"), set(Timer::Remind, 5)]);
    let service = after(slice::from_ref(&first));
    let (effect, timer) = (service.effects[0].row.id, service.timers[0].id);

    let expected = Envelope { id: timer, version: 0, input: Input::Timer(Timer::Remind), ..first.clone() };
    assert_eq!(service.due(0), expected);
    let outcome = Input::Outcome { effect, outcome: Outcome::Lost };
    let expected = Envelope { id: ids::outcome(effect, LOST), version: 0, input: outcome, ..first };
    assert_eq!(service.outcome(0, Outcome::Lost), expected);
}

// 5. One input after another.

#[test]
fn each_input_is_decided_on_the_state_that_the_one_before_has_left() {
    let mut service = Service::default();
    let came_to = service.batch(
        NOW,
        &[
            joined(1, "a", "g"),
            asked(2, "a", &[Do::Note, Do::Sum]),
            asked(3, "b", &[Do::Note]),
            asked(4, "a", &[Do::Note]),
        ],
    );
    let sum = Stated::from(Summed { key: "g".into() });
    let expected = [vec![], vec![noted("a", 1, &[]), sum], vec![noted("b", 0, &[])], vec![noted("a", 2, &[])]];
    assert_eq!(stated(&came_to), expected);
}

#[test]
fn a_timer_that_an_earlier_input_of_its_batch_has_cleared_counts_as_seen() {
    let mut service = after(&[asked(1, "a", &[set(Timer::Remind, 5)])]);
    let came_to = service.batch(NOW, &[asked(2, "a", &[clear(REMIND)]), service.due(0)]);
    assert_eq!(came_to[1], Processed::default());
    assert_eq!(service.state.tallies["a"].inputs, 2);
    assert_eq!(timers(&service), []);
}

#[test]
fn a_timer_that_an_earlier_input_of_its_batch_has_replaced_counts_as_seen() {
    let mut service = after(&[asked(1, "a", &[set(Timer::Remind, 5)])]);
    let came_to = service.batch(NOW, &[asked(2, "a", &[set(Timer::Remind, 9)]), service.due(0)]);
    assert_eq!(came_to[1], Processed::default());
    assert_eq!(timers(&service), [("a", Timer::Remind, 9)]);
}

#[test]
fn a_timer_that_a_later_input_of_its_batch_clears_has_fired() {
    let mut service = after(&[asked(1, "a", &[set(Timer::Remind, 5)])]);
    let came_to = service.batch(NOW, &[service.due(0), asked(2, "a", &[clear(REMIND)])]);
    assert_eq!(stated(&came_to), [vec![noted("a", 1, &[])], vec![]]);
}

#[test]
fn a_timer_of_another_key_or_name_fires_though_this_one_was_cleared() {
    let mut service = after(&[asked(1, "a", &[set(Timer::AnswerBy, 5)]), asked(2, "b", &[set(Timer::Remind, 5)])]);
    let came_to = service.batch(NOW, &[asked(3, "a", &[clear(REMIND)]), service.due(0), service.due(1)]);
    assert_eq!(stated(&came_to), [vec![], vec![noted("a", 2, &[])], vec![noted("b", 1, &[])]]);
}

// 6. What is saved.

#[test]
fn a_withdrawn_effect_goes_unless_it_is_claimed() {
    let mut service = after(&[asked(1, "a", &[mail("ann"), mail("bob")])]);
    service.effects[0].claimed = true;
    service.handle(NOW, &asked(2, "a", &[withdraw("mail/ann"), withdraw("mail/bob")]));
    assert_eq!(effects(&service), [("a", "mail/ann".into(), true)]);
}

#[test]
fn an_effect_of_another_key_or_name_is_not_withdrawn() {
    let mut service = after(&[asked(1, "a", &[mail("bob")]), asked(2, "b", &[mail("ann")])]);
    service.handle(NOW, &asked(3, "a", &[withdraw("mail/ann")]));
    assert_eq!(effects(&service), [("a", "mail/bob".into(), false), ("b", "mail/ann".into(), false)]);
}

#[test]
fn what_is_withdrawn_and_wanted_anew_is_a_new_effect() {
    let mut service = after(&[asked(1, "a", &[mail("ann")])]);
    service.handle(NOW, &asked(2, "a", &[mail("ann"), withdraw("mail/ann")]));
    assert_eq!(effects(&service), [("a", "mail/ann".into(), false)]);
    assert_eq!(service.effects[0].row.cause, Uuid::from_u128(2));
}

#[test]
fn what_is_wanted_and_withdrawn_within_a_batch_never_becomes_a_row() {
    let mut service = Service::default();
    let first = asked(1, "a", &[mail("ann"), mail("bob"), set(Timer::Remind, 5), set(Timer::AnswerBy, 5)]);
    service.batch(NOW, &[first, asked(2, "a", &[withdraw("mail/ann"), clear(REMIND)])]);
    assert_eq!(effects(&service), [("a", "mail/bob".into(), false)]);
    assert_eq!(timers(&service), [("a", Timer::AnswerBy, 5)]);
}

#[test]
fn a_timer_of_the_same_key_and_name_is_replaced_and_no_other() {
    let mut service = after(&[
        asked(1, "a", &[set(Timer::Remind, 5), set(Timer::AnswerBy, 6)]),
        asked(2, "b", &[set(Timer::Remind, 7)]),
    ]);
    service.handle(NOW, &asked(3, "a", &[set(Timer::Remind, 8)]));
    let expected = [("a", Timer::AnswerBy, 6), ("b", Timer::Remind, 7), ("a", Timer::Remind, 8)];
    assert_eq!(timers(&service), expected);
}

#[test]
fn effects_are_kept_as_they_were_wanted_and_nobody_has_claimed_them() {
    let service = after(&[asked(1, "a", &[mail("ann")])]);
    let id = ids::effect("tally", Uuid::from_u128(1), "mail/ann", 0);
    let Envelope { cause, trace, .. } = asked(1, "a", &[]);
    let row = EffectRow { id, key: "a".into(), cause, trace, effect: Effect::Mail { to: "ann".into() } };
    assert_eq!(service.effects, [OpenEffect { row, claimed: false }]);
}
