//! The document: services, topics and records by their names alone, as it is written to and read from JSON.

use std::collections::BTreeMap;

use quadrille_core::TopicKind;
use serde::{Deserialize, Serialize};

/// All services' declarations, and the topics and records that they speak of.
///
/// Records are called by their short names, which are unique in a schemas folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choreography {
    /// The services, in the order in which they are drawn.
    #[serde(default)]
    pub services: Vec<Service>,
    /// The topics of the schemas folder; where a document leaves them out, they are taken from there.
    #[serde(default)]
    pub topics: Vec<Topic>,
    /// The record types of the schemas folder.
    #[serde(default)]
    pub records: Vec<Record>,
}

/// A service's part: see [`quadrille_core::Declaration`], which has the same fields. What it states on topics of requests stands apart, as
/// `requests`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Service {
    pub name: String,
    pub file: String,
    pub hears: Vec<String>,
    pub states: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compensations: Vec<Compensation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promised: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saga_topics: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside_ids: Vec<String>,
    /// In documents of before `topics.toml` said which topics may have secrets. Nothing reads it.
    #[serde(skip_serializing)]
    pub secret_topics: Vec<String>,
}

/// What comes of one kind of input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reaction {
    /// The input.
    pub on: Cause,
    /// The facts and requests of which it may state some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// The effects that it may want.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wants: Vec<String>,
    /// The timers that it may set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// The states that absorb the input, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub until: String,
}

/// What may be an input of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A record that is heard.
    Heard(String),
    /// An effect's outcome.
    Outcome(String),
    /// A timer that fires.
    Timer(String),
    /// A command that it takes over HTTP.
    Command(String),
}

/// A question, and the facts of which exactly one answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What is heard.
    pub question: String,
    /// What is stated then.
    pub facts: Vec<String>,
}

/// A fact that can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compensation {
    /// The fact.
    pub fact: String,
    /// What is heard when it has to be undone.
    pub on: Vec<String>,
    /// What says that it is undone.
    #[serde(default)]
    pub by: Vec<String>,
    /// What happens where the outside refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

/// The outside's refusal to undo something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// What is stated then.
    pub fact: String,
    /// What a person sends to have it tried again.
    pub retry: String,
}

/// Something that a service waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The state in which it waits.
    pub state: String,
    /// The questions whose answers it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<String>,
    /// What ends the wait if nothing else does.
    #[serde(default)]
    pub end: End,
}

/// What ends a wait that nothing else ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// What a person does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
}

/// A timer, and when it fires at the latest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadline {
    /// The timer.
    pub timer: String,
    /// As people read it: `15 min`, `14 d`.
    pub within: String,
}

/// Something that is asked of the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Its kind.
    pub kind: String,
    /// The kinds of its outcomes.
    pub outcomes: Vec<String>,
    /// What ends it if the outside never tells.
    #[serde(default)]
    pub end: End,
}

/// A topic, as `topics.toml` declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// The name, without any prefix.
    pub name: String,
    /// `events`, `requests`, `state` or `dead-letters`; empty in a document of before there were kinds.
    #[serde(default)]
    pub kind: String,
    /// For the topic's life.
    pub partitions: u32,
    /// A service's name, `clients` or `all`.
    pub writer: String,
    /// `uuid`, `text`, or the name of a form that the schemas folder declares.
    pub key: String,
    /// `delete` or `compact`.
    pub cleanup: String,
    /// How long records are kept, or `forever`.
    pub retention: String,
}

/// A record type of the schemas folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The short name.
    pub name: String,
    /// The Avro full name.
    pub full_name: String,
    /// The file, relative to the checkout; of the platform's records, relative to its crate.
    pub file: String,
    /// The topics on which it stands.
    pub topics: Vec<String>,
    /// The field that is the record key.
    pub key: String,
    /// How many versions were frozen.
    pub versions: u32,
    /// What it means.
    pub doc: String,
    /// The fields and their types; those of nested records as `Record.field`, secret ones as `secret <type>`.
    pub fields: BTreeMap<String, String>,
}

/// Clients, where they are drawn beside the services.
pub(crate) const CLIENTS: &str = "clients";

impl Choreography {
    /// The record of this short name.
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.name == name)
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// The record's topics, as far as they are declared.
    pub fn topics_of<'a>(&'a self, record: &str) -> impl Iterator<Item = &'a Topic> + use<'a> {
        let names = self.record(record).map(|record| record.topics.as_slice()).unwrap_or_default();
        names.iter().filter_map(|name| self.topic(name))
    }

    /// The records of a topic.
    pub fn records_of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.topics.iter().any(|name| name == topic))
    }

    /// Whether it is a request: then it is a question by nature.
    pub fn is_request(&self, record: &str) -> bool {
        self.topics_of(record).any(|topic| topic.kind == TopicKind::Requests.name())
    }

    /// The services that state it, or request it.
    pub fn speakers<'a>(&'a self, record: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |service| service.says().any(|name| name == record))
    }

    /// The services that hear it.
    pub fn listeners<'a>(&'a self, record: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.iter().filter(move |service| service.hears.iter().any(|name| name == record))
    }

    /// The service that answers a question, with its answer.
    pub fn answer(&self, question: &str) -> Option<(&Service, &Answer)> {
        let answers = |service: &'_ Service| service.answers.iter().position(|answer| answer.question == question);
        self.services.iter().find_map(|service| Some((service, &service.answers[answers(service)?])))
    }

    /// The names of all facts that services state.
    pub fn facts(&self) -> impl Iterator<Item = &str> {
        self.services.iter().flat_map(|service| service.states.iter().map(String::as_str))
    }
}

impl Topic {
    /// Whether it belongs to every service: heartbeats, dead letters, what operators ask. No service declares these.
    pub fn is_platform(&self) -> bool {
        self.kind == TopicKind::DeadLetters.name()
            || quadrille_platform::TOPICS.iter().any(|topic| topic.name == self.name)
    }
}

impl Service {
    /// Whether it only listens, as far as a declaration says: nothing comes of what it hears but rows.
    pub fn is_projection(&self) -> bool {
        let acts = |reaction: &Reaction| {
            !matches!(reaction.on, Cause::Heard(_)) || !reaction.wants.is_empty() || !reaction.sets.is_empty()
        };
        self.says().next().is_none() && !self.reactions.iter().any(acts)
    }

    /// What it states and requests.
    pub fn says(&self) -> impl Iterator<Item = &String> {
        self.states.iter().chain(&self.requests)
    }

    /// Its reaction on an input.
    pub fn reaction(&self, on: &Cause) -> Option<&Reaction> {
        self.reactions.iter().find(|reaction| reaction.on == *on)
    }

    /// Its effect of this kind.
    pub fn effect(&self, kind: &str) -> Option<&Effect> {
        self.effects.iter().find(|effect| effect.kind == kind)
    }
}

impl Cause {
    /// The name alone.
    pub fn name(&self) -> &str {
        match self {
            Self::Heard(name) | Self::Outcome(name) | Self::Timer(name) | Self::Command(name) => name,
        }
    }

    /// As people read it.
    pub fn describe(&self) -> String {
        match self {
            Self::Heard(name) => name.clone(),
            Self::Outcome(name) => format!("outcome {name}"),
            Self::Timer(name) => format!("timer {name}"),
            Self::Command(name) => format!("command {name}"),
        }
    }
}
