//! What Quadrille promises, shown on the real stack. `make demo` and the `show-` targets call it; tests use its [`Shop`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod accounts;
pub mod binaries;
mod clients;
pub mod follower;
pub mod held;
pub mod http;
mod odd_registry;
pub mod orders;
mod other_build;
pub mod outside;
pub mod process;
mod raw;
pub mod report;
pub mod shell;
pub mod shop;
pub mod shows;
pub mod stage;
mod standing;
pub mod story;
mod vocabulary;

pub use clients::Clients;
pub use follower::{Follower, Tally};
pub use orders::{Goods, Kind, Placed};
pub use shop::Shop;
pub use stage::Stage;
pub use story::{End, Story};
