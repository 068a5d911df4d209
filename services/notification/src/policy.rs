//! What notification decides: the contract's reaction table, row by row.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use chrono::TimeDelta;
use quadrille_core::{Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Records, Row, rows};
use quadrille_events::{
    Uuid,
    common::Personal,
    notification::{NotificationFailed, NotificationSent},
};
use serde::{Deserialize, Serialize};

use crate::{
    About, Heard, Mail, Outcome, Stated, Timer,
    choreography::CHOREOGRAPHY,
    give_up,
    letters::{self, Letter},
    message_id,
};

/// The notification service's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notification;

/// Users' addresses; the key is the user's id.
pub const ADDRESS: &str = "address";
/// What orders' customers are told; the key is the order's id. Last, since an address's row tells which orders wait for it.
pub const NOTICE: &str = "notice";

/// How long a mail waits for its address.
pub const ADDRESS_WITHIN: TimeDelta = TimeDelta::hours(1);

/// So many orders of one customer wait for an address at most: once it is known, all their mails go in one transaction.
pub const MOST_WAITING: usize = 1_000;

/// The rows that inputs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// See [`ADDRESS`].
    pub addresses: BTreeMap<String, Address>,
    /// See [`NOTICE`].
    pub notices: BTreeMap<String, Notice>,
}

rows! { State { addresses: ADDRESS, notices: NOTICE } }

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// `ce_aggregateversion` of the last user event that was folded: what is not newer is ignored.
    pub version: i64,
    /// The address, as the user gave it.
    pub email: Option<String>,
    /// The user's name.
    pub name: Option<String>,
    /// Orders that have mails waiting for the address.
    pub waiting: BTreeSet<String>,
}

/// What an order's customer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notice {
    /// `ce_aggregateversion` of the order's last fact on `notification.events`.
    pub version: i64,
    /// The user who ordered; nil until a mail was due.
    pub customer_id: Uuid,
    /// Its mails, in the order in which they were due.
    pub mails: Vec<Told>,
}

/// How far a mail has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Told {
    /// What it is about.
    pub about: About,
    /// How far it has come.
    pub status: Status,
}

/// How far a mail has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The address is not known yet.
    Waiting(Letter),
    /// The mail server is being asked to take it.
    Sending,
    /// It was taken.
    Sent,
    /// It was given up.
    Failed,
}

