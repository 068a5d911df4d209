//! The committed schemas: sound, compatible with every frozen version, every golden record still read, and what was built in.

use std::path::Path;

use quadrille_platform::{RECORD_TYPES, folder};
use quadrille_schemas::{check, is_frozen, wire::check_golden};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas"))
}

#[test]
fn the_schemas_fit_all_of_their_frozen_versions() {
    let folder = check(root()).unwrap_or_else(|problems| panic!("{problems}"));
    for file in &folder.records {
        assert!(
            is_frozen(file),
            "{} differs from its newest frozen version: run `quadrille schemas freeze` and commit what it writes",
            file.file
        );
    }
}

#[test]
fn every_golden_record_is_read() {
    let count = check_golden(root(), RECORD_TYPES).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(count >= 6, "{count} golden records");
}

/// Tools that were built with the records have no folder of them at hand.
#[test]
fn what_was_built_in_is_what_the_folder_has() {
    let (built_in, read) = (folder(), check(root()).unwrap_or_else(|problems| panic!("{problems}")));
    assert_eq!(built_in.topics, read.topics);
    let mut files: Vec<_> = built_in.records.iter().collect();
    files.sort_by_key(|file| &file.file);
    for (built_in, read) in files.into_iter().zip(&read.records) {
        assert_eq!((&built_in.file, &built_in.text), (&read.file, &read.text));
        assert_eq!(built_in.versions.last(), read.versions.last());
    }
    assert_eq!(built_in.records.len(), read.records.len());
}
