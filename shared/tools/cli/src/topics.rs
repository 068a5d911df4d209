//! `quadrille topics`: the declared topics, made and kept as declared.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use quadrille_core::{MOST_UNPACKED, TopicType};
use rdkafka::{
    admin::{NewTopic, TopicReplication},
    types::RDKafkaErrorCode,
};
use serde::Serialize;

use crate::{
    Settings,
    kafka::{Admin, TopicFound},
    output::{self, Table},
};

/// What has to happen to a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Plan {
    /// It is not there.
    Missing,
    /// It is as declared.
    AsDeclared,
    /// Settings differ.
    Differs {
        /// Each setting that does.
        changes: Vec<Change>,
    },
    /// The partition count differs, which nothing but a person may fix.
    OtherPartitions {
        /// As declared.
        declared: usize,
        /// As the broker has it.
        found: usize,
    },
}

/// A setting that is to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Kafka's name for it.
    pub key: &'static str,
    /// As it is.
    pub from: String,
    /// As it is declared.
    pub to: String,
}

/// A declared topic and what is found of it.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The physical name.
    pub topic: String,
    /// Declared partitions.
    pub partitions: u32,
    /// Who writes it.
    pub writer: String,
    /// `delete` or `compact`.
    pub cleanup: &'static str,
    /// How long records are kept, e.g. `30d`.
    pub retention: String,
    /// What has to happen to it.
    #[serde(flatten)]
    pub plan: Plan,
}

/// A topic's settings: the declaration's, and what it takes to keep its word.
fn settings_of(topic: &TopicType) -> Vec<(&'static str, String)> {
    let mut settings = topic.settings();
    if let (None, Some(retention)) = (topic.compact_within, topic.retention) {
        // Records go by whole segments, and a busy segment stays open for a week by default: what is kept a day would live eight.
        let segment = (retention / 8).clamp(Duration::from_secs(600), Duration::from_secs(7 * 86_400));
        settings.push(("segment.ms", segment.as_millis().to_string()));
    }
    settings
}

/// Compares a declaration with what the broker has.
pub fn plan(topic: &TopicType, found: Option<&TopicFound>) -> Plan {
    let Some(found) = found else { return Plan::Missing };
    let declared = topic.partitions as usize;
    if declared != found.partitions {
        return Plan::OtherPartitions { declared, found: found.partitions };
    }
    // A broker tells every setting that it knows, at its default or not.
    let known = |key: &str| key != MOST_UNPACKED || found.settings.contains_key(key);
    let differing = settings_of(topic).into_iter().filter(|(key, _)| known(key)).filter_map(|(key, to)| {
        let from = found.settings.get(key).cloned().unwrap_or_default();
        (from != to).then_some(Change { key, from, to })
    });
    let changes: Vec<Change> = differing.collect();
    if changes.is_empty() { Plan::AsDeclared } else { Plan::Differs { changes } }
}

/// Looks at every declared topic; changes nothing.
pub async fn statuses(settings: &Settings, topics: &[TopicType]) -> anyhow::Result<Vec<Status>> {
    let (names, found) = find(&Admin::connect(&settings.kafka)?, settings, topics).await?;
    let status = |(topic, name): (&TopicType, String)| Status {
        plan: plan(topic, found.get(&name)),
        topic: name,
        partitions: topic.partitions,
        writer: topic.writer.to_string(),
        cleanup: if topic.compact_within.is_some() { "compact" } else { "delete" },
        retention: topic.retention.map_or_else(|| "forever".to_owned(), output::duration),
    };
    Ok(topics.iter().zip(names).map(status).collect())
}

