//! Given, when, then: a policy's tests as short stories, told to a service in [`memory`](quadrille_core::memory).
//!
//! ```ignore
//! given::<Order>()
//!     .heard(listed("TEA-1", 19_99))
//!     .heard(requested())
//!     .then_states([created()])
//!     .then_sets([(Timer::ConfirmBy, start() + TimeDelta::minutes(15))])
//!     .fired(ORDER, Timer::ConfirmBy)
//!     .then_states([cancelled("expired")]);
//! ```
//!
//! Every `then_..` looks at the last step alone, and at all of what it names: a fact too many fails as one too few does. And of each step
//! it is checked that the policy decides on the rows that it names, does what its service declares, numbers its facts without gaps, wants no
//! effect that is open already, and withdraws none that is claimed.

use std::{collections::BTreeMap, slice};

use chrono::{TimeDelta, TimeZone, Utc};
use quadrille_core::{
    Envelope, Fact, Input, Moment, Named, Policy, Processed, Records, TimerRow, Timestamp, Tombstone, TopicKind, Trace,
    ids,
    memory::{OpenEffect, Service},
};
use uuid::Uuid;

/// The time at which stories begin.
pub fn start() -> Timestamp {
    Utc.timestamp_opt(1_800_000_000, 0).single().unwrap_or_default()
}

/// Begins a story in which nothing has happened yet.
pub fn given<P: Policy>() -> Given<P> {
    Given {
        service: Service::default(),
        now: start(),
        versions: BTreeMap::new(),
        inputs: 0,
        last: None,
        ended: None,
        outcome: Processed::default(),
        facts: vec![],
    }
}

/// A story so far.
#[derive(Clone, Debug)]
pub struct Given<P: Policy> {
    service: Service<P>,
    now: Timestamp,
    versions: BTreeMap<(&'static str, String), i64>,
    inputs: u64,
    last: Option<Envelope<P>>,
    /// The effect that was answered last.
    ended: Option<OpenEffect<P>>,
    outcome: Processed<P>,
    facts: Vec<Fact<P>>,
}

impl<P: Policy> Given<P> {
    /// Then this record is heard. Events get the next version of their key and topic, requests none.
    pub fn heard(mut self, record: impl Into<P::Heard>) -> Self {
        let record = record.into();
        let topic = record.record_type().topic;
        let version = self.versions.entry((&*topic.name, record.key())).or_default();
        if topic.kind == TopicKind::Events {
            *version += 1;
        }
        let version = *version;
        self.heard_as(version, record)
    }

    /// Then this record is heard under a version of its own: one that is repeated, late, or missing (0).
    pub fn heard_as(mut self, version: i64, record: impl Into<P::Heard>) -> Self {
        let record = record.into();
        let id = self.next_id();
        self.step(Envelope {
            id,
            cause: id,
            key: record.key(),
            version,
            trace: Trace::default(),
            input: Input::Record(record),
        })
    }

    /// Then the key of a state topic is gone.
    ///
    /// # Panics
    /// Where the policy is not told of it: see [`records!`](quadrille_core::records).
    pub fn gone(mut self, topic: &'static str, key: impl ToString) -> Self {
        let gone = <P::Heard as Records>::Gone::on(topic).expect("it hears that keys are gone");
        let id = self.next_id();
        let (key, trace) = (key.to_string(), Trace::default());
        self.step(Envelope { id, cause: id, key, version: 0, trace, input: Input::Gone(gone) })
    }

    /// Then the service is told this command, for the aggregate `key`.
    pub fn told(mut self, key: impl ToString, command: P::Command) -> Self {
        let id = self.next_id();
        let (key, trace) = (key.to_string(), Trace::default());
        self.step(Envelope { id, cause: id, key, version: 0, trace, input: Input::Command(command) })
    }

    /// Then the same is heard once more, as if nothing but the state knew of it: under another id, with the row of its timer or effect.
    pub fn again(mut self) -> Self {
        let mut again = self.last.clone().expect("nothing was heard yet");
        again.id = self.next_id();
        match &again.input {
            Input::Record(_) | Input::Gone(_) | Input::Command(_) => {}
            Input::Timer(timer) => self.set(again.id, again.key.clone(), timer.clone()),
            Input::Outcome { .. } => self.service.effects.extend(self.ended.clone()),
        }
        self.step(again)
    }

