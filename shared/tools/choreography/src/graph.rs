//! What leads to what: reactions as edges between inputs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Cause, Choreography, Reaction, Service};

/// An input: a record, or an outcome, timer or command of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node {
    /// The service whose outcome, timer or command it is; empty for a record, which anybody may hear.
    pub service: String,
    /// What comes in.
    pub input: Cause,
}

impl Node {
    /// As people read it.
    pub(crate) fn describe(&self) -> String {
        match self.service.as_str() {
            "" => self.input.describe(),
            service => format!("{service}'s {}", self.input.describe()),
        }
    }

    fn of(service: &Service, input: &Cause) -> Self {
        let service = if matches!(input, Cause::Heard(_)) { String::new() } else { service.name.clone() };
        Self { service, input: input.clone() }
    }
}

/// What may come in after a reaction: its facts, its effects' outcomes, its timers.
fn next<'a>(service: &'a Service, reaction: &'a Reaction) -> impl Iterator<Item = Cause> + 'a {
    let facts = reaction.states.iter().cloned().map(Cause::Heard);
    let effects = reaction.wants.iter().filter_map(|kind| service.effect(kind));
    let outcomes = effects.flat_map(|effect| effect.outcomes.iter().cloned().map(Cause::Outcome));
    facts.chain(outcomes).chain(reaction.sets.iter().cloned().map(Cause::Timer))
}

/// The facts that a service may state after `input`, at once or by way of its own effects and timers.
pub(crate) fn facts_after(service: &Service, input: Cause) -> BTreeSet<String> {
    let (mut seen, mut open, mut facts) = (BTreeSet::new(), vec![input], BTreeSet::new());
    while let Some(input) = open.pop() {
        let Some(reaction) = service.reaction(&input).filter(|_| seen.insert(input)) else { continue };
        for next in next(service, reaction) {
            match next {
                Cause::Heard(fact) => {
                    facts.insert(fact);
                }
                own => open.push(own),
            }
        }
    }
    facts
}

/// A cycle of inputs of which each may come in for ever, since no state absorbs it; with the service that takes the first step.
pub(crate) fn endless(choreography: &Choreography) -> Option<(&Service, Vec<Node>)> {
    let mut edges: BTreeMap<Node, Vec<(usize, Node)>> = BTreeMap::new();
    for (index, service) in choreography.services.iter().enumerate() {
        for reaction in service.reactions.iter().filter(|reaction| reaction.until.is_empty()) {
            let after = next(service, reaction).map(|input| (index, Node::of(service, &input)));
            edges.entry(Node::of(service, &reaction.on)).or_default().extend(after);
        }
    }
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        let mut path = vec![];
        if let Some(cycle) = walk(start, &edges, &mut path, &mut done) {
            let first = edges.get(&cycle[0]).into_iter().flatten().find(|(_, next)| *next == cycle[1]);
            return first.map(|(service, _)| (&choreography.services[*service], cycle));
        }
    }
    None
}

/// Goes on from `node` until it meets a node of its own path: then the cycle, its first node at both ends.
fn walk(
    node: &Node,
    edges: &BTreeMap<Node, Vec<(usize, Node)>>,
    path: &mut Vec<Node>,
    done: &mut BTreeSet<Node>,
) -> Option<Vec<Node>> {
    if let Some(start) = path.iter().position(|known| known == node) {
        let mut cycle = path[start..].to_vec();
        cycle.push(node.clone());
        return Some(cycle);
    }
    if done.contains(node) {
        return None;
    }
    path.push(node.clone());
    let found = edges.get(node).into_iter().flatten().find_map(|(_, next)| walk(next, edges, path, done));
    path.pop();
    done.insert(node.clone());
    found
}
