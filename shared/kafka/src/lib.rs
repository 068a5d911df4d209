//! What services and tools do with Kafka alike, beyond what its client offers.

mod brokers;
mod headers;
mod unreadable;

pub use brokers::Brokers;
pub use headers::headers;
pub use unreadable::{Unreadable, is_unreadable, unreadable};
