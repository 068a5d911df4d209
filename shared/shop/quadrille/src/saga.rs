//! `quadrille saga`: one order's history in causal order, with the time between the steps, and what it waits for.

use std::collections::{HashMap, HashSet};

use anyhow::bail;
use quadrille_cli::{
    Place, Settings,
    codec::Decoded,
    dead_letters::{self, Fate},
    kafka::Record,
    output::{self, Paint, Table},
    render::{self, Shown},
};
use quadrille_core::KeyKind;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    orders::State,
    timeline::{self, Fact},
    waits::{self, Said},
};

/// One step of a saga.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: usize,
    /// Since the first step, in milliseconds.
    pub at_ms: i64,
    /// The step that caused it.
    pub cause: Option<usize>,
    /// Since its cause, in milliseconds.
    pub after_ms: Option<i64>,
    /// An exact repeat of this earlier step.
    pub repeats: Option<usize>,
    /// The record.
    pub record: Shown,
    /// What became of it where a service could not handle it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<Fate>,
    #[serde(skip)]
    fact: Fact,
    /// Whether it was there at the moment of which the order's state is told.
    #[serde(skip)]
    was_there: bool,
}

/// The steps of one key's saga, over all topics, causes before effects. Blocks.
pub fn steps(settings: &Settings, order: &str) -> anyhow::Result<Vec<Step>> {
    let Ok(key) = KeyKind::Uuid.normalize(Some(order.as_bytes())) else {
        bail!("'{order}' is no order id: it is a UUID (`quadrille orders` lists them)");
    };
    let is_its = |record: &Record| KeyKind::Uuid.normalize(record.key.as_deref()).as_deref() == Ok(key.as_str());
    let (mut facts, mut were_there) = (Vec::new(), Vec::new());
    timeline::read(settings, &timeline::saga_topics(&settings.catalogue), is_its, |fact, was_there| {
        facts.push(fact);
        were_there.push(was_there);
        Ok(())
    })?;
    Ok(ordered(facts, &were_there))
}

fn ordered(facts: Vec<Fact>, were_there: &[bool]) -> Vec<Step> {
    let order = timeline::causal_order(&facts);
    let mut facts: Vec<Option<(Fact, bool)>> = facts.into_iter().zip(were_there.iter().copied()).map(Some).collect();
    let mut first: HashMap<Uuid, (usize, i64)> = HashMap::new();
    let mut began = None;
    let mut steps = Vec::with_capacity(order.len());
    for (at, (fact, was_there)) in order.into_iter().filter_map(|at| facts[at].take()).enumerate() {
        let (step, ms) = (at + 1, fact.record.timestamp_ms);
        let began = *began.get_or_insert(ms);
        let cause = fact.cause.and_then(|cause| first.get(&cause)).copied();
        let repeats = fact.id.and_then(|id| first.get(&id)).map(|(step, _)| *step);
        if let Some(id) = fact.id {
            first.entry(id).or_insert((step, ms));
        }
        steps.push(Step {
            step,
            at_ms: ms - began,
            cause: cause.map(|(step, _)| step),
            after_ms: cause.map(|(_, before)| ms - before),
            repeats,
            record: Shown::of(&fact.record, &fact.decoded),
            dead_letters: vec![],
            fact,
            was_there,
        });
    }
    steps
}

/// Adds to each step what became of it where a service could not handle it. A database that cannot be read adds nothing.
async fn look_up_letters(settings: &Settings, steps: &mut [Step]) {
    let place = |step: &Step| {
        let record = &step.fact.record;
        let topic = settings.catalogue.topic(&record.topic)?;
        Some(Place { topic: &topic.name, partition: record.partition, offset: record.offset })
    };
    let mut fates = dead_letters::fates(settings, steps.iter().filter_map(place).collect()).await;
    for step in steps {
        step.dead_letters = place(step).and_then(|place| fates.remove(&place)).unwrap_or_default();
    }
}

