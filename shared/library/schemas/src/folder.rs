//! A `schemas/` folder, read whole.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use quadrille_topics::TopicType;

use crate::{
    Common, Problem, Problems, Record, Schema, inlined, rules,
    topics::{Declared, parse_topics},
};

/// A schemas folder: topics, the record types on them, and the frozen versions of each.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The topics in the order of their declaration.
    pub topics: Vec<TopicType>,
    /// The record types, sorted by folder and name.
    pub records: Vec<RecordFile>,
}

/// One record type: `<folder>/<Record>.avsc`.
#[derive(Clone, Debug)]
pub struct RecordFile {
    /// The folder, which is the topic's name.
    pub folder: String,
    /// The file, relative to the schemas folder.
    pub file: String,
    /// The text with shared types inlined: what is registered.
    pub text: String,
    /// The parsed text.
    pub schema: Schema,
    /// The frozen versions, oldest first.
    pub versions: Vec<Version>,
}

/// A frozen version: `<folder>/versions/<Record>.<n>.avsc`.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// From 1.
    pub number: u32,
    /// The file, relative to the schemas folder.
    pub file: String,
    /// The text as it was registered.
    pub text: String,
}

impl Folder {
    /// Reads the folder and checks it against our rules; every fault is named.
    pub fn load(root: &Path) -> Result<Self, Problems> {
        let Declared { mut topics, decimals } = parse_topics(&read(&root.join("topics.toml"))?)?;
        let mut problems = Vec::new();
        let common = read_common(root, &mut problems)?;
        let mut records = Vec::new();
        for folder in sub_folders(root)?.iter().filter(|folder| *folder != "common") {
            if !topics.iter().any(|topic| topic.name == *folder) {
                problems.push(Problem::of_file(
                    folder.clone(),
                    "is the folder of no topic",
                    "declare the topic in topics.toml, or remove the folder",
                ));
            }
            for name in files(&root.join(folder), ".avsc")? {
                match RecordFile::read(root, folder, &name, &common) {
                    Ok(record) => records.push(record),
                    Err(Problems(found)) => problems.extend(found),
                }
            }
        }
        for topic in &mut topics {
            let of_topic = records.iter().filter(|file| topic.name == file.folder);
            topic.records = of_topic.map(|file| file.record().name.clone().into()).collect();
        }
        let readable = problems.is_empty();
        let folder = Self { topics, records };
        problems.extend(rules::of_records(&folder, &common, decimals.as_deref()));
        if readable {
            problems.extend(rules::of_folder(&folder, &common));
        }
        Problems(problems).none_or(folder)
    }

    /// The topics and records that a program was built with, as if they were read from their folder. Of the frozen versions there is the newest.
    #[cfg(feature = "wire")]
    pub fn built_in(topics: &[&TopicType], records: &[crate::wire::RecordInfo]) -> Self {
        let record = |info: &crate::wire::RecordInfo| {
            let (folder, name, text) = (info.record.topic.name.to_string(), info.short_name(), info.record.schema);
            let frozen = (info.version > 0).then(|| Version {
                number: info.version,
                file: format!("{folder}/versions/{name}.{}.avsc", info.version),
                text: text.to_owned(),
            });
            RecordFile {
                file: format!("{folder}/{name}.avsc"),
                folder,
                text: text.to_owned(),
                schema: Schema::parse(text).expect("a generated record's schema is sound"),
                versions: frozen.into_iter().collect(),
            }
        };
        Self { topics: topics.iter().copied().cloned().collect(), records: records.iter().map(record).collect() }
    }

    /// What this folder and another one have. A topic that both declare is as this one says.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let known: Vec<_> = self.topics.iter().map(|topic| topic.name.clone()).collect();
        self.topics.extend(other.topics.into_iter().filter(|topic| !known.contains(&topic.name)));
        self.records.extend(other.records.into_iter().filter(|file| !known.iter().any(|name| *name == file.folder)));
        self
    }

    /// The topics that there are with these services, each with its record types: dead letters are there once for each.
    pub fn with_services<'a>(&'a self, services: &'a [&str]) -> impl Iterator<Item = (TopicType, Vec<&'a RecordFile>)> {
        self.topics.iter().flat_map(move |topic| {
            let records: Vec<&RecordFile> = self.records.iter().filter(|file| topic.name == file.folder).collect();
            topic.with_services(services.iter().copied()).into_iter().map(move |topic| (topic, records.clone()))
        })
    }

    /// The record type's topic. There is none only where the folder is at fault.
    pub fn topic_of(&self, record: &RecordFile) -> Option<&TopicType> {
        self.topics.iter().find(|topic| topic.name == record.folder)
    }
}

