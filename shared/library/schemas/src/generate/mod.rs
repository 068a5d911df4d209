//! The Rust types, written from a schemas folder.

mod record;
mod registry;
mod rust;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use quadrille_topics::TopicKind;

use crate::{Folder, NamedType, Problem, Problems, Record, RecordFile, Schema, Type};

/// Writes the Rust types of a schemas folder, for a `build.rs`. The folder's path is relative to the package:
///
/// ```no_run
/// quadrille_schemas::build("../../schemas");
/// ```
///
/// and `include!(concat!(env!("OUT_DIR"), "/records.rs"));` in the library. What is wrong with the folder ends the build. The crate depends on `quadrille-core` and on
/// `quadrille-schemas` with the feature `wire`. What it then has:
///
/// - a module per namespace (`order` for `quadrille.order`) with a struct per record, and all of them at the top as well;
/// - `topics`: per topic its declaration (`topics::ORDER_EVENTS`) and an enum over its records (`topics::OrderEvents`), by
///   `quadrille_core::records!`;
/// - `keys`: the forms of record keys that `topics.toml` declares;
/// - `TOPICS`: the declarations of all topics; `RECORD_TYPES`: every record type with its docs, example and JSON coding.
///
/// Cargo is told to run the build script again when the folder changes.
pub fn build(root: &str) {
    println!("cargo::rerun-if-changed={root}");
    let Some(out) = std::env::var_os("OUT_DIR") else {
        return println!("cargo::error=OUT_DIR is not set: this is for a build script");
    };
    if let Err(Problems(problems)) = generate(Path::new(root), &Path::new(&out).join("records.rs")) {
        for problem in problems {
            println!("cargo::error={problem}");
        }
    }
}

/// Writes the Rust types of the folder `root` to the file `out`: see [`build`].
pub fn generate(root: &Path, out: &Path) -> Result<(), Problems> {
    let folder = Folder::load(root)?;
    let code = code(&folder)?;
    if fs::read_to_string(out).is_ok_and(|written| written == code) {
        return Ok(());
    }
    fs::write(out, code).map_err(|error| Problem::of_io(&PathBuf::from(out), &error).into())
}

/// A struct to write: a topic's record, or a type that records share.
struct Struct<'a> {
    schema: &'a Schema,
    record: &'a Record,
    /// The file, where it is a topic's record.
    file: Option<&'a RecordFile>,
    /// Whether its content is digested: it is, or belongs to, a client's request.
    content: bool,
}

fn code(folder: &Folder) -> Result<String, Problems> {
    for file in &folder.records {
        let name = file.record().short_name();
        if let Some(topic) = folder.topics.iter().find(|topic| registry::pascal(&topic.name) == name) {
            let what = format!("is named like the enum of the topic {}", topic.name);
            return Err(Problem::of_file(&file.file, what, "name the record after what happened").into());
        }
    }
    let structs = structs(folder);
    let mut modules: BTreeMap<&str, Vec<&Struct>> = BTreeMap::new();
    for item in structs.values() {
        let module = rust::module(&item.record.name);
        let siblings = modules.entry(module).or_default();
        if let Some(other) = siblings.first().filter(|other| other.record.namespace() != item.record.namespace()) {
            let what =
                format!("has namespaces that both end in {module}: {} and {}", other.record.name, item.record.name);
            return Err(Problem::of_file("schemas", what, "let the last part of each namespace differ").into());
        }
        siblings.push(item);
    }
    let mut code = String::from(
        "// Written from the schemas folder by quadrille_schemas::generate: change the schemas instead.\n",
    );
    for (module, structs) in &modules {
        let namespace = structs.first().map_or("", |item| item.record.namespace());
        code += &format!("\n/// The records of `{namespace}`.\npub mod {module} {{\n");
        for item in structs {
            code += &record::code(folder, item);
        }
        code += "}\n";
    }
    for module in modules.keys() {
        code += &format!("pub use self::{module}::*;\n");
    }
    code += &registry::code(folder);
    Ok(code)
}

/// Every record of the folder by full name, shared ones once.
fn structs(folder: &Folder) -> BTreeMap<&str, Struct<'_>> {
    let requests: BTreeSet<&str> = folder
        .records
        .iter()
        .filter(|file| folder.topic_of(file).is_some_and(|topic| topic.kind == TopicKind::Requests))
        .flat_map(|file| file.schema.named.keys().map(String::as_str))
        .collect();
    let mut structs = BTreeMap::new();
    for file in &folder.records {
        for (name, named) in &file.schema.named {
            let NamedType::Record(record) = named else { continue };
            let own = file.record().name == *name;
            let item = Struct {
                schema: &file.schema,
                record,
                file: own.then_some(file),
                content: requests.contains(name.as_str()),
            };
            if own || !structs.contains_key(name.as_str()) {
                structs.insert(name.as_str(), item);
            }
        }
    }
    structs
}

/// The record that a type is made of, nullable or not.
fn record_of<'s>(schema: &'s Schema, ty: &'s Type) -> Option<&'s Record> {
    match ty {
        Type::Named(name) => schema.record_named(name),
        _ => None,
    }
}
