//! A small sound schemas folder, to break in one place at a time.

#![allow(dead_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A schemas folder of its own on disk, gone when dropped.
pub struct TestFolder(PathBuf);

pub const TOPICS: &str = "topics.toml";
pub const RECORD: &str = "a.events/Happened.avsc";
pub const SHARED: &str = "common/Line.avsc";

const SOUND: [(&str, &str); 3] = [
    (
        TOPICS,
        r#"[[topics]]
name = "a.events"
kind = "events"
writer = "a"
key = "uuid"
partitions = 6
retention = "30d"
secrets = true
why = "enough"

[rules]
decimals = ["decimal(12,2)"]
"#,
    ),
    (
        RECORD,
        r#"{
  "type": "record", "name": "Happened", "namespace": "x.a", "doc": "Something happened.", "quadrille.key": "a_id",
  "fields": [
    { "name": "a_id", "type": { "type": "string", "logicalType": "uuid" }, "doc": "The key." },
    { "name": "amount", "type": { "type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2 }, "doc": "So much." },
    { "name": "lines", "type": { "type": "array", "items": "x.a.Line" }, "default": [], "doc": "Its lines." },
    { "name": "reason", "type": "string", "default": "", "doc": "Why." },
    { "name": "hash", "type": ["null", "string"], "default": null, "doc": "A hash.", "quadrille.secret": true }
  ]
}
"#,
    ),
    (
        SHARED,
        r#"{
  "type": "record", "name": "Line", "namespace": "x.a", "doc": "A line.",
  "fields": [{ "name": "count", "type": "int", "doc": "How many." }, { "name": "at", "type": { "type": "long", "logicalType": "timestamp-micros" }, "default": 0, "doc": "When." }]
}
"#,
    ),
];

impl TestFolder {
    pub fn sound() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        for (file, text) in SOUND {
            folder.write(file, text);
        }
        folder
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).expect("a file of the test folder")
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a test folder");
        fs::write(path, text).expect("a file of the test folder");
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.0.join(file)).expect("a file of the test folder");
    }

    /// Replaces a part of a file, which must be there.
    pub fn change(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} has no {from}");
        self.write(file, &text.replacen(from, to, 1));
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
