//! What shipping decides: the contract's reaction table, row by row.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use quadrille_core::{Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Records, Row, names, rows};
use quadrille_events::{
    Uuid,
    shipment::{ShipmentAborted, ShipmentDelivered, ShipmentDispatched, ShipmentRecalled},
};

use crate::{ASK_AGAIN, Effect, HAND_OVER, Heard, Outcome, Stated, Timer, choreography::CHOREOGRAPHY};

/// The shipping service's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shipping;

/// What is known of orders' parcels; the key is the order's id.
pub const SHIPMENT: &str = "shipment";

/// The rows that inputs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// See [`SHIPMENT`].
    pub shipments: BTreeMap<String, Shipment>,
}

rows! { State { shipments: SHIPMENT } }

/// What is known of an order's parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shipment {
    /// `ce_aggregateversion` of the order's last fact on `shipment.events`.
    pub version: i64,
    /// How far it has come.
    pub status: Status,
    /// The carrier's name for the parcel; empty until it was accepted.
    pub tracking_id: String,
    /// How often the carrier has answered that it is under way: the more often, the longer the wait until it is asked again.
    pub asked: i32,
}

/// How far an order's shipment has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing was heard of the order yet.
    #[default]
    New,
    /// The carrier is being asked to take the parcel.
    Handing,
    /// The same, and the order was recalled meanwhile: a parcel that is accepted is called back at once.
    HandingRecalled,
    /// The carrier has the parcel.
    Dispatched,
    /// The carrier is being asked to bring it back.
    Recalling,
    /// No parcel left, and none will.
    Aborted,
    /// The parcel is with the customer.
    Delivered,
    /// The parcel came back.
    Recalled,
}

names!(Status {
    New = "new",
    Handing = "handing",
    HandingRecalled = "handing_recalled",
    Dispatched = "dispatched",
    Recalling = "recalling",
    Aborted = "aborted",
    Delivered = "delivered",
    Recalled = "recalled",
});

/// The first wait until the carrier is asked again; it doubles with each further one.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(1);
/// The longest.
const LAST_WAIT: TimeDelta = TimeDelta::minutes(5);

