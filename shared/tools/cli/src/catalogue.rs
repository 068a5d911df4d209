//! The declared topics and record types: from a schemas folder, or as they were built into this program.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use quadrille_schemas::{RecordFile, Topic};

/// What topics and subjects there should be.
pub struct Catalogue {
    /// Every topic.
    pub topics: Vec<Topic>,
    /// Every record type of every topic.
    pub subjects: Vec<Subject>,
    /// Where this was read, for people.
    pub source: String,
}

/// A record type on a topic.
pub struct Subject {
    /// The topic, without prefix: isolated worlds share their subjects.
    pub topic: String,
    /// Text, schema and frozen versions.
    pub record: RecordFile,
}

impl Subject {
    /// The subject's name, by TopicRecordNameStrategy.
    pub fn name(&self) -> String {
        format!("{}-{}", self.topic, self.record.record().name)
    }
}

impl Catalogue {
    /// The schemas folder `given`, else the one that this folder stands in, else what was built in.
    ///
    /// A folder is checked against our rules and its frozen versions.
    pub fn load(given: Option<&Path>) -> anyhow::Result<Self> {
        match given.map(Path::to_owned).or_else(surrounding) {
            Some(root) => Self::of_folder(&root),
            None => Self::built_in(),
        }
    }

    fn of_folder(root: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            root.join("topics.toml").is_file(),
            "{} is no schemas folder: it has no topics.toml",
            root.display()
        );
        let folder = quadrille_schemas::check(root)
            .map_err(|problems| anyhow!("The schemas in {} are not sound:\n{problems}", root.display()))?;
        let of_topic = |topic: &Topic| {
            let records = folder.records.iter().filter(|record| record.folder == topic.records);
            let subject = |record: &RecordFile| Subject { topic: topic.name.to_string(), record: record.clone() };
            records.map(subject).collect::<Vec<_>>()
        };
        let subjects = folder.topics.iter().flat_map(of_topic).collect();
        Ok(Self { subjects, source: root.display().to_string(), topics: folder.topics })
    }

    fn built_in() -> anyhow::Result<Self> {
        let subject = |info: &quadrille_events::RecordInfo| {
            let schema = quadrille_schemas::Schema::parse(info.record.schema)
                .map_err(|what| anyhow!("The schema of {} that was built in {what}", info.record.name))?;
            let record = RecordFile {
                folder: info.record.topic.to_owned(),
                file: format!("{} (built in)", info.record.name),
                text: info.record.schema.to_owned(),
                schema,
                versions: vec![],
            };
            anyhow::Ok(Subject { topic: info.record.topic.to_owned(), record })
        };
        Ok(Self {
            topics: quadrille_events::TOPICS.to_vec(),
            subjects: quadrille_events::REGISTRY.iter().map(subject).collect::<anyhow::Result<_>>()?,
            source: "as built in".into(),
        })
    }
}

/// The folder `given`, or the one that this folder stands in: for what only makes sense on files.
pub fn folder(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    given
        .map(Path::to_owned)
        .or_else(surrounding)
        .context("No schemas folder is around: go to a checkout, or name the folder by --schemas")
}

/// `schemas/` in this folder or the nearest one above that has it.
fn surrounding() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|above| above.join("schemas")).find(|folder| folder.join("topics.toml").is_file())
}
