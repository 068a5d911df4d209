//! Where this build's programs and folders are.

use std::path::PathBuf;

use anyhow::{Context, ensure};

/// The program of this name, from the same build as this one.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let program = folder()?.join(name);
    ensure!(
        program.is_file(),
        "{} is not there: `make build` builds it, `cargo build --workspace --bins` where cargo has been told of another target folder",
        program.display()
    );
    Ok(program)
}

/// The folder of this build's programs.
pub fn folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where this program is")?;
    // Tests lie in a folder of their own beside the programs.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).context("a folder of programs")?;
    Ok(folder.to_owned())
}

/// The checkout's own folder for what runs: git ignores it.
pub fn run_folder() -> PathBuf {
    root().join(".run")
}

/// The checkout.
pub fn root() -> PathBuf {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."));
    root.canonicalize().unwrap_or(root)
}
