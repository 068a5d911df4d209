//! UUIDs as text, on the wire as in JSON: `#[serde(with = "quadrille_schemas::wire::id")]`.

use std::fmt;

use serde::{Deserializer, Serializer, de};
use uuid::Uuid;

/// Writes lower case with hyphens.
pub fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

/// Reads any spelling of a UUID.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    deserializer.deserialize_str(Id)
}

struct Id;

impl de::Visitor<'_> for Id {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a UUID")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
        // Not repeated: whoever takes one field for another may have put a secret here.
        Uuid::try_parse(text).map_err(|_| E::custom(format!("a text of {} bytes is not a UUID", text.len())))
    }
}

/// The same for `Option<Uuid>`.
pub mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use uuid::Uuid;

    /// Writes lower case with hyphens, or null.
    pub fn serialize<S: Serializer>(id: &Option<Uuid>, serializer: S) -> Result<S::Ok, S::Error> {
        id.map(Text).serialize(serializer)
    }

    /// Reads any spelling of a UUID, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(id)| id))
    }

    struct Text(Uuid);

    impl Serialize for Text {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            super::serialize(&self.0, serializer)
        }
    }

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            super::deserialize(deserializer).map(Self)
        }
    }
}
