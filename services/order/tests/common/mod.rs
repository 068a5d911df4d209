//! What the tests of the order service speak of.
#![allow(dead_code)] // each test file uses its part

use proptest::prelude::*;
use quadrille_events::{
    Money, Uuid,
    common::Personal,
    order::{Delivery, OrderCancellationRequested, OrderDetails, OrderLine, OrderRequested, RequestedLine},
    payment::{PaymentCaptured, PaymentDeclined},
    product::{PriceChanged, ProductListed},
    reservation::ReservationRejected,
    shipment::{ShipmentAborted, ShipmentDelivered, ShipmentDispatched, ShipmentRecalled},
    verification::CustomerRejected,
};
use quadrille_order::Heard;

pub const ORDER: Uuid = Uuid::from_u128(0x0a);
pub const OTHER_ORDER: Uuid = Uuid::from_u128(0x0b);
pub const CUSTOMER: Uuid = Uuid::from_u128(0xc0);

pub fn listed(sku: &str, cents: i64) -> ProductListed {
    ProductListed { currency: "EUR".into(), ..ProductListed::new(sku.into(), Money::cents(cents)) }
}

pub fn price_changed(sku: &str, cents: i64) -> PriceChanged {
    PriceChanged { currency: "EUR".into(), ..PriceChanged::new(sku.into(), Money::cents(cents), Money::cents(1)) }
}

/// Two of TEA-1 and one of MUG-1.
pub fn requested() -> OrderRequested {
    OrderRequested {
        lines: vec![RequestedLine::new("TEA-1".into(), 2), RequestedLine::new("MUG-1".into(), 1)],
        currency: "EUR".into(),
        payment_token: "tok_approve".into(),
        delivery: delivery(),
        ..OrderRequested::new(ORDER, CUSTOMER)
    }
}

fn delivery() -> Delivery {
    Delivery {
        method: "standard".into(),
        personal: Personal {
            name: Some("Ann Example".into()),
            address: Some("1 Harbour Street".into()),
            email: Some("ann@example.com".into()),
            sealed: None,
        },
    }
}

/// [`requested`] as it is accepted: TEA-1 costs 19.99, MUG-1 5.00.
pub fn details() -> OrderDetails {
    OrderDetails {
        lines: vec![
            OrderLine::new("TEA-1".into(), 2, Money::cents(1999)),
            OrderLine::new("MUG-1".into(), 1, Money::cents(500)),
        ],
        currency: "EUR".into(),
        payment_token: "tok_approve".into(),
        delivery: delivery(),
        ..OrderDetails::new(CUSTOMER, Money::cents(4498))
    }
}

pub fn cancellation(reason: &str) -> OrderCancellationRequested {
    OrderCancellationRequested { reason: reason.into(), ..OrderCancellationRequested::new(ORDER) }
}

pub fn customer_rejected() -> CustomerRejected {
    CustomerRejected {
        reason: "unknown_customer".into(),
        detail: "no such user".into(),
        ..CustomerRejected::new(ORDER, CUSTOMER)
    }
}

pub fn reservation_rejected() -> ReservationRejected {
    ReservationRejected {
        reason: "insufficient_stock".into(),
        detail: "2 of TEA-1 wanted, 0 available".into(),
        ..ReservationRejected::new(ORDER)
    }
}

pub fn captured() -> PaymentCaptured {
    PaymentCaptured {
        currency: "EUR".into(),
        charge_id: "ch_1".into(),
        ..PaymentCaptured::new(ORDER, Money::cents(4498))
    }
}

pub fn declined() -> PaymentDeclined {
    PaymentDeclined { reason: "card_declined".into(), detail: "no money".into(), ..PaymentDeclined::new(ORDER) }
}

pub fn dispatched() -> ShipmentDispatched {
    ShipmentDispatched { tracking_id: "PARCEL-1".into(), ..ShipmentDispatched::new(ORDER) }
}

pub fn delivered() -> ShipmentDelivered {
    ShipmentDelivered::new(ORDER)
}

pub fn aborted() -> ShipmentAborted {
    ShipmentAborted { reason: "carrier_refused".into(), ..ShipmentAborted::new(ORDER) }
}

pub fn recalled() -> ShipmentRecalled {
    ShipmentRecalled { reason: "returned".into(), detail: "nobody at home".into(), ..ShipmentRecalled::new(ORDER) }
}

/// Anything that may be heard of [`ORDER`] and its price list.
pub fn heard() -> impl Strategy<Value = Heard> {
    prop_oneof![
        3 => Just(Heard::from(requested())),
        1 => Just(Heard::from(OrderRequested { payment_token: "tok_other".into(), ..requested() })),
        2 => Just(Heard::from(cancellation("Changed my mind."))),
        1 => (0..3i64).prop_map(|cents| Heard::from(price_changed("TEA-1", 1999 + cents))),
        1 => Just(Heard::from(ProductListed { currency: "USD".into(), ..listed("MUG-1", 500) })),
        1 => Just(Heard::from(customer_rejected())),
        1 => Just(Heard::from(reservation_rejected())),
        4 => Just(Heard::from(captured())),
        1 => Just(Heard::from(declined())),
        3 => Just(Heard::from(dispatched())),
        1 => Just(Heard::from(delivered())),
        1 => Just(Heard::from(aborted())),
        1 => Just(Heard::from(recalled())),
    ]
}
