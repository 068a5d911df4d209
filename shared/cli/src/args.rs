//! The commands and their options; what each does is its own module's business.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{Settings, catalogue::Catalogue, output, schemas, settings::Overrides, topics};

/// Quadrille: event-choreographed services on Kafka.
#[derive(Debug, Parser)]
#[command(name = "quadrille", version, max_term_width = 120, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    world: World,
    #[command(subcommand)]
    command: Command,
}

/// Where to work; the environment's QUADRILLE__<SECTION>__<KEY> say the same.
#[derive(Args, Debug)]
struct World {
    /// The Kafka brokers, host:port [QUADRILLE__KAFKA__BROKERS, default 127.0.0.1:9092]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// The schema registry's Confluent API [QUADRILLE__REGISTRY__URL]
    #[arg(long, global = true, value_name = "URL")]
    registry: Option<String>,
    /// An isolated world's topic prefix [QUADRILLE__KAFKA__TOPIC_PREFIX]
    #[arg(long, global = true, value_name = "PREFIX")]
    topic_prefix: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Topics, as schemas/topics.toml declares them.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Schemas: registered, checked, frozen.
    #[command(subcommand)]
    Schemas(SchemasCommand),
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    /// Make missing topics and correct settings that differ; a differing partition count is refused.
    Apply {
        /// How many brokers keep each record [the broker's default]
        #[arg(long)]
        replication_factor: Option<u16>,
        #[command(flatten)]
        from: From,
    },
    /// Show every declared topic and whether it is as declared.
    List {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
enum SchemasCommand {
    /// Register every schema that is not registered yet, after checking its compatibility.
    Apply {
        #[command(flatten)]
        from: From,
    },
    /// Check schemas against our rules, their frozen versions and what is registered.
    Check {
        #[command(flatten)]
        from: From,
        /// Leave the registry out
        #[arg(long)]
        offline: bool,
    },
    /// Keep each changed schema as a new version in schemas/<topic>/versions.
    Freeze {
        #[command(flatten)]
        from: From,
    },
    /// Show every subject with id and state.
    List {
        #[command(flatten)]
        from: From,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Args, Debug)]
struct From {
    /// The schemas folder [the one around this folder, else what was built in]
    #[arg(long, value_name = "FOLDER")]
    schemas: Option<PathBuf>,
}

impl From {
    fn catalogue(&self) -> anyhow::Result<Catalogue> {
        Catalogue::load(self.schemas.as_deref())
    }
}

#[derive(Args, Debug)]
struct Form {
    /// JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// Runs the command that the process was started with.
pub async fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", output::failure(&error));
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let World {
        brokers,
        registry,
        topic_prefix,
    } = cli.world;
    let settings = Settings::load(Overrides {
        brokers,
        registry,
        topic_prefix,
    })?;
    match cli.command {
        Command::Topics(TopicsCommand::Apply {
            replication_factor,
            from,
        }) => {
            topics::apply(&settings, &from.catalogue()?.topics, replication_factor).await?;
        }
        Command::Topics(TopicsCommand::List { from, form }) => {
            topics::list(&settings, &from.catalogue()?.topics, form.json).await?;
        }
        Command::Schemas(SchemasCommand::Apply { from }) => schemas::apply(&settings, &from.catalogue()?).await?,
        Command::Schemas(SchemasCommand::Check { from, offline }) => {
            schemas::check(&settings, from.schemas.as_deref(), offline).await?;
        }
        Command::Schemas(SchemasCommand::Freeze { from }) => schemas::freeze(from.schemas.as_deref())?,
        Command::Schemas(SchemasCommand::List { from, form }) => {
            schemas::list(&settings, &from.catalogue()?, form.json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
