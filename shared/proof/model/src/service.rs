//! A service as the world plays it: its own policy's [`process`] on its database, one transaction a step.

use std::sync::Arc;

use dashmap::DashMap;
use quadrille_core::{
    Declaration, EffectRow, Envelope, Input, Moment, Named, Policy, Processed, Records as _, Timestamp, TopicKind,
    Trace, ids, process,
};
use uuid::Uuid;

use crate::{
    database::{Database, Level, OpenEffect, View},
    flaw::Flaw,
    interner::Interner,
    outside::Said,
    record::{Kind, Record, Records},
    spec::Forgets,
};

/// What happens to a service, all of it in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// It handles this record.
    Handle(u32),
    /// It handles this record, and the timer at this place, which was due when both were taken in one batch.
    HandleWithTimer(u32, u8),
    /// It cannot handle this record: a dead letter.
    Park(u32),
    /// An operator has it handle the dead letter at this place.
    Redrive(u8),
    /// The timer at this place is due.
    Fire(u8),
    /// A worker takes the effect at this place in hand.
    Claim(u8),
    /// A worker tries the effect at this place again, as it does not know what came of it.
    Retry(u8),
    /// The effect at this place has an outcome.
    Answer(u8, Said),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// The database afterwards.
    pub database: u32,
    /// What it stated.
    pub stated: Vec<u32>,
}

/// A service, whatever its policy. Databases are spoken of by their numbers.
pub trait Service: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Its part in the choreography, as it declares it.
    fn declaration(&self) -> &'static Declaration;
    /// Whether it hears records of this type.
    fn hears(&self, kind: Kind) -> bool;
    /// Whether it hears anything on this topic.
    fn listens(&self, topic: &str) -> bool;
    /// The empty database.
    fn empty(&self) -> u32;
    /// What others may know of a database.
    fn view(&self, database: u32) -> &View;
    /// What `act` comes to. It depends on nothing else: policies are pure, so each step is taken once and remembered.
    fn step(&self, database: u32, act: Act) -> &Step;
    /// A database's rows, for people.
    fn rows(&self, database: u32) -> String;
    /// A database's effects and timers, for people.
    fn wants(&self, database: u32) -> Vec<String>;
}

/// The time at which everything happens: deadlines fire at any moment, so nothing hangs on it.
pub fn now() -> Timestamp {
    Timestamp::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

/// A service with this policy.
pub struct Player<P: Policy> {
    records: Arc<Records>,
    hears: [bool; Kind::COUNT],
    databases: Interner<Stored<P>>,
    numbers: DashMap<(u32, Act), usize>,
    steps: boxcar::Vec<Step>,
    stock: fn(&P::State) -> Vec<Level>,
    flaw: Option<Flaw>,
    forgets: Forgets,
}

/// A database with what follows from it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Stored<P: Policy> {
    database: Database<P>,
    view: View,
}

impl<P: Policy> Player<P> {
    /// A service over these records.
    pub fn new(records: Arc<Records>, flaw: Option<Flaw>, forgets: Forgets) -> Self {
        let mut hears = [false; Kind::COUNT];
        for ty in P::Heard::TYPES {
            hears[Kind::named(ty.name) as usize] = true;
        }
        Self {
            records,
            hears,
            databases: Interner::default(),
            numbers: DashMap::new(),
            steps: boxcar::Vec::new(),
            stock: |_| vec![],
            flaw,
            forgets,
        }
    }

    /// And shows its stock.
    pub fn with_stock(self, stock: fn(&P::State) -> Vec<Level>) -> Self {
        Self { stock, ..self }
    }

    fn keep(&self, database: Database<P>) -> u32 {
        let view = database.view(self.stock);
        self.databases.intern(Stored { database, view })
    }

    fn take(&self, number: u32, act: Act) -> Step {
        let mut database = self.databases.get(number).database.clone();
        let stated = match act {
            Act::Handle(record) => self.decide(&mut database, self.heard(record)).1,
            Act::HandleWithTimer(record, place) => {
                // The runtime removes the rows of a batch's timers first, and then decides one input after another.
                let row = database.timers.remove(place.into());
                let (cleared, mut stated) = self.decide(&mut database, self.heard(record));
                if !cleared.contains(&(row.key.clone(), row.timer.name())) {
                    let input = Input::Timer(row.timer);
                    stated.extend(self.decide(&mut database, self.own(row.id, row.cause, row.key, input)).1);
                }
                stated
            }
            Act::Park(record) => {
                database.letters.push(record);
                vec![]
            }
            Act::Redrive(place) => {
                let record = database.letters.remove(place.into());
                self.decide(&mut database, self.heard(record)).1
            }
            Act::Fire(place) => {
                let row = database.timers.remove(place.into());
                let input = Input::Timer(row.timer);
                self.decide(&mut database, self.own(row.id, row.cause, row.key, input)).1
            }
            Act::Claim(place) => {
                database.effects[usize::from(place)].claimed = true;
                vec![]
            }
            Act::Retry(place) => {
                let row = &mut database.effects[usize::from(place)].row;
                if self.flaw == Some(Flaw::NewKeyOnRetry) && row.effect.kind() == "refund" {
                    row.id = ids::v5(&[&row.id.to_string(), "again"]);
                }
                vec![]
            }
            Act::Answer(place, said) => {
                let EffectRow { id, cause, key, effect, .. } = database.effects.remove(place.into()).row;
                let effect = serde_json::to_value(&effect).unwrap_or_default();
                let outcome: P::Outcome = serde_json::from_value(said.outcome(&effect))
                    .unwrap_or_else(|error| panic!("{said:?} is no outcome of {effect}: {error}"));
                let name = ids::outcome(id, &outcome.name());
                self.decide(&mut database, self.own(name, cause, key, Input::Outcome { effect: id, outcome })).1
            }
        };
        Step { database: self.keep(database), stated }
    }

