//! `quadrille-replay FILE...`: what `quadrille replay` does, without the rest of `quadrille`, so that another build is made in seconds.

use std::{ffi::OsString, fs::File, io::BufReader, process::ExitCode};

use anyhow::Context;
use quadrille_core::Policy;
use quadrille_program::{complain, quietly, say};
use quadrille_replay::{Build, Report, Service};
use quadrille_roster::{Visitor, each};

fn main() -> ExitCode {
    quietly(|| match run() {
        Ok(report) => {
            say!("{report}");
            if report.is_same() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            complain(format_args!("quadrille-replay: {error:#}"));
            ExitCode::FAILURE
        }
    })
}

fn run() -> anyhow::Result<Report> {
    let names: Vec<OsString> = std::env::args_os().skip(1).collect();
    anyhow::ensure!(!names.is_empty(), "name the files to replay, which `quadrille history export --out FILE` writes");
    let build = Build { services: each(&Replayed), records: quadrille_events::RECORD_TYPES };
    let mut report = Report::default();
    for path in names {
        let name = path.to_string_lossy();
        let file = File::open(&path).with_context(|| format!("{name} cannot be opened"))?;
        report.add(build.replay(BufReader::new(file), &name)?);
    }
    Ok(report)
}

struct Replayed;

impl Visitor for Replayed {
    type Output = Service;

    fn visit<P: Policy>(&self) -> Service {
        Service::of::<P>()
    }
}
