//! The order service: the owner of every order's state, from the request to its one end.
//!
//! It accepts an order against its own price list, follows the saga by what the others state, decides a cancellation until
//! the order is confirmed and asks shipping for a recall from then on, and holds the two deadlines that an order has. An order
//! is event-sourced: its state is what this service stated about it, folded; the rows are snapshots of that.

pub mod choreography;
pub mod policy;
#[cfg(feature = "service")]
pub mod store;

use quadrille_core::{kinds, records};
use quadrille_events::{
    order::{
        OrderCancellationRefused, OrderCancellationRequested, OrderCancelled, OrderConfirmed, OrderCreated,
        OrderDelivered, OrderRecallRequested, OrderRejected, OrderRequestRefused, OrderRequested, OrderShipped,
    },
    payment::{PaymentCaptured, PaymentDeclined},
    product::{PriceChanged, ProductListed},
    reservation::ReservationRejected,
    shipment::{ShipmentAborted, ShipmentDelivered, ShipmentDispatched, ShipmentRecalled},
    verification::CustomerRejected,
};
use serde::{Deserialize, Serialize};

pub use policy::{Orders, State};

records! {
    /// What it hears.
    pub enum Heard {
        // order.requests
        OrderRequested, OrderCancellationRequested,
        // product.events: its own price list
        ProductListed, PriceChanged,
        // verification.events, reservation.events, payment.events
        CustomerRejected, ReservationRejected, PaymentCaptured, PaymentDeclined,
        // shipment.events
        ShipmentDispatched, ShipmentDelivered, ShipmentAborted, ShipmentRecalled,
    }
}

records! {
    /// What it states, and stores: all on order.events.
    pub enum Stated {
        OrderCreated, OrderRejected, OrderRequestRefused,
        OrderConfirmed, OrderShipped, OrderDelivered, OrderCancelled,
        OrderRecallRequested, OrderCancellationRefused,
    }
}

/// An order's two deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// Cancelled if not confirmed by then.
    ConfirmBy,
    /// Recalled if not ended by then.
    EndBy,
}

kinds!(Timer { ConfirmBy: CONFIRM_BY = "confirm_by", EndBy: END_BY = "end_by" });
