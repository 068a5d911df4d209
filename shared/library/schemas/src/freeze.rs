//! Freezing: what may be registered stays in the tree.

use std::{fs, path::Path};

use crate::{Folder, Problem, Problems, RecordFile, compatibility};

/// A version that was frozen just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The record's full name.
    pub record: String,
    /// The version's number, from 1.
    pub number: u32,
    /// The file, relative to the schemas folder.
    pub file: String,
}

/// Checks the folder and every record against all of its frozen versions; changes nothing.
pub fn check(root: &Path) -> Result<Folder, Problems> {
    let folder = Folder::load(root)?;
    let mut problems: Vec<Problem> = folder.records.iter().flat_map(compatibility).collect();
    problems.extend(orphans(root, &folder)?);
    Problems(problems).none_or(folder)
}

/// Writes a new version of each record whose text differs from its newest frozen one, after [`check`].
///
/// A frozen version never changes and never goes: older records were written with it.
pub fn freeze(root: &Path) -> Result<Vec<Frozen>, Problems> {
    let folder = check(root)?;
    let mut frozen = Vec::new();
    for file in folder.records.iter().filter(|file| !is_frozen(file)) {
        let number = file.versions.last().map_or(1, |version| version.number + 1);
        let versions = root.join(&file.folder).join("versions");
        let path = versions.join(format!("{}.{number}.avsc", file.record().short_name()));
        fs::create_dir_all(&versions)
            .and_then(|()| fs::write(&path, format!("{}\n", file.text)))
            .map_err(|error| Problem::of_io(&path, &error))?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        frozen.push(Frozen { record: file.record().name.clone(), number, file: name });
    }
    Ok(frozen)
}

/// Whether the record's text is that of its newest frozen version.
pub fn is_frozen(file: &RecordFile) -> bool {
    file.versions.last().is_some_and(|version| version.text == file.text)
}

/// Frozen versions of records that are no longer there: topics may still hold them.
fn orphans(root: &Path, folder: &Folder) -> Result<Vec<Problem>, Problem> {
    let mut found = Vec::new();
    for topic_folder in folder.records.iter().map(|file| &file.folder).collect::<std::collections::BTreeSet<_>>() {
        let versions = root.join(topic_folder).join("versions");
        let Ok(entries) = fs::read_dir(&versions) else { continue };
        for entry in entries {
            let path = entry.map_err(|error| Problem::of_io(&versions, &error))?.path();
            let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if !folder.records.iter().any(|record| record.versions.iter().any(|version| version.file == file)) {
                found.push(Problem::of_file(file, "is the version of no record", "restore the record's .avsc file"));
            }
        }
    }
    Ok(found)
}
