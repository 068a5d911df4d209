//! `quadrille schemas`: every record type registered under its subject, by nobody but this command.

use std::path::Path;

use anyhow::{anyhow, bail};
use futures::{StreamExt, TryStreamExt, stream};
use quadrille_schemas::{Problem, RecordFile, compatibility, is_frozen};
use serde::Serialize;

use crate::{
    Settings,
    catalogue::{self, Declared, Subject},
    output::{self, Progress, Table},
    registry::{self, LEVEL, Registry, Version},
};

/// How many subjects are asked for at once.
const AT_ONCE: usize = 8;

/// A subject as the registry has it.
#[derive(Debug)]
pub struct Found {
    /// Its versions, oldest first; none where the registry does not know it.
    pub versions: Vec<Version>,
    /// The compatibility level in effect; empty where the registry does not know the subject.
    pub level: String,
}

impl Found {
    /// The version with this very text.
    pub fn version_of(&self, text: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.text == text)
    }
}

/// What the registry has of each of the declared subjects, in their order.
pub async fn find(registry: &Registry, subjects: &[Subject]) -> anyhow::Result<Vec<Found>> {
    let known = registry.subjects().await?;
    let mut progress = Progress::new("Asking the registry");
    let of = subjects.len() as u64;
    let ask = |subject: &Subject| {
        let name = subject.name();
        let known = known.contains(&name);
        async move {
            if !known {
                return anyhow::Ok(Found { versions: vec![], level: String::new() });
            }
            Ok(Found { versions: registry.versions(&name).await?, level: registry.level(&name).await? })
        }
    };
    let mut answers = stream::iter(subjects.iter().map(ask).collect::<Vec<_>>()).buffered(AT_ONCE);
    let mut found = Vec::with_capacity(subjects.len());
    while let Some(answer) = answers.try_next().await? {
        found.push(answer);
        progress.at(found.len() as u64, of);
    }
    Ok(found)
}

/// Registers what is not registered yet, after our own compatibility rule has passed everything; sets the compatibility level.
pub async fn apply(settings: &Settings, declared: &Declared) -> anyhow::Result<()> {
    let registry = settings.registry()?;
    let found = find(&registry, &declared.subjects).await?;
    refuse_incompatible(declared, &found)?;

    let (mut registered, mut levelled) = (0, 0);
    // One after another: several subjects may share one text, which registries take badly at the same moment.
    for (subject, found) in declared.subjects.iter().zip(&found) {
        let name = subject.name();
        if found.version_of(&subject.record.text).is_none() {
            let id = registry.register(&name, &subject.record.text).await?;
            verify(&registry, &name, id, &subject.record.text).await?;
            output::line(&format!("registered {name}: id {id}"))?;
            registered += 1;
        }
        if found.level != LEVEL {
            registry.set_level(&name).await?;
            if !found.level.is_empty() {
                output::line(&format!("corrected {name}: compatibility from {} to {LEVEL}", found.level))?;
                levelled += 1;
            }
        }
    }
    let before = declared.subjects.len() - registered;
    output::line(&format!(
        "{} subjects ({}): {registered} registered, {before} known before, {levelled} compatibility levels corrected.",
        declared.subjects.len(),
        declared.source
    ))
}

/// Checks the folder's rules, its frozen versions, and, unless `offline`, what is registered. Changes nothing.
pub async fn check(settings: &Settings, folder: Option<&Path>, offline: bool) -> anyhow::Result<()> {
    let root = catalogue::folder(folder)?;
    let declared = settings.catalogue.declared(Some(&root))?;
    let frozen: usize = declared.subjects.iter().map(|subject| subject.record.versions.len()).sum();
    let mut registered = 0;
    if !offline {
        let found = find(&settings.registry()?, &declared.subjects).await.map_err(|error| {
            error.context("What is registered cannot be checked (--offline checks the files alone)")
        })?;
        refuse_incompatible(&declared, &found)?;
        registered = found.iter().map(|found| found.versions.len()).sum();
    }
    let changed: Vec<&Subject> = declared.subjects.iter().filter(|subject| !is_frozen(&subject.record)).collect();
    for subject in &changed {
        output::line(&format!("not frozen yet: {}", subject.record.file))?;
    }
    output::line(&format!(
        "{} subjects are sound and compatible with {frozen} frozen and {registered} registered versions; {} not frozen yet{}.",
        declared.subjects.len(),
        changed.len(),
        if changed.is_empty() { "" } else { " (`quadrille schemas freeze`)" }
    ))
}

/// Keeps every changed text as a new version in the tree.
pub fn freeze(folder: Option<&Path>) -> anyhow::Result<()> {
    let root = catalogue::folder(folder)?;
    let frozen = quadrille_schemas::freeze(&root).map_err(|problems| {
        anyhow!("Nothing was frozen, since the schemas in {} are not sound:\n{problems}", root.display())
    })?;
    for version in &frozen {
        output::line(&format!("froze {} as version {}: {}", version.record, version.number, version.file))?;
    }
    output::line(&format!("{} versions frozen. Commit them: they never change and never go.", frozen.len()))
}

