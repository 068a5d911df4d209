//! What the tests of the user service speak of.
#![allow(dead_code)] // each test file uses its part

use proptest::prelude::*;
use quadrille_events::{
    Bytes, Money, Secret, Uuid,
    common::Personal,
    order::{OrderCreated, OrderDetails},
    user::{UserDeactivationRequested, UserProfileUpdateRequested, UserRegistrationRequested},
};
use quadrille_user::Heard;

pub const ANN: Uuid = Uuid::from_u128(0xa0);
pub const BOB: Uuid = Uuid::from_u128(0xb0);
pub const ORDER: Uuid = Uuid::from_u128(0x0a);
pub const USER_IDS: [Uuid; 3] = [ANN, BOB, Uuid::from_u128(0xc0)];
pub const ORDERS: [Uuid; 2] = [ORDER, Uuid::from_u128(0x0b)];
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

/// With personal data that the service cannot read, and with characters that not every program takes.
pub fn sealed(user: Uuid) -> UserRegistrationRequested {
    UserRegistrationRequested {
        personal: Personal { sealed: Some(Bytes(vec![0, 255])), ..Personal::default() },
        profile: "{\"a\": \"\\u0000\"}".into(),
        ..registration(user, "ren\u{e9} \u{1f600}", "")
    }
}

/// Anything that may be heard, of these users and few names, so that inputs meet.
pub fn anything(users: impl Strategy<Value = Uuid> + Clone) -> impl Strategy<Value = Heard> {
    let user = move || users.clone();
    let name = || prop::sample::select(&["ann", "ANN", "bob", "Ren\u{e9}", "rene\u{301}", "", "a\0"][..]);
    let email = || prop::sample::select(&["ann@b.c", "Ann@B.c", "bob@b.c", "", "no address"][..]);
    prop_oneof![
        4 => (user(), name(), email()).prop_map(|(user, name, email)| registration(user, name, email).into()),
        2 => (user(), name()).prop_map(|(user, name)| renamed(user, name).into()),
        2 => (user(), email()).prop_map(|(user, email)| moved(user, email).into()),
        1 => user().prop_map(|user| sealed(user).into()),
        1 => user().prop_map(|user| deactivation(user).into()),
        // One order's customer never changes: the baton.
        2 => prop::sample::select(vec![0, 1]).prop_map(|at| created(ORDERS[at], USER_IDS[at]).into()),
    ]
}
