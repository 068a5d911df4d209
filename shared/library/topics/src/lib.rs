//! What a topic is: its kind, its key, how long it is kept.
//!
//! A [`TopicType`] is written into a program by the generator of `quadrille-schemas`, or read from a `topics.toml` by the tools.
//! It is a crate of its own so that a build script reads a schemas folder without building anything of a running service.

mod key;
mod topic;

pub use key::{KeyCase, KeyError, KeyKind, KeyPattern};
pub use topic::{MOST_UNPACKED, TopicKind, TopicType, TopicWriter};
