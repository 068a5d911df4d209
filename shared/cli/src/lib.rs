//! The `quadrille` command line, as a library: each command is a function, so that shows and tests call the same code.
//!
//! - [`topics`] and [`schemas`] prepare a world: topics as declared, every schema registered.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
pub mod catalogue;
mod http;
pub mod kafka;
pub mod kcat;
pub mod output;
pub mod registry;
pub mod schemas;
pub mod settings;
pub mod topics;

pub use args::run;
pub use settings::Settings;
