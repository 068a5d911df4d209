//! The payment service: charges an order's total once its goods are set aside, and gives it back if the order is cancelled.
//!
//! It holds no clock of its own: it lets go of money on OrderCancelled only. A refund that the provider refuses is stated for a
//! person, who may ask for it again.

pub mod choreography;
#[cfg(feature = "service")]
pub mod outside;
pub mod policy;
#[cfg(feature = "service")]
pub mod store;

use quadrille_core::{kinds, records};
use quadrille_events::{
    Money, Uuid,
    order::OrderCancelled,
    payment::{
        PaymentCaptured, PaymentDeclined, PaymentRefunded, PaymentRequestRefused, RefundFailed, RefundRetryRequested,
    },
    reservation::StockReserved,
};
use serde::{Deserialize, Serialize};

pub use policy::{Payment, State};

records! {
    /// What it hears.
    pub enum Heard {
        // reservation.events, order.events
        StockReserved, OrderCancelled,
        // payment.requests
        RefundRetryRequested,
    }
}

records! {
    /// What it states, on payment.events.
    pub enum Stated {
        PaymentCaptured, PaymentDeclined, PaymentRefunded, RefundFailed, PaymentRequestRefused,
    }
}

/// What the payment provider is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Take an order's total.
    Charge {
        /// The order.
        order_id: Uuid,
        /// How much.
        amount: Money,
        /// Of what.
        currency: String,
        /// The provider's token for the card.
        token: String,
    },
    /// Undo a charge.
    Refund {
        /// The order.
        order_id: Uuid,
        /// The charge to undo.
        charge_id: String,
        /// How much.
        amount: Money,
        /// Of what.
        currency: String,
    },
}

kinds!(Effect { Charge: CHARGE = "charge", Refund: REFUND = "refund" });

/// What the payment provider answers, or a person in its place: `{"outcome": "captured", "charge_id": "ch_1"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The money was taken.
    Captured {
        /// The provider's name for the charge.
        charge_id: String,
    },
    /// It was not, and will not be.
    Declined {
        /// The provider's reason.
        reason: String,
        /// The reason as a sentence.
        #[serde(default)]
        detail: String,
    },
    /// It was given back.
    Refunded {
        /// The provider's name for the refund.
        refund_id: String,
    },
    /// It was not, and will not be under this key.
    Refused {
        /// The provider's reason.
        reason: String,
        /// The reason as a sentence.
        #[serde(default)]
        detail: String,
    },
}

kinds!(Outcome {
    Captured: CAPTURED = "captured",
    Declined: DECLINED = "declined",
    Refunded: REFUNDED = "refunded",
    Refused: REFUSED = "refused",
});
