//! A policy that does as it is told: a request says what is to come of it, so that a test shows both what goes in and what comes out.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{borrow::Cow, collections::BTreeMap};

use chrono::TimeDelta;
use quadrille_core::{
    Decision, DecodeError, Envelope, Input, KeyKind, Moment, Named, Policy, Record, RecordType, Records, Row,
    Timestamp, TopicKind, TopicType, TopicWriter, Trace, kinds, memory::Service, records, rows,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub static TALLY_REQUESTS: TopicType = topic("tally.requests", TopicKind::Requests, TopicWriter::Clients);
pub static OTHER_REQUESTS: TopicType = topic("other.requests", TopicKind::Requests, TopicWriter::Clients);
pub static GROUP_EVENTS: TopicType = topic("group.events", TopicKind::Events, service("group"));
pub static TALLY_EVENTS: TopicType = topic("tally.events", TopicKind::Events, service("tally"));
pub static SUM_EVENTS: TopicType = topic("sum.events", TopicKind::Events, service("tally"));

const fn service(name: &'static str) -> TopicWriter {
    TopicWriter::Service(Cow::Borrowed(name))
}

const fn topic(name: &'static str, kind: TopicKind, writer: TopicWriter) -> TopicType {
    TopicType {
        name: Cow::Borrowed(name),
        kind,
        writer,
        key: KeyKind::Text,
        partitions: 1,
        replication: None,
        min_insync_replicas: None,
        retention: None,
        compact_within: None,
        secrets: false,
        records: Cow::Borrowed(&[]),
        why: Cow::Borrowed(""),
    }
}

/// A record whose datum is JSON: the core leaves it to a record how it is written.
macro_rules! record {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? } on $topic:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub struct $name {
            pub key: String,
            $(pub $field: $type),*
        }

        impl Record for $name {
            const TYPE: RecordType =
                RecordType { topic: &$topic, name: concat!("test.tally.", stringify!($name)), schema: stringify!($name) };

            fn key(&self) -> String {
                self.key.clone()
            }

            fn encode(&self, datum: &mut Vec<u8>) {
                datum.extend(serde_json::to_vec(self).expect("JSON"));
            }

            fn decode(datum: &[u8]) -> Result<Self, DecodeError> {
                serde_json::from_slice(datum).map_err(|error| DecodeError(error.to_string()))
            }
        }
    };
}

record! {
    /// A request.
    Asked { to: Vec<Do> } on TALLY_REQUESTS
}
record! {
    /// An event: from now on the key belongs to this group.
    Joined { group: String } on GROUP_EVENTS
}
record! {
    /// What the policy saw when it decided: how many inputs of the key came before, and which of its effects are claimed.
    Noted { inputs: i64, claimed: Vec<String> } on TALLY_EVENTS
}
record! {
    /// A fact of the key's group, which is its own key.
    Summed {} on SUM_EVENTS
}

records! { pub enum Heard { Asked, Joined } }
record! {
    /// A request of another service.
    Wanted {} on OTHER_REQUESTS
}

records! { pub enum Stated { Noted, Summed, Wanted } }

/// What a request tells the policy to decide, for its own key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Do {
    Note,
    Sum,
    Want,
    Mail(String),
    Withdraw(String),
    /// Due so many minutes from now.
    Set(Timer, i64),
    Clear(String),
    /// A policy's mistake: it changes the row of this key, which the request does not name.
    Change(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Effect {
    Mail { to: String },
}

/// One input may want several mails, so that each has a name of its own.
impl Named for Effect {
    fn kind(&self) -> &'static str {
        "mail"
    }

    fn name(&self) -> String {
        let Self::Mail { to } = self;
        format!("mail/{to}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    Sent,
    Lost,
}

kinds!(Outcome { Sent: SENT = "sent", Lost: LOST = "lost" });

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Timer {
    /// A deadline.
    AnswerBy,
    Remind,
}

kinds!(Timer { AnswerBy: ANSWER_BY = "answer_by", Remind: REMIND = "remind" });

/// Notes that somebody called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    Call,
}

kinds!(Command { Call: CALL = "call" });

pub const TALLY: &str = "tally";
pub const GROUP: &str = "group";

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub tallies: BTreeMap<String, Counted>,
    /// The version of each group's last fact.
    pub groups: BTreeMap<String, i64>,
}

