//! Given, when, then: a policy's tests as short stories, told through [`process`] itself.
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
//! Every `then_..` looks at the last step alone, and at all of what it names: a fact too many fails as one too few does.

use std::collections::BTreeMap;

use chrono::{TimeDelta, TimeZone, Utc};
use quadrille_core::{
    EffectRow, Envelope, Input, Moment, Named, Policy, Processed, Records, Row, Timestamp, Trace, ids, process,
};
use uuid::Uuid;

/// The time at which stories begin.
pub fn start() -> Timestamp {
    Utc.timestamp_opt(1_800_000_000, 0).single().unwrap_or_default()
}

/// Begins a story in which nothing has happened yet.
pub fn given<P: Policy>() -> Given<P> {
    Given {
        state: P::State::default(),
        now: start(),
        claims: vec![],
        effects: BTreeMap::new(),
        versions: BTreeMap::new(),
        inputs: 0,
        last: None,
        outcome: Processed::default(),
    }
}

/// A story so far.
#[derive(Clone, Debug)]
#[must_use = "a story without an ending tests nothing"]
pub struct Given<P: Policy> {
    state: P::State,
    now: Timestamp,
    claims: Vec<(String, String)>,
    effects: BTreeMap<(String, String), EffectRow<P>>,
    versions: BTreeMap<(&'static str, String), i64>,
    inputs: u64,
    last: Option<Envelope<P>>,
    outcome: Processed<P>,
}

impl<P: Policy> Given<P> {
    /// Then this record is heard. Events get the next version of their key and topic, requests none.
    pub fn heard(mut self, record: impl Into<P::Heard>) -> Self {
        let record = record.into();
        let topic = record.record_type().topic;
        let version = self.versions.entry((topic, record.key())).or_default();
        if topic.ends_with(".events") {
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

    /// Then the same is heard once more, under another id: the inbox does not know it, only the state can.
    pub fn again(mut self) -> Self {
        let mut again = self.last.clone().expect("nothing was heard yet");
        again.id = self.next_id();
        self.step(again)
    }

    /// Then this timer of the aggregate `key` fires.
    pub fn fired(mut self, key: impl ToString, timer: P::Timer) -> Self {
        let id = self.next_id();
        self.step(Envelope {
            id,
            cause: id,
            key: key.to_string(),
            version: 0,
            trace: Trace::default(),
            input: Input::Timer(timer),
        })
    }

    /// Then the open effect `name` of the aggregate `key` has this outcome.
    ///
    /// # Panics
    /// Where no such effect was wanted before, or it was withdrawn or answered.
    pub fn answered(mut self, key: impl ToString, name: &str, outcome: P::Outcome) -> Self {
        let effect = (key.to_string(), name.to_owned());
        self.claims.retain(|claim| *claim != effect);
        let Some(row) = self.effects.remove(&effect) else {
            panic!("no open effect '{name}' of {}: {:?}", effect.0, self.effects.keys());
        };
        self.step(Envelope {
            id: ids::outcome(row.id, &outcome.name()),
            cause: row.cause,
            key: row.key,
            version: 0,
            trace: row.trace,
            input: Input::Outcome {
                effect: row.id,
                outcome,
            },
        })
    }

    /// And a worker has claimed the effect `name` of the aggregate `key`: it may happen at any moment, or have happened.
    pub fn claimed(mut self, key: impl ToString, name: &str) -> Self {
        self.claims.push((key.to_string(), name.to_owned()));
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
        let set: Vec<_> = self
            .outcome
            .timers
            .iter()
            .map(|row| (row.timer.clone(), row.due))
            .collect();
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
        assert!(holds(&self.state), "{:#?}", self.state);
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
        &self.state
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

    fn step(mut self, input: Envelope<P>) -> Self {
        let moment = Moment {
            now: self.now,
            claims: self.claims.iter().cloned().collect(),
        };
        self.outcome = process(&mut self.state, false, &moment, &input);
        for (key, name) in &self.outcome.withdrawn {
            self.effects.remove(&(key.clone(), name.clone()));
        }
        for row in &self.outcome.effects {
            self.effects.insert((row.key.clone(), row.effect.name()), row.clone());
        }
        self.last = Some(input);
        self
    }
}

/// The rows of `whole` that a store would load for `inputs`: asked for table by table, as the runtime asks.
///
/// `copy` copies one row from the whole state. What a policy decides on these rows must be what it decides on the whole.
pub fn touched<P: Policy>(
    whole: &P::State,
    inputs: &[Envelope<P>],
    copy: impl Fn(&P::State, &Row, &mut P::State),
) -> P::State {
    let mut loaded = P::State::default();
    for table in P::TABLES {
        let asked: Vec<Row> = inputs.iter().flat_map(|input| P::rows(&loaded, input)).collect();
        for row in asked.iter().filter(|row| row.table == *table) {
            copy(whole, row, &mut loaded);
        }
    }
    loaded
}
