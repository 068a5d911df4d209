//! The declared topics and record types: from a schemas folder, or as they were built into this program.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, anyhow};
use quadrille_core::{TopicType, TopicWriter};
use quadrille_events::RecordInfo;
use quadrille_schemas::{Folder, RecordFile};

/// Every topic that this program was built with: the shop's and the platform's, with each of the services that write one.
pub static TOPICS: LazyLock<Vec<TopicType>> = LazyLock::new(|| {
    let declared = || quadrille_events::TOPICS.iter().chain(quadrille_platform::TOPICS).copied();
    let services = writers(declared());
    declared().flat_map(|topic| topic.with_services(services.iter().copied())).collect()
});

/// Every record type of each of [`TOPICS`].
pub static RECORDS: LazyLock<Vec<RecordInfo>> = LazyLock::new(|| {
    let of_topic = |topic: &'static TopicType| {
        let records = quadrille_events::REGISTRY.iter().chain(quadrille_platform::REGISTRY);
        let is_its = |info: &&RecordInfo| topic.records.iter().any(|name| name == info.record.name);
        records.filter(is_its).map(move |info| info.on(topic))
    };
    TOPICS.iter().flat_map(of_topic).collect()
});

/// The declaration of the topic of this name.
pub fn topic(name: &str) -> Option<&'static TopicType> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The services that have a database: those that write a topic.
pub fn services() -> Vec<&'static str> {
    writers(TOPICS.iter())
}

fn writers<'a>(topics: impl Iterator<Item = &'a TopicType>) -> Vec<&'a str> {
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
    /// The schemas folder `given`, else the one that this folder stands in, else what was built in; and the platform's topics with it.
    ///
    /// A folder is checked against our rules and its frozen versions.
    pub fn load(given: Option<&Path>) -> anyhow::Result<Self> {
        let (folder, source) = match given.map(Path::to_owned).or_else(surrounding) {
            Some(root) => (checked(&root)?, root.display().to_string()),
            None => (Folder::built_in(quadrille_events::TOPICS, quadrille_events::REGISTRY), "as built in".into()),
        };
        let folder = folder.and(quadrille_platform::folder());
        let (mut topics, mut subjects) = (vec![], vec![]);
        for (topic, records) in folder.with_services(&writers(folder.topics.iter())) {
            let subject = |record: &RecordFile| Subject { topic: topic.name.to_string(), record: record.clone() };
            subjects.extend(records.into_iter().map(subject));
            topics.push(topic);
        }
        Ok(Self { topics, subjects, source })
    }
}

fn checked(root: &Path) -> anyhow::Result<Folder> {
    anyhow::ensure!(
        root.join("topics.toml").is_file(),
        "{} is no schemas folder: it has no topics.toml",
        root.display()
    );
    quadrille_schemas::check(root)
        .map_err(|problems| anyhow!("The schemas in {} are not sound:\n{problems}", root.display()))
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
