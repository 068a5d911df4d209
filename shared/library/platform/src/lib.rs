//! The platform's own records: dead letters, heartbeats, and what operators ask of a service.
//!
//! They are generated from this crate's `schemas/`, as a workspace's own are from its folder, and stand beside those: [`TOPICS`] and
//! [`RECORD_TYPES`] are what a tool adds to a workspace's, [`folder`] what it adds to a folder that it has read. Dead letters are one topic
//! here and one per service there is: see [`TopicType::with_services`](quadrille_core::TopicType::with_services).

use quadrille_core::TopicType;
use quadrille_schemas::Folder;

include!(concat!(env!("OUT_DIR"), "/records.rs"));

/// Every topic of a workspace with these topics of its own and these services: those, and the platform's beside them.
pub fn with_platform(own: &[&TopicType], services: &[&str]) -> Vec<TopicType> {
    let all = own.iter().chain(TOPICS);
    all.flat_map(|topic| topic.with_services(services.iter().copied())).collect()
}

/// The topics and records as if they were read from their folder, which nobody has who only uses this crate.
pub fn folder() -> Folder {
    Folder::built_in(TOPICS, RECORD_TYPES)
}
