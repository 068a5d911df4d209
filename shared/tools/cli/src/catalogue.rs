//! The declared topics and record types: from a schemas folder, or as they were built into this program.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, anyhow};
use quadrille_core::{TopicType, TopicWriter};
use quadrille_events::RecordInfo;
use quadrille_schemas::RecordFile;

/// Every topic that this program was built with: the shop's, and with each of its services the platform's.
pub static TOPICS: LazyLock<Vec<TopicType>> =
    LazyLock::new(|| with_services(&quadrille_events::TOPICS.iter().copied().cloned().collect::<Vec<_>>()));

/// Every record type of each of [`TOPICS`].
pub static RECORDS: LazyLock<Vec<RecordInfo>> = LazyLock::new(|| {
    let of_topic = |topic: &'static TopicType| {
        let records = quadrille_events::REGISTRY.iter().filter(|info| is_of(info.record.name, topic));
        records.map(move |info| info.on(topic))
    };
    TOPICS.iter().flat_map(of_topic).collect()
});

/// The declaration of the topic of this name.
pub fn topic(name: &str) -> Option<&'static TopicType> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The services that have a database: those that write a topic.
pub fn services() -> Vec<&'static str> {
    writers(&TOPICS)
}

fn writers(topics: &[TopicType]) -> Vec<&str> {
    let mut services: Vec<&str> = Vec::new();
    for topic in topics {
        if let TopicWriter::Service(service) = &topic.writer
            && !services.contains(&&**service)
        {
            services.push(service);
        }
    }
    services
}

/// What topics there are with the services that write them.
fn with_services(declared: &[TopicType]) -> Vec<TopicType> {
    let services = writers(declared);
    declared.iter().flat_map(|topic| topic.with_services(services.iter().copied())).collect()
}

fn is_of(record: &str, topic: &TopicType) -> bool {
    topic.records.iter().any(|name| name == record)
}

/// What topics and subjects there should be.
pub struct Catalogue {
    /// Every topic.
    pub topics: Vec<TopicType>,
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
        let topics = with_services(&folder.topics);
        let of_topic = |topic: &TopicType| {
            let records = folder.records.iter().filter(|file| is_of(&file.record().name, topic));
            let subject = |record: &RecordFile| Subject { topic: topic.name.to_string(), record: record.clone() };
            records.map(subject).collect::<Vec<_>>()
        };
        let subjects = topics.iter().flat_map(of_topic).collect();
        Ok(Self { topics, subjects, source: root.display().to_string() })
    }

    fn built_in() -> anyhow::Result<Self> {
        let subject = |info: &RecordInfo| {
            let schema = quadrille_schemas::Schema::parse(info.record.schema)
                .map_err(|what| anyhow!("The schema of {} that was built in {what}", info.record.name))?;
            let record = RecordFile {
                folder: info.record.topic.name.to_string(),
                file: format!("{} (built in)", info.record.name),
                text: info.record.schema.to_owned(),
                schema,
                versions: vec![],
            };
            anyhow::Ok(Subject { topic: info.record.topic.name.to_string(), record })
        };
        Ok(Self {
            topics: TOPICS.clone(),
            subjects: RECORDS.iter().map(subject).collect::<anyhow::Result<_>>()?,
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
