//! The one client of Kafka and of the schema registry, for services and tools alike.
//!
//! - A [`Connection`] is where the brokers are and how to get in, with the [`KEYS`] by which it is set; each client's settings are made
//!   from it.
//! - [`Reader`] reads topics to their end and beyond, [`Producer`] sends records, [`Admin`] looks at topics and makes them, [`committed`] tells
//!   how far groups have come. Their calls to brokers wait for [`TIMEOUT`] at most. What is asked first (of all but the
//!   producer) waits for some seconds only where nothing listens, and [`on_wait`] has somebody told.
//! - [`Registry`] is the schema registry, [`Codec`] makes JSON of any Avro record and values of compiled ones, [`CloudEvent`] is what
//!   headers say.
//! - [`Brokers`], [`headers`], [`partitions`] and [`unreadable`] get past what the client itself does not.

mod admin;
mod broker;
mod brokers;
mod cloud_event;
mod codec;
mod connection;
mod groups;
mod headers;
mod partitions;
mod producer;
mod reader;
mod record;
pub mod registry;
mod unreadable;

pub use admin::{Admin, TopicFound};
pub use broker::{TIMEOUT, explained, hurried, on_wait, patiently, refusal};
pub use brokers::Brokers;
pub use cloud_event::{CloudEvent, HEADERS};
pub use codec::{Codec, Decoded};
pub use connection::{Connection, KEYS, Mechanism, Protocol, Security};
pub use groups::committed;
pub use headers::headers;
pub use partitions::partitions;
pub use producer::{Placed, Producer};
pub use reader::{At, Follow, Partition, Positions, Reader, Start, Unreadable};
pub use record::Record;
pub use registry::Registry;
pub use unreadable::{UnreadableBatch, is_unreadable, unreadable};
