//! Our own FULL_TRANSITIVE: each version reads every other one's records. Registries differ in what they let pass.

use crate::{Problem, RecordFile, Schema, mismatches};

/// Everything for which the record as it is now does not fit one of its frozen versions.
pub fn compatibility(file: &RecordFile) -> Vec<Problem> {
    let mut found = Vec::new();
    for version in &file.versions {
        match Schema::parse(&version.text) {
            Ok(old) => found.extend(between(file, &old, version.number)),
            Err(what) => {
                found.push(Problem::of_file(&version.file, what, "restore it: a frozen version never changes"));
            }
        }
    }
    found.dedup();
    found
}

fn between(file: &RecordFile, old: &Schema, number: u32) -> Vec<Problem> {
    let new = &file.schema;
    let problem = |field: &str, what: String, fix: &str| Problem::of_field(&file.file, field, what, fix);
    let mut found = Vec::new();
    for mismatch in mismatches(old, new) {
        let what = format!("this version cannot read version {number}: it {}", mismatch.what);
        found.push(problem(&mismatch.field, what, mismatch.fix));
    }
    for mismatch in mismatches(new, old) {
        let what = format!("version {number} cannot read this version: it {}", mismatch.what);
        found.push(problem(&mismatch.field, what, mismatch.fix));
    }
    let keys = [old, new].map(|schema| schema.record().and_then(|record| record.key.clone()).unwrap_or_default());
    if keys[0] != keys[1] {
        let what = format!("the key was `{}` in version {number}", keys[0]);
        found.push(problem(&keys[1], what, "keep the key"));
    }
    for (name, record) in &new.named {
        let (crate::NamedType::Record(record), Some(before)) = (record, old.record_named(name)) else {
            continue;
        };
        for field in &record.fields {
            let Some(before) = before.fields.iter().find(|before| before.name == field.name) else {
                continue;
            };
            let path = if *name == file.record().name {
                field.name.clone()
            } else {
                format!("{}.{}", record.short_name(), field.name)
            };
            if before.default.is_some() && before.default != field.default {
                let what = format!("had another default in version {number}");
                found.push(problem(&path, what, "keep the default: digests and older records rest on it"));
            }
            if before.secret && !field.secret {
                let what = format!("was secret in version {number}");
                found.push(problem(&path, what, "keep `\"quadrille.secret\": true`: the topic still holds secrets"));
            }
        }
    }
    found
}
