//! `quadrille-replay FILE...`: what `quadrille replay` does, without the rest of `quadrille`, so that another build is made in seconds.

use std::{fs::File, io::BufReader, process::ExitCode};

use anyhow::Context;
use quadrille_replay::{Report, replay};

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            if report.is_same() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("quadrille-replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<Report> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(!names.is_empty(), "name the files to replay, which `quadrille history export --out FILE` writes");
    let mut report = Report::default();
    for name in names {
        let file = File::open(&name).with_context(|| format!("{name} cannot be opened"))?;
        report.add(replay(BufReader::new(file), &name)?);
    }
    Ok(report)
}
