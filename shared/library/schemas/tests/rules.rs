//! One broken example for each rule: the error names file, field and fix.

mod folder;

use folder::{RECORD, SHARED, TOPICS, TestFolder};
use quadrille_schemas::Folder;

/// The faults after one change to the sound folder.
fn faults(file: &str, from: &str, to: &str) -> String {
    let folder = TestFolder::sound();
    folder.change(file, from, to);
    Folder::load(folder.path()).expect_err(to).to_string()
}

#[test]
fn the_sound_folder_is_sound() {
    let folder = TestFolder::sound();
    let loaded = Folder::load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.topics.len(), 1);
    assert_eq!(loaded.records.len(), 1);
    assert!(loaded.records[0].text.contains("\"items\": {\n      \"type\": \"record\", \"name\": \"Line\""));
    assert_eq!(loaded.records[0].record().name, "x.a.Happened");
}

#[test]
fn each_breach_names_file_field_and_fix() {
    let cases = [
        (
            "\"name\": \"Happened\"",
            "\"name\": \"Other\"",
            "a.events/Happened.avsc: defines x.a.Other; name file and record alike",
        ),
        (
            ", \"namespace\": \"x.a\"",
            "",
            "a.events/Happened.avsc: has no namespace; add `\"namespace\": \"<system>.<aggregate>\"`",
        ),
        (
            ", \"quadrille.key\": \"a_id\"",
            "",
            "a.events/Happened.avsc: names no key; add `\"quadrille.key\": \"<field>\"`: the field that is the record key",
        ),
        (
            "\"quadrille.key\": \"a_id\"",
            "\"quadrille.key\": \"id\"",
            "a.events/Happened.avsc: names the key `id`, which is no field; name the field that is the key",
        ),
        (
            "\"quadrille.key\": \"a_id\"",
            "\"quadrille.key\": \"reason\"",
            "a.events/Happened.avsc: field `reason`: is string, but the keys of a.events are uuid; make it uuid",
        ),
        (
            "\"doc\": \"Something happened.\"",
            "\"doc\": \"\"",
            "a.events/Happened.avsc: x.a.Happened has no doc; say what it means",
        ),
        (
            ", \"doc\": \"Why.\"",
            "",
            "a.events/Happened.avsc: field `reason`: has no doc; say what it means, its unit and bounds",
        ),
        (
            "\"reason\"",
            "\"Reason\"",
            "a.events/Happened.avsc: field `Reason`: is not in snake case; use a-z, 0-9 and _, a letter first",
        ),
        (
            "\"doc\": \"Why.\"",
            "\"doc\": \"Why.\", \"aliases\": [\"cause\"]",
            "a.events/Happened.avsc: field `reason`: has aliases; keep the name: a renamed field is a new field",
        ),
        (
            "\"scale\": 2",
            "\"scale\": 4",
            "a.events/Happened.avsc: field `amount`: is decimal(12,4), which [rules] of topics.toml does not allow; use decimal(12,2)",
        ),
        (
            "\"string\", \"default\": \"\"",
            "\"double\", \"default\": 0",
            "field `reason`: is a floating point number; use a decimal, an int or a long",
        ),
        (
            "\"string\", \"default\": \"\"",
            "{ \"type\": \"map\", \"values\": \"string\" }, \"default\": { }",
            "field `reason`: is of the type map of string; use boolean, int, long,",
        ),
        (
            "\"string\", \"default\": \"\"",
            "[\"null\", \"string\", \"int\"], \"default\": null",
            "field `reason`: is a union of null, string, int; use a nullable type, or several fields",
        ),
        (
            "[\"null\", \"string\"], \"default\": null",
            "[\"string\", \"null\"], \"default\": \"\"",
            "field `hash`: is nullable with null last; put \"null\" first, so that the default can be null",
        ),
        (
            "[\"null\", \"string\"]",
            "[\"null\", { \"type\": \"array\", \"items\": \"string\" }]",
            "field `hash`: is a nullable array; an array's default is []",
        ),
        (
            "\"items\": \"x.a.Line\"",
            "\"items\": { \"type\": \"array\", \"items\": \"x.a.Line\" }",
            "field `lines`: is an array of array of x.a.Line; use an array of records, texts or numbers",
        ),
        (
            "\"string\", \"default\": \"\"",
            "{ \"type\": \"enum\", \"name\": \"Reason\", \"symbols\": [\"A\"] }, \"default\": \"A\"",
            "a.events/Happened.avsc: defines an enum or a fixed type; use a string whose doc lists its values",
        ),
        (
            "\"string\", \"default\": \"\"",
            "{ \"type\": \"record\", \"name\": \"R\", \"doc\": \"R.\", \"fields\": [] }",
            "a.events/Happened.avsc: defines x.a.R inside another record; give it a file in common/",
        ),
        (
            "\"string\", \"default\": \"\"",
            "\"string\"",
            "field `reason`: has no default; give it one (only ids, numbers and records do without)",
        ),
        (
            "\"default\": \"\"",
            "\"default\": 1",
            "field `reason`: has the default 1, which is no string; give it one of its type;",
        ),
        (
            "\"default\": null",
            "\"default\": \"x\"",
            "field `hash`: has the default \"x\", which is no nullable string; give it one of its type;",
        ),
        (
            "\"doc\": \"So much.\"",
            "\"doc\": \"So much.\", \"default\": \"\\u0080\"",
            "field `amount`: has the default \"\u{80}\", which is no decimal(12,2); give it one of its type;",
        ),
        (
            "\"doc\": \"So much.\"",
            "\"doc\": \"So much.\", \"quadrille.secret\": true",
            "field `amount`: is secret, but no text; mark texts only, nullable or not",
        ),
        ("\"doc\": \"Why.\"", "\"doc\": \"{}\"", "a.events/Happened.avsc: contains the text {}; write { } instead"),
        ("x.a.Line", "x.a.Lines", "a.events/Happened.avsc: field `lines` of x.a.Happened: `x.a.Lines` is no type:"),
        ("\"type\": \"record\"", "\"type\": \"record", "a.events/Happened.avsc: is not JSON"),
        (
            "\"fields\"",
            "\"field\"",
            "a.events/Happened.avsc: x.a.Happened has no `fields`; write it as the Avro specification's",
        ),
    ];
    for (from, to, expected) in cases {
        let faults = faults(RECORD, from, to);
        assert!(faults.contains(expected), "{to}\nis: {faults}\nnot: {expected}");
    }
}

