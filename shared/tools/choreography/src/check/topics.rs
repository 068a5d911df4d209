//! Topics: one writer each, the saga's all keyed by the order and partitioned alike.

use std::collections::BTreeSet;

use crate::{Choreography, Kind, Problem};

/// The field that is the record key of all that belongs to one order's saga.
pub(crate) const SAGA_KEY: &str = "order_id";
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

pub(super) fn not_keyed_by_the_order(choreography: &Choreography) -> Vec<Problem> {
    let mut found = vec![];
    for topic in saga_topics(choreography).filter_map(|name| choreography.topic(name)) {
        if topic.key != "uuid" {
            let what = format!("belongs to the saga, and its keys are {}", topic.key);
            let fix = "key it by the order: key = \"uuid\"";
            found.push(Problem::new(Kind::SagaKey, TOPICS_FILE, &topic.name, what, fix));
        }
        for record in choreography.records_of(&topic.name).filter(|record| record.key != SAGA_KEY) {
            let what = format!("stands on {}, which belongs to the saga, and its key is `{}`", topic.name, record.key);
            let fix = format!("key it by the order: \"quadrille.key\": \"{SAGA_KEY}\"");
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
                let fix = format!("list {} under `saga_topics`, and key it by the order", topic.name);
                found.push(Problem::new(Kind::SagaKey, &service.file, fact, what, fix));
            }
        }
    }
    found
}

pub(super) fn unequal_partitions(choreography: &Choreography) -> Vec<Problem> {
    let topics: Vec<_> = saga_topics(choreography).filter_map(|name| choreography.topic(name)).collect();
    // What most of them have is meant.
    let count = |partitions: u32| topics.iter().filter(|topic| topic.partitions == partitions).count();
    let Some(meant) = topics.iter().map(|topic| topic.partitions).max_by_key(|partitions| count(*partitions)) else {
        return vec![];
    };
    let unequal = topics.iter().filter(|topic| topic.partitions != meant);
    let problem = |topic: &&crate::Topic| {
        let what = format!("has {} partitions, and the saga's other topics have {meant}", topic.partitions);
        let fix = format!("partitions = {meant}; a topic that is there already has to be made anew under another name");
        Problem::new(Kind::Partitions, TOPICS_FILE, &topic.name, what, fix)
    };
    unequal.map(problem).collect()
}
