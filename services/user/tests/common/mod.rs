//! What the tests of the user service speak of.
#![allow(dead_code)] // each test file uses its part

use quadrille_events::{
    Money, Secret, Uuid,
    common::Personal,
    order::{OrderCreated, OrderDetails},
    user::{UserDeactivationRequested, UserProfileUpdateRequested, UserRegistrationRequested},
};

pub const ANN: Uuid = Uuid::from_u128(0xa0);
pub const BOB: Uuid = Uuid::from_u128(0xb0);
pub const ORDER: Uuid = Uuid::from_u128(0x0a);
pub const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cXVhZHJpbGxlLXNhbHQtMQ$xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";

pub fn personal(email: &str) -> Personal {
    Personal {
        name: Some("Ann Example".into()),
        address: Some("1 Harbour Street".into()),
        email: Some(email.into()),
        sealed: None,
    }
}

pub fn registration(user: Uuid, user_name: &str, email: &str) -> UserRegistrationRequested {
    UserRegistrationRequested {
        user_name: user_name.into(),
        personal: personal(email),
        password_hash: Secret::new(HASH),
        profile: "{\"language\": \"de\"}".into(),
        ..UserRegistrationRequested::new(user)
    }
}

pub fn update(user: Uuid) -> UserProfileUpdateRequested {
    UserProfileUpdateRequested::new(user)
}

pub fn renamed(user: Uuid, user_name: &str) -> UserProfileUpdateRequested {
    UserProfileUpdateRequested { user_name: Some(user_name.into()), ..update(user) }
}

pub fn moved(user: Uuid, email: &str) -> UserProfileUpdateRequested {
    UserProfileUpdateRequested {
        personal: Personal { email: Some(email.into()), ..Personal::default() },
        ..update(user)
    }
}

pub fn deactivation(user: Uuid) -> UserDeactivationRequested {
    UserDeactivationRequested { reason: "Left the shop.".into(), ..UserDeactivationRequested::new(user) }
}

pub fn created(order: Uuid, customer: Uuid) -> OrderCreated {
    OrderCreated::new(order, OrderDetails::new(customer, Money::cents(4498)))
}
