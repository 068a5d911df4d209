//! The shipping service: hands an order's parcel to the carrier once the order is confirmed, follows it, and calls it back.
//!
//! Its last word ends the order, whether asked or not: delivered, recalled, or aborted before it left. What the carrier does not
//! say is not stated: a parcel that is lost stays open until a person answers.

pub mod choreography;
#[cfg(feature = "service")]
pub mod outside;
pub mod policy;
#[cfg(feature = "service")]
pub mod store;

use quadrille_core::{kinds, records};
use quadrille_events::{
    Uuid,
    order::{OrderConfirmed, OrderRecallRequested},
    shipment::{ShipmentAborted, ShipmentDelivered, ShipmentDispatched, ShipmentRecalled},
};
use serde::{Deserialize, Serialize};

pub use policy::{Shipping, State};

records! {
    /// What it hears, on order.events.
    pub enum Heard {
        OrderConfirmed, OrderRecallRequested,
    }
}

records! {
    /// What it states, on shipment.events.
    pub enum Stated {
        ShipmentDispatched, ShipmentDelivered, ShipmentAborted, ShipmentRecalled,
    }
}

/// What the carrier is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Take a parcel.
    HandOver {
        /// The order.
        order_id: Uuid,
        /// The carrier's name for the way of delivery.
        method: String,
        /// Who receives it.
        name: String,
        /// Where.
        address: String,
    },
    /// Say where it is.
    Track {
        /// The carrier's name for it.
        tracking_id: String,
        /// For so many whole days, since the hand-over or the recall, it has said that the parcel is under way.
        #[serde(default)]
        under_way_days: u32,
    },
    /// Bring it back.
    Recall {
        /// The carrier's name for it.
        tracking_id: String,
    },
}

kinds!(Effect { HandOver: HAND_OVER = "hand_over", Track: TRACK = "track", Recall: RECALL = "recall" });

/// What the carrier answers, or a person in its place: `{"outcome": "delivered"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It has the parcel.
    Accepted {
        /// The carrier's name for it.
        tracking_id: String,
    },
    /// It has not, and will not.
    Refused {
        /// The carrier's reason.
        reason: String,
        /// The reason as a sentence.
        #[serde(default)]
        detail: String,
    },
    /// The parcel is on its way, to the customer or back.
    UnderWay {},
    /// It is with the customer.
    Delivered {},
    /// It came back.
    Returned {},
}

kinds!(Outcome {
    Accepted: ACCEPTED = "accepted",
    Refused: REFUSED = "refused",
    UnderWay: UNDER_WAY = "under_way",
    Delivered: DELIVERED = "delivered",
    Returned: RETURNED = "returned",
});

/// What the clock may say. It never decides anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// Ask the carrier again where the parcel is.
    AskAgain,
}

kinds!(Timer { AskAgain: ASK_AGAIN = "ask_again" });
