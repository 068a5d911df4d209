//! The world as a [`Model`]: services, logs, the outside, clients and faults; each action is one step of one of them.

use std::sync::Arc;

use dashmap::DashMap;
use quadrille_core::ids;
use stateright::{Model, Property};
use uuid::Uuid;

use crate::{
    cast::{self, Mutant},
    claims,
    database::Effect,
    flaw::Flaw,
    interner::Interner,
    log::{Log, Logs},
    outside::{self, Outside, Parcel, Said},
    record::{Kind, Record, Records},
    service::{Act, Service},
    shop,
    spec::Spec,
};

mod sight;

/// How many logs a world may have.
const LOGS: usize = 16;
/// How many services read how many logs.
const READERS: usize = 28;

/// The topics of an order's saga: each order has a log of each.
pub const SAGA: [&str; 5] =
    ["verification.events", "order.events", "reservation.events", "payment.events", "shipment.events"];

/// The world.
pub struct World {
    /// What may happen in it.
    pub spec: Spec,
    /// Its records.
    pub records: Arc<Records>,
    /// Its services.
    pub services: Vec<Box<dyn Service>>,
    /// What clients may ask, and of which service.
    pub requests: Vec<(u32, usize)>,
    /// Which log is whose: topic and key.
    pub places: Vec<(&'static str, String)>,
    /// The keys of its orders.
    pub order_ids: Vec<String>,
    /// Which service reads which log.
    pub readers: Vec<(usize, usize)>,
    /// The ids of what was asked before the world began.
    before: Vec<Uuid>,
    pub(crate) flaw: Option<Flaw>,
    logs: Logs,
    longer: DashMap<(u32, u32), u32>,
    outsides: Interner<Outside>,
    start: State,
}

/// A state of the world, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    databases: [u32; 6],
    logs: [u32; LOGS],
    /// How far each reader has read its log.
    read: [u8; READERS],
    outside: u32,
    /// Which requests were asked, as bits.
    asked: u16,
    /// Which readers wait behind a record that they could not handle, as bits.
    held: u32,
    left: Left,
}

/// How many faults may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// A crash between the database's commit and the offset's: a reader goes back, however far.
    pub rewinds: u8,
    /// A relay publishes a record twice.
    pub publishes: u8,
    /// A client asks twice under one id.
    pub repeats: u8,
    /// A record cannot be read or handled and lies with the dead letters, until it is redriven.
    pub parks: u8,
    /// The carrier says that a parcel is under way.
    pub looks: u8,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client's request is handled, at any time and in any order.
    Ask(u8),
    /// The same request once more, under the same id.
    AskAgain(u8),
    /// A reader's next record is handled.
    Hear(u8),
    /// The same, in one batch with a timer of the service.
    HearWithTimer(u8, u8),
    /// A reader goes back to here.
    Rewind(u8, u8),
    /// A log's record at this place is published once more.
    Publish(u8, u8),
    /// A reader's next record cannot be decoded: a dead letter that holds up nothing.
    Park(u8),
    /// A reader's next record can be decoded and not handled: a dead letter, and what follows of its key waits behind it.
    Hold(u8),
    /// That dead letter is redriven, and what waited goes on.
    Release(u8),
    /// A service handles a dead letter.
    Redrive(u8, u8),
    /// A service's timer fires.
    Fire(u8, u8),
    /// A worker takes an effect in hand and performs it, and this will be what came of it.
    Claim(u8, u8, Said),
    /// A worker that does not know what came of an effect tries again.
    Retry(u8, u8, Said),
    /// A service learns what came of an effect.
    Answer(u8, u8, Said),
    /// An order's parcel moves.
    Move(u8, Parcel),
}

impl World {
    /// The world of `spec`, with one thing wrong if asked for.
    pub fn new(spec: Spec, flaw: Option<Flaw>, mutant: Option<Mutant>) -> Self {
        let records = Arc::new(Records::default());
        let services = cast::all(&cast::Parts { records: records.clone(), flaw, forgets: spec.forgets }, mutant);
        let mut places = vec![("user.events", shop::CUSTOMER.to_string())];
        places.extend(
            spec.skus.iter().flat_map(|sku| [("product.events", (*sku).into()), ("stock.events", (*sku).into())]),
        );
        for order in &shop::ORDERS[..spec.orders] {
            places.extend(SAGA.map(|topic| (topic, order.to_string())));
        }
        let mut world = Self::empty(spec, records, services, places, flaw);
        let mut state = world.start.clone();
        for request in world.spec.setup.clone() {
            let (record, service) = world.addressed(request);
            world.before.push(world.records.get(record).id);
            world.act(&mut state, service, Act::Handle(record));
        }
        while let Some(reader) = (0..world.readers.len()).find(|reader| world.next(&state, *reader).is_some()) {
            state = world.hear(&state, reader);
        }
        world.start = state;
        world.requests = world.spec.requests.iter().map(|request| world.addressed(request.clone())).collect();
        if flaw == Some(Flaw::OwnClock) {
            let inventory = world.services.iter().position(|service| service.name() == "inventory");
            let clock = world.records.intern(shop::forged_cancellation());
            world.requests.extend(inventory.map(|inventory| (clock, inventory)));
        }
        world
    }

