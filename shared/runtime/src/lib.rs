//! The runtime that turns a policy into a Kafka service that loses nothing and doubles nothing.

mod outside;
mod store;

pub use outside::{Answer, Effect, Limit, NoOutside, Outcome, Outside, Then};
pub use store::{Store, lock, uuids};
