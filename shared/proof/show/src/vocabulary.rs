//! What each service hears, as its own code has it.

use std::collections::BTreeMap;

use quadrille_core::RecordType;
use quadrille_events::{RECORD_TYPES, RecordInfo};
use quadrille_roster::DECLARATIONS;

/// The record types that each service hears.
pub type Heard = BTreeMap<&'static str, Vec<&'static RecordInfo>>;

/// What all services hear.
pub fn heard() -> Heard {
    let info = |heard: &RecordType| RECORD_TYPES.iter().find(|info| info.record == *heard);
    DECLARATIONS.iter().map(|declared| (declared.service, declared.hears.iter().filter_map(info).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_heard_has_a_record_type() {
        let heard = heard();
        assert!(DECLARATIONS.iter().all(|declared| heard[declared.service].len() == declared.hears.len()));
        assert!(heard.values().all(|types| !types.is_empty()));
    }
}
