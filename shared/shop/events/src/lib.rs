//! The shop's records: every fact and every request of the choreography, generated from `schemas/`.
//!
//! One source, never written twice: `schemas/<topic>/<Record>.avsc` says what a record is, this crate is made from it at
//! build time. Each struct implements [`quadrille_core::Record`] (Avro) and serde (JSON); [`topics`] has an enum per topic,
//! [`TOPICS`] the declared topics, [`RECORD_TYPES`] every record type with docs, example and JSON coding.
//!
//! ```
//! use quadrille_core::Record;
//! use quadrille_events::{Money, OrderLine, PriceChanged};
//!
//! let changed = PriceChanged { currency: "EUR".into(), ..PriceChanged::new("TEA-1".into(), Money::cents(1999), Money::cents(1850)) };
//! let mut datum = Vec::new();
//! changed.encode(&mut datum);
//! assert_eq!(PriceChanged::decode(&datum), Ok(changed));
//! # let _ = OrderLine::new("TEA-1".into(), 2, Money::cents(1999));
//! ```

pub mod bounds;

pub use quadrille_schemas::wire::{
    Bytes, Content, Encoded, FieldInfo, FrameError, RecordInfo, Resolution, Secret, Time, Uuid, WriterSchema,
    check_golden, digest, digest_hex, frame, from_json, to_json, unframe, write_golden,
};

/// An amount of money, in a currency that stands beside it.
pub type Money = quadrille_schemas::wire::Decimal<12, 2>;

include!(concat!(env!("OUT_DIR"), "/records.rs"));

/// The entries of [`RECORD_TYPES`] with that name: a full name (`quadrille.order.OrderCreated`) or a short one.
pub fn records_named(name: &str) -> impl Iterator<Item = &'static RecordInfo> {
    RECORD_TYPES.iter().filter(move |info| info.record.name == name || info.short_name() == name)
}