    /// Then this timer of the aggregate `key` fires; where it is not set, the state must know that it no longer counts.
    pub fn fired(mut self, key: impl ToString, timer: P::Timer) -> Self {
        let key = key.to_string();
        let is_it = |row: &TimerRow<P>| row.key == key && row.timer == timer;
        let place = self.service.timers.iter().position(is_it).unwrap_or_else(|| {
            let id = self.next_id();
            self.set(id, key, timer);
            self.service.timers.len() - 1
        });
        let due = self.service.due(place);
        self.step(due)
    }

    /// Then the open effect `name` of the aggregate `key` has this outcome: a worker had claimed it.
    ///
    /// # Panics
    /// Where no such effect was wanted before, or it was withdrawn or answered.
    #[track_caller]
    pub fn answered(self, key: impl ToString, name: &str, outcome: P::Outcome) -> Self {
        let mut story = self.claimed(key.to_string(), name);
        let place = story.open(&key.to_string(), name);
        story.ended = Some(story.service.effects[place].clone());
        let outcome = story.service.outcome(place, outcome);
        story.step(outcome)
    }

    /// And a worker has claimed the effect `name` of the aggregate `key`: it may happen at any moment, or have happened.
    ///
    /// # Panics
    /// As [`Self::answered`].
    #[track_caller]
    pub fn claimed(mut self, key: impl ToString, name: &str) -> Self {
        let place = self.open(&key.to_string(), name);
        self.service.effects[place].claimed = true;
        self
    }

    /// And this much time passes.
    pub fn later(mut self, time: TimeDelta) -> Self {
        self.now += time;
        self
    }

    /// The last step stated these facts, in this order, and no other.
    #[track_caller]
    pub fn then_states<F: Into<P::Stated>>(self, facts: impl IntoIterator<Item = F>) -> Self {
        let expected: Vec<P::Stated> = facts.into_iter().map(Into::into).collect();
        assert_eq!(self.stated(), expected);
        self
    }

    /// The last step stated facts of these types, by their names without namespace.
    #[track_caller]
    pub fn then_states_types<const N: usize>(self, types: [&str; N]) -> Self {
        let short = |fact: &P::Stated| fact.record_type().name.rsplit('.').next().unwrap_or_default();
        let stated = self.stated();
        assert_eq!(stated.iter().map(short).collect::<Vec<_>>(), types, "{stated:#?}");
        self
    }

    /// The last step stated, wanted, withdrew, set and cleared nothing.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        assert_eq!(self.outcome, Processed::default());
        self
    }

    /// The last step wanted these effects, and no other.
    #[track_caller]
    pub fn then_performs(self, effects: impl IntoIterator<Item = P::Effect>) -> Self {
        let wanted: Vec<_> = self.outcome.effects.iter().map(|row| row.effect.clone()).collect();
        assert_eq!(wanted, effects.into_iter().collect::<Vec<_>>());
        self
    }

    /// The last step withdrew the effects of these names, and no other.
    #[track_caller]
    pub fn then_withdraws<const N: usize>(self, names: [&str; N]) -> Self {
        let withdrawn: Vec<_> = self.outcome.withdrawn.iter().map(|(_, name)| name).collect();
        assert_eq!(withdrawn, names);
        self
    }

    /// The last step set these timers, due then, and no other.
    #[track_caller]
    pub fn then_sets(self, timers: impl IntoIterator<Item = (P::Timer, Timestamp)>) -> Self {
        let set: Vec<_> = self.outcome.timers.iter().map(|row| (row.timer.clone(), row.due)).collect();
        assert_eq!(set, timers.into_iter().collect::<Vec<_>>());
        self
    }

    /// The last step cleared the timers of these names, and no other (those that it set anew aside).
    #[track_caller]
    pub fn then_clears<const N: usize>(self, names: [&str; N]) -> Self {
        let set = |name: &String| self.outcome.timers.iter().any(|row| row.timer.name() == *name);
        let cleared: Vec<_> = self.outcome.cleared.iter().map(|(_, name)| name).collect();
        assert_eq!(cleared.into_iter().filter(|name| !set(name)).collect::<Vec<_>>(), names);
        self
    }

    /// The state is such.
    #[track_caller]
    pub fn then_state(self, holds: impl FnOnce(&P::State) -> bool) -> Self {
        assert!(holds(self.state()), "{:#?}", self.state());
        self
    }

