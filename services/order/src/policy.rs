//! What the order service decides: the contract's reaction table, row by row.

mod order;
mod prices;
mod request;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use quadrille_core::{
    Decision, Declaration, Envelope, Input, Moment, Named, Nothing, Policy, Records, Row, bounds, rows,
};
use quadrille_events::{
    digest_hex,
    order::{
        OrderCancellationRefused, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated,
        OrderDelivered, OrderRecallRequested, OrderRejected, OrderRequestRefused, OrderRequested, OrderShipped,
    },
};
use serde_json::Value;

pub use self::{
    order::{Accepted, Order, Stage, Status},
    prices::Price,
};
use crate::{Heard, Stated, Timer, choreography::CHOREOGRAPHY};

/// The order service's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Orders;

/// Orders; the key is the order's id.
pub const ORDERS: &str = "orders";
/// The price list; the key is the SKU. These rows are read without a lock: see [`Price`].
pub const PRICE: &str = "price";

/// How long an order may take to be confirmed.
pub const CONFIRM_WITHIN: TimeDelta = TimeDelta::minutes(15);
/// How long a confirmed order may take to end.
pub const END_WITHIN: TimeDelta = TimeDelta::days(14);

/// The rows that inputs touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// See [`ORDERS`].
    pub orders: BTreeMap<String, Order>,
    /// See [`PRICE`].
    pub prices: BTreeMap<String, Price>,
}

rows! { State { orders: ORDERS, prices: PRICE } }

impl Policy for Orders {
    const SERVICE: &'static str = "order";
    const TABLES: &'static [&'static str] = &[ORDERS, PRICE];
    const UNLOCKED: &'static [&'static str] = &[PRICE];
    const CHOREOGRAPHY: Declaration = CHOREOGRAPHY;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Timer;
    type Command = Nothing;
    type State = State;

    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        match &input.input {
            Input::Record(Heard::ProductListed(_) | Heard::PriceChanged(_)) => vec![Row::new(PRICE, &input.key)],
            Input::Record(Heard::OrderRequested(asked)) => {
                let skus = request::skus(asked).map(|sku| Row::new(PRICE, sku));
                skus.chain([Row::new(ORDERS, &input.key)]).collect()
            }
            Input::Record(_) | Input::Timer(_) => vec![Row::new(ORDERS, &input.key)],
            Input::Gone(never) | Input::Command(never) | Input::Outcome { outcome: never, .. } => match *never {},
        }
    }

    fn react(state: &State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let order = state.order(&input.key);
        match &input.input {
            // The price list is folded in `evolve`.
            Input::Record(Heard::ProductListed(_) | Heard::PriceChanged(_)) => Decision::nothing(),
            Input::Record(Heard::OrderRequested(asked)) => requested(state, order, moment, asked),
            Input::Record(Heard::OrderCancellationRequested(asked)) => cancellation_requested(order, input, asked),
            _ => match &order.status {
                Status::Accepted(accepted) => happened(accepted, moment, input),
                // Nobody speaks of an order that this service has not accepted.
                Status::Unknown | Status::Rejected { .. } => Decision::nothing(),
            },
        }
    }

    fn is_deadline(timer: &Timer) -> bool {
        match timer {
            Timer::ConfirmBy | Timer::EndBy => true,
        }
    }

    fn record_unlocked(state: &State, input: &Envelope<Self>) -> Option<Value> {
        match &input.input {
            Input::Record(Heard::OrderRequested(asked)) => prices::record_read(&state.prices, request::skus(asked)),
            _ => None,
        }
    }

    fn restore_unlocked(state: &mut State, _: &Envelope<Self>, read: Value) -> Result<(), serde_json::Error> {
        prices::restore_read(&mut state.prices, read)
    }

    fn evolve(state: &mut State, input: &Envelope<Self>, decision: &Decision<Self>) {
        match &input.input {
            Input::Record(Heard::ProductListed(listed)) => {
                Price::fold(&mut state.prices, input, listed.price, &listed.currency);
            }
            Input::Record(Heard::PriceChanged(changed)) => {
                Price::fold(&mut state.prices, input, changed.price, &changed.currency);
            }
            // An order is folded from what was stated about it, and from nothing else.
            _ => {
                for fact in &decision.facts {
                    state.orders.entry(input.key.clone()).or_default().apply(fact);
                }
            }
        }
    }

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        &mut state.orders.entry(fact.key()).or_default().version
    }
}

