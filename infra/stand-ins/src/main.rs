//! `quadrille-stand-ins payment|carrier|mail`: one stand-in of the outside world as a process.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use quadrille_program::{complain, environment};
use quadrille_stand_ins::{carrier, mail, payment};
use tokio::signal::unix::{SignalKind, signal};

/// Stand-ins for the outside world, which behave by the tokens that they are given.
#[derive(Parser)]
#[command(version, after_long_help = include_str!("../README.md"))]
struct Cli {
    #[command(subcommand)]
    stand_in: StandIn,
}

#[derive(Subcommand)]
enum StandIn {
    /// The payment provider: behaves by payment tokens.
    Payment {
        /// Where it listens.
        #[arg(long, env = "QUADRILLE_PAYMENT_BIND", default_value = "127.0.0.1:8071")]
        bind: SocketAddr,
        #[command(flatten)]
        memory: Memory,
    },
    /// The carrier: behaves by ways of delivery.
    Carrier {
        /// Where it listens.
        #[arg(long, env = "QUADRILLE_CARRIER_BIND", default_value = "127.0.0.1:8072")]
        bind: SocketAddr,
        /// How long a parcel is under way unless its method says otherwise.
        #[arg(long, env = "QUADRILLE_CARRIER_DELIVERS_AFTER_MS", default_value_t = carrier::DELIVERS_AFTER_MS)]
        #[arg(value_parser = clap::value_parser!(i64).range(0..=86_400_000))]
        delivers_after_ms: i64,
        #[command(flatten)]
        memory: Memory,
    },
    /// The mail catcher: behaves by recipients' addresses.
    Mail {
        /// Where its page listens.
        #[arg(long, env = "QUADRILLE_MAIL_BIND", default_value = "127.0.0.1:8025")]
        bind: SocketAddr,
        /// Where it takes mail.
        #[arg(long, env = "QUADRILLE_MAIL_SMTP_BIND", default_value = "127.0.0.1:1025")]
        smtp_bind: SocketAddr,
        /// How many mails are kept whole.
        #[arg(long, env = "QUADRILLE_MAIL_KEEP", default_value_t = mail::KEEP)]
        #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
        keep: usize,
        #[command(flatten)]
        memory: Memory,
    },
}

#[derive(Args)]
struct Memory {
    /// The file in which it keeps what it did, for the next start; without one all is forgotten at the end.
    #[arg(long, env = "QUADRILLE_STAND_IN_STATE")]
    state: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("quadrille-stand-ins: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> io::Result<()> {
    // Where nobody reads its log, a stand-in goes on without one.
    tracing_subscriber::fmt().with_writer(std::io::stderr).log_internal_errors(false).init();
    // Clap would say that some argument is no text, and not which.
    environment().map_err(io::Error::other)?;
    let running = match Cli::parse().stand_in {
        StandIn::Payment { bind, memory } => payment::start(bind, memory.state.as_deref()).await?,
        StandIn::Carrier { bind, delivers_after_ms, memory } => {
            carrier::start(bind, memory.state.as_deref(), delivers_after_ms).await?
        }
        StandIn::Mail { bind, smtp_bind, keep, memory } => {
            mail::start(bind, smtp_bind, memory.state.as_deref(), keep).await?
        }
    };
    match running.smtp {
        Some(smtp) => tracing::info!("Listening on {} and smtp://{smtp}", running.url()),
        None => tracing::info!("Listening on {}", running.url()),
    }
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked_to_end = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    running.until(asked_to_end).await
}