    /// The notification service alone, over what the others left in their logs at the end. Nobody hears what it states, so whatever it
    /// could do while the logs grew it can do by being slow.
    pub fn of_mails(&self, last: &State) -> Self {
        let parts = cast::Parts { records: self.records.clone(), flaw: None, forgets: self.spec.forgets };
        let mut places = self.places.clone();
        places.extend(shop::ORDERS[..self.spec.orders].iter().map(|order| ("notification.events", order.to_string())));
        // So that no claim about mails holds because there is none.
        let is_registered = self.log(last, 0).stated(Kind::UserRegistered) > 0;
        let sometimes = match (self.mails_due(last), is_registered) {
            (0, _) => vec![],
            (_, false) => vec!["NotificationFailed/no_address"],
            (_, true) => vec!["NotificationSent", "NotificationFailed/no_address", "NotificationFailed/refused"],
        };
        let left = self.spec.left_for_mails;
        let spec = Spec { mails: true, requests: vec![], left, sometimes, ..self.spec.clone() };
        let mut world = Self::empty(spec, self.records.clone(), vec![cast::notification(&parts)], places, None);
        for place in 0..self.places.len() {
            world.start.logs[place] = world.logs.intern(self.log(last, place).clone());
        }
        let mut start = world.start.clone();
        world.skip(&mut start);
        world.start = start;
        world
    }