/// OrderRequested: an order comes to be, or never does; a known id keeps what it is.
fn requested(state: &State, order: &Order, moment: &Moment, asked: &OrderRequested) -> Decision<Orders> {
    let request_digest = digest_hex(asked);
    match order.request_digest() {
        None => {}
        Some(known) if known == request_digest => return Decision::nothing(),
        Some(_) => {
            return Decision::fact(OrderRequestRefused {
                order_id: asked.order_id,
                reason: "conflicting_content".into(),
                detail: "this order id was used before with other content: choose a new id for a new order".into(),
            });
        }
    }
    match request::accept(&state.prices, asked) {
        Ok(details) => {
            let confirm_by = moment.now + shortened(CONFIRM_WITHIN, asked.confirm_within_ms);
            Decision::fact(OrderCreated {
                order_id: asked.order_id,
                details,
                confirm_by,
                end_within_ms: asked.end_within_ms.filter(|ms| *ms < END_WITHIN.num_milliseconds()),
                request_digest,
            })
            .set(asked.order_id, Timer::ConfirmBy, confirm_by)
        }
        Err(rejected) => Decision::fact(OrderRejected {
            order_id: asked.order_id,
            customer_id: asked.customer_id,
            reason: rejected.reason.into(),
            field: rejected.field,
            detail: rejected.detail,
            request_digest,
        }),
    }
}

/// OrderCancellationRequested: ours to decide until the order is confirmed, shipping's from then on.
fn cancellation_requested(
    order: &Order,
    input: &Envelope<Orders>,
    asked: &OrderCancellationRequested,
) -> Decision<Orders> {
    let refused = |reason: &str, detail: &str| {
        Decision::fact(OrderCancellationRefused {
            order_id: asked.order_id,
            request_id: Some(input.id),
            reason: reason.into(),
            detail: detail.into(),
        })
    };
    if let Err(fault) = bounds::text("reason", &asked.reason) {
        return refused("bounds", &fault.detail);
    }
    let accepted = match &order.status {
        Status::Unknown => {
            return refused(
                "unknown_order",
                "no such order was heard of yet: ask again once its OrderCreated is there",
            );
        }
        Status::Rejected { .. } => return refused("rejected", "the order never came to be"),
        Status::Accepted(accepted) => accepted,
    };
    match accepted.stage {
        Stage::Pending => {
            let words = asked.reason.trim();
            let detail = match words {
                "" => "a client asked for it".to_owned(),
                words => format!("a client asked for it: {words}"),
            };
            cancelled(accepted, "requested", detail)
        }
        Stage::Confirmed | Stage::Shipped => recall(accepted, "requested"),
        Stage::Recalling { .. } => {
            refused("recall_under_way", "the order is being recalled: shipping's last word decides")
        }
        Stage::Delivered => refused("delivered", "the parcel is with the customer"),
        Stage::Cancelled => refused("cancelled", "the order was cancelled before"),
    }
}

