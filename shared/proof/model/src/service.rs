//! A service as the world plays it: its own policy in [`memory`](quadrille_core::memory), one transaction per step.

use std::sync::Arc;

use dashmap::DashMap;
use quadrille_core::{
    Declaration, Envelope, Input, Named, Policy, Processed, Records as _, Timestamp, TopicKind, Trace, ids,
    memory::OpenEffect,
};

use crate::{
    database::{Database, Level, View},
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
        let Database { service, letters } = &mut database;
        let inputs = match act {
            Act::Handle(record) => vec![self.heard(record)],
            Act::HandleWithTimer(record, place) => vec![self.heard(record), service.due(place.into())],
            Act::Park(record) => {
                letters.push(record);
                vec![]
            }
            Act::Redrive(place) => vec![self.heard(letters.remove(place.into()))],
            Act::Fire(place) => vec![service.due(place.into())],
            Act::Claim(place) => {
                service.effects[usize::from(place)].claimed = true;
                vec![]
            }
            Act::Retry(place) => {
                let row = &mut service.effects[usize::from(place)].row;
                if self.flaw == Some(Flaw::NewKeyOnRetry) && row.effect.kind() == "refund" {
                    row.id = ids::v5(&[&row.id.to_string(), "again"]);
                }
                vec![]
            }
            Act::Answer(place, said) => {
                let effect = serde_json::to_value(&service.effects[usize::from(place)].row.effect).unwrap_or_default();
                let outcome = serde_json::from_value(said.outcome(&effect))
                    .unwrap_or_else(|error| panic!("{said:?} is no outcome of {effect}: {error}"));
                vec![service.outcome(place.into(), outcome)]
            }
        };
        let stated = self.commit(&mut database, inputs);
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

    /// One transaction, with what the runtime does wrong and the inbox forgets: what it stated.
    fn commit(&self, database: &mut Database<P>, mut inputs: Vec<Envelope<P>>) -> Vec<u32> {
        let service = &mut database.service;
        if self.flaw == Some(Flaw::SettersId) {
            let outcomes = inputs.iter_mut().filter(|input| matches!(input.input, Input::Outcome { .. }));
            outcomes.for_each(|input| input.id = input.cause);
        }
        let all = service.batch(now(), &inputs);
        let (mut stated, mut cleared) = (vec![], vec![]);
        for (input, Processed { facts, effects, timers, cleared: by_it, .. }) in inputs.iter().zip(all) {
            if !self.keeps(input, &cleared) {
                service.inbox.remove(&input.id);
            }
            cleared.extend(by_it);
            if self.flaw == Some(Flaw::OneKeyForAllTries) {
                let new = |open: &&mut OpenEffect<P>| effects.iter().any(|row| row.id == open.row.id);
                for OpenEffect { row, .. } in service.effects.iter_mut().filter(new) {
                    row.id = ids::v5(&[&row.key, &row.effect.name()]);
                }
            }
            if self.flaw == Some(Flaw::SettersId) {
                let new = service.timers.iter_mut().filter(|row| timers.iter().any(|set| set.id == row.id));
                new.for_each(|row| row.id = row.cause);
            }
            for (place, mut fact) in facts.into_iter().enumerate() {
                if self.flaw == Some(Flaw::IdsByPosition) {
                    fact.id = ids::v5(&[P::SERVICE, &input.id.to_string(), &place.to_string()]);
                }
                stated.push(self.records.intern(Record::fact(&fact)));
            }
        }
        stated
    }

    /// Whether the inbox remembers the input. `cleared` are the timers that its batch has cleared before.
    fn keeps(&self, input: &Envelope<P>, cleared: &[(String, String)]) -> bool {
        match &input.input {
            Input::Record(record) => match self.forgets {
                _ if self.flaw == Some(Flaw::NoInbox) => false,
                Forgets::Nothing => true,
                Forgets::Events => record.record_type().topic.kind == TopicKind::Requests,
                Forgets::All => false,
            },
            // One that was cleared before it fired left its id for nothing: its row is gone, so it cannot come again.
            Input::Timer(timer) => {
                let is_it = |(key, name): &(String, String)| *key == input.key && *name == timer.name();
                self.flaw == Some(Flaw::SettersId) || !cleared.iter().any(is_it)
            }
            Input::Gone(_) | Input::Outcome { .. } | Input::Command(_) => true,
        }
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
        format!("{:?}", self.databases.get(database).database.service.state)
    }

    fn wants(&self, database: u32) -> Vec<String> {
        let service = &self.databases.get(database).database.service;
        let effect = |open: &OpenEffect<P>| {
            let hand = if open.claimed { " in hand" } else { "" };
            format!("{}{hand}", open.row.effect.name())
        };
        service.effects.iter().map(effect).chain(service.timers.iter().map(|row| row.timer.name())).collect()
    }
}
