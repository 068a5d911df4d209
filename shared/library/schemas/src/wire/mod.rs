//! What generated records and a running service need: types, coding, framing, and reading what others have written.

mod bytes;
mod codec;
pub mod content;
mod extent;
mod frame;
mod golden;
pub mod id;
mod info;
mod json;
mod money;
mod secret;
pub mod time;
mod writer;

pub use bytes::Bytes;
pub use codec::Codec;
pub use content::{Content, digest, digest_hex};
pub use frame::{FrameError, frame, unframe};
pub use golden::{check_golden, write_golden};
pub use info::{Encoded, FieldInfo, RecordInfo};
pub use json::{from_json, to_json};
pub use money::{Money, MoneyError};
pub use secret::Secret;
pub use time::Time;
pub use uuid::Uuid;
pub use writer::{Plan, Writer};

/// For generated code: its derives name serde by this path, so that no other crate has to depend on it for them.
#[doc(hidden)]
pub use serde;

/// A SKU as a record key: its normal form, or the text as it is where it is no SKU.
pub fn sku_key(sku: &str) -> String {
    quadrille_core::fold_sku(sku).unwrap_or_else(|| sku.to_owned())
}
