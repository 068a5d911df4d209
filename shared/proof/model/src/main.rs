//! `quadrille-model`: the proof, and what shows that it proves something.

use std::{collections::BTreeSet, process::ExitCode, time::Instant};

use clap::{Parser, Subcommand, builder::RangedU64ValueParser};
use quadrille_model::{
    explore::{Explored, explore},
    locks::{self, Locks},
    mutants::{Mutation, TABLE, Wrong},
    spec::Spec,
    story,
    world::World,
    worlds,
};
use quadrille_program::{complain, quietly, say};

#[derive(Parser)]
#[command(
    about = "The proof: every service's own policy in every order of arrival and under every fault",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How many threads explore; with one, a counterexample is the same each time
    #[arg(long, global = true, default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    threads: usize,
}

#[derive(Subcommand)]
enum Command {
    /// Explore every state of each world, and check every claim in each
    Prove {
        /// This world alone
        #[arg(long)]
        world: Option<String>,
        /// The large worlds in place of the ones that CI explores
        #[arg(long)]
        deep: bool,
    },
    /// Alter one thing at a time, and show that a claim breaks
    Mutations {
        /// Print the table of docs/proof.md alone
        #[arg(long)]
        table: bool,
    },
}

fn main() -> ExitCode {
    let Arguments { command, threads } = Arguments::parse();
    quietly(|| {
        let holds = match command {
            Command::Prove { world, deep } => prove(world.as_deref(), deep, threads),
            Command::Mutations { table } => mutations(table),
        };
        if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

/// Explores worlds; false where a claim breaks, something never happens, or a world is not of the size that is written down.
fn prove(name: Option<&str>, deep: bool, threads: usize) -> bool {
    let all = if deep { worlds::deep() } else { worlds::all() };
    let names: Vec<_> = all.iter().map(|spec| spec.name).collect();
    let chosen: Vec<Spec> = all.into_iter().filter(|spec| name.is_none_or(|name| spec.name == name)).collect();
    if chosen.is_empty() {
        complain(format_args!("there is no world of that name: choose one of {}", names.join(", ")));
        return false;
    }
    let (began, worlds) = (Instant::now(), chosen.len());
    let (mut holds, mut states, mut depth, mut endings) = (true, 0, 0, BTreeSet::new());
    for spec in chosen {
        let (name, expected) = (spec.name, spec.states);
        say!("{name}: {}", spec.about);
        endings.extend(spec.sometimes.iter().copied());
        let world = World::new(spec, None, None);
        let explored = explore(&world, threads);
        holds &= print_explored(&world, &explored);
        say!("  {} states, {} steps deep, {:.1} s", explored.states, explored.depth, explored.took.as_secs_f64());
        if expected != 0 && expected != explored.states {
            say!(
                "  {expected} states are written down in worlds.rs: what changed? If it is meant, write down the new number"
            );
            holds = false;
        }
        states += explored.states;
        depth = depth.max(explored.depth);
        let (ends, of_mails) = mails(&world, &explored, &mut holds);
        say!("  {ends} ends by what mails may be due, {of_mails} states of the notification service over them");
        states += of_mails;
    }
    let mut of_locks = 0;
    if name.is_none() {
        let (states, broken) = Locks::new(None).explore();
        say!(
            "locks: two orders, a cancellation and a repeat, statement by statement on one database\n  {states} states"
        );
        for claim in &broken {
            say!("  BROKEN: {claim}");
        }
        of_locks = states;
        holds &= broken.is_empty() && states == locks::STATES;
    }
    say!(
        "prove: {}, {worlds} worlds, {} states, up to {depth} steps deep, {} endings and compensations seen, {:.0} s, {} MiB at most",
        if holds { "every claim holds" } else { "NOT PROVED" },
        states + of_locks,
        endings.len(),
        began.elapsed().as_secs_f64(),
        peak_mib(),
    );
    holds
}

/// Tells what is wrong with a world, if anything is.
fn print_explored(world: &World, explored: &Explored) -> bool {
    if let Some((claim, path)) = &explored.broken {
        say!("  BROKEN: {claim}, after {} steps:\n{}", path.len(), story::render(world, path));
    } else {
        for name in &explored.never {
            say!("  NEVER SEEN: {name}");
        }
    }
    explored.broken.is_none() && explored.never.is_empty()
}

/// Has the notification service play over the ends of a world: how many there are, and its states.
fn mails(world: &World, explored: &Explored, holds: &mut bool) -> (usize, usize) {
    let (mut ends, mut states) = (0, 0);
    for end in explored.ends.iter().filter(|end| world.mails_due(end) <= world.spec.mails_at_most) {
        let mails = world.of_mails(end);
        let explored = explore(&mails, 1);
        *holds &= print_explored(&mails, &explored);
        ends += 1;
        states += explored.states;
    }
    (ends, states)
}

/// Tries every mutation; false where one breaks no claim, or another one than is written down, or by another number of steps.
fn mutations(table: bool) -> bool {
    let began = Instant::now();
    let mut caught = 0;
    if table {
        say!("| what is wrong | world | claim that breaks | steps | states seen |\n| --- | --- | --- | --- | --- |");
    }
    for Mutation { what, wrong, world, breaks, steps } in TABLE {
        let (flaw, mutant) = match wrong {
            Wrong::Policy(mutant) => (None, Some(*mutant)),
            Wrong::Runtime(flaw) => (Some(*flaw), None),
        };
        let world = World::new(world(), flaw, mutant);
        let explored = explore(&world, 1);
        let Some((claim, path)) = &explored.broken else {
            say!("NOT CAUGHT: {what} in {}", world.spec.name);
            continue;
        };
        if table {
            say!("| {what} | {} | {claim} | {} | {} |", world.spec.name, path.len(), explored.states);
        } else {
            say!("{what}\n  breaks in {}: {claim}\n{}", world.spec.name, story::render(&world, path));
        }
        if claim == breaks && path.len() == *steps {
            caught += 1;
        } else {
            say!(
                "OTHERWISE CAUGHT: table.rs says '{breaks}' after {steps} steps, it is '{claim}' after {}",
                path.len()
            );
        }
    }
    for (what, slip, breaks) in locks::SLIPS {
        let (states, broken) = Locks::new(Some(*slip)).explore();
        if table {
            say!("| {what} | locks | {} | | {states} |", broken.first().unwrap_or(&"none"));
        } else {
            say!("{what}\n  breaks in locks: {}\n", broken.join("; "));
        }
        caught += usize::from(broken.contains(breaks));
    }
    let all = TABLE.len() + locks::SLIPS.len();
    if !table {
        say!("prove-mutations: {caught} of {all} caught as written down, {:.0} s", began.elapsed().as_secs_f64());
    }
    caught == all
}

/// The most memory that this process has held; 0 where the system does not say.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
