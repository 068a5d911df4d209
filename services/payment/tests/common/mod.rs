//! One order's money, as the tests tell of it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use quadrille_events::{Money, Uuid, order::*, payment::*, reservation::StockReserved};
use quadrille_payment::{Effect, Outcome};

pub const ORDER: Uuid = Uuid::from_u128(0x3b2a9f5e_7c41_4d8a_8e06_5a1c7d2e9f30);
pub const CUSTOMER: Uuid = Uuid::from_u128(0x6f1d3c58_1f0e_4c5e_9a37_2b8f0d9e4a11);
pub const AMOUNT: Money = Money::cents(3998);

/// An id of a test's own.
pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn reserved() -> StockReserved {
    let details = OrderDetails {
        currency: "EUR".into(),
        payment_token: "tok_approve".into(),
        ..OrderDetails::new(CUSTOMER, AMOUNT)
    };
    StockReserved::new(ORDER, details)
}

pub fn cancelled() -> OrderCancelled {
    OrderCancelled::new(ORDER, CUSTOMER, AMOUNT)
}

pub fn retry() -> RefundRetryRequested {
    RefundRetryRequested {
        who: "ann@example.com".into(),
        why: "The provider confirmed by phone.".into(),
        ..RefundRetryRequested::new(ORDER)
    }
}

pub fn charge(token: &str) -> Effect {
    Effect::Charge { order_id: ORDER, amount: AMOUNT, currency: "EUR".into(), token: token.into() }
}

pub fn refund(charge_id: &str) -> Effect {
    Effect::Refund { order_id: ORDER, charge_id: charge_id.into(), amount: AMOUNT, currency: "EUR".into() }
}

pub fn captured() -> Outcome {
    Outcome::Captured { charge_id: "ch_1".into() }
}

pub fn declined() -> Outcome {
    Outcome::Declined { reason: "card_declined".into(), detail: "The card was declined.".into() }
}

pub fn refunded() -> Outcome {
    Outcome::Refunded { refund_id: "re_1".into() }
}

pub fn refused() -> Outcome {
    Outcome::Refused { reason: "refund_refused".into(), detail: "Not this time.".into() }
}
