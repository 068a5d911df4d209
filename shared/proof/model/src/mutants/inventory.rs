//! What the inventory could get wrong.

use quadrille_core::{Decision, Envelope, Input};
use quadrille_events::reservation::StockReserved;
use quadrille_inventory::{Heard, Inventory, State, Stated, policy::Stage};

use super::Alter;

/// A cancellation that comes before CustomerVerified is not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EarlyCancellationForgotten;

impl Alter for EarlyCancellationForgotten {
    type Of = Inventory;

    fn ignores(state: &State, input: &Envelope<Inventory>) -> bool {
        is_cancelled(input) && matches!(stage(state, input), Stage::New)
    }
}

/// Goods that left with a parcel are not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommittedStays;

impl Alter for CommittedStays {
    type Of = Inventory;

    fn ignores(state: &State, input: &Envelope<Inventory>) -> bool {
        is_cancelled(input) && matches!(stage(state, input), Stage::Committed(_))
    }
}

/// Lines are checked one by one, though two may be of one SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineByLine;

impl Alter for LineByLine {
    type Of = Inventory;

    fn decides(state: &State, input: &Envelope<Inventory>, decision: Decision<Inventory>) -> Decision<Inventory> {
        match (&input.input, &decision.facts[..]) {
            (Input::Record(Heard::CustomerVerified(verified)), [Stated::ReservationRejected(_)]) => {
                let available = |sku: &String| state.stock.get(sku).map_or(0, |stock| stock.available);
                let suffices =
                    |line: &quadrille_events::order::OrderLine| i64::from(line.quantity) <= available(&line.sku);
                if stage(state, input) == Stage::New && verified.details.lines.iter().all(suffices) {
                    Decision::fact(StockReserved { order_id: verified.order_id, details: verified.details.clone() })
                } else {
                    decision
                }
            }
            _ => decision,
        }
    }
}

/// What is there is reserved, and the rest is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SomeIsEnough;

impl Alter for SomeIsEnough {
    type Of = Inventory;

    fn decides(state: &State, input: &Envelope<Inventory>, decision: Decision<Inventory>) -> Decision<Inventory> {
        match (&input.input, &decision.facts[..]) {
            (Input::Record(Heard::CustomerVerified(verified)), [Stated::ReservationRejected(rejected)]) => {
                let short = |sku: &str| rejected.missing.iter().any(|line| line.sku == sku);
                let mut details = verified.details.clone();
                details.lines.retain(|line| !short(&line.sku));
                if stage(state, input) == Stage::New && !details.lines.is_empty() {
                    Decision::fact(StockReserved { order_id: verified.order_id, details })
                } else {
                    decision
                }
            }
            _ => decision,
        }
    }
}

fn is_cancelled(input: &Envelope<Inventory>) -> bool {
    matches!(input.input, Input::Record(Heard::OrderCancelled(_)))
}

fn stage(state: &State, input: &Envelope<Inventory>) -> Stage {
    state.reservations.get(&input.key).map(|reservation| reservation.stage.clone()).unwrap_or_default()
}