impl Policy for Shipping {
    const SERVICE: &'static str = "shipping";
    const TABLES: &'static [&'static str] = &[SHIPMENT];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Effect;
    type Outcome = Outcome;
    type Timer = Timer;
    type Command = Nothing;
    type State = State;

    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new(SHIPMENT, &input.key)]
    }

    fn react(state: &State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        use Status::*;
        let (key, order_id) = (&input.key, order_id(input));
        let empty = Shipment::default();
        let Shipment { status, tracking_id, asked, .. } = state.shipments.get(key).unwrap_or(&empty);

        match (&input.input, status) {
            (Input::Record(Heard::OrderConfirmed(confirmed)), New) => {
                let delivery = &confirmed.details.delivery;
                let effect = Effect::HandOver {
                    order_id,
                    method: delivery.method.clone(),
                    name: delivery.personal.name.clone().unwrap_or_default(),
                    address: delivery.personal.address.clone().unwrap_or_default(),
                };
                Decision::nothing().perform(key, effect)
            }

            (Input::Record(Heard::OrderRecallRequested(_)), New) => Decision::fact(recalled_in_time(order_id)),
            (Input::Record(Heard::OrderRecallRequested(_)), Handing) if !moment.claims.contains(key, HAND_OVER) => {
                Decision::fact(recalled_in_time(order_id)).withdraw(key, HAND_OVER)
            }
            // A claimed hand-over can no longer be withdrawn: the recall is remembered, see `evolve`.
            (Input::Record(Heard::OrderRecallRequested(_)), Handing) => Decision::nothing(),
            (Input::Record(Heard::OrderRecallRequested(_)), Dispatched) => {
                Decision::nothing().perform(key, recall(tracking_id))
            }

            (Input::Outcome { outcome: Outcome::Refused { reason, detail }, .. }, Handing | HandingRecalled) => {
                Decision::fact(ShipmentAborted { order_id, reason: reason.clone(), detail: detail.clone() })
            }
            (Input::Outcome { outcome: Outcome::Accepted { tracking_id }, .. }, Handing) => {
                Decision::fact(dispatched(order_id, tracking_id)).perform(key, track(tracking_id, *asked))
            }
            (Input::Outcome { outcome: Outcome::Accepted { tracking_id }, .. }, HandingRecalled) => {
                Decision::fact(dispatched(order_id, tracking_id)).perform(key, recall(tracking_id))
            }

            (Input::Outcome { outcome: Outcome::UnderWay {}, .. }, Dispatched | Recalling) => {
                Decision::nothing().set(key, Timer::AskAgain, moment.now + wait(*asked))
            }
            (Input::Timer(Timer::AskAgain), Dispatched | Recalling) => {
                Decision::nothing().perform(key, track(tracking_id, *asked))
            }
            (Input::Outcome { outcome: Outcome::Delivered {}, .. }, Dispatched | Recalling) => {
                let fact = ShipmentDelivered { order_id, tracking_id: tracking_id.clone() };
                Decision::fact(fact).clear(key, ASK_AGAIN)
            }
            (Input::Outcome { outcome: Outcome::Returned {}, .. }, Dispatched | Recalling) => {
                let (reason, detail) = match status {
                    Recalling => ("recalled", "The parcel was called back."),
                    _ => ("returned", "The carrier brought the parcel back."),
                };
                let tracking_id = tracking_id.clone();
                Decision::fact(ShipmentRecalled { order_id, tracking_id, reason: reason.into(), detail: detail.into() })
                    .clear(key, ASK_AGAIN)
            }

            _ => Decision::nothing(),
        }
    }

    fn answers(effect: &Effect, outcome: &Outcome) -> bool {
        match (effect, outcome) {
            (Effect::HandOver { .. }, Outcome::Accepted { tracking_id }) => !tracking_id.trim().is_empty(),
            (Effect::HandOver { .. }, Outcome::Refused { .. }) => true,
            (Effect::HandOver { .. }, Outcome::UnderWay {} | Outcome::Delivered {} | Outcome::Returned {}) => false,
            (Effect::Track { .. } | Effect::Recall { .. }, Outcome::Accepted { .. } | Outcome::Refused { .. }) => false,
            (Effect::Track { .. } | Effect::Recall { .. }, _) => true,
        }
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        let shipment = state.shipments.entry(input.key.clone()).or_default();
        for fact in &decision.facts {
            match fact {
                Stated::ShipmentDispatched(dispatched) => {
                    shipment.status = Status::Dispatched;
                    shipment.tracking_id = dispatched.tracking_id.clone();
                }
                Stated::ShipmentDelivered(_) => shipment.status = Status::Delivered,
                Stated::ShipmentAborted(_) => shipment.status = Status::Aborted,
                Stated::ShipmentRecalled(_) => shipment.status = Status::Recalled,
            }
        }
        for wanted in &decision.perform {
            match wanted.effect {
                Effect::HandOver { .. } => shipment.status = Status::Handing,
                Effect::Track { .. } => {}
                Effect::Recall { .. } => {
                    shipment.status = Status::Recalling;
                    shipment.asked = 0;
                }
            }
        }
        if !decision.set.is_empty() {
            shipment.asked = shipment.asked.saturating_add(1);
        }
        if let (Input::Record(Heard::OrderRecallRequested(_)), Status::Handing) = (&input.input, shipment.status) {
            shipment.status = Status::HandingRecalled;
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        &mut state.shipments.entry(fact.key()).or_default().version
    }
}

/// The order that an input speaks of: keys of these topics are UUIDs, checked when a record is decoded.
fn order_id(input: &Envelope<Shipping>) -> Uuid {
    Uuid::try_parse(&input.key).unwrap_or_default()
}

/// How long to wait after so many answers that the parcel is under way.
fn wait(asked: i32) -> TimeDelta {
    let doublings = asked.clamp(0, 16);
    (FIRST_WAIT * (1 << doublings)).min(LAST_WAIT)
}

/// How long the carrier has said that it is under way, after so many such answers.
fn waited(asked: i32) -> TimeDelta {
    let doublings = asked.clamp(0, 16);
    (0..doublings).map(wait).sum::<TimeDelta>() + LAST_WAIT * (asked - doublings)
}

fn dispatched(order_id: Uuid, tracking_id: &str) -> ShipmentDispatched {
    ShipmentDispatched { order_id, tracking_id: tracking_id.to_owned() }
}

fn recalled_in_time(order_id: Uuid) -> ShipmentAborted {
    ShipmentAborted {
        order_id,
        reason: "recalled".into(),
        detail: "The order was recalled before its parcel left.".into(),
    }
}

fn track(tracking_id: &str, asked: i32) -> Effect {
    let under_way_days = u32::try_from(waited(asked).num_days()).unwrap_or_default();
    Effect::Track { tracking_id: tracking_id.to_owned(), under_way_days }
}

/// Undoes the hand-over, as far as the carrier can.
fn recall(tracking_id: &str) -> Effect {
    Effect::Recall { tracking_id: tracking_id.to_owned() }
}
