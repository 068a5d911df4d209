//! What services and tools do with Kafka alike, beyond what its client offers.

mod unreadable;

pub use unreadable::{Unreadable, is_unreadable, unreadable};