impl RecordFile {
    /// The record itself. [`Folder::load`] has checked that the schema is one.
    pub fn record(&self) -> &Record {
        self.schema.record().expect("a loaded record file holds a record")
    }

    fn read(root: &Path, folder: &str, name: &str, common: &Common) -> Result<Self, Problems> {
        let file = format!("{folder}/{name}.avsc");
        let text = read(&root.join(&file))?;
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
            return Err(Problem::of_file(&file, format!("is not JSON: {error}"), "fix that line").into());
        }
        let text = inlined(text.trim(), common)
            .map_err(|what| Problem::of_file(&file, what, "let shared types form no circle"))?;
        let schema = Schema::parse(&text).map_err(|what| {
            Problem::of_file(&file, what, "write it as the Avro specification's \"Schema Declaration\" says")
        })?;
        if schema.record().is_none() {
            return Err(Problem::of_file(&file, "is no record", "define one record, named like the file").into());
        }
        let versions = read_versions(root, folder, name)?;
        Ok(Self { folder: folder.to_owned(), file, text, schema, versions })
    }
}

/// The shared types' texts; a file that defines none is a problem.
fn read_common(root: &Path, problems: &mut Vec<Problem>) -> Result<Common, Problems> {
    let mut common = BTreeMap::new();
    for name in files(&root.join("common"), ".avsc")? {
        let file = format!("common/{name}.avsc");
        let text = read(&root.join(&file))?;
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let declared = |key| json.as_ref().and_then(|json| json.get(key)).and_then(serde_json::Value::as_str);
        match (declared("namespace"), declared("name")) {
            (Some(namespace), Some(declared)) if declared == name => {
                common.insert(format!("{namespace}.{declared}"), text.trim().to_owned());
            }
            _ => problems.push(Problem::of_file(
                file,
                "defines no type of the file's name",
                "write JSON with `name` like the file's and a `namespace`",
            )),
        }
    }
    Ok(common)
}

fn read_versions(root: &Path, folder: &str, name: &str) -> Result<Vec<Version>, Problems> {
    let mut versions = Vec::new();
    for stem in files(&root.join(folder).join("versions"), ".avsc")? {
        let Some((_, number)) = stem.rsplit_once('.').filter(|(record, _)| *record == name) else {
            continue;
        };
        let file = format!("{folder}/versions/{stem}.avsc");
        let number = number.parse().map_err(|_| {
            Problem::of_file(&file, "has no number", "name frozen versions <Record>.<n>.avsc; `freeze` writes them")
        })?;
        let text = read(&root.join(&file))?.trim().to_owned();
        versions.push(Version { number, file, text });
    }
    versions.sort_by_key(|version| version.number);
    Ok(versions)
}

fn read(path: &Path) -> Result<String, Problem> {
    let text = fs::read_to_string(path).map_err(|error| Problem::of_io(path, &error))?;
    // It would be registered and hashed with the text.
    match text.starts_with('\u{feff}') {
        true => {
            let what = "begins with a byte order mark";
            Err(Problem::of_file(path.display().to_string(), what, "save it as UTF-8 without one"))
        }
        false => Ok(text),
    }
}

/// The names, without `suffix`, of the files in a folder that end in it; none where there is no such folder.
fn files(folder: &Path, suffix: &str) -> Result<Vec<String>, Problem> {
    let names = entries(folder, |path| path.is_file())?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(suffix)).map(str::to_owned).collect())
}

fn sub_folders(root: &Path) -> Result<Vec<String>, Problem> {
    entries(root, |path| path.is_dir())
}

fn entries(folder: &Path, wanted: fn(&PathBuf) -> bool) -> Result<Vec<String>, Problem> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| Problem::of_io(folder, &error))?,
    };
    let mut names = Vec::new();
    for entry in read {
        let path = entry.map_err(|error| Problem::of_io(folder, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        names.extend(name.filter(|_| wanted(&path)));
    }
    names.sort();
    Ok(names)
}
