//! What makes the proof one: its loop is complete, its steps are the services' own, and its document says what it says.

use std::{fs, path::Path};

use quadrille_model::{explore::explore, mutants::TABLE, world::World, worlds};
use stateright::{Checker, Model};

/// The loop is ours, the judge is stateright's own.
#[test]
fn stateright_finds_the_same_states() {
    for spec in [worlds::requests(), worlds::forgotten_requests(), worlds::two_skus()] {
        let ours = explore(&World::new(spec.clone(), None, None), 2);
        let theirs = World::new(spec.clone(), None, None).checker().spawn_bfs().join();
        assert_eq!((ours.states, ours.depth), (theirs.unique_state_count(), theirs.max_depth()), "{}", spec.name);
        assert_eq!(ours.states, spec.states, "{}", spec.name);
        assert_eq!(ours.broken, None, "{}", spec.name);
    }
}

#[test]
fn numbers_do_not_depend_on_threads() {
    let states = |threads| explore(&World::new(worlds::requests(), None, None), threads).states;
    assert_eq!(states(1), states(3));
}

/// No line of the model decides anything: outside of mutants.rs nobody names how far a policy has come, and a policy is reached through
/// `process` alone.
#[test]
fn the_model_decides_nothing() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![source], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("and can be listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            match name.as_str() {
                "mutants" | "mutants.rs" => continue,
                _ if path.is_dir() => {
                    folders.push(path);
                    continue;
                }
                _ => files += 1,
            }
            let text = fs::read_to_string(&path).expect("and be read");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for word in [
                    "Status::",
                    "Stage::",
                    "::react(",
                    "::evolve(",
                    "Verdict",
                    "Account",
                    "Shipment {",
                    "Reservation {",
                ] {
                    assert!(!line.contains(word), "{name} speaks of '{word}': {line}");
                }
                if line.contains("process(") {
                    assert!(["service.rs", "locks.rs"].contains(&name.as_str()), "{name} plays a policy: {line}");
                }
            }
        }
    }
    assert!(files > 10, "{files} files were looked at");
}

/// docs/proof.md tells each mutation with the claim that it breaks and the number of steps.
#[test]
fn the_document_tells_every_mutation() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/proof.md");
    let document = fs::read_to_string(document).expect("docs/proof.md is there");
    for mutation in TABLE {
        let world = (mutation.world)().name;
        let line = format!("| {} | {world} | {} | {} |", mutation.what, mutation.breaks, mutation.steps);
        assert!(document.contains(&line), "docs/proof.md lacks: {line}");
    }
    for spec in worlds::all() {
        let line = format!("| {} | {} |", spec.name, spec.states);
        assert!(document.contains(&line), "docs/proof.md lacks: {line}");
    }
}
