//! What a command reads: a file, or standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::Path,
};

use anyhow::Context;

/// Opens a file; `-` or nothing is standard input.
pub fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn BufRead>> {
    match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
            Ok(Box::new(BufReader::new(opened)))
        }
        None => {
            if io::stdin().is_terminal() {
                eprintln!("Reading from the terminal: end with Ctrl-D.");
            }
            Ok(Box::new(BufReader::new(io::stdin())))
        }
    }
}

/// Reads all of it as text.
pub fn text(file: Option<&Path>) -> anyhow::Result<String> {
    let mut text = String::new();
    open(file)?.read_to_string(&mut text).context("The input is not UTF-8 text")?;
    Ok(text)
}
