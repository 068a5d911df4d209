//! `quadrille-bench`: how fast it is, on the real stack that `make infra` brings up. docs/bench says how to read it.

mod at_once;
mod check;
mod compare;
mod ear;
mod load;
mod machine;
mod phases;
mod quantiles;
mod relay;
mod report;
mod stage;
mod usage;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand, builder::RangedU64ValueParser, value_parser};
use machine::Machine;
use quadrille_cli::output;
use quadrille_program::{complain, quietly, say};
use quadrille_show::binaries;
use report::Report;
use stage::{Mode, Stage};
use tokio::signal::unix::{SignalKind, signal};

/// Measures Quadrille on the real stack. Without a command: everything.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where the run is kept; its figures go into the README beside it
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// So little of everything that it says nothing of speed, only whether the bench works
    #[arg(long)]
    little: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run another build's programs and this one's in turns, and tell the ratios
    Compare {
        /// The folder of the other build's programs
        base: PathBuf,
        /// How often each
        #[arg(long, default_value_t = 3, value_parser = from_one_to::<100>())]
        rounds: usize,
        #[command(flatten)]
        phases: Phases,
    },
    /// Measure some phases of the choreography alone, and keep nothing: to see what a change does
    Only {
        #[command(flatten)]
        phases: Phases,
    },
    /// Run a service whose effects are answered in process
    Serve {
        /// payment, shipping or notification
        service: String,
    },
    /// Write the tables of a kept run anew
    Tables {
        /// The run's JSON
        run: PathBuf,
    },
}

/// Which phases.
#[derive(clap::Args)]
struct Phases {
    /// Orders a second
    #[arg(long, value_delimiter = ',', default_value = "100,1000", value_parser = value_parser!(u32).range(1..=100_000))]
    rates: Vec<u32>,
    /// For how long
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Orders that wait in a drain
    #[arg(long, default_value_t = 20_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
    drain: u64,
    /// How many drains
    #[arg(long, default_value_t = 1, value_parser = from_one_to::<100>())]
    drains: usize,
    /// Rows that the relay drains
    #[arg(long, default_value_t = 100_000, value_parser = value_parser!(i64).range(1..=100_000_000))]
    rows: i64,
}

/// How often: once at least, and no number that would run for days.
fn from_one_to<const MOST: u64>() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MOST)
}

impl Phases {
    fn of_sagas(&self) -> phases::Plan {
        let rates = self.rates.iter().map(|rate| (*rate, self.seconds)).collect();
        phases::Plan { rates, drain: self.drain, drains: self.drains, kill: None }
    }

    fn of_relay(&self) -> relay::Plan {
        relay::Plan { rates: vec![(100, 5)], rows: self.rows, drains: 2 }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    quietly(|| {
        let done = match &cli.command {
            Some(Command::Serve { service }) => at_once::serve(service),
            Some(Command::Tables { run }) => tables(run),
            _ => measure(&cli),
        };
        done.unwrap_or_else(|error| {
            complain(output::failure(&error));
            ExitCode::FAILURE
        })
    })
}

fn measure(cli: &Cli) -> anyhow::Result<ExitCode> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = tokio.block_on(async {
        // What was started ends with the run, which is dropped here.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            code = run(cli) => code,
            _ = interrupt.recv() => Ok(ExitCode::from(130)),
            _ = terminate.recv() => Ok(ExitCode::from(143)),
        }
    });
    tokio.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let ours = std::env::current_exe()?.parent().context("where this program is")?.to_owned();
    match &cli.command {
        Some(Command::Compare { base, rounds, phases }) => {
            compare::run(&ours, base, *rounds, &phases.of_sagas(), &phases.of_relay()).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Command::Only { phases }) => {
            let mut stage = Stage::open(Mode::Alone, &ours).await?;
            let sagas = phases::run(&mut stage, &phases.of_sagas()).await?;
            say!("{}", serde_json::to_string_pretty(&sagas)?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let (alone, whole, relay) = match cli.little {
        true => {
            let alone = phases::Plan { rates: vec![(50, 1)], drain: 100, drains: 1, kill: None };
            (alone, None, relay::Plan { rates: vec![(50, 1)], rows: 1_000, drains: 1 })
        }
        false => {
            let rates = vec![(50, 10), (100, 20), (300, 10), (1_000, 12)];
            let alone = phases::Plan { rates, drain: 20_000, drains: 3, kill: Some((200, 8)) };
            let rates = vec![(50, 10), (100, 20), (300, 10)];
            let whole = phases::Plan { rates, drain: 20_000, drains: 1, kill: Some((100, 8)) };
            (alone, Some(whole), relay::Plan { rates: vec![(100, 10), (500, 10)], rows: 100_000, drains: 3 })
        }
    };

    let mut report = Report::default();
    say!("choreography alone: effects are answered in process, at once");
    let mut stage = Stage::open(Mode::Alone, &ours).await?;
    let machine = Machine::look(&stage.database("order")?.pool).await?;
    report.choreography = phases::run(&mut stage, &alone).await?;
    drop(stage);
    say!("the relay by itself");
    report.relay = relay::run(&ours, &relay).await?;
    if let Some(whole) = &whole {
        say!("whole: payment provider, carrier and mail server over HTTP and SMTP");
        let mut stage = Stage::open(Mode::Whole, &ours).await?;
        report.whole = Some(phases::run(&mut stage, whole).await?);
    }
    report.place(machine);
    if let Some(out) = &cli.out {
        let json = report.keep(out)?;
        let readme = out.join("README.md");
        if readme.is_file() {
            report.write_into(&readme, &json)?;
        }
        say!("kept in {}", json.display());
    }
    let wrong = report.wrong();
    for wrong in &wrong {
        say!("WRONG: {wrong}");
    }
    report.print();
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tables(run: &std::path::Path) -> anyhow::Result<ExitCode> {
    let report: Report = serde_json::from_str(&std::fs::read_to_string(run)?)?;
    report.write_into(&binaries::root().join("docs/bench/README.md"), run)?;
    Ok(ExitCode::SUCCESS)
}