/// Makes what is missing and corrects what differs. A differing partition count is refused before anything is changed.
pub async fn apply(settings: &Settings, topics: &[TopicType], replication: Option<u16>) -> anyhow::Result<()> {
    let admin = Admin::connect(&settings.kafka)?;
    let (names, found) = find(&admin, settings, topics).await?;
    let plans: Vec<Plan> = topics.iter().zip(&names).map(|(topic, name)| plan(topic, found.get(name))).collect();
    refuse_other_partitions(&names, &plans)?;
    refuse_too_few_copies(topics, replication)?;

    let planned = || topics.iter().zip(&names).zip(&plans);
    let missing: Vec<_> = planned().filter(|(_, plan)| **plan == Plan::Missing).map(|(topic, _)| topic).collect();
    let wanted: Vec<Vec<(&str, String)>> = missing.iter().map(|(topic, _)| settings_of(topic)).collect();
    // -1: as many as the broker's own default.replication.factor says.
    let copies = |topic: &TopicType| TopicReplication::Fixed(replication.or(topic.replication).map_or(-1, i32::from));
    let new = |known: fn(&str) -> bool| -> Vec<NewTopic<'_>> {
        let new = missing.iter().zip(&wanted).map(|((topic, name), wanted)| {
            let new = NewTopic::new(name, i32::try_from(topic.partitions).unwrap_or(i32::MAX), copies(topic));
            wanted.iter().filter(|(key, _)| known(key)).fold(new, |new, (key, value)| new.set(key, value))
        });
        new.collect()
    };
    if !missing.is_empty()
        && let Err(error) = admin.create(&new(|_| true)).await
    {
        match error.root_cause().downcast_ref() {
            Some(RDKafkaErrorCode::InvalidConfig) => {
                output::note(&format!(
                    "This broker does not know {MOST_UNPACKED}: what a record unpacks to has no bound"
                ));
                admin.create(&new(|key| key != MOST_UNPACKED)).await?;
            }
            _ => return Err(error),
        }
    }
    for (topic, name) in &missing {
        output::line(&format!("made {name}: {} partitions, {}", topic.partitions, kept(topic)))?;
    }

    let mut corrected = 0;
    for ((_, name), plan) in planned() {
        let Plan::Differs { changes } = plan else { continue };
        let set: Vec<_> = changes.iter().map(|change| (change.key, change.to.clone())).collect();
        admin.set(name, &found[name], &set).await?;
        for Change { key, from, to } in changes {
            output::line(&format!("corrected {name}: {key} from {} to {to}", output::or_nothing(from)))?;
        }
        corrected += 1;
    }
    let (all, made) = (topics.len(), missing.len());
    let kept = all - made - corrected;
    output::line(&format!("{all} topics: {made} made, {corrected} corrected, {kept} as declared before."))
}

/// Shows every declared topic with its state.
pub async fn list(settings: &Settings, topics: &[TopicType], json: bool) -> anyhow::Result<()> {
    let statuses = statuses(settings, topics).await?;
    if json {
        return output::json(&statuses);
    }
    let mut table = Table::new(["topic", "partitions", "writer", "cleanup", "kept", "state"]);
    for status in statuses {
        let state = match status.plan {
            Plan::Missing => "missing: `quadrille topics apply` makes it".to_owned(),
            Plan::AsDeclared => "as declared".to_owned(),
            Plan::Differs { changes } => {
                let changes =
                    changes.iter().map(|change| format!("{} is {}", change.key, output::or_nothing(&change.from)));
                format!("{}: `quadrille topics apply` corrects it", changes.collect::<Vec<_>>().join(", "))
            }
            Plan::OtherPartitions { found, .. } => format!("has {found} partitions: see `quadrille topics apply`"),
        };
        let partitions = status.partitions.to_string();
        table.row([status.topic, partitions, status.writer, status.cleanup.into(), status.retention, state]);
    }
    table.print()
}

async fn find(
    admin: &Admin,
    settings: &Settings,
    topics: &[TopicType],
) -> anyhow::Result<(Vec<String>, BTreeMap<String, TopicFound>)> {
    let names: Vec<String> = topics.iter().map(|topic| settings.topic(&topic.name)).collect();
    let found = admin.find(&names).await?;
    Ok((names, found))
}