    /// A record as the runtime decodes it.
    fn heard(&self, number: u32) -> Envelope<P> {
        let record = self.records.get(number);
        let index = P::Heard::TYPES.iter().position(|ty| Kind::named(ty.name) == record.kind);
        let heard = index.and_then(|index| P::Heard::decode(index, &record.datum).ok());
        let heard = heard.unwrap_or_else(|| panic!("{} does not hear {}", P::SERVICE, record.kind.name()));
        let Record { id, ref key, version, .. } = *record;
        Envelope { id, cause: id, key: key.clone(), version, trace: Trace::default(), input: Input::Record(heard) }
    }

    /// A timer or an outcome as an input: an id of its own, and the cause of who set it.
    fn own(&self, id: Uuid, cause: Uuid, key: String, input: Input<P>) -> Envelope<P> {
        let id = if self.flaw == Some(Flaw::SettersId) { cause } else { id };
        Envelope { id, cause, key, version: 0, trace: Trace::default(), input }
    }

    /// What the runtime's transaction does with an input once its rows are locked: the timers that it cleared, and what it stated.
    fn decide(&self, database: &mut Database<P>, input: Envelope<P>) -> (Vec<(String, String)>, Vec<u32>) {
        let keeps = match &input.input {
            Input::Record(record) => match self.forgets {
                _ if self.flaw == Some(Flaw::NoInbox) => false,
                Forgets::Nothing => true,
                Forgets::Events => record.record_type().topic.kind == TopicKind::Requests,
                Forgets::All => false,
            },
            Input::Timer(_) | Input::Outcome { .. } => true,
        };
        if keeps && !database.inbox.insert(input.id) {
            return (vec![], vec![]);
        }
        let claimed = database.effects.iter().filter(|effect| effect.claimed);
        let claims = claimed.map(|effect| (effect.row.key.clone(), effect.row.effect.name())).collect();
        let Processed { facts, effects, withdrawn, timers, cleared } =
            process(&mut database.state, &Moment { now: now(), claims }, &input);
        let named =
            |key: &String, name: String, gone: &[(String, String)]| gone.iter().any(|g| g.0 == *key && g.1 == name);
        // Only what no worker has in hand can be withdrawn.
        database.effects.retain(|open| open.claimed || !named(&open.row.key, open.row.effect.name(), &withdrawn));
        for mut row in effects {
            if self.flaw == Some(Flaw::OneKeyForAllTries) {
                row.id = ids::v5(&[&row.key, &row.effect.name()]);
            }
            database.effects.push(OpenEffect { row, claimed: false });
        }
        database.timers.retain(|row| !named(&row.key, row.timer.name(), &cleared));
        database.timers.extend(timers);
        let state = |(place, mut fact): (usize, quadrille_core::Fact<P>)| {
            if self.flaw == Some(Flaw::IdsByPosition) {
                fact.id = ids::v5(&[P::SERVICE, &input.id.to_string(), &place.to_string()]);
            }
            self.records.intern(Record::fact(&fact))
        };
        (cleared, facts.into_iter().enumerate().map(state).collect())
    }
}

impl<P: Policy> Service for Player<P> {
    fn name(&self) -> &'static str {
        P::SERVICE
    }

    fn declaration(&self) -> &'static Declaration {
        const { &P::CHOREOGRAPHY }
    }

    fn hears(&self, kind: Kind) -> bool {
        self.hears[kind as usize]
    }

    fn listens(&self, topic: &str) -> bool {
        P::Heard::TYPES.iter().any(|ty| ty.topic.name == topic)
    }

    fn empty(&self) -> u32 {
        self.keep(Database::default())
    }

    fn view(&self, database: u32) -> &View {
        &self.databases.get(database).view
    }

    fn step(&self, database: u32, act: Act) -> &Step {
        if let Some(number) = self.numbers.get(&(database, act)) {
            return &self.steps[*number];
        }
        // Two threads may take one step at once; both come to the same, and either is kept.
        let number = self.steps.push(self.take(database, act));
        self.numbers.insert((database, act), number);
        &self.steps[number]
    }

    fn rows(&self, database: u32) -> String {
        format!("{:?}", self.databases.get(database).database.state)
    }

    fn wants(&self, database: u32) -> Vec<String> {
        let Database { effects, timers, .. } = &self.databases.get(database).database;
        let effect = |open: &OpenEffect<P>| {
            let hand = if open.claimed { " in hand" } else { "" };
            format!("{}{hand}", open.row.effect.name())
        };
        effects.iter().map(effect).chain(timers.iter().map(|row| row.timer.name())).collect()
    }
}