/// Shows a saga. Blocks.
pub fn run(settings: &Settings, order: &str, json: bool) -> anyhow::Result<()> {
    let mut steps = steps(settings, order)?;
    let handle = tokio::runtime::Handle::current();
    handle.block_on(look_up_letters(settings, &mut steps));
    if json {
        return output::json(&steps);
    }
    let Some(last) = steps.iter().max_by_key(|step| step.at_ms) else {
        bail!("No record of any saga topic has the key {order}: `quadrille orders` lists the orders that there are");
    };
    let paint = Paint::detect();
    let mut table = Table::new(["step", "at", "cause", "after", "record", "version", "type", "what it says"]);
    let mut said = HashSet::new();
    for step in &steps {
        let fact = &step.fact;
        let what = match &fact.decoded {
            Decoded::Record { info, json } => news(render::parts(info, json), &mut said),
            Decoded::Dynamic { name, .. } => format!("a {name}, which this topic is not declared to have"),
            Decoded::Null => "no value".into(),
            Decoded::Bad { reason, .. } => paint.bad(&output::printable(reason)),
        };
        let letters =
            step.dead_letters.iter().map(|fate| paint.bad(&format!("{} ", fate.describe()))).collect::<String>();
        let repeat = step.repeats.map(|first| paint.faint(&format!("exact repeat of {first} "))).unwrap_or_default();
        let cause = match (step.cause, fact.cause) {
            (Some(cause), _) => cause.to_string(),
            // Its cause has another key, or retention took it.
            (None, Some(_)) => "elsewhere".into(),
            (None, None) => "-".into(),
        };
        table.row([
            step.step.to_string(),
            output::step(step.at_ms),
            cause,
            step.after_ms.map(output::step).unwrap_or_default(),
            paint.faint(&fact.record.place()),
            fact.version.map(|version| format!("v{version}")).unwrap_or_default(),
            paint.saga(&fact.key, fact.name()),
            format!("{letters}{repeat}{what}"),
        ]);
    }
    table.print()?;
    let now_ms = chrono::Utc::now().timestamp_millis();
    let said = |name: &str| {
        let named = || steps.iter().filter(|step| step.was_there && step.fact.name() == name);
        let ms = named().map(|step| step.fact.record.timestamp_ms).min()?;
        let place = named().filter_map(|step| step.fact.place()).max_by_key(|place| place.offset)?;
        Some(Said { ms, place })
    };
    let later = |name: &str| steps.iter().any(|step| !step.was_there && step.fact.name() == name);
    let mut waits = waits::open(said, later, now_ms);
    handle.block_on(waits::look_up_letters(settings, &mut waits.iter_mut().collect::<Vec<_>>()));
    let given_up = waits.iter().any(waits::Wait::is_given_up);
    let mut state =
        steps.iter().filter(|step| step.was_there).fold(State::default(), |state, step| state.after(step.fact.name()));
    if state == State::Requested && given_up {
        (state, waits) = (State::Discarded, vec![]);
    }
    let mut waiting = [(last.fact.key.clone(), waits)];
    let unread = handle.block_on(waits::look_up(settings, &mut waiting));
    let [(_, waits)] = &waiting;
    waits.iter().map(waits::Wait::describe).chain(unread).try_for_each(|sentence| output::line(&sentence))?;
    let took = output::step(last.at_ms);
    let state = match state {
        State::Requested if !steps.iter().any(|step| step.fact.is_its_order()) => "never requested",
        state => state.name(),
    };
    output::line(&format!("{order}: {state}, {} records, {}.", steps.len(), took.trim_start_matches('+')))
}

/// What was not said before. The baton goes from hand to hand unchanged: it is told once.
fn news(parts: Vec<String>, said: &mut HashSet<String>) -> String {
    let is_carried = |part: &str| part.starts_with("details.") || part.starts_with("customer_id=");
    let new = parts.into_iter().filter(|part| said.insert(part.clone()) || !is_carried(part));
    new.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Made;

    #[test]
    fn steps_name_their_causes_and_the_time_since() {
        let key = "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30";
        let requested = Made::request("OrderRequested", key).at(1_000);
        let created = Made::event("OrderCreated", key, 1).caused_by(&requested).at(1_012);
        let verified = Made::event("CustomerVerified", key, 1).caused_by(&created).at(1_020);
        let steps = ordered([&verified, &verified.again(), &created, &requested].map(Made::fact).to_vec(), &[true; 4]);
        let told: Vec<_> =
            steps.iter().map(|step| (step.fact.name(), step.cause, step.after_ms, step.repeats)).collect();
        assert_eq!(
            told,
            [
                ("OrderRequested", None, None, None),
                ("OrderCreated", Some(1), Some(12), None),
                ("CustomerVerified", Some(2), Some(8), None),
                ("CustomerVerified", Some(2), Some(8), Some(3)),
            ]
        );
    }
}
