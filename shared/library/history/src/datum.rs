//! An Avro datum within JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use quadrille_core::Records;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// An Avro datum without framing; base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Datum(pub Vec<u8>);

impl Datum {
    /// The datum of a record.
    pub fn of<R: Records>(record: &R) -> Self {
        let mut datum = Vec::with_capacity(256);
        record.encode(&mut datum);
        Self(datum)
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Self).map_err(|error| D::Error::custom(format!("a datum is base64: {error}")))
    }
}
