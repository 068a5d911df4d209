//! What the topics hold: records with their identity, in topic order or in causal order.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    ops::ControlFlow,
};

use quadrille_cli::{
    Catalogue, Place, Settings,
    codec::{Decoded, Decoder},
    kafka::{Partition, Positions, Reader, Record, Start},
    output::{self, Progress},
    render,
};
use quadrille_core::ids;
use serde_json::Value;
use uuid::Uuid;

/// A record with all that its place in a history needs.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The record itself.
    pub record: Record,
    /// What it turned out to be.
    pub decoded: Decoded,
    /// Its key's normal form, or empty where it has none.
    pub key: String,
    /// The id by which services know it: of an event its `ce_id`, of a request the computed one.
    pub id: Option<Uuid>,
    /// A request's id as builds spelled it that did not count its type in.
    pub former: Option<Uuid>,
    /// What caused it.
    pub cause: Option<Uuid>,
    /// `ce_aggregateversion`.
    pub version: Option<i64>,
}

impl Fact {
    /// Puts a record and what it turned out to be together.
    pub fn of(catalogue: &Catalogue, record: Record, decoded: Decoded) -> Self {
        let key = catalogue.key_kind(&record.topic).normalize(record.key.as_deref()).unwrap_or_default();
        let event = record.event();
        let (id, former) = match (catalogue.is_requests(&record.topic), event.id, &decoded) {
            (true, "", _) => {
                let id = ids::anonymous_request(&record.topic, record.partition, record.offset, record.timestamp_ms);
                (Some(id), None)
            }
            (true, id, Decoded::Record { info, .. }) => {
                let former = ids::former_request(&record.topic, &key, event.source, id);
                (Some(ids::request(&record.topic, &key, info.record.name, event.source, id)), former)
            }
            // Its type is part of its id, and is not known.
            (true, ..) => (None, None),
            (false, id, _) => (Uuid::try_parse(id).ok(), None),
        };
        let (cause, version) = (Uuid::try_parse(event.causation).ok(), event.version.parse().ok());
        Self { key, id, former, cause, version, decoded, record }
    }

    /// The type's short name, or empty where it is none that we know.
    pub fn name(&self) -> &'static str {
        match &self.decoded {
            Decoded::Record { info, .. } => info.short_name(),
            _ => "",
        }
    }

    /// Whether it tells that an order was wanted, so that there is one under its key.
    pub fn is_its_order(&self) -> bool {
        matches!(self.name(), "OrderRequested" | "OrderCreated")
    }

    /// Where it lies, if it is of a type that we know.
    pub fn place(&self) -> Option<Place> {
        match &self.decoded {
            Decoded::Record { info, .. } => {
                let (partition, offset) = (self.record.partition, self.record.offset);
                Some(Place { topic: &info.record.topic.name, partition, offset })
            }
            _ => None,
        }
    }

    /// The value as JSON; null where it is none that we know.
    pub fn value(&self) -> Value {
        match &self.decoded {
            Decoded::Record { json, .. } => serde_json::from_str(json).unwrap_or_default(),
            _ => Value::Null,
        }
    }
}

/// The topics that hold one order's saga: requests, facts and dead letters apart from those of users and products.
pub fn saga_topics(catalogue: &Catalogue) -> Vec<&'static str> {
    let keyed_by_order = |topic: &str| {
        catalogue.records.iter().any(|info| info.record.topic.name == topic && render::key_field(info) == "order_id")
    };
    catalogue.topic_names().into_iter().filter(|topic| keyed_by_order(topic)).collect()
}

