//! Every fault of a choreography: a module for what facts, questions, topics and declarations have to be.

mod declarations;
mod facts;
mod fields;
mod questions;
mod topics;

use crate::{Choreography, Kind, Problem, graph};

/// Every fault. An empty list means that the choreography is sound, as far as it can be seen before it runs.
///
/// What a schemas folder may be at fault for by itself is [`quadrille_schemas::check`]'s business.
pub fn check(choreography: &Choreography) -> Vec<Problem> {
    // A check a kind of fault. The last one's findings often have one of the others for their cause.
    let checks: [fn(&Choreography) -> Vec<Problem>; 11] = [
        facts::without_speaker,
        facts::without_listener,
        facts::uncompensated,
        questions::without_answer,
        questions::without_end,
        endless,
        topics::two_writers,
        topics::not_keyed_alike,
        topics::unequal_partitions,
        fields::wrong_types,
        declarations::disagreeing,
    ];
    checks.iter().flat_map(|check| check(choreography)).collect()
}

fn endless(choreography: &Choreography) -> Vec<Problem> {
    let Some((service, cycle)) = graph::endless(choreography) else { return vec![] };
    let told: Vec<String> = cycle.iter().map(graph::Node::describe).collect();
    let fix = "let a state of one of them absorb the repeat, and name it in `until`";
    let what = format!("comes back to itself without end: {}", told.join(" -> "));
    vec![Problem::new(Kind::Endless, &service.file, cycle[0].input.name(), what, fix)]
}
