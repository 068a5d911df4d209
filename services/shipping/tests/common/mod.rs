//! One order's parcel, as the tests tell of it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use quadrille_events::{Money, Uuid, common::Personal, order::*};
use quadrille_shipping::{Effect, Outcome};

pub const ORDER: Uuid = Uuid::from_u128(0x3b2a9f5e_7c41_4d8a_8e06_5a1c7d2e9f30);
pub const CUSTOMER: Uuid = Uuid::from_u128(0x6f1d3c58_1f0e_4c5e_9a37_2b8f0d9e4a11);

/// An id of a test's own.
pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn confirmed() -> OrderConfirmed {
    let personal =
        Personal { name: Some("Ann Example".into()), address: Some("1 Harbour Street".into()), ..Personal::default() };
    let details = OrderDetails {
        delivery: Delivery { method: "standard".into(), personal },
        ..OrderDetails::new(CUSTOMER, Money::cents(3998))
    };
    OrderConfirmed::new(ORDER, details)
}

pub fn recall_requested() -> OrderRecallRequested {
    OrderRecallRequested { reason: "requested".into(), ..OrderRecallRequested::new(ORDER) }
}

pub fn hand_over(method: &str) -> Effect {
    Effect::HandOver {
        order_id: ORDER,
        method: method.into(),
        name: "Ann Example".into(),
        address: "1 Harbour Street".into(),
    }
}

pub fn track(tracking_id: &str) -> Effect {
    track_after(tracking_id, 0)
}

/// The carrier has said for so many days that the parcel is under way.
pub fn track_after(tracking_id: &str, under_way_days: u32) -> Effect {
    Effect::Track { tracking_id: tracking_id.into(), under_way_days }
}

pub fn recall(tracking_id: &str) -> Effect {
    Effect::Recall { tracking_id: tracking_id.into() }
}

pub fn accepted() -> Outcome {
    Outcome::Accepted { tracking_id: "PARCEL-1".into() }
}

pub fn refused() -> Outcome {
    Outcome::Refused { reason: "no_service".into(), detail: "Not there.".into() }
}

pub const UNDER_WAY: Outcome = Outcome::UnderWay {};
pub const DELIVERED: Outcome = Outcome::Delivered {};
pub const RETURNED: Outcome = Outcome::Returned {};
