//! The `quadrille` command line, as a library: each command is a function, so that shows and tests call the same code.
//!
//! - [`topics`] and [`schemas`] prepare a world: topics as declared, every schema registered.
//! - [`encode`], [`decode`], [`produce`] and [`watch`] take records in and out; [`example`] shows what to start from.
//! - [`saga`] and [`orders`] tell histories from topics alone, and with [`waits`] what an open order waits for.
//! - [`audit`] checks what always holds, over topics, databases and the payment provider's ledger.
//! - [`effects`] and [`dead_letters`] show what waits for a person, and [`operate`] tells services the person's word.
//! - [`stream`] tells an order's events from its event store; [`group`] has a stopped service read again, or a running one pass over an
//!   offset.
//! - [`replay`] takes recorded decisions out of the databases and makes them again.
//! - [`check`] looks at the choreography before it runs.
//! - [`status`] and [`doctor`] look at what runs.
//! - [`kafka`], [`codec`] and [`history`] are what they stand on: reading topics to their end and beyond, framed Avro as JSON.
//!
//! What reads topics blocks: call it from a thread that may (`tokio::task::block_in_place`), within a runtime.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
pub mod audit;
pub mod catalogue;
pub mod check;
pub mod codec;
pub mod dead_letters;
pub mod decode;
pub mod doctor;
pub mod effects;
pub mod encode;
pub mod example;
pub mod group;
pub mod history;
mod http;
mod input;
pub mod kcat;
pub mod operate;
pub mod orders;
pub mod output;
pub mod produce;
pub mod replay;
pub mod saga;
pub mod schemas;
pub mod settings;
pub mod show;
pub mod status;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod topics;
pub mod types;
pub mod waits;
pub mod watch;

pub use args::run;
/// The client of Kafka and of the registry.
pub use quadrille_kafka as kafka;
pub use quadrille_kafka::registry;
pub use settings::Settings;
