//! `quadrille-show <what>`: a promise of the platform, shown on the real stack. The last line has the figures.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use quadrille_cli::output;
use quadrille_program::{complain, quietly, say};
use quadrille_show::{report::Report, shows};
use tokio::signal::unix::{SignalKind, signal};

/// Shows what Quadrille promises, on the real stack that `make up` brings up.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// What to show
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Orders of 34 kinds on the running stack, seen live
    Demo,
    /// An order placed and followed with kcat alone
    Kcat,
    /// kill -9 of all six services in the middle of 500 orders
    Kill,
    /// Two instances of each service; one stopped, one killed, one suspended
    Two,
    /// One, three and again one instance of each service under 100 orders/s
    Rebalance,
    /// Deadlines that pass before and after the answer, with the order service up and down
    Deadlines,
    /// Charges and refunds that the provider never tells of: redriven, or answered by a person
    Effects,
    /// 100 malformed records on every topic between sound orders
    Malformed,
    /// All that has once stopped a service, and 1,000 variations of it, while 500 orders pass
    Hostile,
    /// The same with 100 orders and 200 variations
    HostileShort,
    /// Confluent's Python client reads every topic
    Foreign,
    /// A workspace with schemas, services and a command line of its own, built and run
    ForeignWorkspace,
    /// 500 recorded orders decided again, by this build and by one with a changed line
    Replay,
    /// Memory of each service after 5,000 orders
    Memory,
}

fn main() -> ExitCode {
    let what = Cli::parse().what;
    let tokio = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(tokio) => tokio,
        Err(error) => {
            complain(format_args!("quadrille-show: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = quietly(|| tokio.block_on(run(what)));
    // Threads that wait for a broker hold up nothing.
    tokio.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn run(what: What) -> ExitCode {
    tokio::select! {
        report = show(what) => match report {
            Ok(report) => report.print(name(what).as_str()),
            Err(error) => {
                complain(output::failure(&error));
                say!("{} FAILED", name(what));
                ExitCode::FAILURE
            }
        },
        // What was started ends with the show, which is dropped here.
        () = told_to_end() => {
            say!("{} was ended before its end", name(what));
            ExitCode::from(130)
        }
    }
}

async fn show(what: What) -> anyhow::Result<Report> {
    match what {
        What::Demo => shows::demo::run().await,
        What::Kcat => shows::kcat::run().await,
        What::Kill => shows::kill::run().await,
        What::Two => shows::two::run().await,
        What::Rebalance => shows::rebalance::run().await,
        What::Deadlines => shows::deadlines::run().await,
        What::Effects => shows::effects::run().await,
        What::Malformed => shows::malformed::run().await,
        What::Hostile => shows::hostile::run(&shows::hostile::FULL).await,
        What::HostileShort => shows::hostile::run(&shows::hostile::SHORT).await,
        What::Foreign => shows::foreign::run().await,
        What::ForeignWorkspace => shows::foreign_workspace::run().await,
        What::Replay => shows::replay::run().await,
        What::Memory => shows::memory::run().await,
    }
}

fn name(what: What) -> String {
    what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

async fn told_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
