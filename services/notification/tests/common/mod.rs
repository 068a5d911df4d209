//! One order's mails, as the tests tell of them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use quadrille_events::{Money, Uuid, common::Personal, order::*, payment::PaymentRefunded, user::*};
use quadrille_notification::{About, Mail, Outcome, Timer, letters};

pub const ORDER: Uuid = Uuid::from_u128(0x3b2a9f5e_7c41_4d8a_8e06_5a1c7d2e9f30);
pub const CUSTOMER: Uuid = Uuid::from_u128(0x6f1d3c58_1f0e_4c5e_9a37_2b8f0d9e4a11);
pub const AMOUNT: Money = Money::cents(3998);

/// An id of a test's own.
pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn ann(email: Option<&str>) -> Personal {
    Personal { name: Some("Ann Example".into()), email: email.map(Into::into), ..Personal::default() }
}

pub fn registered(email: Option<&str>) -> UserRegistered {
    UserRegistered { personal: ann(email), ..UserRegistered::new(CUSTOMER) }
}

pub fn moved(email: Option<&str>) -> UserProfileUpdated {
    UserProfileUpdated { personal: ann(email), ..UserProfileUpdated::new(CUSTOMER) }
}

pub fn confirmed(order: Uuid) -> OrderConfirmed {
    let details = OrderDetails {
        lines: vec![OrderLine::new("TEA-1".into(), 2, Money::cents(1999))],
        currency: "EUR".into(),
        ..OrderDetails::new(CUSTOMER, AMOUNT)
    };
    OrderConfirmed::new(order, details)
}

pub fn shipped(order: Uuid) -> OrderShipped {
    OrderShipped { tracking_id: "PARCEL-1".into(), ..OrderShipped::new(order, CUSTOMER) }
}

pub fn cancelled(order: Uuid) -> OrderCancelled {
    OrderCancelled {
        reason: "insufficient_stock".into(),
        currency: "EUR".into(),
        ..OrderCancelled::new(order, CUSTOMER, AMOUNT)
    }
}

pub fn refunded(order: Uuid) -> PaymentRefunded {
    PaymentRefunded {
        currency: "EUR".into(),
        refund_id: "re_1".into(),
        ..PaymentRefunded::new(order, CUSTOMER, AMOUNT)
    }
}

/// The mail about something of an order, to this address of Ann's.
pub fn mail(order: Uuid, about: About, address: &str) -> Mail {
    let letter = match about {
        About::OrderConfirmed => letters::confirmed(&confirmed(order)),
        About::OrderShipped => letters::shipped(&shipped(order)),
        About::OrderCancelled => letters::cancelled(&cancelled(order)),
        About::PaymentRefunded => letters::refunded(&refunded(order)),
    };
    letter.to(order, about, address, "Ann Example")
}

pub fn give_up(about: About) -> Timer {
    Timer::GiveUp { customer_id: CUSTOMER, about }
}

pub fn refused(about: About) -> Outcome {
    Outcome::Failed { about, reason: "refused".into(), detail: "Nobody here has this address.".into() }
}