rows! { State { tallies: TALLY, groups: GROUP } }

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counted {
    pub inputs: i64,
    pub group: String,
    pub version: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tally;

impl Policy for Tally {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &[TALLY, GROUP];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Effect;
    type Outcome = Outcome;
    type Timer = Timer;
    type Command = Command;
    type State = State;

    fn rows(state: &State, input: &Envelope<Self>) -> Vec<Row> {
        let group = match &input.input {
            Input::Record(Heard::Joined(joined)) => Some(&joined.group),
            _ => state.tallies.get(&input.key).map(|tally| &tally.group).filter(|group| !group.is_empty()),
        };
        [Row::new(TALLY, &input.key)].into_iter().chain(group.map(|group| Row::new(GROUP, group))).collect()
    }

    fn react(state: &State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let key = &input.key;
        let tally = state.tallies.get(key).cloned().unwrap_or_default();
        let claimed = moment.claims.of(key).map(str::to_owned).collect();
        let noted = Noted { key: key.clone(), inputs: tally.inputs, claimed };
        let steps = match &input.input {
            Input::Record(Heard::Asked(asked)) => asked.to.as_slice(),
            Input::Record(Heard::Joined(_)) | Input::Gone(_) => &[],
            Input::Timer(_) | Input::Outcome { .. } | Input::Command(_) => &[Do::Note],
        };
        steps.iter().cloned().fold(Decision::nothing(), |decision, step| match step {
            Do::Note => decision.and(noted.clone()),
            Do::Sum => decision.and(Summed { key: tally.group.clone() }),
            Do::Want => decision.and(Wanted { key: key.clone() }),
            Do::Mail(to) => decision.perform(key, Effect::Mail { to }),
            Do::Withdraw(name) => decision.withdraw(key, name),
            Do::Set(timer, minutes) => decision.set(key, timer, moment.now + TimeDelta::minutes(minutes)),
            Do::Clear(name) => decision.clear(key, name),
            Do::Change(_) => decision,
        })
    }

    fn is_deadline(timer: &Timer) -> bool {
        *timer == Timer::AnswerBy
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, _: &Decision<Self>) {
        let tally = state.tallies.entry(input.key.clone()).or_default();
        tally.inputs += 1;
        match &input.input {
            Input::Record(Heard::Joined(joined)) => {
                tally.group = joined.group.clone();
                state.groups.entry(joined.group.clone()).or_default();
            }
            Input::Record(Heard::Asked(asked)) => {
                for step in &asked.to {
                    if let Do::Change(other) = step {
                        state.tallies.entry(other.clone()).or_default().inputs += 1;
                    }
                }
            }
            Input::Gone(_) | Input::Timer(_) | Input::Outcome { .. } | Input::Command(_) => {}
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        match fact {
            Stated::Noted(noted) => &mut state.tallies.entry(noted.key.clone()).or_default().version,
            Stated::Wanted(_) => unreachable!("nobody numbers requests"),
            Stated::Summed(summed) => state.groups.entry(summed.key.clone()).or_default(),
        }
    }
}

pub const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The request with this id.
pub fn asked(id: u128, key: &str, to: &[Do]) -> Envelope<Tally> {
    record(id, 0, Asked { key: key.to_owned(), to: to.to_vec() })
}

/// The event with this id.
pub fn joined(id: u128, key: &str, group: &str) -> Envelope<Tally> {
    record(id, 1, Joined { key: key.to_owned(), group: group.to_owned() })
}

fn record(id: u128, version: i64, heard: impl Into<Heard>) -> Envelope<Tally> {
    let (id, heard) = (Uuid::from_u128(id), heard.into());
    let trace = Trace { parent: format!("trace of {id}"), state: String::new() };
    Envelope { id, cause: id, key: heard.key(), version, trace, input: Input::Record(heard) }
}

pub fn mail(to: &str) -> Do {
    Do::Mail(to.to_owned())
}

pub fn withdraw(name: &str) -> Do {
    Do::Withdraw(name.to_owned())
}

pub fn clear(name: &str) -> Do {
    Do::Clear(name.to_owned())
}

pub fn noted(key: &str, inputs: i64, claimed: &[&str]) -> Stated {
    let claimed = claimed.iter().map(|name| String::from(*name)).collect();
    Noted { key: key.to_owned(), inputs, claimed }.into()
}

/// A service that has taken these inputs, each in a transaction of its own.
pub fn after(inputs: &[Envelope<Tally>]) -> Service<Tally> {
    let mut service = Service::default();
    for input in inputs {
        service.handle(NOW, input);
    }
    service
}
