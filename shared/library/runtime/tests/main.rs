//! The runtime on the real servers. One program, as each of its own would compile and link the whole runtime once more; each test has topics, a
//! database and groups of its own.

mod support;

mod able;
mod away;
mod batches;
mod brokers;
mod commands;
mod crashes;
mod dead_letters;
mod deadlines;
mod effects;
mod history;
mod hostile;
mod instances;
mod listen;
mod migrations;
mod program;
mod prune;
mod published;
mod rebuild;
mod redrive;
mod relay;
mod requests;
mod silence;
mod spans;
mod topics;

/// A file that is not named above would compile nowhere and hold nothing.
#[test]
fn every_file_here_is_part_of_this_program() -> std::io::Result<()> {
    let program = include_str!("main.rs");
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))? {
        let file = file?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        assert!(
            name == "main" || program.contains(&format!("\nmod {name};\n")),
            "{} is no part of main.rs",
            file.display()
        );
    }
    Ok(())
}
