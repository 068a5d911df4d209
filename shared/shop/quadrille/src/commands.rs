//! The shop's commands and their options.

use std::{process::ExitCode, time::Duration};

use quadrille_cli::{Commands, Settings, watch::seconds};
use tokio::task::block_in_place;

use crate::{audit, orders, saga, stream};

/// What the shop's `quadrille` can do beside what every workspace's can.
#[derive(Debug, clap::Subcommand)]
#[allow(missing_docs, reason = "what is said of an option is its help")]
pub enum Command {
    /// Show one order's history in causal order, with the time between steps.
    Saga {
        /// The order's id
        order: String,
        #[command(flatten)]
        form: Form,
    },
    /// Show an order's events as its event store has them: no broker and no registry is asked.
    Stream {
        /// The order's id
        order: String,
        #[command(flatten)]
        form: Form,
    },
    /// Show all orders with their state, open ones first.
    Orders {
        /// Only those that have not ended
        #[arg(long)]
        open: bool,
        /// At most so many
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        form: Form,
    },
    /// Check what always holds, over all topics and databases; exit status 1 if anything does not.
    Audit {
        /// How long to wait for what is on its way, e.g. 30s
        #[arg(long, default_value = "15s", value_parser = seconds)]
        settle: Duration,
        /// What is younger than this may still be under way
        #[arg(long, default_value = "10s", value_parser = seconds)]
        grace: Duration,
        #[command(flatten)]
        form: Form,
    },
}

/// How it is shown.
#[derive(Debug, clap::Args)]
pub struct Form {
    /// JSON, for scripts
    #[arg(long)]
    json: bool,
}

impl Commands for Command {
    async fn run(self, settings: &Settings) -> anyhow::Result<ExitCode> {
        match self {
            Self::Saga { order, form } => block_in_place(|| saga::run(settings, &order, form.json))?,
            Self::Stream { order, form } => stream::run(settings, &order, form.json).await?,
            Self::Orders { open, limit, form } => block_in_place(|| orders::run(settings, open, limit, form.json))?,
            Self::Audit { settle, grace, form } => {
                if !audit::run(settings, audit::Options { settle, grace }, form.json).await? {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
