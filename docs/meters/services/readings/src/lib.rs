//! Which readings count: what the service decides, as a pure function.

use std::collections::BTreeMap;

use meters_events::{ConsumptionMeasured, ReadingRefused, ReadingSubmitted};
use quadrille_core::{
    Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Record, Records, Row,
    declaration::{Answer, Reaction},
    records,
};

records! { pub enum Heard { ReadingSubmitted } }
records! { pub enum Stated { ConsumptionMeasured, ReadingRefused } }

/// The service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Readings;

/// What is known of each meter.
pub type State = BTreeMap<String, Meter>;

/// A meter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meter {
    /// What it showed last.
    pub watt_hours: i64,
    /// The version of its last fact.
    pub version: i64,
}

impl Policy for Readings {
    const SERVICE: &'static str = "readings";
    const TABLES: &'static [&'static str] = &["meter"];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type State = State;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing; // what it asks the outside to do
    type Outcome = Nothing; // what the outside answers
    type Timer = Nothing;
    type Command = Nothing; // what it is told over HTTP

    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("meter", &input.key)]
    }

    fn react(state: &State, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let Input::Record(Heard::ReadingSubmitted(reading)) = &input.input else { return Decision::nothing() };
        let last = state.get(&input.key).map_or(0, |meter| meter.watt_hours);
        if reading.watt_hours < last {
            let refused = ReadingRefused::new(input.key.clone(), reading.reading_id);
            return Decision::fact(ReadingRefused { reason: "below_the_last".into(), ..refused });
        }
        let used = reading.watt_hours - last;
        Decision::fact(ConsumptionMeasured::new(input.key.clone(), reading.reading_id, reading.watt_hours, used))
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        for fact in &decision.facts {
            if let Stated::ConsumptionMeasured(measured) = fact {
                state.entry(input.key.clone()).or_default().watt_hours = measured.watt_hours;
            }
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        &mut state.entry(fact.key()).or_default().version
    }
}

/// What `meters check` holds against the other services, and the policy's tests against the policy.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[Reaction::heard(ReadingSubmitted::TYPE).states(&[ConsumptionMeasured::TYPE, ReadingRefused::TYPE])],
    answers: &[Answer { question: ReadingSubmitted::TYPE, facts: &[ConsumptionMeasured::TYPE, ReadingRefused::TYPE] }],
    ..Declaration::new(Readings::SERVICE, Heard::TYPES, Stated::TYPES)
};