/// What the others stated, or the clock says, about an accepted order. What is not listed changes nothing.
fn happened(order: &Accepted, moment: &Moment, input: &Envelope<Orders>) -> Decision<Orders> {
    use Stage::{Confirmed, Pending, Recalling, Shipped};
    match (order.stage, &input.input) {
        (Pending, Input::Timer(Timer::ConfirmBy)) => {
            cancelled(order, "expired", "the order was not confirmed in time".into())
        }
        (Pending, Input::Record(Heard::CustomerRejected(rejected))) => {
            cancelled(order, &rejected.reason, rejected.detail.clone())
        }
        (Pending, Input::Record(Heard::ReservationRejected(rejected))) => {
            cancelled(order, &rejected.reason, rejected.detail.clone())
        }
        (Pending, Input::Record(Heard::PaymentDeclined(declined))) => {
            cancelled(order, "declined", because(&declined.reason, &declined.detail))
        }
        (Pending, Input::Record(Heard::PaymentCaptured(captured))) => {
            let end_by = moment.now + shortened(END_WITHIN, order.end_within_ms);
            Decision::fact(OrderConfirmed {
                order_id: order.order_id,
                details: order.details.clone(),
                end_by,
                charge_id: captured.charge_id.clone(),
            })
            .clear(order.order_id, Timer::ConfirmBy.name())
            .set(order.order_id, Timer::EndBy, end_by)
        }

        (Confirmed | Shipped, Input::Timer(Timer::EndBy)) => recall(order, "expired"),

        (Confirmed | Recalling { shipped: false, .. }, Input::Record(Heard::ShipmentDispatched(left))) => {
            Decision::fact(OrderShipped {
                order_id: order.order_id,
                customer_id: order.details.customer_id,
                tracking_id: left.tracking_id.clone(),
            })
        }
        (Confirmed | Shipped | Recalling { .. }, Input::Record(Heard::ShipmentAborted(aborted))) => {
            cancelled(order, "shipment_aborted", because(&aborted.reason, &aborted.detail))
        }
        (Confirmed | Shipped | Recalling { .. }, Input::Record(Heard::ShipmentRecalled(recalled))) => {
            cancelled(order, "shipment_recalled", because(&recalled.reason, &recalled.detail))
        }
        (Confirmed | Shipped | Recalling { .. }, Input::Record(Heard::ShipmentDelivered(_))) => delivered(order),

        _ => Decision::nothing(),
    }
}

fn cancelled(order: &Accepted, reason: &str, detail: String) -> Decision<Orders> {
    Decision::fact(OrderCancelled {
        order_id: order.order_id,
        customer_id: order.details.customer_id,
        reason: reason.into(),
        detail,
        total: order.details.total,
        currency: order.details.currency.clone(),
    })
    .without_deadline(order)
}

fn recall(order: &Accepted, reason: &str) -> Decision<Orders> {
    Decision::fact(OrderRecallRequested { order_id: order.order_id, reason: reason.into() }).without_deadline(order)
}

fn delivered(order: &Accepted) -> Decision<Orders> {
    let decision = Decision::fact(OrderDelivered { order_id: order.order_id, customer_id: order.details.customer_id })
        .without_deadline(order);
    match order.stage {
        // A notice and no answer: the request was answered by the recall.
        Stage::Recalling { asked: true, .. } => decision.and(OrderCancellationRefused {
            order_id: order.order_id,
            request_id: None,
            reason: "recall_failed".into(),
            detail: "the recall came too late: the parcel is with the customer".into(),
        }),
        _ => decision,
    }
}

/// A deadline that no longer matters goes with the stage that it was set for.
trait WithoutDeadline {
    fn without_deadline(self, order: &Accepted) -> Self;
}

impl WithoutDeadline for Decision<Orders> {
    fn without_deadline(self, order: &Accepted) -> Self {
        match order.stage {
            Stage::Pending => self.clear(order.order_id, Timer::ConfirmBy.name()),
            Stage::Confirmed | Stage::Shipped => self.clear(order.order_id, Timer::EndBy.name()),
            Stage::Recalling { .. } | Stage::Delivered | Stage::Cancelled => self,
        }
    }
}

/// A client may shorten a deadline, never lengthen it.
fn shortened(own: TimeDelta, asked_ms: Option<i64>) -> TimeDelta {
    asked_ms.and_then(TimeDelta::try_milliseconds).map_or(own, |asked| asked.min(own))
}

/// Another service's reason and its sentence in one.
fn because(reason: &str, detail: &str) -> String {
    match (reason, detail) {
        (reason, "") => reason.to_owned(),
        ("", detail) => detail.to_owned(),
        (reason, detail) => format!("{reason}: {detail}"),
    }
}

impl State {
    fn order(&self, id: &str) -> &Order {
        static UNKNOWN: Order = Order::unknown();
        self.orders.get(id).unwrap_or(&UNKNOWN)
    }
}
