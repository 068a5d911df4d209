//! What the tests of the inventory speak of.
#![allow(dead_code)] // each test file uses its part

use quadrille_events::{
    Money, Uuid,
    order::{OrderCancelled, OrderDetails, OrderLine},
    product::ProductListingRequested,
    shipment::ShipmentDispatched,
    stock::StockReplenishmentRequested,
    verification::CustomerVerified,
};

pub const ORDER: Uuid = Uuid::from_u128(0x0a);
pub const OTHER_ORDER: Uuid = Uuid::from_u128(0x0b);

pub fn listing(sku: &str, cents: i64) -> ProductListingRequested {
    ProductListingRequested {
        name: format!("The {}", sku.to_uppercase()),
        currency: "EUR".into(),
        ..ProductListingRequested::new(sku.into(), Money::cents(cents))
    }
}

pub fn replenishment(id: u128, sku: &str, quantity: i32) -> StockReplenishmentRequested {
    StockReplenishmentRequested::new(sku.into(), Uuid::from_u128(id), quantity)
}

pub fn details(lines: &[(&str, i32)]) -> OrderDetails {
    let line = |(sku, quantity): &(&str, i32)| OrderLine::new((*sku).into(), *quantity, Money::cents(1999));
    OrderDetails {
        lines: lines.iter().map(line).collect(),
        currency: "EUR".into(),
        payment_token: "tok_approve".into(),
        ..OrderDetails::new(Uuid::from_u128(0xc0), Money::cents(3998))
    }
}

pub fn verified(order: Uuid, lines: &[(&str, i32)]) -> CustomerVerified {
    CustomerVerified::new(order, details(lines))
}

pub fn cancelled(order: Uuid) -> OrderCancelled {
    OrderCancelled::new(order, Uuid::from_u128(0xc0), Money::cents(3998))
}

pub fn dispatched(order: Uuid) -> ShipmentDispatched {
    ShipmentDispatched::new(order)
}
