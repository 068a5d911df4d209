//! What can be seen of a state: what claims and stories ask.

use quadrille_core::Declaration;
use stateright::Model;
use uuid::Uuid;

use super::{Action, SAGA, State, World};
use crate::{
    database::{Effect, Level, View},
    log::Log,
    outside::{Outside, Parcel},
    record::{Kind, Record},
};

/// What an order's customer is told of by mail.
const MAILS: [Kind; 4] = [Kind::OrderConfirmed, Kind::OrderShipped, Kind::OrderCancelled, Kind::PaymentRefunded];

impl World {
    /// The log at this place.
    pub fn log(&self, state: &State, place: usize) -> &Log {
        self.logs.get(state.logs[place])
    }

    /// The logs of an order's saga, in the order of [`SAGA`].
    pub fn saga<'a>(&'a self, state: &'a State, order: usize) -> impl Iterator<Item = &'a Log> {
        let first = 1 + 2 * self.spec.skus.len() + SAGA.len() * order;
        (first..first + SAGA.len()).map(|place| self.log(state, place))
    }

    /// How many mails of an order are due, by what was stated.
    pub fn mails_due_of(&self, state: &State, order: usize) -> u8 {
        MAILS.iter().map(|kind| self.stated(state, order, *kind)).sum()
    }

    /// How many mails are due.
    pub fn mails_due(&self, state: &State) -> u8 {
        (0..self.spec.orders).map(|order| self.mails_due_of(state, order)).sum()
    }

    /// What the notification service would find to read, by its types: what records say changes what mails say, and nothing else.
    pub fn for_mails(&self, state: &State) -> Vec<Vec<Kind>> {
        let kinds = |place| -> Vec<Kind> {
            let records = self.log(state, place).records.iter().map(|record| self.records.get(*record).kind);
            records.filter(|kind| MAILS.contains(kind)).collect()
        };
        (0..self.places.len()).map(kinds).collect()
    }

    /// How often a type was stated of an order.
    pub fn stated(&self, state: &State, order: usize, kind: Kind) -> u8 {
        self.saga(state, order).map(|log| log.stated(kind)).sum()
    }

    /// How often any of these types was stated of an order.
    pub fn stated_any(&self, state: &State, order: usize, kinds: &[Kind]) -> u8 {
        kinds.iter().map(|kind| self.stated(state, order, *kind)).sum()
    }

