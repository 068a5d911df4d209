//! The `quadrille` command line, as a library: each command is a function, so that shows and tests call the same code.
//!
//! It knows no topic, record or service by itself: a [`Catalogue`] tells it, and a workspace's own `quadrille` is
//!
//! ```no_run
//! # use std::process::ExitCode;
//! # use quadrille_cli::{Catalogue, Service};
//! # use quadrille_events as events;
//! # use quadrille_order::Orders;
//! # use quadrille_payment::Payment;
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     let services = [Service::of::<Orders>(), Service::of::<Payment>()];
//!     quadrille_cli::run(Catalogue::new(events::TOPICS, events::RECORD_TYPES, services)).await
//! }
//! ```
//!
//! [`run_with`] adds [`Commands`] of the workspace's own.
//!
//! - [`topics`] and [`schemas`] prepare a world: topics as declared, every schema registered.
//! - [`encode`], [`decode`], [`produce`] and [`watch`] take records in and out; [`example`] shows what to start from.
//! - [`effects`] and [`dead_letters`] show what waits for a person, and [`operate`] tells services the person's word.
//! - [`group`] has a stopped service read again, or a running one pass over an offset.
//! - [`replay`] takes recorded decisions out of the databases and makes them again.
//! - [`check`] looks at the choreography before it runs.
//! - [`status`] and [`doctor`] look at what runs, [`generations`] at the rows that a read model keeps beside one another.
//! - [`kafka`], [`codec`] and [`databases`] are what they stand on: reading topics to their end and beyond, framed Avro as JSON.
//!
//! What reads topics blocks: call it from a thread that may (`tokio::task::block_in_place`), within a runtime.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalogue;
pub mod check;
pub mod codec;
mod commands;
pub mod databases;
pub mod dead_letters;
pub mod decode;
pub mod doctor;
pub mod effects;
pub mod encode;
pub mod example;
pub mod generations;
pub mod group;
pub mod http;
mod input;
pub mod kcat;
pub mod operate;
pub mod output;
mod place;
pub mod produce;
pub mod render;
pub mod replay;
pub mod schemas;
pub mod settings;
pub mod status;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod types;
pub mod watch;

pub use catalogue::{Catalogue, Sagas, Service};
pub use commands::{Commands, run, run_with};
pub use place::Place;
/// The client of Kafka and of the registry.
pub use quadrille_kafka as kafka;
pub use quadrille_kafka::registry;
pub use settings::{Setting, Settings};
