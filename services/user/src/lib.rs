//! The user service: the owner of users, of their unique names, and of the word on whether an order's customer may order.
//!
//! It registers users under a unique user name and e-mail address, keeps their password's hash (and never a password), lets
//! profiles change, deactivates, and verifies the customer of every order once.

pub mod choreography;
pub mod policy;
#[cfg(feature = "service")]
pub mod store;

use quadrille_core::records;
use quadrille_events::{
    order::OrderCreated,
    user::{
        UserDeactivated, UserDeactivationRequested, UserProfileUpdateRequested, UserProfileUpdated, UserRegistered,
        UserRegistrationRejected, UserRegistrationRequested, UserRequestRefused,
    },
    verification::{CustomerRejected, CustomerVerified},
};

pub use policy::{State, Users};

records! {
    /// What it hears.
    pub enum Heard {
        // user.requests
        UserRegistrationRequested, UserProfileUpdateRequested, UserDeactivationRequested,
        // order.events
        OrderCreated,
    }
}

records! {
    /// What it states.
    pub enum Stated {
        // user.events
        UserRegistered, UserRegistrationRejected, UserProfileUpdated, UserDeactivated, UserRequestRefused,
        // verification.events
        CustomerVerified, CustomerRejected,
    }
}
