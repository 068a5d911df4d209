//! What clients ask for in the worlds.

use quadrille_events::{
    Money, Secret, Uuid,
    common::Personal,
    order::{Delivery, OrderCancellationRequested, OrderCancelled, OrderRequested, RequestedLine},
    payment::RefundRetryRequested,
    product::ProductListingRequested,
    stock::StockReplenishmentRequested,
    user::{UserDeactivationRequested, UserRegistrationRequested},
};

use crate::record::Record;

/// The orders of a world.
pub const ORDERS: [Uuid; 2] = [Uuid::from_u128(0x0a), Uuid::from_u128(0x0b)];
/// Who orders.
pub const CUSTOMER: Uuid = Uuid::from_u128(0xc0);

/// A client: it numbers its requests, as another one does.
const SHOP: &str = "/shop";
/// Another client.
const HELP_DESK: &str = "/help-desk";

/// The customer comes to be.
pub fn registration() -> Record {
    let personal = Personal { email: Some("ann@example.com".into()), name: Some("Ann".into()), ..Personal::default() };
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$cXVhZHJpbGxlLXNhbHQtMQ$xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";
    let request = UserRegistrationRequested {
        user_name: "ann".into(),
        personal,
        password_hash: Secret::new(hash),
        ..UserRegistrationRequested::new(CUSTOMER)
    };
    Record::request(&request, SHOP, "1")
}

/// The customer goes.
pub fn deactivation() -> Record {
    Record::request(&UserDeactivationRequested::new(CUSTOMER), SHOP, "2")
}

/// A product comes to be, or its price changes.
pub fn listing(sku: &str, cents: i64) -> Record {
    let request = ProductListingRequested {
        name: sku.into(),
        currency: "EUR".into(),
        ..ProductListingRequested::new(sku.into(), Money::cents(cents))
    };
    Record::request(&request, SHOP, &format!("{cents}"))
}

/// Goods come in.
pub fn replenishment(sku: &str, quantity: i32) -> Record {
    let id = Uuid::new_v5(&CUSTOMER, format!("{sku} {quantity}").as_bytes());
    Record::request(&StockReplenishmentRequested::new(sku.into(), id, quantity), SHOP, &format!("{sku} {quantity}"))
}

/// An order of these lines.
pub fn order(order: usize, lines: &[(&str, i32)], ce_id: &str) -> Record {
    let request = OrderRequested {
        lines: lines.iter().map(|(sku, quantity)| RequestedLine::new((*sku).into(), *quantity)).collect(),
        currency: "EUR".into(),
        payment_token: "token".into(),
        delivery: Delivery { method: "standard".into(), ..Delivery::default() },
        ..OrderRequested::new(ORDERS[order], CUSTOMER)
    };
    Record::request(&request, SHOP, ce_id)
}

/// A client no longer wants an order.
pub fn cancellation(order: usize, ce_id: &str) -> Record {
    Record::request(&OrderCancellationRequested::new(ORDERS[order]), HELP_DESK, ce_id)
}

/// A person has a refund tried again.
pub fn refund_retry(order: usize, ce_id: &str) -> Record {
    let request =
        RefundRetryRequested { who: "ann".into(), why: "fixed".into(), ..RefundRetryRequested::new(ORDERS[order]) };
    Record::request(&request, SHOP, ce_id)
}

/// A cancellation that nobody stated: what an inventory with a clock of its own would take for one.
pub fn forged_cancellation() -> Record {
    let cancelled =
        OrderCancelled { currency: "EUR".into(), ..OrderCancelled::new(ORDERS[0], CUSTOMER, Money::cents(1999)) };
    Record::request(&cancelled, "/inventory/clock", "1")
}
