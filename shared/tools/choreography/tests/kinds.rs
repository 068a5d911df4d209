//! Every kind of fault once, on a small choreography that is sound but for it: a shop and its till.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

use std::{collections::BTreeSet, fs, path::Path};

use quadrille_choreography::{Choreography, Problem, check};
use serde::Deserialize;

/// A way to break the small choreography.
#[derive(Deserialize)]
struct Broken {
    kind: String,
    /// File, what is replaced there, and by what.
    edits: Vec<(String, String, String)>,
    /// How the one problem that is found begins.
    says: String,
}

fn till() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/till"))
}

/// What `quadrille check --choreography FILE --schemas FOLDER` finds.
fn problems(root: &Path) -> Vec<Problem> {
    match quadrille_schemas::check(&root.join("schemas")) {
        Err(problems) => problems.0.into_iter().map(Problem::from).collect(),
        Ok(folder) => {
            let text = fs::read_to_string(root.join("choreography.json")).unwrap();
            let choreography: Choreography = serde_json::from_str(&text).unwrap();
            check(&choreography.over(&folder))
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(|_| ()).unwrap() }
    }
}

#[test]
fn the_small_choreography_is_sound() {
    assert_eq!(problems(till()), []);
}

#[test]
fn each_way_to_break_it_is_refused_naming_file_event_and_fix() {
    let text = fs::read_to_string(till().join("broken.json")).unwrap();
    let all: Vec<Broken> = serde_json::from_str(&text).unwrap();
    let mut kinds = BTreeSet::new();
    for (index, broken) in all.iter().enumerate() {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("till-{index}"));
        _ = fs::remove_dir_all(&root);
        copy(till(), &root);
        for (file, old, new) in &broken.edits {
            let text = fs::read_to_string(root.join(file)).unwrap();
            assert_eq!(text.matches(old.as_str()).count(), 1, "{file} has not once: {old}");
            fs::write(root.join(file), text.replace(old.as_str(), new)).unwrap();
        }
        let found = problems(&root);
        let said: Vec<String> = found.iter().map(Problem::to_string).collect();
        // A schema that does not fit a version often fails in both directions, a second writer in each of its facts.
        assert!(said.first().is_some_and(|first| first.starts_with(&broken.says)), "{}\n{said:#?}", broken.says);
        for problem in &found {
            assert_eq!(format!("{:?}", problem.kind), broken.kind, "{problem}");
            assert!(!problem.event.is_empty() && !problem.fix.is_empty(), "{problem}");
        }
        println!("refused as {}: {}", broken.kind, said[0]);
        kinds.insert(broken.kind.clone());
        fs::remove_dir_all(&root).unwrap();
    }
    // All but `Generated`, which the command's own test shows.
    let expected = [
        "Declaration",
        "Endless",
        "FieldType",
        "NoAnswer",
        "NoEnd",
        "NoListener",
        "NoSpeaker",
        "Uncompensated",
        "Partitions",
        "SagaKey",
        "Schema",
        "TwoWriters",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    println!("{} broken choreographies refused, of {} kinds", all.len(), kinds.len());
}
