//! The inventory service: the owner of products, of stock, and of what is set aside for orders.
//!
//! It lists products and their prices, counts what comes in, reserves all of an order's goods or none of them, and lets go of
//! them when the order is cancelled or sees them off when its parcel leaves. At all times and for every SKU
//! `received = available + reserved + committed`, and none of them is negative.

pub mod choreography;
pub mod policy;
#[cfg(feature = "service")]
pub mod store;

use quadrille_core::records;
use quadrille_events::{
    order::OrderCancelled,
    product::{PriceChanged, ProductListed, ProductListingRequested},
    reservation::{ReservationCommitted, ReservationRejected, ReservationReleased, StockReserved},
    shipment::ShipmentDispatched,
    stock::{StockReplenished, StockReplenishmentRequested, StockRequestRefused},
    verification::CustomerVerified,
};

pub use policy::{Inventory, State};

records! {
    /// What it hears.
    pub enum Heard {
        // stock.requests
        ProductListingRequested, StockReplenishmentRequested,
        // verification.events, shipment.events, order.events
        CustomerVerified, ShipmentDispatched, OrderCancelled,
    }
}

records! {
    /// What it states.
    pub enum Stated {
        // product.events
        ProductListed, PriceChanged,
        // stock.events
        StockReplenished, StockRequestRefused,
        // reservation.events
        StockReserved, ReservationRejected, ReservationCommitted, ReservationReleased,
    }
}
