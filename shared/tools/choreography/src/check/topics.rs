//! Topics: one writer each, the saga's all keyed and partitioned alike.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Choreography, Kind, Problem};

const TOPICS_FILE: &str = "schemas/topics.toml";

pub(super) fn two_writers(choreography: &Choreography) -> Vec<Problem> {
    let mut found = vec![];
    for (index, service) in choreography.services.iter().enumerate() {
        for fact in &service.states {
            for topic in choreography.topics_of(fact).filter(|topic| topic.writer != service.name) {
                let what = match topic.writer.as_str() {
                    "clients" | "all" => {
                        format!("{} states it on {}, which {} write", service.name, topic.name, topic.writer)
                    }
                    other => format!("{} states it on {}, which {other} writes", service.name, topic.name),
                };
                let fix = "give it a topic of the service's own: only one service writes a topic";
                found.push(Problem::new(Kind::TwoWriters, &service.file, fact, what, fix));
            }
            if let Some(other) = choreography.services[..index].iter().find(|other| other.states.contains(fact)) {
                let what = format!("{} states it, as {} does", service.name, other.name);
                let fix = "let the service that owns the fact state it, and no other";
                found.push(Problem::new(Kind::TwoWriters, &service.file, fact, what, fix));
            }
        }
    }
    found
}

/// The topics that services list as the saga's.
fn saga_topics(choreography: &Choreography) -> impl Iterator<Item = &String> {
    choreography.services.iter().flat_map(|service| &service.saga_topics)
}

/// What most of them are: that is meant.
fn most<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    counts.into_iter().max_by_key(|(_, count): &(T, usize)| *count).map(|(value, _)| value)
}

pub(super) fn not_keyed_alike(choreography: &Choreography) -> Vec<Problem> {
    let mut found = vec![];
    let topics: Vec<_> = saga_topics(choreography).filter_map(|name| choreography.topic(name)).collect();
    let keys = most(topics.iter().map(|topic| &*topic.key)).unwrap_or_default();
    let records = topics.iter().flat_map(|topic| choreography.records_of(&topic.name));
    let field = most(records.map(|record| &*record.key)).unwrap_or_default();
    for topic in topics {
        if topic.key != keys {
            let what = format!("belongs to the saga, and its keys are {}", topic.key);
            let fix = format!("key it as the saga's other topics are: key = \"{keys}\"");
            found.push(Problem::new(Kind::SagaKey, TOPICS_FILE, &topic.name, what, fix));
        }
        for record in choreography.records_of(&topic.name).filter(|record| record.key != field) {
            let what = format!("stands on {}, which belongs to the saga, and its key is `{}`", topic.name, record.key);
            let fix = format!("key it as the saga's other records are: \"quadrille.key\": \"{field}\"");
            found.push(Problem::new(Kind::SagaKey, &record.file, &record.name, what, fix));
        }
    }
    // What asks, answers or undoes between services is the saga's.
    let declared: BTreeSet<&str> = saga_topics(choreography).map(String::as_str).collect();
    for service in &choreography.services {
        let asked = service.asks.iter();
        let undone = service
            .compensations
            .iter()
            .flat_map(|compensation| [&compensation.fact].into_iter().chain(&compensation.by));
        let facts: BTreeSet<&String> = asked.chain(undone).collect();
        for fact in facts {
            if let Some(topic) = choreography.topics_of(fact).find(|topic| !declared.contains(&*topic.name)) {
                let what = format!("is asked or undone, and {} is not listed as the saga's", topic.name);
                let fix = format!("list {} under `saga_topics`, and key it as the others there are", topic.name);
                found.push(Problem::new(Kind::SagaKey, &service.file, fact, what, fix));
            }
        }
    }
    found
}

pub(super) fn unequal_partitions(choreography: &Choreography) -> Vec<Problem> {
    let topics: Vec<_> = saga_topics(choreography).filter_map(|name| choreography.topic(name)).collect();
    let Some(meant) = most(topics.iter().map(|topic| topic.partitions)) else { return vec![] };
    let unequal = topics.iter().filter(|topic| topic.partitions != meant);
    let problem = |topic: &&crate::Topic| {
        let what = format!("has {} partitions, and the saga's other topics have {meant}", topic.partitions);
        let fix = format!("partitions = {meant}; a topic that is there already has to be made anew under another name");
        Problem::new(Kind::Partitions, TOPICS_FILE, &topic.name, what, fix)
    };
    unequal.map(problem).collect()
}