impl Policy for Notification {
    const SERVICE: &'static str = "notification";
    const TABLES: &'static [&'static str] = &[ADDRESS, NOTICE];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Mail;
    type Outcome = Outcome;
    type Timer = Timer;
    type Command = Nothing;
    type State = State;

    fn rows(state: &State, input: &Envelope<Self>) -> Vec<Row> {
        let address = customer(input).map(|customer| Row::new(ADDRESS, customer));
        let notices = orders(state, input).into_iter().map(|order| Row::new(NOTICE, order));
        address.into_iter().chain(notices).collect()
    }

    fn react(state: &State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let (key, order_id) = (&input.key, id(&input.key));
        if let Some((about, customer_id, letter)) = due(input) {
            let address = state.address(&customer_id.to_string());
            return match (state.status(key, about), &address.email) {
                // It was told before, or is about to be.
                (Some(_), _) => Decision::nothing(),
                (None, Some(email)) => {
                    let name = address.name.as_deref().unwrap_or_default();
                    Decision::nothing().perform(key, letter.to(order_id, about, email, name))
                }
                (None, None) if address.waiting.len() >= MOST_WAITING && !address.waiting.contains(key) => {
                    let detail = format!("{MOST_WAITING} orders of this customer wait for an address already.");
                    Decision::fact(no_address(order_id, customer_id, about, detail))
                }
                (None, None) => {
                    Decision::nothing().set(key, Timer::GiveUp { customer_id, about }, moment.now + ADDRESS_WITHIN)
                }
            };
        }
        match &input.input {
            // The address has become known, or another: what waits for it goes.
            Input::Record(_) => match newer(state, input).and_then(|personal| Some((email(personal)?, personal))) {
                Some((email, personal)) => state.release(key, email, personal.name.as_deref().unwrap_or_default()),
                None => Decision::nothing(),
            },

            Input::Gone(never) | Input::Command(never) => match *never {},

            Input::Timer(Timer::GiveUp { about, .. }) => match state.status(key, *about) {
                Some(Status::Waiting(_)) => {
                    let detail = "No address of the customer became known within an hour.".into();
                    Decision::fact(no_address(order_id, state.customer(key), *about, detail))
                }
                _ => Decision::nothing(),
            },

            Input::Outcome { effect, outcome: Outcome::Sent { about } } => match state.status(key, *about) {
                Some(Status::Sending) => Decision::fact(NotificationSent {
                    order_id,
                    customer_id: state.customer(key),
                    kind: about.name().into(),
                    message_id: message_id(*effect),
                }),
                _ => Decision::nothing(),
            },
            Input::Outcome { effect, outcome: Outcome::Failed { about, reason, detail } } => {
                match state.status(key, *about) {
                    Some(Status::Sending) => Decision::fact(NotificationFailed {
                        order_id,
                        customer_id: state.customer(key),
                        kind: about.name().into(),
                        message_id: message_id(*effect),
                        reason: reason.clone(),
                        detail: detail.clone(),
                    }),
                    _ => Decision::nothing(),
                }
            }
        }
    }

    fn answers(mail: &Mail, outcome: &Outcome) -> bool {
        let (Outcome::Sent { about } | Outcome::Failed { about, .. }) = outcome;
        *about == mail.about
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        if let Some(personal) = newer(state, input) {
            let (email, name) = (email(personal).map(str::to_owned), personal.name.clone());
            let address = state.addresses.entry(input.key.clone()).or_default();
            (address.version, address.email, address.name) = (input.version, email, name);
        }
        if let Some((about, customer_id, letter)) = due(input)
            && state.status(&input.key, about).is_none()
        {
            let notice = state.notices.entry(input.key.clone()).or_default();
            notice.customer_id = customer_id;
            notice.mails.push(Told { about, status: Status::Waiting(letter) });
        }
        for mail in decision.perform.iter().map(|wanted| &wanted.effect) {
            state.becomes(&mail.order_id.to_string(), mail.about.name(), Status::Sending);
        }
        for fact in &decision.facts {
            match fact {
                Stated::NotificationSent(sent) => state.becomes(&input.key, &sent.kind, Status::Sent),
                Stated::NotificationFailed(failed) => state.becomes(&input.key, &failed.kind, Status::Failed),
            }
        }
        if let Some(customer) = customer(input) {
            state.list_waiting(&customer, orders(state, input));
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        &mut state.notices.entry(fact.key()).or_default().version
    }
}

/// A mail is given up before it was ever sent.
fn no_address(order_id: Uuid, customer_id: Uuid, about: About, detail: String) -> NotificationFailed {
    let (message_id, reason) = (String::new(), "no_address".into());
    NotificationFailed { order_id, customer_id, kind: about.name().into(), message_id, reason, detail }
}

/// The mail that a fact makes due: about what, to whom, and what it says.
fn due(input: &Envelope<Notification>) -> Option<(About, Uuid, Letter)> {
    let Input::Record(heard) = &input.input else { return None };
    match heard {
        Heard::OrderConfirmed(order) => {
            Some((About::OrderConfirmed, order.details.customer_id, letters::confirmed(order)))
        }
        Heard::OrderShipped(order) => Some((About::OrderShipped, order.customer_id, letters::shipped(order))),
        Heard::OrderCancelled(order) => Some((About::OrderCancelled, order.customer_id, letters::cancelled(order))),
        Heard::PaymentRefunded(payment) => {
            Some((About::PaymentRefunded, payment.customer_id, letters::refunded(payment)))
        }
        Heard::UserRegistered(_) | Heard::UserProfileUpdated(_) => None,
    }
}

