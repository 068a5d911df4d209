//! Decisions as people read them.

use quadrille_history::{Datum, Key, RecordedDecision, Taken};
use quadrille_schemas::wire::RecordInfo;

/// An input's kind in a few words.
pub(crate) fn input(taken: &Taken) -> String {
    match taken {
        Taken::Record { r#type, .. } => short(r#type).to_owned(),
        Taken::Timer(timer) => format!("timer {timer}"),
        Taken::Gone { topic } => format!("key gone from {topic}"),
        Taken::Outcome { outcome, .. } => format!("outcome {outcome}"),
        Taken::Command(command) => format!("command {command}"),
    }
}

/// What of a decision is only in what it was then, and what is only in what it is now; all of it where only the order differs.
pub(crate) fn difference(
    records: &[RecordInfo],
    then: &RecordedDecision,
    now: Result<&RecordedDecision, &String>,
) -> (Vec<String>, Vec<String>) {
    let lines = |came_to| lines(records, came_to);
    let then = lines(then);
    let now = now.map_or_else(|panic| vec![format!("the policy panicks: {panic}")], lines);
    let only = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (only_then, only_now) = (only(&then, &now), only(&now, &then));
    if only_then.is_empty() && only_now.is_empty() { (then, now) } else { (only_then, only_now) }
}

/// A line for each thing that was decided.
fn lines(records: &[RecordInfo], came_to: &RecordedDecision) -> Vec<String> {
    let facts = came_to.facts.iter().map(|fact| {
        let content = content(records, &fact.r#type, &fact.datum);
        let name = short(&fact.r#type);
        let version = fact.version.map_or("a request".to_owned(), |version| format!("version {version}"));
        let cause = fact.cause.map(|cause| format!(", cause {cause}")).unwrap_or_default();
        format!(
            "states {name} on {}, {version} of {}, id {}{cause}, time {}: {content}",
            fact.topic,
            fact.key,
            fact.id,
            time(&fact.time)
        )
    });
    let effects = came_to.effects.iter().map(|wanted| {
        format!("wants {} of {}, id {}, cause {}: {}", wanted.name, wanted.key, wanted.id, wanted.cause, wanted.effect)
    });
    let timers = came_to.timers.iter().map(|timer| {
        format!(
            "sets {} of {} to {}, id {}, cause {}: {}",
            timer.name,
            timer.key,
            time(&timer.due),
            timer.id,
            timer.cause,
            timer.timer
        )
    });
    let named = |what: &'static str| move |Key { name, key }: &Key| format!("{what} {name} of {key}");
    facts
        .chain(effects)
        .chain(came_to.withdrawn.iter().map(named("withdraws")))
        .chain(came_to.cleared.iter().map(named("clears")))
        .chain(timers)
        .collect()
}

/// A record as JSON, secrets hidden.
fn content(records: &[RecordInfo], name: &str, datum: &Datum) -> String {
    match records.iter().find(|info| info.record.name == name).map(|info| info.to_json(&datum.0)) {
        Some(Ok(json)) => json,
        _ => format!("{} bytes that this build cannot read", datum.0.len()),
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn time(time: &quadrille_core::Timestamp) -> String {
    serde_json::to_value(time).ok().and_then(|text| Some(text.as_str()?.to_owned())).unwrap_or_default()
}
