//! What each service hears, as its own code has it.

use std::collections::BTreeMap;

use quadrille_core::{RecordType, Records};
use quadrille_events::{REGISTRY, RecordInfo};

/// The record types that each service hears.
pub type Heard = BTreeMap<&'static str, Vec<&'static RecordInfo>>;

/// What the six services hear.
pub fn heard() -> Heard {
    let types: [(&'static str, &'static [RecordType]); 6] = [
        ("user", quadrille_user::Heard::TYPES),
        ("order", quadrille_order::Heard::TYPES),
        ("inventory", quadrille_inventory::Heard::TYPES),
        ("payment", quadrille_payment::Heard::TYPES),
        ("shipping", quadrille_shipping::Heard::TYPES),
        ("notification", quadrille_notification::Heard::TYPES),
    ];
    let info = |heard: &RecordType| REGISTRY.iter().find(|info| info.record == *heard);
    types.into_iter().map(|(service, types)| (service, types.iter().filter_map(info).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_heard_is_in_the_registry() {
        let heard = heard();
        assert_eq!(heard["user"].len(), quadrille_user::Heard::TYPES.len());
        assert_eq!(heard["order"].len(), quadrille_order::Heard::TYPES.len());
        assert!(heard.values().all(|types| !types.is_empty()));
    }
}
