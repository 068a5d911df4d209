//! The bench works: a little of everything, whose figures say nothing.

use std::process::Command;

#[test]
fn a_little_run_finds_everything_right_and_ends_with_its_figures() {
    let run = Command::new(env!("CARGO_BIN_EXE_quadrille-bench")).arg("--little").output().unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(told.contains(" 0 lost, 0 doubled"), "{told}");
    let last = told.lines().last().unwrap_or_default();
    assert!(last.starts_with("bench, choreography alone"), "{told}");
    assert!(!told.contains("relay of 100,000 rows 0.00"), "{told}");
}
