//! What the order service could get wrong.

use quadrille_core::{Decision, Envelope, Input};
use quadrille_events::order::{OrderCancelled, OrderRejected};
use quadrille_order::{
    Heard, Orders, State, Stated, Timer,
    policy::{Stage, Status},
};

use super::Alter;

/// The deadline after the confirmation cancels in place of recalling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndByCancels;

impl Alter for EndByCancels {
    type Of = Orders;

    fn decides(state: &State, input: &Envelope<Orders>, decision: Decision<Orders>) -> Decision<Orders> {
        match (&input.input, &state.orders.get(&input.key).map(|order| &order.status)) {
            (Input::Timer(Timer::EndBy), Some(Status::Accepted(order))) if !decision.facts.is_empty() => {
                let details = &order.details;
                Decision::fact(OrderCancelled {
                    reason: "expired".into(),
                    currency: details.currency.clone(),
                    ..OrderCancelled::new(order.order_id, details.customer_id, details.total)
                })
            }
            _ => decision,
        }
    }
}

/// A confirmed order has no deadline to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NoEndBy;

impl Alter for NoEndBy {
    type Of = Orders;

    fn decides(_: &State, _: &Envelope<Orders>, mut decision: Decision<Orders>) -> Decision<Orders> {
        decision.set.retain(|set| set.timer != Timer::EndBy);
        decision
    }
}

/// Shipping's last word counts only where the order was recalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnlyAskedWordsCount;

impl Alter for OnlyAskedWordsCount {
    type Of = Orders;

    fn ignores(state: &State, input: &Envelope<Orders>) -> bool {
        let is_last_word = matches!(
            input.input,
            Input::Record(Heard::ShipmentAborted(_) | Heard::ShipmentRecalled(_) | Heard::ShipmentDelivered(_))
        );
        is_last_word && !is_recalling(state, &input.key)
    }
}

/// A delivery during a recall is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryDuringRecallIgnored;

impl Alter for DeliveryDuringRecallIgnored {
    type Of = Orders;

    fn ignores(state: &State, input: &Envelope<Orders>) -> bool {
        matches!(input.input, Input::Record(Heard::ShipmentDelivered(_))) && is_recalling(state, &input.key)
    }
}

/// Other content under a known id is answered as if the order itself were rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OtherContentIsRejected;

impl Alter for OtherContentIsRejected {
    type Of = Orders;

    fn decides(_: &State, input: &Envelope<Orders>, decision: Decision<Orders>) -> Decision<Orders> {
        match (&input.input, &decision.facts[..]) {
            (Input::Record(Heard::OrderRequested(asked)), [Stated::OrderRequestRefused(refused)]) => {
                Decision::fact(OrderRejected {
                    reason: refused.reason.clone(),
                    ..OrderRejected::new(asked.order_id, asked.customer_id)
                })
            }
            _ => decision,
        }
    }
}

fn is_recalling(state: &State, order: &str) -> bool {
    match state.orders.get(order).map(|order| &order.status) {
        Some(Status::Accepted(order)) => matches!(order.stage, Stage::Recalling { .. }),
        _ => false,
    }
}
