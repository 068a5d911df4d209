//! A service: a policy, a store and an outside, run on Kafka and PostgreSQL.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use quadrille_core::Policy;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    migrate::{Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    config::{self, Config, NoSettings},
    instance,
    outside::{NoOutside, Outside},
    store::Store,
    telemetry,
};

/// The runtime's own tables.
static RUNTIME_TABLES: Migrator = sqlx::migrate!();
/// A service before it runs.
pub struct Service<S: Store, O = NoOutside<<S as Store>::Policy>, C = NoSettings> {
    pub(crate) store: S,
    pub(crate) has_effects: bool,
    pub(crate) outside: Connect<C, O>,
    migrations: Vec<Migration>,
    http: &'static str,
}

/// Makes an outside from its settings.
type Connect<C, O> = Box<dyn FnOnce(C) -> anyhow::Result<O> + Send>;

impl<S: Store> Service<S> {
    /// A service without effects.
    pub fn new(store: S) -> Self {
        let outside = Box::new(|_| Ok(NoOutside::default()));
        Self { store, migrations: vec![], http: "127.0.0.1:0", has_effects: false, outside }
    }
}

impl<S, O, C> Service<S, O, C>
where
    S: Store,
    O: Outside<Policy = S::Policy>,
    C: Serialize + DeserializeOwned + Default + Clone + Send + 'static,
{
    /// The migrations of the service's own tables. The runtime's come before them.
    #[must_use]
    pub fn migrations(mut self, migrations: &Migrator) -> Self {
        self.migrations.extend(migrations.iter().cloned());
        self
    }

    /// Where the first instance's health and metrics listen, unless `http.bind` says otherwise.
    #[must_use]
    pub fn http(mut self, bind: &'static str) -> Self {
        self.http = bind;
        self
    }

    /// The outside that performs the service's effects, made from its settings (`outside` in the configuration).
    #[must_use]
    pub fn outside<C2, O2>(self, connect: impl FnOnce(C2) -> anyhow::Result<O2> + Send + 'static) -> Service<S, O2, C2>
    where
        O2: Outside<Policy = S::Policy>,
    {
        Service {
            store: self.store,
            migrations: self.migrations,
            http: self.http,
            has_effects: true,
            outside: Box::new(connect),
        }
    }

    /// The defaults of this service's configuration.
    pub fn defaults(&self) -> Config<C> {
        let mut defaults = Config::of(S::Policy::SERVICE);
        defaults.http.bind = self.http.to_owned();
        defaults
    }

    /// The whole of a `main`: `run` (the default), `migrate` and `config`.
    pub fn main(self) -> ExitCode {
        let arguments = Arguments::parse();
        let result = config::load(self.defaults(), std::env::vars()).map_err(anyhow::Error::from).and_then(|loaded| {
            match arguments.command.unwrap_or(Command::Run) {
                Command::Config => {
                    print!("{}", loaded.describe());
                    Ok(())
                }
                command => {
                    telemetry::init_logs(&loaded.config.log)?;
                    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                    let result = match command {
                        Command::Migrate => tokio.block_on(self.migrate(&loaded.config.database.migrate_url)),
                        _ => tokio.block_on(self.run_until(loaded.config, terminated())),
                    };
                    // Threads that wait for an absent broker do not hold up the end.
                    tokio.shutdown_timeout(Duration::from_millis(500));
                    result
                }
            }
        });
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error:#}", S::Policy::SERVICE);
                ExitCode::FAILURE
            }
        }
    }

    /// Brings the database's tables to this build's version. Needs a role that may create tables.
    pub async fn migrate(&self, url: &str) -> anyhow::Result<()> {
        let options: PgConnectOptions = url.parse().context("database.migrate_url")?;
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.with_context(|| {
            format!("the database at {} (database.migrate_url) does not answer", config::hide_password(url))
        })?;
        self.migrator().run(&pool).await?;
        info!(service = S::Policy::SERVICE, "The database is migrated");
        pool.close().await;
        Ok(())
    }

    fn migrator(&self) -> Migrator {
        let all = RUNTIME_TABLES.iter().chain(&self.migrations).cloned().collect();
        let mut migrator = Migrator::with_migrations(all);
        // While versions are mixed an older build meets what a newer one has migrated.
        migrator.set_ignore_missing(true);
        migrator
    }

    /// Runs until `shutdown`, then stops taking, finishes what is in hand, publishes it, commits its offsets and leaves: within ten seconds.
    pub async fn run_until(self, config: Config<C>, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let running = instance::run(self, config, stop.clone());
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => ended,
            () = shutdown => {
                info!(service = S::Policy::SERVICE, "Stopping");
                stop.cancel();
                running.await
            }
        }
    }
}

#[derive(Parser)]
#[command(about = "A Quadrille service", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq)]
enum Command {
    /// Run the service (the default)
    Run,
    /// Bring the service's database to this build's version, as the migrator role
    Migrate,
    /// Show the configuration in force and where each value comes from
    Config,
}

/// Resolves when the process is asked to end. A second request changes nothing: the first is being followed.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        (Err(error), _) | (_, Err(error)) => error!(%error, "Signals cannot be heard"),
    }
}
