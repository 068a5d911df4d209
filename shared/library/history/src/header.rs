//! Who wrote a history, and in what schemas.

use std::collections::BTreeMap;

use quadrille_core::{Policy, Records, ids};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of the format that this build writes and reads.
pub const FORMAT: u32 = 1;

/// What all decisions of one build of a service have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Computed from all that follows, so that two instances of one build write the same.
    pub id: Uuid,
    /// [`FORMAT`].
    pub format: u32,
    /// Whose decisions they are.
    pub service: String,
    /// The schemas of the records in them, by the types' full names: the build that replays them may have others.
    pub schemas: BTreeMap<String, String>,
}

impl Header {
    /// This build's header of a service.
    pub fn of<P: Policy>() -> Self {
        let types = P::Heard::TYPES.iter().chain(P::Stated::TYPES);
        let schemas: BTreeMap<String, String> =
            types.map(|record| (record.name.to_owned(), record.schema.to_owned())).collect();
        let format = FORMAT.to_string();
        let texts = schemas.iter().flat_map(|(name, schema)| [name.as_str(), schema.as_str()]);
        let parts: Vec<&str> = ["history", &format, P::SERVICE].into_iter().chain(texts).collect();
        Self { id: ids::v5(&parts), format: FORMAT, service: P::SERVICE.to_owned(), schemas }
    }
}