/// Reads topics from their beginning to their end, and hands over what `wanted` lets pass, each with whether it was there at one moment.
/// What cannot be read is told on standard error.
///
/// Topics are read one after another while they grow, so what they say is of no one moment: a late fact may be read without the
/// earlier one that led to it. Hence their ends are noted twice. Whatever was there at the moment between lies before the second ends
/// and is read; what lies before the first ones was there then for sure. So a question from before the first ends without an answer
/// before the second ones was open at that moment.
pub fn read(
    settings: &Settings,
    topics: &[&str],
    wanted: impl Fn(&Record) -> bool,
    mut visit: impl FnMut(Fact, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (reader, decoder) = (Reader::connect(&settings.kafka)?, Decoder::connect(settings)?);
    let then: Positions =
        reader.partitions(topics)?.into_iter().map(|found| ((found.topic, found.number), found.high)).collect();
    let partitions = reader.partitions(topics)?;
    let of: i64 = partitions.iter().map(|partition| partition.high - partition.low).sum();
    let (mut progress, mut done) = (Progress::new("Reading topics"), 0);
    for topic in topics {
        let of_topic: Vec<Partition> =
            partitions.iter().filter(|partition| &*partition.topic == *topic).cloned().collect();
        reader.read(&of_topic, Start::Beginning, |record| {
            done += 1;
            progress.at(done, of.unsigned_abs());
            if wanted(&record) {
                let was_there =
                    then.get(&(record.topic.clone(), record.partition)).is_some_and(|end| record.offset < *end);
                let decoded = decoder.decode(Some(topic), record.value.as_deref())?;
                visit(Fact::of(&settings.catalogue, record, decoded), was_there)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    drop(progress);
    output::unreadable(&reader.unreadable());
    Ok(())
}

/// The order in which things can have happened: causes before what they caused, each partition in its own order, and as the
/// clocks say where neither decides.
///
/// Clocks differ, and a client's timestamp may be anything, so time alone would show effects before their causes.
pub fn causal_order(facts: &[Fact]) -> Vec<usize> {
    let mut first: HashMap<Uuid, usize> = HashMap::new();
    let mut last_of_partition: HashMap<(&str, i32), usize> = HashMap::new();
    let mut after: Vec<Vec<usize>> = vec![vec![]; facts.len()];
    let mut waits: Vec<usize> = vec![0; facts.len()];
    for (at, fact) in facts.iter().enumerate() {
        for id in fact.id.into_iter().chain(fact.former) {
            first.entry(id).or_insert(at);
        }
        if let Some(before) = last_of_partition.insert((&fact.record.topic, fact.record.partition), at) {
            after[before].push(at);
            waits[at] += 1;
        }
    }
    for (at, fact) in facts.iter().enumerate() {
        if let Some(&cause) = fact.cause.and_then(|cause| first.get(&cause)).filter(|cause| **cause != at) {
            after[cause].push(at);
            waits[at] += 1;
        }
    }

    let by_time = |at: usize| Reverse((facts[at].record.timestamp_ms, at));
    let mut ready: BinaryHeap<_> = (0..facts.len()).filter(|at| waits[*at] == 0).map(by_time).collect();
    let mut order = Vec::with_capacity(facts.len());
    let mut placed = vec![false; facts.len()];
    loop {
        while let Some(Reverse((_, at))) = ready.pop() {
            if std::mem::replace(&mut placed[at], true) {
                continue;
            }
            order.push(at);
            for &next in &after[at] {
                waits[next] = waits[next].saturating_sub(1);
                if waits[next] == 0 && !placed[next] {
                    ready.push(by_time(next));
                }
            }
        }
        // Forged causes may form a circle: it is broken where the clock says.
        match (0..facts.len()).filter(|at| !placed[*at]).max_by_key(|at| by_time(*at)) {
            Some(at) => ready.push(by_time(at)),
            None => return order,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::Made;

    #[test]
    fn causes_come_first_whatever_the_clocks_say() {
        let order = "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30";
        let requested = Made::request("OrderRequested", order).at(900);
        let created = Made::event("OrderCreated", order, 1).caused_by(&requested).at(100);
        let verified = Made::event("CustomerVerified", order, 1).caused_by(&created).at(100);
        let confirmed = Made::event("OrderConfirmed", order, 2).caused_by(&verified).at(50);
        let facts = [&confirmed, &verified, &created, &requested].map(Made::fact);
        // order.events holds `confirmed` after `created` only if it lies there so: as given, it comes first in its partition.
        let facts = [facts[2].clone(), facts[0].clone(), facts[1].clone(), facts[3].clone()];
        assert_eq!(causal_order(&facts), [3, 0, 2, 1]);
    }

    #[test]
    fn a_circle_of_causes_ends() {
        let order = "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30";
        let mut one = Made::event("OrderCreated", order, 1);
        let other = Made::event("CustomerVerified", order, 1).caused_by(&one);
        one = one.caused_by(&other);
        let facts = [one.fact(), other.fact()];
        assert_eq!(causal_order(&facts).len(), 2);
    }

    #[test]
    fn a_request_is_known_by_its_computed_id() {
        let order = "3B2A9F5E-7C41-4D8A-8E06-5A1C7D2E9F30";
        let fact = Made::request("OrderRequested", order).fact();
        assert_eq!(fact.key, order.to_lowercase());
        assert_eq!(
            fact.id,
            Some(ids::request("order.requests", &fact.key, "quadrille.order.OrderRequested", "/test", "r-1"))
        );
        let bare = Made::request("OrderRequested", order).without_headers().fact();
        assert_eq!(
            bare.id,
            Some(ids::anonymous_request("order.requests", 0, bare.record.offset, bare.record.timestamp_ms))
        );
    }

    #[test]
    fn the_sagas_topics_are_those_keyed_by_order() {
        let topics = saga_topics(&crate::CATALOGUE);
        assert!(topics.contains(&"order.requests") && topics.contains(&"shipment.events"));
        assert!(!topics.contains(&"user.events") && !topics.contains(&"product.events"));
    }
}
