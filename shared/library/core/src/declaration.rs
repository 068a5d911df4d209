//! What a service says of itself: its part in the choreography, as data.
//!
//! A [`Declaration`] stands beside the policy and is held against it: the stories of `quadrille-testkit` check every step with
//! [`Declaration::covers`], and `quadrille check` checks all services' declarations against each other.

use chrono::TimeDelta;

use crate::{Envelope, Input, Moment, Named, Policy, Processed, RecordType, Records, Tombstone};

/// A service's part in the choreography. Start from [`Declaration::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// The service's name.
    pub service: &'static str,
    /// The file in which this stands, for whoever has to fix it: `file!()`.
    pub file: &'static str,
    /// What it hears.
    pub hears: &'static [RecordType],
    /// What it states.
    pub states: &'static [RecordType],
    /// What it does on each input.
    pub reactions: &'static [Reaction],
    /// Which of its facts are questions: another service has to answer each.
    pub asks: &'static [RecordType],
    /// Which questions it answers. A client's request is a question by nature.
    pub answers: &'static [Answer],
    /// Which of its facts can be undone, and what undoes them.
    pub compensations: &'static [Compensation],
    /// What it waits for, and what ends each wait.
    pub waits: &'static [Wait],
    /// What it asks of the outside.
    pub effects: &'static [Effect],
    /// Of what it hears: whose dead letter leaves a saga open, or something of a cancelled one held, until a person redrives it.
    pub alarms: &'static [RecordType],
    /// Which of its facts need no listener among the services: clients, people and the audit read them.
    pub public: &'static [RecordType],
    /// Which facts the contract promises and nothing states yet (docs/contract.md, section 4).
    pub promised: &'static [RecordType],
    /// Which of the topics that it hears from clients or states on belong to the saga: keyed by its id, partitioned alike.
    pub saga_topics: &'static [&'static str],
    /// Which `.._id` fields are names that the outside gives: texts of any form, and no UUIDs.
    pub outside_ids: &'static [&'static str],
}

/// What comes of one kind of input, in any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// The input.
    pub on: Cause,
    /// The facts of which it may state some.
    pub states: &'static [RecordType],
    /// The effects that it may want, by kind.
    pub wants: &'static [&'static str],
    /// The timers that it may set, by kind.
    pub sets: &'static [&'static str],
    /// The states that absorb the input: from there on nothing comes of it. Empty where it is answered for ever.
    pub until: &'static str,
}

/// What may be an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A record that is heard.
    Heard(RecordType),
    /// An effect's outcome, by kind.
    Outcome(&'static str),
    /// A timer that fires, by kind.
    Timer(&'static str),
    /// A command, by kind.
    Command(&'static str),
}

/// A question, and the facts of which exactly one answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is heard.
    pub question: RecordType,
    /// What is stated then.
    pub facts: &'static [RecordType],
}

/// A fact that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compensation {
    /// The fact.
    pub fact: RecordType,
    /// What is heard when it has to be undone.
    pub on: &'static [RecordType],
    /// The facts of which one says that it is undone.
    pub by: &'static [RecordType],
    /// What is stated where the outside refuses to undo it, and what a person sends then.
    pub refused: Option<(RecordType, RecordType)>,
}

/// Something that a service waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The state in which it waits.
    pub state: &'static str,
    /// The questions whose answers it waits for, its own or those that others ask on the way; may be none.
    pub questions: &'static [RecordType],
    /// What ends the wait if nothing else does.
    pub end: End,
}

/// What ends a wait that nothing else ends. One of the two has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The timer that fires, by kind, and when at the latest. For an effect: when it is given up.
    pub deadline: Option<(&'static str, TimeDelta)>,
    /// What a person does, who sees it.
    pub person: Option<&'static str>,
}

/// Something that is asked of the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Its kind.
    pub kind: &'static str,
    /// The kinds of its outcomes.
    pub outcomes: &'static [&'static str],
    /// Outcomes as JSON, such as a person may state who has asked the outside: shown beside a parked effect.
    pub examples: &'static [&'static str],
    /// What ends it if the outside never tells.
    pub end: End,
}

impl Declaration {
    /// A service that hears and states this, and of which no more is said.
    pub const fn new(service: &'static str, hears: &'static [RecordType], states: &'static [RecordType]) -> Self {
        Self {
            service,
            file: "",
            hears,
            states,
            reactions: &[],
            asks: &[],
            answers: &[],
            compensations: &[],
            waits: &[],
            effects: &[],
            alarms: &[],
            public: &[],
            promised: &[],
            saga_topics: &[],
            outside_ids: &[],
        }
    }

    /// Whether a dead letter of this type, on this topic, is to be alarmed at once. One whose type is not known (empty), since it cannot
    /// be read so far, may be any that its topic carries.
    pub fn alarms_at(&self, topic: &str, record_type: &str) -> bool {
        self.alarms.iter().any(|alarm| match record_type {
            "" => alarm.topic.name == topic,
            name => alarm.name == name,
        })
    }

