//! Freezing and FULL_TRANSITIVE: every way to break an older or newer build is refused with a fix.

mod folder;

use folder::{RECORD, SHARED, TestFolder};
use quadrille_schemas::{check, freeze};

fn frozen() -> TestFolder {
    let folder = TestFolder::sound();
    let frozen = freeze(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(frozen.len(), 1);
    assert_eq!((frozen[0].number, frozen[0].file.as_str()), (1, "a.events/versions/Happened.1.avsc"));
    folder
}

#[test]
fn a_version_is_frozen_once_and_never_changed() {
    let folder = frozen();
    let first = folder.read("a.events/versions/Happened.1.avsc");
    assert_eq!(freeze(folder.path()), Ok(vec![]), "nothing is new");

    folder.change(
        RECORD,
        "\"fields\": [",
        "\"fields\": [ { \"name\": \"note\", \"type\": \"string\", \"default\": \"\", \"doc\": \"A note.\" },",
    );
    let frozen = freeze(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(frozen[0].file, "a.events/versions/Happened.2.avsc");
    assert_eq!(folder.read("a.events/versions/Happened.1.avsc"), first);

    let loaded = check(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.records[0].versions.len(), 2);
    assert_eq!(folder.read("a.events/versions/Happened.2.avsc").trim(), loaded.records[0].text);
}

#[test]
fn each_incompatible_change_is_refused_with_its_fix() {
    let cases = [
        (
            RECORD,
            "{ \"name\": \"amount\"",
            "{ \"name\": \"count\", \"type\": \"int\", \"doc\": \"How many.\" }, { \"name\": \"amount\"",
            "field `count`: this version cannot read version 1: it is missing in the writer's schema and has no default; \
             give a new field a default; keep a field that has none",
        ),
        (
            RECORD,
            "\"name\": \"amount\"",
            "\"name\": \"sum\"",
            "field `amount`: version 1 cannot read this version: it is missing in the writer's schema and has no default",
        ),
        (
            RECORD,
            "\"type\": \"bytes\", \"logicalType\": \"decimal\", \"precision\": 12, \"scale\": 2",
            "\"type\": \"string\", \"logicalType\": \"uuid\"",
            "field `amount`: this version cannot read version 1: it is decimal(12,2) in the writer's schema, where uuid is expected",
        ),
        (
            SHARED,
            "{ \"type\": \"long\", \"logicalType\": \"timestamp-micros\" }",
            "\"long\"",
            "field `lines[].at`: this version cannot read version 1: it is timestamp-micros in the writer's schema, where long \
             is expected; keep the field as it is and add a new one with a default",
        ),
        (
            SHARED,
            "\"type\": \"int\"",
            "\"type\": \"long\"",
            "field `lines[].count`: version 1 cannot read this version: it is long in the writer's schema, where int is expected",
        ),
        (
            RECORD,
            "\"string\", \"default\": \"\"",
            "[\"null\", \"string\"], \"default\": null",
            "field `reason`: version 1 cannot read this version: it may be null in the writer's schema, where string is expected",
        ),
        (
            RECORD,
            "\"default\": \"\"",
            "\"default\": \"none\"",
            "field `reason`: had another default in version 1; keep the default: digests and older records rest on it",
        ),
        (
            RECORD,
            ", \"quadrille.secret\": true",
            "",
            "field `hash`: was secret in version 1; keep `\"quadrille.secret\": true`: the topic still holds secrets",
        ),
        (
            RECORD,
            "\"namespace\": \"x.a\"",
            "\"namespace\": \"x.b\"",
            "this version cannot read version 1: it is x.a.Happened in the writer's schema, where x.b.Happened is expected; \
             keep the full name: another name is another type",
        ),
    ];
    for (file, from, to, expected) in cases {
        let folder = frozen();
        folder.change(file, from, to);
        let faults = freeze(folder.path()).expect_err(to).to_string();
        assert!(faults.contains(&format!("{RECORD}: {expected}")), "{to}\nis: {faults}\nnot: {expected}");
        assert!(!folder.path().join("a.events/versions/Happened.2.avsc").exists(), "nothing is written");
    }
}

#[test]
fn a_key_stays_the_key() {
    let folder = TestFolder::sound();
    let second =
        r#""fields": [ { "name": "b_id", "type": { "type": "string", "logicalType": "uuid" }, "doc": "Another." },"#;
    folder.change(RECORD, "\"fields\": [", second);
    freeze(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    folder.change(RECORD, "\"quadrille.key\": \"a_id\"", "\"quadrille.key\": \"b_id\"");
    let faults = check(folder.path()).expect_err("another key").to_string();
    assert_eq!(faults, "a.events/Happened.avsc: field `b_id`: the key was `a_id` in version 1; keep the key");
}

#[test]
fn compatibility_is_with_all_versions_not_only_the_last() {
    let folder = frozen();
    let note = |ty: &str, default: &str| {
        format!(
            "\"fields\": [ {{ \"name\": \"note\", \"type\": \"{ty}\", \"default\": {default}, \"doc\": \"A note.\" }},"
        )
    };
    let without = folder.read(RECORD);
    folder.change(RECORD, "\"fields\": [", &note("string", "\"\""));
    freeze(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    folder.write(RECORD, &without);
    let frozen = freeze(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(frozen[0].number, 3);
    folder.change(RECORD, "\"fields\": [", &note("long", "0"));
    let faults = freeze(folder.path()).expect_err("a note was a text once").to_string();
    assert!(faults.contains("this version cannot read version 2: it is string in the writer's schema"), "{faults}");
    assert!(!faults.contains("version 3"), "{faults}");
}

#[test]
fn what_was_frozen_must_stay() {
    let folder = frozen();
    folder.write("a.events/versions/Happened.1.avsc", "{");
    let faults = check(folder.path()).expect_err("a broken version").to_string();
    assert!(faults.contains("a.events/versions/Happened.1.avsc: is not JSON"), "{faults}");
    assert!(faults.ends_with("restore it: a frozen version never changes"), "{faults}");

    let folder = frozen();
    folder.write("a.events/Other.avsc", &folder.read(RECORD).replace("Happened", "Other"));
    folder.remove(RECORD);
    let faults = check(folder.path()).expect_err("a record is gone").to_string();
    assert_eq!(
        faults,
        "a.events/versions/Happened.1.avsc: is the version of no record; restore the record's .avsc file"
    );
}