/// A subject for people and scripts.
#[derive(Debug, Serialize)]
struct Listed {
    subject: String,
    id: Option<u32>,
    version: Option<u32>,
    versions: usize,
    compatibility: String,
    state: &'static str,
}

/// Shows every subject with id, versions, compatibility level and whether the registry has our text.
pub async fn list(settings: &Settings, declared: &Declared, json: bool) -> anyhow::Result<()> {
    let found = find(&settings.registry()?, &declared.subjects).await?;
    let listed = declared.subjects.iter().zip(&found).map(|(subject, found)| {
        let version = found.version_of(&subject.record.text);
        Listed {
            subject: subject.name(),
            id: version.map(|version| version.id),
            version: version.map(|version| version.number),
            versions: found.versions.len(),
            compatibility: found.level.clone(),
            state: match version {
                _ if found.versions.is_empty() => "missing: `quadrille schemas apply` registers it",
                None => "changed: `quadrille schemas apply` registers it",
                Some(_) if found.level != LEVEL => "other compatibility: `quadrille schemas apply` corrects it",
                Some(_) => "registered",
            },
        }
    });
    let listed: Vec<Listed> = listed.collect();
    if json {
        return output::json(&listed);
    }
    let mut table = Table::new(["subject", "id", "version", "of", "compatibility", "state"]);
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for row in listed {
        let (id, version) = (number(row.id), number(row.version));
        table.row([row.subject, id, version, row.versions.to_string(), row.compatibility, row.state.into()]);
    }
    table.print()
}

/// The registry must hold what the file says, to the byte: others read it there.
async fn verify(registry: &Registry, subject: &str, id: u32, text: &str) -> anyhow::Result<()> {
    match registry.schema(id).await? {
        registry::Found::Avro(registered) if registered == text => Ok(()),
        registry::Found::Avro(_) | registry::Found::Other(_) => bail!(
            "The registry keeps another text for {subject} (id {id}) than was registered: it must keep schemas as they come, without normalizing them"
        ),
        registry::Found::Nothing => bail!("The registry gave id {id} for {subject}, but does not know that id"),
    }
}

fn refuse_incompatible(declared: &Declared, found: &[Found]) -> anyhow::Result<()> {
    let problems = declared.subjects.iter().zip(found).flat_map(|(subject, found)| incompatibilities(subject, found));
    let problems: Vec<String> = problems.map(|problem| format!("  {problem}")).collect();
    if problems.is_empty() {
        return Ok(());
    }
    bail!("Schemas are not compatible with what is registered. Nothing was changed:\n{}", problems.join("\n"))
}

/// Our rule between a record as it is and every registered version of its subject.
fn incompatibilities(subject: &Subject, found: &Found) -> Vec<Problem> {
    let version = |version: &Version| quadrille_schemas::Version {
        number: version.number,
        file: format!("version {} of {} in the registry", version.number, subject.name()),
        text: version.text.clone(),
    };
    let versions = found.versions.iter().filter(|version| version.text != subject.record.text).map(version).collect();
    compatibility(&RecordFile { versions, ..subject.record.clone() })
}

#[cfg(test)]
mod tests {
    use quadrille_schemas::Schema;

    use super::*;

    fn subject(text: &str) -> Subject {
        let record = RecordFile {
            folder: "a.events".into(),
            file: "a.events/A.avsc".into(),
            text: text.into(),
            schema: Schema::parse(text).expect("a schema"),
            versions: vec![],
        };
        Subject { topic: "a.events".into(), record }
    }

    fn schema(fields: &str) -> String {
        format!(
            r#"{{"type":"record","name":"A","namespace":"q.a","quadrille.key":"id","fields":[{{"name":"id","type":"string"}}{fields}]}}"#
        )
    }

    #[test]
    fn a_registered_version_that_we_could_not_read_is_named() {
        let ours = subject(&schema(r#",{"name":"n","type":"int"}"#));
        assert_eq!(ours.name(), "a.events-q.a.A");
        let registered =
            |text: String| Found { versions: vec![Version { number: 3, id: 7, text }], level: LEVEL.into() };
        assert_eq!(incompatibilities(&ours, &registered(ours.record.text.clone())), []);
        let problems = incompatibilities(&ours, &registered(schema("")));
        assert!(problems.iter().any(|problem| problem.to_string().contains("version 3")), "{problems:?}");
        let compatible = subject(&schema(r#",{"name":"n","type":"int","default":0}"#));
        assert_eq!(incompatibilities(&compatible, &registered(schema(""))), []);
    }
}
