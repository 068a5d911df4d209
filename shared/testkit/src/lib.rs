//! What tests share.
//!
//! - [`given`]: stories about a policy, in memory; no dependency but the core. On by default.
//! - `database` (feature): a fresh database per test on the real PostgreSQL.

#[cfg(feature = "database")]
mod database;
mod given;

#[cfg(feature = "database")]
pub use database::Database;
pub use given::{Given, given, start, touched};