    /// How many records of these types a request has caused; a repeat counts once.
    pub fn caused(&self, state: &State, request: &Record, kinds: &[Kind]) -> usize {
        let of_key = (0..self.places.len()).filter(|place| self.places[*place].1 == request.key);
        let records = of_key.flat_map(|place| &self.log(state, place).records).map(|record| self.records.get(*record));
        let caused = records.filter(|record| record.cause == request.id && kinds.contains(&record.kind));
        let mut ids: Vec<Uuid> = caused.map(|record| record.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }

    /// The first record of a type that was stated of an order.
    pub fn first(&self, state: &State, order: usize, kind: Kind) -> Option<&Record> {
        let mut records = self.saga(state, order).flat_map(|log| &log.records).map(|record| self.records.get(*record));
        records.find(|record| record.kind == kind)
    }

    /// What is true outside.
    pub fn outside(&self, state: &State) -> &Outside {
        self.outsides.get(state.outside)
    }

    /// A service's effects with their places.
    pub(crate) fn effects(&self, state: &State, service: usize) -> &[Effect] {
        &self.services[service].view(state.databases[service]).effects
    }

    /// A service's dead letter.
    pub(crate) fn letter(&self, state: &State, service: usize, letter: usize) -> u32 {
        self.services[service].view(state.databases[service]).letters[letter]
    }

    /// A service's timer: key and name.
    pub(crate) fn timer(&self, state: &State, service: usize, timer: usize) -> (&str, &str) {
        let (key, name) = &self.services[service].view(state.databases[service]).timers[timer];
        (key, name)
    }

    /// The number of a service's database.
    pub fn database(&self, state: &State, service: usize) -> u32 {
        state.databases[service]
    }

    /// Whether a request was asked.
    pub fn asked(&self, state: &State, request: usize) -> bool {
        state.asked & (1 << request) != 0
    }

    /// A request.
    pub fn request(&self, request: usize) -> &Record {
        self.records.get(self.requests[request].0)
    }

    /// The ids of all requests that were asked, before the world began too.
    pub fn asked_ids<'a>(&'a self, state: &'a State) -> impl Iterator<Item = Uuid> + 'a {
        let asked = (0..self.requests.len()).filter(|request| self.asked(state, *request));
        self.before.iter().copied().chain(asked.map(|request| self.request(request).id))
    }

    /// Stock as inventory keeps it.
    pub fn stock<'a>(&'a self, state: &'a State) -> &'a [Level] {
        let mut views =
            self.services.iter().zip(state.databases).map(|(service, database)| &service.view(database).stock);
        views.find(|stock| !stock.is_empty()).map_or(&[], |stock| stock)
    }

    /// How many of a SKU came in, by what was stated.
    pub fn received(&self, state: &State, sku: &str) -> i64 {
        let place = self.places.iter().position(|place| place.0 == "stock.events" && place.1 == sku);
        let mut records: Vec<u32> = place.map(|place| self.log(state, place).records.clone()).unwrap_or_default();
        records.sort_unstable();
        records.dedup();
        let records = records.into_iter().map(|record| self.records.get(record));
        records.filter(|record| record.kind == Kind::StockReplenished).filter_map(|record| record.goods.get(sku)).sum()
    }

    /// All dead letters that are open: who could not handle which record.
    pub fn letters<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (&'static Declaration, &'a Record)> {
        let parked = self.services.iter().zip(state.databases).flat_map(|(service, database)| {
            service.view(database).letters.iter().map(|record| (service.declaration(), self.records.get(*record)))
        });
        let held = self.readers.iter().enumerate().filter(|(reader, _)| state.held & (1 << reader) != 0);
        let held = held.flat_map(|(reader, (service, place))| {
            let waiting = &self.log(state, *place).records[usize::from(state.read[reader])..];
            waiting.iter().map(|record| (self.services[*service].declaration(), self.records.get(*record)))
        });
        parked.chain(held)
    }

    /// Whether something will happen by itself, with no client, no fault and nobody who redrives.
    pub fn goes_on(&self, state: &State) -> bool {
        let mut actions = vec![];
        self.actions(state, &mut actions);
        let by_itself = |action: &Action| match action {
            Action::Hear(_) | Action::Fire(..) | Action::Claim(..) | Action::Answer(..) | Action::Move(..) => true,
            Action::HearWithTimer(..)
            | Action::Ask(_)
            | Action::AskAgain(_)
            | Action::Rewind(..)
            | Action::Publish(..)
            | Action::Park(_)
            | Action::Hold(_)
            | Action::Release(_)
            | Action::Redrive(..)
            | Action::Retry(..) => false,
        };
        actions.into_iter().any(|action| by_itself(&action))
    }

    /// Whether nothing more will happen by itself: all is read, done and fired, and no parcel is on its way.
    pub fn is_quiet(&self, state: &State) -> bool {
        let mut views = self.services.iter().zip(state.databases).map(|(service, database)| service.view(database));
        let done = |view: &View| view.effects.is_empty() && view.timers.is_empty();
        let moving = |parcel: &Parcel| matches!(parcel, Parcel::WithCarrier | Parcel::Lost);
        let read = |reader: usize| state.held & (1 << reader) != 0 || self.next(state, reader).is_none();
        (0..self.readers.len()).all(read) && views.all(done) && !self.outside(state).parcels.values().any(moving)
    }
}
