//! What the tests of the inventory speak of.
#![allow(dead_code)] // each test file uses its part

use proptest::prelude::*;
use quadrille_events::{
    Money, Uuid,
    order::{OrderCancelled, OrderDetails, OrderLine},
    product::ProductListingRequested,
    shipment::ShipmentDispatched,
    stock::StockReplenishmentRequested,
    verification::CustomerVerified,
};
use quadrille_inventory::Heard;

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

/// Anything that may be heard, of few SKUs and deliveries and so many orders, so that inputs meet.
pub fn anything(orders: u128) -> impl Strategy<Value = Heard> {
    let sku = || prop::sample::select(&["TEA-1", "MUG-1", "CUP-1"][..]);
    let order = move || (0..orders).prop_map(|number| Uuid::from_u128(0x0a + number));
    prop_oneof![
        1 => (sku(), 0..3i64).prop_map(|(sku, cents)| listing(sku, cents).into()),
        2 => (0..2 * orders, sku(), -1..6i32).prop_map(|(id, sku, quantity)| replenishment(id, sku, quantity).into()),
        3 => order().prop_map(|order| verified(order, lines_of(order)).into()),
        1 => order().prop_map(|order| cancelled(order).into()),
        1 => order().prop_map(|order| dispatched(order).into()),
    ]
}

/// One order's details never change: the baton.
fn lines_of(order: Uuid) -> &'static [(&'static str, i32)] {
    if order.as_u128().is_multiple_of(2) {
        &[("TEA-1", 2), ("MUG-1", 1), ("TEA-1", 1)]
    } else {
        &[("MUG-1", 2), ("TEA-1", 1)]
    }
}