    /// Whether what came of an input is what is declared, as a sentence where it is not.
    ///
    /// A policy that declares no reactions is not held to any.
    pub fn covers<P: Policy>(&self, moment: &Moment, input: &Envelope<P>, came: &Processed<P>) -> Result<(), String> {
        if self.reactions.is_empty() {
            return Ok(());
        }
        let on = match &input.input {
            Input::Record(record) => Cause::Heard(*record.record_type()),
            // Of a key that is gone may come what may come of a record of its topic.
            Input::Gone(gone) => {
                let on_topic = |on: &Cause| matches!(on, Cause::Heard(record) if record.topic.name == gone.topic());
                match self.reactions.iter().map(|reaction| reaction.on).find(on_topic) {
                    Some(on) => on,
                    None => return Err(format!("{}: no reaction on {} is declared", self.file, gone.topic())),
                }
            }
            Input::Outcome { outcome, .. } => Cause::Outcome(outcome.kind()),
            Input::Timer(timer) => Cause::Timer(timer.kind()),
            Input::Command(command) => Cause::Command(command.kind()),
        };
        let Some(reaction) = self.reactions.iter().find(|reaction| reaction.on == on) else {
            return Err(format!("{}: no reaction on {} is declared", self.file, on.name()));
        };
        let undeclared = |verb: &str, what: &str| {
            format!("{}: on {} the policy {verb} {what}, which is not declared", self.file, on.name())
        };
        for fact in &came.facts {
            if !reaction.states.contains(fact.record.record_type()) {
                return Err(undeclared("states", fact.record.record_type().short_name()));
            }
        }
        for wanted in &came.effects {
            if !reaction.wants.contains(&wanted.effect.kind()) {
                return Err(undeclared("wants", wanted.effect.kind()));
            }
        }
        came.timers.iter().try_for_each(|set| {
            let kind = set.timer.kind();
            if !reaction.sets.contains(&kind) {
                return Err(undeclared("sets", kind));
            }
            let mut deadlines = self.waits.iter().filter_map(|wait| wait.end.deadline);
            match deadlines.find(|(timer, _)| *timer == kind) {
                Some((_, within)) if set.due > moment.now + within => {
                    Err(undeclared("sets for later than its wait ends", kind))
                }
                None if P::is_deadline(&set.timer) => Err(undeclared("sets the deadline", kind)),
                _ => Ok(()),
            }
        })
    }
}

impl Reaction {
    /// Nothing comes of this record but a change of the state.
    pub const fn heard(record: RecordType) -> Self {
        Self { on: Cause::Heard(record), states: &[], wants: &[], sets: &[], until: "" }
    }

    /// Nothing comes of this outcome but a change of the state.
    pub const fn outcome(kind: &'static str) -> Self {
        Self { on: Cause::Outcome(kind), ..Self::heard_nothing() }
    }

    /// Nothing comes of this timer but a change of the state.
    pub const fn timer(kind: &'static str) -> Self {
        Self { on: Cause::Timer(kind), ..Self::heard_nothing() }
    }

    /// Nothing comes of this command but a change of the state.
    pub const fn command(kind: &'static str) -> Self {
        Self { on: Cause::Command(kind), ..Self::heard_nothing() }
    }

    const fn heard_nothing() -> Self {
        Self { on: Cause::Timer(""), states: &[], wants: &[], sets: &[], until: "" }
    }

    /// It may state some of these.
    #[must_use]
    pub const fn states(self, states: &'static [RecordType]) -> Self {
        Self { states, ..self }
    }

    /// It may want some of these effects.
    #[must_use]
    pub const fn wants(self, wants: &'static [&'static str]) -> Self {
        Self { wants, ..self }
    }

    /// It may set some of these timers.
    #[must_use]
    pub const fn sets(self, sets: &'static [&'static str]) -> Self {
        Self { sets, ..self }
    }

    /// These states absorb it.
    #[must_use]
    pub const fn until(self, until: &'static str) -> Self {
        Self { until, ..self }
    }
}

impl Cause {
    /// The record's short name, or the kind of the outcome, timer or command.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Heard(record) => record.short_name(),
            Self::Outcome(kind) | Self::Timer(kind) | Self::Command(kind) => kind,
        }
    }
}

impl End {
    /// What the runtime sees to for every effect that tells nothing: it is parked for a person.
    pub const PARKED: Self = Self::person("sees it parked, and redrives or answers it (`quadrille effects`)");

    /// This timer ends it.
    pub const fn deadline(timer: &'static str, within: TimeDelta) -> Self {
        Self { deadline: Some((timer, within)), person: None }
    }

    /// A person ends it, by doing this.
    pub const fn person(does: &'static str) -> Self {
        Self { deadline: None, person: Some(does) }
    }
}
