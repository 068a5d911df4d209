//! What a command line is for: topics, record types and services, as its program names them or as a schemas folder has them.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use quadrille_core::{Declaration, KeyKind, Policy, TopicKind, TopicType, TopicWriter, is_projection};
use quadrille_schemas::{Folder, RecordFile, wire::RecordInfo};

use crate::Setting;

/// Every topic, record type and service that a command line knows: its workspace's own, and the platform's beside them.
///
/// A program has one, made by [`Catalogue::new`], and it lives as long as the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Catalogue {
    /// Every topic; of dead letters one per service.
    pub topics: &'static [TopicType],
    /// Every record type of each topic.
    pub records: &'static [RecordInfo],
    /// Every service.
    pub services: &'static [Service],
    /// The sagas that `status` counts.
    pub sagas: Option<Sagas>,
    /// What the workspace's own commands have to know.
    pub settings: &'static [Setting],
    /// The workspace's own topics and records, as [`Catalogue::new`] was given them.
    own: (&'static [&'static TopicType], &'static [RecordInfo]),
}

/// A service: its name, what it declares, and its policy, which makes recorded decisions again.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The name.
    pub name: &'static str,
    /// Whether it has a database of the platform's tables, which the commands then read.
    pub has_database: bool,
    /// Whether it only listens: see [`is_projection`].
    pub is_projection: bool,
    /// Its part in the choreography.
    pub declaration: Declaration,
    pub(crate) replayed: quadrille_replay::Service,
}

impl Service {
    /// The service with this policy, over a database.
    pub fn of<P: Policy>() -> Self {
        let replayed = quadrille_replay::Service::of::<P>();
        let is_projection = is_projection::<P>();
        Self { name: P::SERVICE, has_database: true, is_projection, declaration: P::CHOREOGRAPHY, replayed }
    }

    /// It keeps nothing in a database.
    #[must_use]
    pub fn without_database(self) -> Self {
        Self { has_database: false, ..self }
    }
}

/// Sagas as one service's database has them.
#[derive(Clone, Copy, Debug)]
pub struct Sagas {
    /// Whose database.
    pub service: &'static str,
    /// A query of rows `(state text, count bigint)`, one per state.
    pub states: &'static str,
    /// The states in which a saga has ended.
    pub ended: &'static [&'static str],
}

