//! What generated records and a running service need: types, coding, framing, and reading what others have written.

mod bytes;
mod codec;
pub mod content;
mod decimal;
mod dynamic;
mod extent;
mod frame;
mod golden;
pub mod id;
mod info;
mod json;
mod secret;
pub mod time;
mod writer;

pub use bytes::Bytes;
pub use codec::Codec;
pub use content::{Content, digest, digest_hex};
pub use decimal::{Decimal, DecimalError};
pub use frame::{FrameError, frame, unframe};
pub use golden::{check_golden, write_golden};
pub use info::{Encoded, FieldInfo, RecordInfo};
pub use json::{from_json, to_json};
pub use secret::Secret;
pub use time::Time;
pub use uuid::Uuid;
pub use writer::{Resolution, WriterSchema};

/// For generated code: its derives name serde by this path, so that no other crate has to depend on it for them.
#[doc(hidden)]
pub use serde;
