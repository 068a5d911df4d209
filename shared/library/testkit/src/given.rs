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
    EffectRow, Envelope, Input, Moment, Named, Policy, Processed, Records, Row, Timestamp, TopicKind, Trace, ids,
    process,
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
            input: Input::Outcome { effect: row.id, outcome },
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
        let moment = Moment { now: self.now, claims: self.claims.iter().cloned().collect() };
        self.outcome = process(&mut self.state, &moment, &input);
        as_declared(&moment, &input, &self.outcome);
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

/// Takes `input` into `whole`, after checking that a store's view is enough for it.
///
/// The policy must decide on the rows that the input names what it decides on the whole state, and change no others: they alone are
/// loaded and locked. `copy` copies one row, if it is there, from the first state to the second.
#[track_caller]
pub fn step_on_touched_rows<P: Policy>(
    whole: &mut P::State,
    moment: &Moment,
    input: &Envelope<P>,
    copy: impl Fn(&P::State, &mut P::State, &Row),
) -> Processed<P> {
    let mut touched = P::State::default();
    let mut rows = vec![];
    // Table by table, as the runtime asks: later tables may depend on rows of earlier ones.
    for table in P::TABLES {
        let asked = P::rows(&touched, input).into_iter().filter(|row| row.table == *table);
        let asked: Vec<Row> = asked.collect();
        for row in &asked {
            copy(whole, &mut touched, row);
        }
        rows.extend(asked);
    }
    let on_touched = process(&mut touched, moment, input);
    let on_whole = process(whole, moment, input);
    assert_eq!(on_touched, on_whole, "decided on the touched rows (left), on the whole (right): {input:#?}");
    let mut expected = P::State::default();
    for row in &rows {
        copy(whole, &mut expected, row);
    }
    assert_eq!(touched, expected, "rows changed that {input:#?} does not name");
    as_declared(moment, input, &on_whole);
    on_whole
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
