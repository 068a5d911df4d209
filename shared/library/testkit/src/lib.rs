//! What tests share.
//!
//! - [`given`]: stories about a policy, in memory; no dependency but the core. On by default.
//! - `conforms` (feature): a service with its store on the real PostgreSQL, held against the same service in memory.
//! - `database` (feature): a fresh database per test on the real PostgreSQL.
//! - `outside` (feature): an outside over HTTP that says what it is told to.
//! - `proxy` (feature): a proxy before a server that goes silent, cuts and refuses.
//! - `world` (feature): topics of its own on the real broker, for services in this process and in others.

#[cfg(feature = "conforms")]
mod conforms;
#[cfg(feature = "database")]
mod database;
mod given;
#[cfg(feature = "outside")]
pub mod outside;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "world")]
mod world;

#[cfg(feature = "conforms")]
pub use conforms::{conforms, record, stated};
#[cfg(feature = "database")]
pub use database::Database;
pub use given::{Given, given, outcomes_as_declared, start};
#[cfg(feature = "proxy")]
pub use proxy::{Direction, Proxy};
#[cfg(feature = "world")]
pub use world::{Settings, World, decoded};

/// How long tests wait for what is promised: generous, as machines are slow.
pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
