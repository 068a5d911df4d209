//! Golden files: one framed record per type and version, which every later build must still read.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::{RecordInfo, WriterSchema, frame, unframe};
use crate::{Folder, Problem, Problems, Record, RecordFile, Schema, Type, Version};

/// Writes the golden files that are missing: `<folder>/golden/<Record>.<n>.bin`, framed with the version as its schema id,
/// and beside it `.json` with what it says. Files that are there never change. Returns what was written.
pub fn write_golden(root: &Path, registry: &[RecordInfo]) -> Result<Vec<String>, Problems> {
    let mut written = Vec::new();
    for (file, info) in known(&Folder::load(root)?, registry) {
        let Some(version) = file.versions.last() else { continue };
        let [bin, json] = paths(&file, version);
        if root.join(&bin).exists() {
            continue;
        }
        if version.text != info.record.schema {
            let what = "is not the version that this program was built with";
            return Err(Problem::of_file(&version.file, what, "build again, then write the golden file").into());
        }
        let sample = sample(&file.schema, file.record()).to_string();
        let encoded = info.from_json(&sample).map_err(|error| {
            Problem::of_file(&file.file, format!("has no sample: {error}"), "fix `sample` for its types")
        })?;
        let said = info.to_json(&encoded.datum).unwrap_or_default();
        let folder = root.join(&file.folder).join("golden");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(root.join(&bin), frame(version.number, &encoded.datum)))
            .and_then(|()| fs::write(root.join(&json), format!("{said}\n")))
            .map_err(|error| Problem::of_io(&folder, &error))?;
        written.push(bin);
    }
    Ok(written)
}

/// Reads every golden file of every frozen version with this build; returns how many there are.
pub fn check_golden(root: &Path, registry: &[RecordInfo]) -> Result<usize, Problems> {
    let (mut count, mut problems) = (0, Vec::new());
    for (file, info) in known(&Folder::load(root)?, registry) {
        for version in &file.versions {
            count += 1;
            let [bin, _] = paths(&file, version);
            if !root.join(&bin).exists() {
                let fix = "write it with the build that froze the version: `write_golden` does";
                problems.push(Problem::of_file(&version.file, "has no golden record", fix));
            } else if let Err(what) = check_one(root, &file, version, &info) {
                let fix = "make the schema or the coding read it again: topics hold such records";
                problems.push(Problem::of_file(bin, what, fix));
            }
        }
    }
    Problems(problems).none_or(count)
}

fn check_one(root: &Path, file: &RecordFile, version: &Version, info: &RecordInfo) -> Result<(), String> {
    let [bin, json] = paths(file, version);
    let value = fs::read(root.join(bin)).map_err(|error| error.to_string())?;
    let expected = fs::read_to_string(root.join(json)).map_err(|error| error.to_string())?;
    let (id, datum) = unframe(&value).map_err(|error| error.to_string())?;
    if id != version.number {
        return Err(format!("has the schema id {id}"));
    }
    let read = || {
        let plan = WriterSchema::new(&version.text)?.prepare(&info.record)?;
        info.to_json(&plan.apply(datum)?)
    };
    let read = read().map_err(|error| format!("is not read: {error}"))?;
    let [read, expected] = [&read, &expected].map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
    if has(&read, &expected) { Ok(()) } else { Err(format!("says {read}, expected is {expected}")) }
}

/// Whether `read` says what was expected. It may have more fields, and lack none but those that the schema dropped.
fn has(read: &Value, expected: &Value) -> bool {
    match (read, expected) {
        (Value::Object(read), Value::Object(expected)) => {
            expected.iter().all(|(key, expected)| read.get(key).is_none_or(|read| has(read, expected)))
        }
        (Value::Array(read), Value::Array(expected)) => {
            read.len() == expected.len() && read.iter().zip(expected).all(|(read, expected)| has(read, expected))
        }
        (read, expected) => read == expected,
    }
}

fn known(folder: &Folder, registry: &[RecordInfo]) -> Vec<(RecordFile, RecordInfo)> {
    let info = |file: &RecordFile| registry.iter().find(|info| info.record.name == file.record().name).copied();
    folder.records.iter().filter_map(|file| Some((file.clone(), info(file)?))).collect()
}

fn paths(file: &RecordFile, version: &Version) -> [String; 2] {
    let stem = format!("{}/golden/{}.{}", file.folder, file.record().short_name(), version.number);
    [format!("{stem}.bin"), format!("{stem}.json")]
}

/// A record with something in every field, byte 10 and letters beyond ASCII among it.
fn sample(schema: &Schema, record: &Record) -> Value {
    let members = record.fields.iter().map(|field| {
        let value = field.example.clone().unwrap_or_else(|| sample_of(schema, &field.ty));
        (field.name.clone(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

fn sample_of(schema: &Schema, ty: &Type) -> Value {
    match ty {
        Type::Boolean => json!(true),
        Type::Int => json!(5),
        Type::Long => json!(1_i64 << 40),
        Type::Bytes => json!("AAoK/w=="),
        Type::Uuid => json!("0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a"),
        Type::Time => json!("2026-01-31T12:00:00.000001Z"),
        Type::Decimal { precision, scale } => {
            let amount = if *precision >= scale + 2 { -19.99 } else { 0.0 };
            json!(format!("{amount:.*}", *scale as usize))
        }
        Type::Array(items) => json!([sample_of(schema, items), sample_of(schema, items)]),
        Type::Named(name) => schema.record_named(name).map_or(Value::Null, |record| sample(schema, record)),
        ty => ty.nullable().map_or_else(|| json!("Grüße, 茶"), |inner| sample_of(schema, inner)),
    }
}