impl Catalogue {
    /// The topics and record types that a workspace's schemas folder was generated to (`TOPICS` and `RECORD_TYPES`), its services, and what
    /// the platform has beside them.
    pub fn new(
        topics: &'static [&'static TopicType],
        records: &'static [RecordInfo],
        services: impl IntoIterator<Item = Service>,
    ) -> Self {
        let services: &[Service] = services.into_iter().collect::<Vec<_>>().leak();
        let names: Vec<&str> = services.iter().map(|service| service.name).collect();
        let all: &[TopicType] = quadrille_platform::with_platform(topics, &names).leak();
        let of_topic = |topic: &'static TopicType| {
            let is_its = |info: &&RecordInfo| topic.records.iter().any(|name| name == info.record.name);
            records.iter().chain(quadrille_platform::RECORD_TYPES).filter(is_its).map(move |info| info.on(topic))
        };
        let of_all: &[RecordInfo] = all.iter().flat_map(of_topic).collect::<Vec<_>>().leak();
        Self { topics: all, records: of_all, services, sagas: None, settings: &[], own: (topics, records) }
    }

    /// With sagas for `status` to count.
    #[must_use]
    pub fn with_sagas(self, sagas: Sagas) -> Self {
        Self { sagas: Some(sagas), ..self }
    }

    /// With settings of the workspace's own commands.
    #[must_use]
    pub fn with_settings(self, settings: &'static [Setting]) -> Self {
        Self { settings, ..self }
    }

    /// The declaration of the topic of this name.
    pub fn topic(&self, name: &str) -> Option<&'static TopicType> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// What a topic's keys are.
    pub fn key_kind(&self, topic: &str) -> &'static KeyKind {
        self.topic(topic).map_or(&KeyKind::Text, |topic| &topic.key)
    }

    /// Whether a topic's records are requests.
    pub fn is_requests(&self, topic: &str) -> bool {
        self.topic(topic).is_some_and(|topic| topic.kind == TopicKind::Requests)
    }

    /// The topics' names.
    pub fn topic_names(&self) -> Vec<&'static str> {
        self.topics.iter().map(|topic| &*topic.name).collect()
    }

    /// The services' names.
    pub fn service_names(&self) -> impl Iterator<Item = &'static str> {
        self.services.iter().map(|service| service.name)
    }

    /// The names of the services that have a database.
    pub fn databases(&self) -> Vec<&'static str> {
        self.services.iter().filter(|service| service.has_database).map(|service| service.name).collect()
    }

    /// Whether the service of this name only listens.
    pub fn is_projection(&self, service: &str) -> bool {
        self.services.iter().any(|known| known.name == service && known.is_projection)
    }

    /// The declarations of all services.
    pub fn declarations(&self) -> impl Iterator<Item = &'static Declaration> {
        self.services.iter().map(|service| &service.declaration)
    }

    /// What this build can decide again.
    pub fn build(&self) -> quadrille_replay::Build {
        let services = self.services.iter().map(|service| service.replayed).collect();
        quadrille_replay::Build { services, records: self.records }
    }

    /// What there should be by the schemas folder `given`, else by the one that this folder stands in, else by what was built in; and the
    /// platform's with it.
    ///
    /// A folder is checked against our rules and its frozen versions.
    pub fn declared(&self, given: Option<&Path>) -> anyhow::Result<Declared> {
        let (folder, source) = match given.map(Path::to_owned).or_else(surrounding) {
            Some(root) => (checked(&root)?, root.display().to_string()),
            None => (Folder::built_in(self.own.0, self.own.1), "as built in".into()),
        };
        let folder = folder.and(quadrille_platform::folder());
        // A folder may be newer than this program, or another workspace's.
        let mut services: Vec<&str> = self.service_names().collect();
        for topic in &folder.topics {
            if let TopicWriter::Service(service) = &topic.writer
                && !services.contains(&&**service)
            {
                services.push(service);
            }
        }
        let (mut topics, mut subjects) = (vec![], vec![]);
        for (topic, records) in folder.with_services(&services) {
            let subject = |record: &RecordFile| Subject { topic: topic.name.to_string(), record: record.clone() };
            subjects.extend(records.into_iter().map(subject));
            topics.push(topic);
        }
        Ok(Declared { topics, subjects, source })
    }
}

/// What topics and subjects there should be.
pub struct Declared {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

    /// Another workspace's catalogue: two services, one of which keeps nothing.
    #[test]
    fn what_there_is_follows_from_the_services_that_are_named() {
        let [user, order, ..] = CATALOGUE.services else { panic!("two services") };
        let own = &quadrille_events::TOPICS[..1];
        let catalogue = Catalogue::new(own, quadrille_events::RECORD_TYPES, [*user, order.without_database()]);
        assert_eq!(catalogue.service_names().collect::<Vec<_>>(), ["user", "order"]);
        assert_eq!(catalogue.databases(), ["user"]);
        let platform =
            ["platform.requests", "platform.events", "platform.instances", "user.dead-letters", "order.dead-letters"];
        assert_eq!(catalogue.topic_names(), [&[&*own[0].name][..], &platform].concat());
        // Each topic's records point to it: those of dead letters to the service's own.
        let of = |topic: &str| catalogue.records.iter().filter(|info| info.record.topic.name == topic).count();
        assert_eq!((of("user.dead-letters"), of("order.dead-letters"), of("payment.dead-letters")), (1, 1, 0));
        assert_eq!(of(&own[0].name), own[0].records.len());
        assert!(catalogue.is_requests("platform.requests") && !catalogue.is_requests("payment.requests"));
    }
}