    fn empty(
        spec: Spec,
        records: Arc<Records>,
        services: Vec<Box<dyn Service>>,
        places: Vec<(&'static str, String)>,
        flaw: Option<Flaw>,
    ) -> Self {
        let pairs = (0..services.len()).flat_map(|service| (0..places.len()).map(move |place| (service, place)));
        let readers: Vec<_> = pairs.filter(|(service, place)| services[*service].listens(places[*place].0)).collect();
        assert!(places.len() <= LOGS && readers.len() <= READERS, "{} logs, {} readers", places.len(), readers.len());
        assert!(spec.requests.len() < 16, "{} requests", spec.requests.len());
        let logs = Logs::default();
        let outsides = Interner::default();
        let mut databases = [0; 6];
        for (database, service) in databases.iter_mut().zip(&services) {
            *database = service.empty();
        }
        let start = State {
            databases,
            logs: [logs.intern(Log::of(&records, vec![])); LOGS],
            read: [0; READERS],
            outside: outsides.intern(Outside::default()),
            asked: 0,
            held: 0,
            left: spec.left,
        };
        let order_ids = shop::ORDERS[..spec.orders].iter().map(ToString::to_string).collect();
        let (requests, before, longer) = (vec![], vec![], DashMap::new());
        Self {
            spec,
            records,
            services,
            requests,
            places,
            order_ids,
            readers,
            before,
            flaw,
            logs,
            longer,
            outsides,
            start,
        }
    }

    /// A request's number, and the service that hears it.
    fn addressed(&self, mut request: Record) -> (u32, usize) {
        let service = self.services.iter().position(|service| service.hears(request.kind));
        let service = service.unwrap_or_else(|| panic!("nobody hears {}", request.kind.name()));
        if self.flaw == Some(Flaw::BareClientIds) {
            request.id = ids::v5(&[&request.ce_id]);
            request.cause = request.id;
        }
        (self.records.intern(request), service)
    }

    /// A service's step, with what it stated published.
    fn act(&self, state: &mut State, service: usize, act: Act) {
        let step = self.services[service].step(state.databases[service], act);
        state.databases[service] = step.database;
        for record in &step.stated {
            self.publish(state, *record);
        }
        self.skip(state);
    }

    fn publish(&self, state: &mut State, record: u32) {
        let Record { topic, ref key, .. } = *self.records.get(record);
        let place = self.places.iter().position(|place| place.0 == topic && place.1 == *key);
        let place = place.unwrap_or_else(|| panic!("this world has no log of {topic} for {key}"));
        let log = &mut state.logs[place];
        let longer = self.longer.get(&(*log, record)).map(|number| *number);
        *log = longer.unwrap_or_else(|| {
            let records = self.logs.get(*log).records.iter().copied().chain([record]);
            let number = self.logs.intern(Log::of(&self.records, records.collect()));
            self.longer.insert((*log, record), number);
            number
        });
    }

    /// Readers pass over what they do not hear, which changes nothing.
    fn skip(&self, state: &mut State) {
        for (reader, (service, place)) in self.readers.iter().enumerate() {
            let log = &self.logs.get(state.logs[*place]).records;
            let heard = |record: &u32| self.services[*service].hears(self.records.get(*record).kind);
            while log.get(usize::from(state.read[reader])).is_some_and(|record| !heard(record)) {
                state.read[reader] += 1;
            }
        }
    }

    /// A reader's next record.
    pub(crate) fn next(&self, state: &State, reader: usize) -> Option<u32> {
        let log = &self.logs.get(state.logs[self.readers[reader].1]).records;
        log.get(usize::from(state.read[reader])).copied()
    }

    fn hear(&self, last: &State, reader: usize) -> State {
        let mut state = last.clone();
        if let Some(record) = self.next(last, reader) {
            state.read[reader] += 1;
            self.act(&mut state, self.readers[reader].0, Act::Handle(record));
        }
        state
    }

    /// What may come of an effect that a worker performs now.
    fn prospects(&self, state: &State, effect: &Effect) -> Vec<Said> {
        match self.outside(state).kept.get(&effect.id) {
            Some(kept) => vec![kept.said],
            None => match outside::choices(effect.kind) {
                // The carrier is only asked to look: what it says is up to the parcel.
                [] => vec![Said::UnderWay],
                choices => choices.iter().copied().filter(|said| !self.spec.never.contains(said)).collect(),
            },
        }
    }

    /// What an effect in hand may turn out to be.
    fn answers(&self, state: &State, effect: &Effect) -> Vec<Said> {
        let outside = self.outside(state);
        if let Some(kept) = outside.kept.get(&effect.id) {
            return match (self.flaw, kept.said) {
                (Some(Flaw::UnknownIsDeclined), Said::Captured) => vec![Said::Captured, Said::Declined],
                (_, said) => vec![said],
            };
        }
        match outside.parcel(&effect.key) {
            Parcel::WithCustomer => vec![Said::Delivered],
            Parcel::Back => vec![Said::Returned],
            // A person's word, which is the last one.
            Parcel::Lost => vec![Said::Delivered, Said::Returned],
            Parcel::WithCarrier if state.left.looks > 0 => vec![Said::UnderWay],
            Parcel::WithCarrier | Parcel::None => vec![],
        }
    }

    fn perform(&self, state: &mut State, effect: &Effect, said: Said) {
        if !outside::choices(effect.kind).is_empty() {
            let mut outside = self.outside(state).clone();
            outside.perform(effect, said);
            state.outside = self.outsides.intern(outside);
        }
    }

    fn moved(&self, state: &mut State, order: &str, parcel: Parcel) {
        let mut outside = self.outside(state).clone();
        outside.parcels.insert(order.to_owned(), parcel);
        state.outside = self.outsides.intern(outside);
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        for request in 0..self.requests.len() {
            if !self.asked(state, request) {
                actions.push(Action::Ask(request as u8));
            } else if left.repeats > 0 {
                actions.push(Action::AskAgain(request as u8));
            }
        }
        for reader in 0..self.readers.len() {
            if state.held & (1 << reader) != 0 {
                actions.push(Action::Release(reader as u8));
                continue;
            }
            if self.next(state, reader).is_some() {
                actions.push(Action::Hear(reader as u8));
                let service = self.readers[reader].0;
                let timers = self.services[service].view(state.databases[service]).timers.len();
                actions.extend((0..timers).map(|timer| Action::HearWithTimer(reader as u8, timer as u8)));
                if left.parks > 0 {
                    actions.extend([Action::Park(reader as u8), Action::Hold(reader as u8)]);
                }
            }
            if left.rewinds > 0 {
                actions.extend((0..state.read[reader]).map(|to| Action::Rewind(reader as u8, to)));
            }
        }
        if left.publishes > 0 {
            for place in 0..self.places.len() {
                let records = self.log(state, place).records.len();
                actions.extend((0..records).map(|record| Action::Publish(place as u8, record as u8)));
            }
        }
        for (service, (player, database)) in self.services.iter().zip(state.databases).enumerate() {
            let view = player.view(database);
            let (service, place) = (service as u8, |place: usize| place as u8);
            actions.extend((0..view.letters.len()).map(|letter| Action::Redrive(service, place(letter))));
            actions.extend((0..view.timers.len()).map(|timer| Action::Fire(service, place(timer))));
            for (at, effect) in view.effects.iter().enumerate().filter(|(_, effect)| !effect.waits) {
                if effect.claimed {
                    // Without that flaw the outside says of the same key what it has said, and nothing changes.
                    if self.flaw == Some(Flaw::NewKeyOnRetry) {
                        let prospects = self.prospects(state, effect).into_iter();
                        actions.extend(prospects.map(|said| Action::Retry(service, place(at), said)));
                    }
                    let answers = self.answers(state, effect).into_iter();
                    actions.extend(answers.map(|said| Action::Answer(service, place(at), said)));
                } else {
                    let prospects = self.prospects(state, effect).into_iter();
                    actions.extend(prospects.map(|said| Action::Claim(service, place(at), said)));
                }
            }
        }
        for (order, id) in self.order_ids.iter().enumerate() {
            if self.outside(state).parcel(id) == Parcel::WithCarrier {
                let ways = [Parcel::WithCustomer, Parcel::Back, Parcel::Lost].into_iter();
                let ways = ways.filter(|way| !self.spec.nowhere.contains(way));
                actions.extend(ways.map(|way| Action::Move(order as u8, way)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask(request) => {
                let (record, service) = self.requests[usize::from(request)];
                state.asked |= 1 << request;
                self.act(&mut state, service, Act::Handle(record));
            }
            Action::AskAgain(request) => {
                let (record, service) = self.requests[usize::from(request)];
                self.act(&mut state, service, Act::Handle(record));
                // One that changed nothing is as good as none.
                state.left.repeats -= u8::from(state != *last);
            }
            Action::Hear(reader) => state = self.hear(last, reader.into()),
            Action::HearWithTimer(reader, timer) => {
                let record = self.next(last, reader.into())?;
                state.read[usize::from(reader)] += 1;
                self.act(&mut state, self.readers[usize::from(reader)].0, Act::HandleWithTimer(record, timer));
            }
            Action::Rewind(reader, to) => {
                state.read[usize::from(reader)] = to;
                state.left.rewinds -= 1;
                self.skip(&mut state);
            }
            Action::Publish(place, record) => {
                let record = self.log(last, place.into()).records[usize::from(record)];
                self.publish(&mut state, record);
                state.left.publishes -= 1;
                self.skip(&mut state);
            }
            Action::Park(reader) => {
                let record = self.next(last, reader.into())?;
                state.read[usize::from(reader)] += 1;
                state.left.parks -= 1;
                self.act(&mut state, self.readers[usize::from(reader)].0, Act::Park(record));
            }
            Action::Hold(reader) => {
                state.held |= 1 << reader;
                state.left.parks -= 1;
            }
            Action::Release(reader) => state.held &= !(1 << reader),
            Action::Redrive(service, letter) => self.act(&mut state, service.into(), Act::Redrive(letter)),
            Action::Fire(service, timer) => self.act(&mut state, service.into(), Act::Fire(timer)),
            Action::Claim(service, at, said) => {
                let effect = &self.effects(last, service.into())[usize::from(at)];
                self.perform(&mut state, effect, said);
                self.act(&mut state, service.into(), Act::Claim(at));
            }
            Action::Retry(service, at, said) => {
                self.act(&mut state, service.into(), Act::Retry(at));
                let effect = &self.effects(&state, service.into())[usize::from(at)];
                // Two under keys of their own are enough to show what is wrong with that.
                if state != *last && self.outside(last).count(&effect.key, said) < 2 {
                    self.perform(&mut state, effect, said);
                } else {
                    return None;
                }
            }
            Action::Answer(service, at, said) => {
                let effect = &self.effects(last, service.into())[usize::from(at)];
                if said == Said::UnderWay {
                    state.left.looks -= 1;
                }
                if self.outside(last).parcel(&effect.key) == Parcel::Lost {
                    let where_to = if said == Said::Delivered { Parcel::WithCustomer } else { Parcel::Back };
                    self.moved(&mut state, &effect.key, where_to);
                }
                self.act(&mut state, service.into(), Act::Answer(at, said));
            }
            Action::Move(order, parcel) => self.moved(&mut state, &self.order_ids[usize::from(order)], parcel),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        claims::of(&self.spec)
    }
}
