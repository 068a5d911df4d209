//! One input's way through a policy.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{Envelope, Moment, Named, Perform, Policy, RecordType, Records, Timestamp, TopicKind, Trace, ids};

/// A fact that was decided, with all that its record's headers will say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact<P: Policy> {
    /// `ce_id`.
    pub id: Uuid,
    /// `ce_causationid`; a request has none.
    pub cause: Option<Uuid>,
    /// The record's key, which is `ce_subject` and, as a saga's key is its order, `ce_correlationid` too.
    pub key: String,
    /// `ce_aggregateversion`; a request has none.
    pub version: Option<i64>,
    /// `ce_time`.
    pub time: Timestamp,
    /// The input's trace.
    pub trace: Trace,
    /// The record.
    pub record: P::Stated,
}

/// An effect that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EffectRow<P: Policy> {
    /// The idempotency key.
    pub id: Uuid,
    /// The aggregate's key.
    pub key: String,
    /// The cause that its outcome will carry on.
    pub cause: Uuid,
    /// The input's trace.
    pub trace: Trace,
    /// What to do.
    pub effect: P::Effect,
}

/// A timer that was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimerRow<P: Policy> {
    /// The input id with which it will fire.
    pub id: Uuid,
    /// The aggregate's key.
    pub key: String,
    /// The cause that it will carry on.
    pub cause: Uuid,
    /// The input's trace.
    pub trace: Trace,
    /// Not before.
    pub due: Timestamp,
    /// What it says.
    pub timer: P::Timer,
}

/// What inputs came to: everything that is to be committed beside the state, in one transaction with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Processed<P: Policy> {
    /// Facts, in the order of their numbers.
    pub facts: Vec<Fact<P>>,
    /// Effects to store.
    pub effects: Vec<EffectRow<P>>,
    /// Stored effects to withdraw, by key and name.
    pub withdrawn: Vec<(String, String)>,
    /// Timers to store.
    pub timers: Vec<TimerRow<P>>,
    /// Stored timers to clear, by key and name; before the new ones are stored.
    pub cleared: Vec<(String, String)>,
}

impl<P: Policy> Default for Processed<P> {
    fn default() -> Self {
        Self { facts: vec![], effects: vec![], withdrawn: vec![], timers: vec![], cleared: vec![] }
    }
}

impl<P: Policy> Processed<P> {
    /// Adds what a later input came to, in the same transaction: what was wanted and withdrawn within it never becomes a row.
    pub fn then(&mut self, later: Self) {
        for (key, name) in later.withdrawn {
            self.effects.retain(|effect| effect.key != key || effect.effect.name() != name);
            self.withdrawn.push((key, name));
        }
        for (key, name) in later.cleared {
            self.timers.retain(|timer| timer.key != key || timer.timer.name() != name);
            self.cleared.push((key, name));
        }
        self.facts.extend(later.facts);
        self.effects.extend(later.effects);
        self.timers.extend(later.timers);
    }
}

/// Processes one input: decision, fold, ids, versions and causes.
///
/// The caller has seen to it that the inbox does not know the input. The state has moved on when this returns, and what is returned must be
/// committed together with it.
pub fn process<P: Policy>(state: &mut P::State, moment: &Moment, input: &Envelope<P>) -> Processed<P> {
    let decision = P::react(state, moment, input);
    P::evolve(state, input, &decision);

    let mut ordinals = BTreeMap::<String, usize>::new();
    let mut ordinal = |name: &str| {
        let next = ordinals.entry(name.to_owned()).or_default();
        *next += 1;
        *next - 1
    };
    let fact = |record: P::Stated| {
        let RecordType { name, topic, .. } = *record.record_type();
        // Many write a topic of requests: nobody numbers them, and whoever is asked begins anew.
        let is_request = topic.kind == TopicKind::Requests;
        let version = (!is_request).then(|| {
            let version = P::version(state, &record);
            *version += 1;
            *version
        });
        Fact {
            id: ids::fact(P::SERVICE, input.id, name, ordinal(name)),
            cause: (!is_request).then_some(input.cause),
            key: record.key(),
            version,
            time: moment.now,
            trace: input.trace.clone(),
            record,
        }
    };
    let facts = decision.facts.into_iter().map(fact).collect();
    let effect = |wanted: Perform<P>| {
        let name = wanted.effect.name();
        EffectRow {
            id: ids::effect(P::SERVICE, input.id, &name, ordinal(&format!("effect {name}"))),
            key: wanted.key,
            cause: input.cause,
            trace: input.trace.clone(),
            effect: wanted.effect,
        }
    };
    let effects = decision.perform.into_iter().map(effect).collect();
    let timers = decision.set.into_iter().map(|wanted| TimerRow {
        id: ids::timer(P::SERVICE, input.id, &wanted.timer.name(), ordinal(&wanted.timer.name())),
        key: wanted.key,
        cause: input.cause,
        trace: input.trace.clone(),
        due: wanted.due,
        timer: wanted.timer,
    });
    let timers: Vec<TimerRow<P>> = timers.collect();
    let replaced = timers.iter().map(|timer| (timer.key.clone(), timer.timer.name()));
    Processed {
        facts,
        effects,
        withdrawn: decision.withdraw,
        cleared: decision.clear.into_iter().chain(replaced).collect(),
        timers,
    }
}

/// The rows of a table that a batch has changed or made: what a store has to save.
pub fn changed<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    after.iter().filter(|(key, row)| before.get(key) != Some(row))
}
