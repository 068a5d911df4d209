//! What shipping could get wrong.

use quadrille_core::{Decision, Envelope, Input, Moment};
use quadrille_events::shipment::{ShipmentAborted, ShipmentRecalled};
use quadrille_shipping::{Heard, Outcome, Shipping, State, policy::Status};

use super::Alter;

/// A recall is answered ShipmentAborted while the hand-over is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AbortsUnderWay;

impl Alter for AbortsUnderWay {
    type Of = Shipping;

    fn sees(moment: &Moment) -> Moment {
        Moment { claims: Default::default(), ..moment.clone() }
    }
}

/// ShipmentRecalled is stated before the carrier has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecalledAtOnce;

impl Alter for RecalledAtOnce {
    type Of = Shipping;

    fn decides(state: &State, input: &Envelope<Shipping>, decision: Decision<Shipping>) -> Decision<Shipping> {
        match (&input.input, status(state, input)) {
            (Input::Record(Heard::OrderRecallRequested(recall)), Status::Dispatched) => {
                Decision::fact(ShipmentRecalled { reason: "recalled".into(), ..ShipmentRecalled::new(recall.order_id) })
            }
            _ => decision,
        }
    }
}

/// A parcel that is still under way is taken for one that never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LateIsAborted;

impl Alter for LateIsAborted {
    type Of = Shipping;

    fn decides(_: &State, input: &Envelope<Shipping>, decision: Decision<Shipping>) -> Decision<Shipping> {
        match (&input.input, uuid::Uuid::try_parse(&input.key)) {
            (Input::Outcome { outcome: Outcome::UnderWay {}, .. }, Ok(order)) if !decision.set.is_empty() => {
                Decision::fact(ShipmentAborted { reason: "late".into(), ..ShipmentAborted::new(order) })
            }
            _ => decision,
        }
    }
}

/// An OrderConfirmed that comes back from the dead letters after the recall is shipped: the end does not absorb it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndForgotten;

impl Alter for EndForgotten {
    type Of = Shipping;

    fn forgets(state: &mut State, input: &Envelope<Shipping>) {
        if let Some(shipment) =
            state.shipments.get_mut(&input.key).filter(|shipment| shipment.status == Status::Aborted)
        {
            shipment.status = Status::New;
        }
    }
}

fn status(state: &State, input: &Envelope<Shipping>) -> Status {
    state.shipments.get(&input.key).map(|shipment| shipment.status).unwrap_or_default()
}