#[test]
fn what_spans_files_is_checked_too() {
    let shared = faults(SHARED, "\"name\": \"count\"", "\"name\": \"Count\"");
    assert_eq!(
        shared,
        "a.events/Happened.avsc: field `Line.Count`: is not in snake case; use a-z, 0-9 and _, a letter first"
    );
    let unnamed = faults(SHARED, "\"name\": \"Line\"", "\"name\": \"Row\"");
    assert!(
        unnamed.contains("common/Line.avsc: defines no type of the file's name; write JSON with `name`"),
        "{unnamed}"
    );
    let circle = faults(SHARED, "\"type\": \"int\"", "\"type\": \"x.a.Line\"");
    assert_eq!(circle, "a.events/Happened.avsc: x.a.Line contains itself; let shared types form no circle");
    let unused = faults(RECORD, "x.a.Line", "string");
    assert_eq!(unused, "common: x.a.Line is used by no record; use it or remove it");

    let secret = faults(TOPICS, "secrets = true\n", "");
    assert_eq!(
        secret,
        "a.events/Happened.avsc: field `hash`: is secret, and a.events may have no secrets; keep it off this topic, or set `secrets = true` of a.events in topics.toml"
    );

    let folder = TestFolder::sound();
    folder.change(TOPICS, "name = \"a.events\"", "name = \"b.events\"");
    let faults = Folder::load(folder.path()).expect_err("no such topic").to_string();
    assert_eq!(faults, "a.events: is the folder of no topic; declare the topic in topics.toml, or remove the folder");

    let folder = TestFolder::sound();
    let topics = folder.read(TOPICS);
    let (topic, _) = topics.split_once("[rules]").expect("rules behind the topic");
    folder.write(TOPICS, &(topic.replace("a.events", "b.events") + &topics));
    let faults = Folder::load(folder.path()).expect_err("a bare topic").to_string();
    assert_eq!(faults, "topics.toml: b.events has no records; add b.events/<Record>.avsc");

    let folder = TestFolder::sound();
    let copy = folder.read(RECORD).replace("\"namespace\": \"x.a\"", "\"namespace\": \"y.b\"");
    folder.write("b.events/Happened.avsc", &copy);
    let topics = folder.read(TOPICS);
    let (topic, _) = topics.split_once("[rules]").expect("rules behind the topic");
    folder.write(TOPICS, &(topic.replace("a.events", "b.events") + &topics));
    let faults = Folder::load(folder.path()).expect_err("two of one name").to_string();
    assert_eq!(
        faults,
        "b.events/Happened.avsc: y.b.Happened has the short name of x.a.Happened; rename one of the two"
    );

    let missing = Folder::load("/nowhere".as_ref()).expect_err("no folder").to_string();
    assert!(missing.starts_with("/nowhere/topics.toml: No such file"), "{missing}");
}

#[test]
fn generated_names_must_differ() {
    let folder = TestFolder::sound();
    let out = folder.path().join("records.rs");
    quadrille_schemas::generate(folder.path(), &out).unwrap_or_else(|problems| panic!("{problems}"));
    let code = folder.read("records.rs");
    assert!(code.contains("pub struct Happened") && code.contains("pub enum AEvents { Happened }"), "{code}");

    folder.write("a.events/AEvents.avsc", &folder.read(RECORD).replace("Happened", "AEvents"));
    let faults = quadrille_schemas::generate(folder.path(), &out).expect_err("named like the enum").to_string();
    assert_eq!(
        faults,
        "a.events/AEvents.avsc: is named like the enum of the topic a.events; name the record after what happened"
    );
}
