//! The committed schemas: sound, compatible with every frozen version, and every golden record still read.

use std::path::Path;

use quadrille_events::{RECORD_TYPES, check_golden};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas"))
}

#[test]
fn the_schemas_fit_all_of_their_frozen_versions() {
    let folder = quadrille_schemas::check(root()).unwrap_or_else(|problems| panic!("{problems}"));
    for file in &folder.records {
        assert!(
            quadrille_schemas::is_frozen(file),
            "{} differs from its newest frozen version: run `quadrille schemas freeze` and commit what it writes",
            file.file
        );
    }
}

#[test]
fn every_golden_record_is_read() {
    let count = check_golden(root(), RECORD_TYPES).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(count >= 43, "{count} golden records");
}
