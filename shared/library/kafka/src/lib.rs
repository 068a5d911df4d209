//! What services and tools do with Kafka alike, beyond what its client offers.

mod brokers;
mod headers;
mod partitions;
mod unreadable;

pub use brokers::Brokers;
pub use headers::headers;
pub use partitions::partitions;
pub use unreadable::{Unreadable, is_unreadable, unreadable};
