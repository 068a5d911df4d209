//! What a service hears, topic by topic.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use quadrille_core::{Policy, RecordType, Records, TopicKind, TopicType};

use crate::operators;

/// A record type that is heard on one topic.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    /// The type, on that topic: of dead letters there is one per service whose letters are heard.
    pub record_type: RecordType,
    /// Its place among the policy's types, and behind those among the operators' requests.
    pub index: usize,
}

/// The types that a policy hears, and behind them the operators' requests, which every service hears.
pub(crate) fn heard<P: Policy>() -> Vec<Heard> {
    let types = P::Heard::TYPES.iter().chain(operators::TYPES).enumerate();
    let on_topics = types.flat_map(|(index, record_type)| {
        let topics = match record_type.topic.kind {
            TopicKind::DeadLetters => {
                P::DEAD_LETTERS_OF.iter().map(|service| own_topic(record_type.topic, service)).collect()
            }
            TopicKind::Events | TopicKind::Requests | TopicKind::State => vec![record_type.topic],
        };
        topics.into_iter().map(move |topic| Heard { record_type: RecordType { topic, ..*record_type }, index })
    });
    on_topics.collect()
}

/// The topics that a policy's records come from, without the operators' requests.
pub(crate) fn topics<P: Policy>() -> Vec<&'static TopicType> {
    let mut topics: Vec<&TopicType> = vec![];
    for heard in heard::<P>().iter().filter(|heard| heard.index < P::Heard::TYPES.len()) {
        if topics.iter().all(|topic| topic.name != heard.record_type.topic.name) {
            topics.push(heard.record_type.topic);
        }
    }
    topics
}

/// A service's own topic, as [`TopicType::with_services`] has it. Kept for the life of the process, as declared ones are: as many as there are
/// services.
fn own_topic(declared: &TopicType, service: &'static str) -> &'static TopicType {
    static OWN: Mutex<BTreeMap<String, &'static TopicType>> = Mutex::new(BTreeMap::new());
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.entry(declared.name_of(service)).or_insert_with(|| {
        let topic = declared.with_services([service]).pop().unwrap_or_else(|| declared.clone());
        Box::leak(Box::new(topic))
    })
}
