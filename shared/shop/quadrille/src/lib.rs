//! The shop's `quadrille`: the platform's command line ([`quadrille_cli`]) over the shop's [`CATALOGUE`], and the shop's own commands, as
//! a library so that shows and tests call the same code.
//!
//! - [`saga`] and [`orders`] tell histories from topics alone, and with [`waits`] what an open order waits for.
//! - [`audit`] checks what always holds, over topics, databases and the payment provider's ledger.
//! - [`stream`] tells an order's events from its event store.
//! - [`timeline`] is what they stand on: what topics hold, in causal order.
//!
//! What reads topics blocks: call it from a thread that may (`tokio::task::block_in_place`), within a runtime.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod audit;
mod catalogue;
mod commands;
pub mod orders;
pub mod saga;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod waits;

pub use catalogue::CATALOGUE;
pub use commands::Command;
