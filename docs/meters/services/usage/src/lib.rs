//! How much each meter has used: a service that only listens.

use std::collections::BTreeMap;

use meters_events::{ConsumptionMeasured, ReadingRefused};
use quadrille_core::{
    Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Record, Records, Row, declaration::Reaction,
    records,
};

records! { pub enum Heard { ConsumptionMeasured, ReadingRefused } }
records! { pub enum Stated {} }

/// The service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Usage;

/// The page of each meter.
pub type State = BTreeMap<String, Page>;

/// What is shown of a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Page {
    /// The sum of what was used, in watt-hours.
    pub used: i64,
    /// How many readings count.
    pub measured: i64,
    /// How many do not.
    pub refused: i64,
    /// The version of the last fact that was heard.
    pub version: i64,
}

impl Policy for Usage {
    const SERVICE: &'static str = "usage";
    const TABLES: &'static [&'static str] = &["page"];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type State = State;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;

    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("page", &input.key)]
    }

    fn react(_: &State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
        Decision::nothing()
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, _: &Decision<Self>) {
        let page = state.entry(input.key.clone()).or_default();
        // A writer may repeat itself: the same event, and version, at a later offset.
        if input.version <= page.version {
            return;
        }
        page.version = input.version;
        match &input.input {
            Input::Record(Heard::ConsumptionMeasured(measured)) => {
                page.used += measured.used;
                page.measured += 1;
            }
            Input::Record(Heard::ReadingRefused(_)) => page.refused += 1,
            _ => {}
        }
    }

    fn version<'a>(_: &'a mut State, fact: &Stated) -> &'a mut i64 {
        match *fact {}
    }
}

/// It hears, and that is all.
pub const CHOREOGRAPHY: Declaration = Declaration {
    file: file!(),
    reactions: &[Reaction::heard(ConsumptionMeasured::TYPE), Reaction::heard(ReadingRefused::TYPE)],
    ..Declaration::new(Usage::SERVICE, Heard::TYPES, Stated::TYPES)
};