/// What a user's event says of the user.
fn user(input: &Envelope<Notification>) -> Option<&Personal> {
    match &input.input {
        Input::Record(Heard::UserRegistered(user)) => Some(&user.personal),
        Input::Record(Heard::UserProfileUpdated(user)) => Some(&user.personal),
        _ => None,
    }
}

/// The same, if it is news: user events are read again from their start whenever a group is rewound.
fn newer<'a>(state: &State, input: &'a Envelope<Notification>) -> Option<&'a Personal> {
    user(input).filter(|_| input.version > state.address(&input.key).version)
}

fn email(personal: &Personal) -> Option<&str> {
    personal.email.as_deref().filter(|email| !email.trim().is_empty())
}

/// The user whose address an input needs or brings.
fn customer(input: &Envelope<Notification>) -> Option<String> {
    let customer_id = match &input.input {
        Input::Record(Heard::OrderConfirmed(order)) => order.details.customer_id,
        Input::Record(Heard::OrderShipped(order)) => order.customer_id,
        Input::Record(Heard::OrderCancelled(order)) => order.customer_id,
        Input::Record(Heard::PaymentRefunded(payment)) => payment.customer_id,
        Input::Record(Heard::UserRegistered(user)) => user.user_id,
        Input::Record(Heard::UserProfileUpdated(user)) => user.user_id,
        Input::Timer(Timer::GiveUp { customer_id, .. }) => *customer_id,
        Input::Gone(never) | Input::Command(never) => match *never {},
        Input::Outcome { .. } => return None,
    };
    Some(customer_id.to_string())
}

/// The orders that an input touches: its own, or all that wait for the address that it brings.
fn orders(state: &State, input: &Envelope<Notification>) -> BTreeSet<String> {
    match user(input) {
        Some(_) => state.address(&input.key).waiting.clone(),
        None => BTreeSet::from([input.key.clone()]),
    }
}

/// Keys of these topics are UUIDs, checked when a record is decoded.
fn id(key: &str) -> Uuid {
    Uuid::try_parse(key).unwrap_or_default()
}

impl State {
    fn address(&self, customer: &str) -> &Address {
        static NONE: LazyLock<Address> = LazyLock::new(Address::default);
        self.addresses.get(customer).unwrap_or(&NONE)
    }

    fn customer(&self, order: &str) -> Uuid {
        self.notices.get(order).map(|notice| notice.customer_id).unwrap_or_default()
    }

    fn mails(&self, order: &str) -> &[Told] {
        self.notices.get(order).map(|notice| notice.mails.as_slice()).unwrap_or_default()
    }

    /// How far an order's mail has come; `None` where it is not due.
    fn status(&self, order: &str, about: About) -> Option<&Status> {
        self.mails(order).iter().find(|mail| mail.about == about).map(|mail| &mail.status)
    }

    fn becomes(&mut self, order: &str, about: &str, status: Status) {
        let mails = self.notices.get_mut(order).map(|notice| notice.mails.iter_mut()).unwrap_or_default();
        for mail in mails.filter(|mail| mail.about.name() == about) {
            mail.status = status.clone();
        }
    }

    /// All that waits for the address of `customer` goes, each order's mails in order.
    fn release(&self, customer: &str, email: &str, name: &str) -> Decision<Notification> {
        let mut decision = Decision::nothing();
        for order in &self.address(customer).waiting {
            for Told { about, status } in self.mails(order) {
                if let Status::Waiting(letter) = status {
                    decision = decision
                        .perform(order, letter.to(id(order), *about, email, name))
                        .clear(order, give_up(*about));
                }
            }
        }
        decision
    }

    /// Keeps the list of orders that wait for an address true, as far as these orders go.
    fn list_waiting(&mut self, customer: &str, orders: BTreeSet<String>) {
        for order in orders {
            let waits = self.mails(&order).iter().any(|mail| matches!(mail.status, Status::Waiting(_)));
            let waiting = &mut self.addresses.entry(customer.to_owned()).or_default().waiting;
            if waits {
                waiting.insert(order);
            } else {
                waiting.remove(&order);
            }
        }
    }
}