fn refuse_other_partitions(names: &[String], plans: &[Plan]) -> anyhow::Result<()> {
    let differing = names.iter().zip(plans).filter_map(|(name, plan)| match plan {
        Plan::OtherPartitions { declared, found } => {
            Some(format!("  {name} has {found} partitions, {declared} are declared"))
        }
        _ => None,
    });
    let differing: Vec<String> = differing.collect();
    if differing.is_empty() {
        return Ok(());
    }
    bail!(
        "A topic's partition count is fixed for its life, since keys would move to other partitions and lose their order. Nothing was changed:\n{}\n\
         Correct the declaration (schemas/topics.toml), or delete the topic if its records may go.",
        differing.join("\n")
    )
}

/// Nothing could be written to a topic that has fewer copies than have to be written.
fn refuse_too_few_copies(topics: &[TopicType], replication: Option<u16>) -> anyhow::Result<()> {
    let Some(copies) = replication else { return Ok(()) };
    match topics.iter().find(|topic| topic.min_insync_replicas.is_some_and(|least| least > copies)) {
        None => Ok(()),
        Some(topic) => bail!(
            "{} has min_insync_replicas = {} in topics.toml, and --replication-factor is {copies}: nothing could be written to it. Give it as many, or declare fewer.",
            topic.name,
            topic.min_insync_replicas.unwrap_or_default()
        ),
    }
}

fn kept(topic: &TopicType) -> String {
    match (topic.compact_within, topic.retention) {
        (Some(within), _) => format!("compacted within {}", output::duration(within)),
        (None, Some(retention)) => format!("kept {}", output::duration(retention)),
        (None, None) => "kept forever".into(),
    }
}

#[cfg(test)]
mod tests {
    use quadrille_core::{KeyKind, TopicKind, TopicWriter};

    use super::*;

    fn topic() -> TopicType {
        TopicType {
            name: "user.requests".into(),
            kind: TopicKind::Requests,
            writer: TopicWriter::Clients,
            key: KeyKind::Uuid,
            partitions: 6,
            replication: None,
            min_insync_replicas: None,
            retention: Some(Duration::from_secs(86_400)),
            compact_within: None,
            secrets: true,
            records: [].as_slice().into(),
            why: "hashes".into(),
        }
    }

    fn found(partitions: usize, settings: &[(&str, &str)]) -> TopicFound {
        TopicFound::new(partitions, settings)
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let declared = [("cleanup.policy", "delete"), ("retention.ms", "86400000"), ("segment.ms", "10800000")];
        assert_eq!(plan(&topic(), None), Plan::Missing);
        assert_eq!(plan(&topic(), Some(&found(6, &declared))), Plan::AsDeclared);
        let week = [("cleanup.policy", "delete"), ("retention.ms", "604800000"), ("segment.ms", "10800000")];
        let change = Change { key: "retention.ms", from: "604800000".into(), to: "86400000".into() };
        assert_eq!(plan(&topic(), Some(&found(6, &week))), Plan::Differs { changes: vec![change] });
        // A broker that knows no bound on what a record unpacks to has none to correct; one that knows it has.
        let unbounded = [&declared[..], &[(MOST_UNPACKED, "2147483647")]].concat();
        let change = Change { key: MOST_UNPACKED, from: "2147483647".into(), to: "1048588".into() };
        assert_eq!(plan(&topic(), Some(&found(6, &unbounded))), Plan::Differs { changes: vec![change] });
    }

    #[test]
    fn fewer_copies_than_have_to_be_written_are_refused() {
        let topics = [TopicType { replication: Some(3), min_insync_replicas: Some(2), ..topic() }];
        assert!(refuse_too_few_copies(&topics, None).is_ok() && refuse_too_few_copies(&topics, Some(2)).is_ok());
        let refused = refuse_too_few_copies(&topics, Some(1)).expect_err("one copy").to_string();
        assert!(refused.contains("user.requests has min_insync_replicas = 2"), "{refused}");
    }

    #[test]
    fn another_partition_count_is_refused_with_topic_and_both_counts() {
        let plans = [plan(&topic(), Some(&found(12, &[])))];
        let error = refuse_other_partitions(&["t.user.requests".into()], &plans).expect_err("differs").to_string();
        assert!(error.contains("t.user.requests has 12 partitions, 6 are declared"), "{error}");
    }
}