    /// The facts of the last step.
    pub fn stated(&self) -> Vec<P::Stated> {
        self.outcome.facts.iter().map(|fact| fact.record.clone()).collect()
    }

    /// What the last step came to.
    pub fn outcome(&self) -> &Processed<P> {
        &self.outcome
    }

    /// The state as it is now.
    pub fn state(&self) -> &P::State {
        &self.service.state
    }

    /// The service as it is now.
    pub fn service(&self) -> &Service<P> {
        &self.service
    }

    /// All facts of the story.
    pub fn facts(&self) -> &[Fact<P>] {
        &self.facts
    }

    /// The effect of this kind and of the aggregate `key` that a worker performs next: of those that are open the one wanted first.
    pub fn next_effect(&self, key: impl ToString, kind: &str) -> Option<P::Effect> {
        let is_it = |open: &&OpenEffect<P>| open.row.key == key.to_string() && open.row.effect.kind() == kind;
        self.service.effects.iter().find(is_it).map(|open| open.row.effect.clone())
    }

    /// Whether this timer of the aggregate `key` is set.
    pub fn is_set(&self, key: impl ToString, timer: &P::Timer) -> bool {
        self.service.timers.iter().any(|row| row.key == key.to_string() && row.timer == *timer)
    }

    /// The id of the last input: what its refusals may name.
    ///
    /// # Panics
    /// Where nothing was heard yet.
    pub fn last_id(&self) -> Uuid {
        self.last.as_ref().expect("nothing was heard yet").id
    }

    fn next_id(&mut self) -> Uuid {
        self.inputs += 1;
        ids::v5(&["given", &self.inputs.to_string()])
    }

    fn set(&mut self, id: Uuid, key: String, timer: P::Timer) {
        self.service.timers.push(TimerRow { id, key, cause: id, trace: Trace::default(), due: self.now, timer });
    }

    #[track_caller]
    fn open(&self, key: &str, name: &str) -> usize {
        let is_it = |open: &OpenEffect<P>| open.row.key == key && open.row.effect.name() == name;
        let place = self.service.effects.iter().position(is_it);
        place.unwrap_or_else(|| panic!("no open effect '{name}' of {key}: {:?}", self.service.effects))
    }

    #[track_caller]
    fn step(mut self, input: Envelope<P>) -> Self {
        let moment = self.service.moment(self.now, slice::from_ref(&input));
        self.outcome = self.service.handle(self.now, &input);
        as_declared(&moment, &input, &self.outcome);
        for (key, name) in &self.outcome.withdrawn {
            assert!(!moment.claims.contains(key, name), "'{name}' of {key} is withdrawn, and a worker has claimed it");
        }
        for fact in &self.outcome.facts {
            let topic = fact.record.record_type().topic;
            let before = |other: &&Fact<P>| other.key == fact.key && other.record.record_type().topic == topic;
            let last = self.facts.iter().rfind(before).map_or(0, |last| last.version.unwrap_or_default());
            let expected = (topic.kind != TopicKind::Requests).then_some(last + 1);
            assert_eq!(fact.version, expected, "versions of a key and topic have no gaps: {fact:#?}");
            self.facts.push(fact.clone());
        }
        self.last = Some(input);
        self
    }
}

/// The policy did what its service declares of it, and no more.
#[track_caller]
fn as_declared<P: Policy>(moment: &Moment, input: &Envelope<P>, came: &Processed<P>) {
    if let Err(sentence) = P::CHOREOGRAPHY.covers(moment, input, came) {
        panic!("{sentence}: {input:#?}");
    }
}

/// Of each effect the policy accepts the declared outcomes, and no others: `effects` and `outcomes` are one of every kind.
#[track_caller]
pub fn outcomes_as_declared<P: Policy>(effects: &[P::Effect], outcomes: &[P::Outcome]) {
    let declared = P::CHOREOGRAPHY.effects;
    assert_eq!(declared.iter().map(|effect| effect.kind).collect::<Vec<_>>(), kinds(effects));
    for (effect, declared) in effects.iter().zip(declared) {
        let accepted: Vec<_> = outcomes.iter().filter(|outcome| P::answers(effect, outcome)).cloned().collect();
        assert_eq!(kinds(&accepted), declared.outcomes, "the outcomes of {}", declared.kind);
    }
}

fn kinds<N: Named>(named: &[N]) -> Vec<&'static str> {
    named.iter().map(Named::kind).collect()
}
