//! Every state of a world, breadth first: what is found wrong is found by a shortest path.
//!
//! stateright's own search overwrites what it has discovered, keeps a path with each state that waits, and shows no state to anyone else;
//! so the loop is ours, over its [`Model`] and [`Property`]. A test holds both to the same number of states.
//!
//! States are remembered by a 64-bit hash, as stateright does: of ten million states two share one with a chance of 3 in a million.

use std::{
    collections::BTreeSet,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use stateright::{Expectation, Model, Property};

use crate::{
    record::Kind,
    world::{Action, State, World},
};

/// What an exploration came to.
#[derive(Debug)]
pub struct Explored {
    /// How many states there are, or were seen until something was wrong.
    pub states: usize,
    /// The longest of the shortest paths to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// A claim that does not hold, with a shortest path to where it does not.
    pub broken: Option<(&'static str, Vec<Action>)>,
    /// What must be seen, and was not.
    pub never: Vec<&'static str>,
    /// The states in which nothing more happens by itself, one for each that the notification service could tell apart.
    pub ends: Vec<State>,
}

/// How a state was first come to: the number of the state before. The beginning has its own.
type Known = DashMap<u64, u64, BuildHasherDefault<AsIs>>;

/// What one thread found among its part of a level.
#[derive(Default)]
struct Found {
    next: Vec<State>,
    broken: Option<(&'static str, u64)>,
    seen: BTreeSet<&'static str>,
    ends: Vec<State>,
}

/// Explores `world` with so many threads. With one thread it is the same path every time.
pub fn explore(world: &World, threads: usize) -> Explored {
    let began = Instant::now();
    let (always, mut sometimes): (Vec<_>, Vec<_>) =
        world.properties().into_iter().partition(|claim| claim.expectation == Expectation::Always);
    let known = Known::default();
    let mut level = world.init_states();
    for state in &level {
        known.insert(number(state), number(state));
    }
    let (mut depth, mut ends, mut finals) = (0, vec![], BTreeSet::<Vec<Vec<Kind>>>::new());
    let mut broken = None;
    while !level.is_empty() && broken.is_none() {
        let part = level.len().div_ceil(threads);
        let look = |states: &[State]| look(world, &always, &sometimes, &known, states);
        let parts: Vec<Found> = match threads {
            1 => vec![look(&level)],
            _ => std::thread::scope(|scope| {
                let parts: Vec<_> = level.chunks(part).map(|part| scope.spawn(move || look(part))).collect();
                parts
                    .into_iter()
                    .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            }),
        };
        level = vec![];
        depth += 1;
        for Found { next, broken: here, seen, ends: over } in parts {
            level.extend(next);
            broken = broken.or(here);
            sometimes.retain(|claim| !seen.contains(claim.name));
            ends.extend(over.into_iter().filter(|end| finals.insert(world.for_mails(end))));
        }
    }
    Explored {
        states: known.len(),
        depth,
        took: began.elapsed(),
        broken: broken.map(|(claim, state)| (claim, path(world, &known, state))),
        never: sometimes.iter().map(|claim| claim.name).collect(),
        ends,
    }
}

fn look(
    world: &World,
    always: &[Property<World>],
    sometimes: &[Property<World>],
    known: &Known,
    states: &[State],
) -> Found {
    let mut found = Found::default();
    let mut actions = vec![];
    for state in states {
        let here = number(state);
        if let Some(claim) = always.iter().find(|claim| !(claim.condition)(world, state)) {
            found.broken = Some((claim.name, here));
            return found;
        }
        let seen = sometimes.iter().filter(|claim| !found.seen.contains(claim.name));
        let seen: Vec<_> = seen.filter(|claim| (claim.condition)(world, state)).map(|claim| claim.name).collect();
        found.seen.extend(seen);
        if world.is_quiet(state) {
            found.ends.push(state.clone());
        }
        world.actions(state, &mut actions);
        for next in actions.drain(..).filter_map(|action| world.next_state(state, action)) {
            if let Entry::Vacant(vacant) = known.entry(number(&next)) {
                vacant.insert(here);
                found.next.push(next);
            }
        }
    }
    found
}

/// The actions from the beginning to the state of that number.
fn path(world: &World, known: &Known, state: u64) -> Vec<Action> {
    let mut numbers = vec![state];
    while let Some(before) = known.get(&numbers[numbers.len() - 1]).map(|before| *before)
        && before != numbers[numbers.len() - 1]
    {
        numbers.push(before);
    }
    numbers.reverse();
    let mut path = vec![];
    let mut state = world.init_states().remove(0);
    for after in &numbers[1..] {
        let step = world.next_steps(&state).into_iter().find(|(_, next)| number(next) == *after);
        let Some((action, next)) = step else { break };
        path.push(action);
        state = next;
    }
    path
}

fn number(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A hash is its own hash.
#[derive(Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
