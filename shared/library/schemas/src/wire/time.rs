//! Points in time: microseconds on the wire, RFC 3339 in JSON: `#[serde(with = "quadrille_schemas::wire::time")]`.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserializer, Serializer, de};

/// A point in time, UTC.
pub type Time = DateTime<Utc>;

/// The point so many microseconds after 1970.
///
/// # Panics
/// Beyond the years that chrono knows; what comes from outside is read by [`deserialize`], which does not.
pub fn from_micros(micros: i64) -> Time {
    DateTime::from_timestamp_micros(micros).expect("a year that chrono knows")
}

/// The one text of a point in time: RFC 3339 in UTC with microseconds.
pub fn text(time: &Time) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Writes microseconds, or RFC 3339 for people.
pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&text(time))
    } else {
        serializer.serialize_i64(time.timestamp_micros())
    }
}

/// Reads microseconds, or RFC 3339 from people.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(Point)
    } else {
        deserializer.deserialize_i64(Point)
    }
}

struct Point;

impl de::Visitor<'_> for Point {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time like \"2026-01-31T12:00:00Z\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        let time = DateTime::parse_from_rfc3339(text);
        time.map(|time| time.to_utc())
            .map_err(|error| E::custom(format!("is no time like 2026-01-31T12:00:00Z: {error}")))
    }

    fn visit_i64<E: de::Error>(self, micros: i64) -> Result<Time, E> {
        DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| E::custom(format!("{micros} µs is beyond all known years")))
    }
}

/// The same for `Option<Time>`.
pub mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Time;

    /// Writes microseconds, RFC 3339 for people, or null.
    pub fn serialize<S: Serializer>(time: &Option<Time>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Point).serialize(serializer)
    }

    /// Reads microseconds, RFC 3339 from people, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Time>, D::Error> {
        Ok(Option::<Point>::deserialize(deserializer)?.map(|Point(time)| time))
    }

    struct Point(Time);

    impl Serialize for Point {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            super::serialize(&self.0, serializer)
        }
    }

    impl<'de> Deserialize<'de> for Point {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            super::deserialize(deserializer).map(Self)
        }
    }
}
