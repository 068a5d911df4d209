//! What every program of ours shares with the one who starts it: [settings](load) from a file and the environment,
//! [addresses without their secrets](hide_secrets), and an [output](say) that may close.

pub mod address;
mod environment;
pub mod key;
mod output;
mod secret;
mod settings;

pub use address::hide_secrets;
pub use environment::{Unreadable, environment};
pub use key::Key;
pub use output::{complain, print_line, quietly};
pub use secret::Secret;
pub use settings::{Error, Loaded, load};
