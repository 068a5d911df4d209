//! A path through a world, told as a saga that a person can read: a line per step.

use std::fmt::Write;

use stateright::Model;

use crate::{
    outside::Said,
    record::Record,
    world::{Action, State, World},
};

/// Tells the steps from the world's beginning: who, what came in, what was stated, and what changed.
pub fn render(world: &World, steps: &[Action]) -> String {
    let mut state = world.init_states().remove(0);
    let mut story = String::new();
    for (number, action) in steps.iter().enumerate() {
        let Some(next) = world.next_state(&state, *action) else { break };
        let _ = writeln!(story, "  {:>2}. {}", number + 1, step(world, &state, *action, &next));
        state = next;
    }
    story
}

fn step(world: &World, last: &State, action: Action, next: &State) -> String {
    let (who, what) = input(world, last, action);
    let mut line = format!("{who:<10} {what}");
    let service = world.services.iter().position(|service| service.name() == who);
    let stated = stated(world, last, next);
    if !stated.is_empty() {
        let _ = write!(line, " -> {}", stated.join(", "));
    }
    if let Some(service) = service {
        let player = &world.services[service];
        let (before, after) = (world.database(last, service), world.database(next, service));
        let mut changes = changed_words(&player.rows(before), &player.rows(after));
        let (had, has) = (player.wants(before), player.wants(after));
        changes.extend(has.iter().filter(|wanted| !had.contains(wanted)).map(|wanted| format!("+{wanted}")));
        changes.extend(had.iter().filter(|wanted| !has.contains(wanted)).map(|wanted| format!("-{wanted}")));
        if !changes.is_empty() {
            let _ = write!(line, " [{}]", changes.join(", "));
        }
    }
    line
}

fn input(world: &World, last: &State, action: Action) -> (&'static str, String) {
    let name = |service: u8| world.services[usize::from(service)].name();
    let effect = |service: u8, at: u8| {
        let effect = &world.effects(last, service.into())[usize::from(at)];
        format!("{} of {}", effect.kind, order(world, &effect.key))
    };
    let record = |record: &Record| format!("{} of {}", record.label, order(world, &record.key));
    let reads = |reader: u8| name(world.readers[usize::from(reader)].0 as u8);
    let next =
        |reader: u8| world.next(last, reader.into()).map(|next| record(world.records.get(next))).unwrap_or_default();
    match action {
        Action::Ask(request) => {
            (name(world.requests[usize::from(request)].1 as u8), record(world.request(request.into())))
        }
        Action::AskAgain(request) => {
            let asked = record(world.request(request.into()));
            (name(world.requests[usize::from(request)].1 as u8), format!("{asked}, once more"))
        }
        Action::Hear(reader) => (reads(reader), next(reader)),
        Action::HearWithTimer(reader, timer) => {
            let service = world.readers[usize::from(reader)].0;
            let (_, timer) = world.timer(last, service, timer.into());
            (reads(reader), format!("{}, and {timer} that is due, in one batch", next(reader)))
        }
        Action::Rewind(reader, to) => {
            let topic = world.places[world.readers[usize::from(reader)].1].0;
            (reads(reader), format!("goes back to record {to} of {topic}"))
        }
        Action::Publish(place, at) => {
            let number = world.log(last, place.into()).records[usize::from(at)];
            ("relay", format!("publishes {} once more", record(world.records.get(number))))
        }
        Action::Park(reader) => (reads(reader), format!("{} becomes a dead letter", next(reader))),
        Action::Hold(reader) => (reads(reader), format!("{} fails, and what follows of its key waits", next(reader))),
        Action::Release(reader) => (reads(reader), format!("goes on with {}", next(reader))),
        Action::Redrive(service, letter) => {
            let number = world.letter(last, service.into(), letter.into());
            (name(service), format!("redrives {}", record(world.records.get(number))))
        }
        Action::Fire(service, timer) => {
            let (key, timer) = world.timer(last, service.into(), timer.into());
            (name(service), format!("{timer} of {} is due", order(world, key)))
        }
        Action::Claim(service, at, said) => {
            let turns_out = if said == Said::UnderWay { String::new() } else { format!(", it will be {said:?}") };
            (name(service), format!("takes {} in hand{turns_out}", effect(service, at)))
        }
        Action::Retry(service, at, said) => (name(service), format!("tries {} again: {said:?}", effect(service, at))),
        Action::Answer(service, at, said) => (name(service), format!("{}: {said:?}", effect(service, at))),
        Action::Move(order, parcel) => ("carrier", format!("the parcel of order {} is now: {parcel:?}", order + 1)),
    }
}

/// What stands in the logs now and did not before.
fn stated(world: &World, last: &State, next: &State) -> Vec<String> {
    let new = |place| {
        let before = world.log(last, place).records.len();
        world.log(next, place).records[before..]
            .iter()
            .map(|record| world.records.get(*record).label.clone())
            .collect::<Vec<_>>()
    };
    (0..world.places.len()).flat_map(new).collect()
}

/// `order 1`, or the key where it is none.
fn order(world: &World, key: &str) -> String {
    match world.order_ids.iter().position(|id| id == key) {
        Some(order) => format!("order {}", order + 1),
        None => key.to_owned(),
    }
}

/// The words of two debug texts that differ, where they are states: `Pending > Confirmed`.
fn changed_words(before: &str, after: &str) -> Vec<String> {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '-');
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let is_state =
        |word: &String| word.starts_with(char::is_uppercase) && word.chars().skip(1).all(char::is_alphabetic);
    let states = |text| -> Vec<String> { words(text).into_iter().filter(is_state).collect() };
    let (before, after) = (states(before), states(after));
    let start = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
    let (before, after) = (&before[start..], &after[start..]);
    let end = before.iter().rev().zip(after.iter().rev()).take_while(|(before, after)| before == after).count();
    let (gone, come) = (&before[..before.len() - end], &after[..after.len() - end]);
    match (gone, come) {
        ([], []) => vec![],
        (gone, come) => vec![format!("{} > {}", short(gone), short(come))],
    }
}

fn short(words: &[String]) -> String {
    match words {
        [] => "-".to_owned(),
        words => words.iter().take(3).cloned().collect::<Vec<_>>().join(" "),
    }
}
