//! A service: a policy, a store and an outside, run on Kafka and PostgreSQL.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use axum::Router;
use clap::{Parser, Subcommand};
use quadrille_core::Policy;
use quadrille_program::{complain, environment, hide_secrets, print_line, quietly};
use sqlx::{
    migrate::{Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    config::{self, Config, NoSettings, Settings},
    context::Context,
    instance, migrations,
    outside::{NoOutside, Outside},
    published::{self, Topics},
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
    pub(crate) routes: Option<Routes<S::Policy>>,
    migrations: Vec<Migration>,
    http: &'static str,
}

/// Makes a service's own routes.
pub(crate) type Routes<P> = Box<dyn FnOnce(Context<P>) -> Router + Send>;

/// Makes an outside from its settings.
type Connect<C, O> = Box<dyn FnOnce(C) -> anyhow::Result<O> + Send>;

impl<S: Store> Service<S> {
    /// A service without effects.
    pub fn new(store: S) -> Self {
        let outside = Box::new(|_| Ok(NoOutside::default()));
        Self { store, migrations: vec![], http: "127.0.0.1:0", has_effects: false, outside, routes: None }
    }
}

impl<S, O, C> Service<S, O, C>
where
    S: Store,
    O: Outside<Policy = S::Policy>,
    C: Settings,
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

    /// The service's own routes, beside health and metrics (whose paths it leaves alone: `/health`, `/health/..`, `/metrics`), from the moment on
    /// that the instance listens: what it answers before it is ready is its own business.
    ///
    /// So many requests as `http.requests` are answered at once, and one more is refused (503); a body has 256 KiB at most (413), and an answer
    /// begins within 10 s (504). A stream that is open counts as a request.
    #[must_use]
    pub fn routes(mut self, routes: impl FnOnce(Context<S::Policy>) -> Router + Send + 'static) -> Self {
        self.routes = Some(Box::new(routes));
        self
    }

    /// The outside that performs the service's effects, made from its settings (`outside` in the configuration).
    #[must_use]
    pub fn outside<C2, O2>(self, connect: impl FnOnce(C2) -> anyhow::Result<O2> + Send + 'static) -> Service<S, O2, C2>
    where
        O2: Outside<Policy = S::Policy>,
        C2: Settings,
    {
        Service {
            store: self.store,
            migrations: self.migrations,
            http: self.http,
            has_effects: true,
            outside: Box::new(connect),
            routes: self.routes,
        }
    }

    /// The defaults of this service's configuration.
    pub fn defaults(&self) -> Config<C> {
        let mut defaults = Config::of(S::Policy::SERVICE);
        defaults.http.bind = self.http.to_owned();
        defaults
    }

    /// The whole of a `main`: `run` (the default), `migrate`, `accept-topics` and `config`.
    pub fn main(self) -> ExitCode {
        let command = Arguments::parse().command.unwrap_or(Command::Run);
        quietly(|| match self.carry_out(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(hide_secrets(&format!("{}: {error:#}", S::Policy::SERVICE)));
                ExitCode::FAILURE
            }
        })
    }

    fn carry_out(self, command: Command) -> anyhow::Result<()> {
        let loaded = config::load(&self.defaults(), &environment()?)?;
        if let Command::Config = command {
            print_line(format_args!("{}", loaded.describe().trim_end()));
            return Ok(());
        }
        let config = loaded.settings;
        telemetry::init_logs(&config.log)?;
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = match command {
            Command::Migrate => tokio.block_on(self.migrate(&config.database.migrate_url)),
            Command::AcceptTopics { who, why } => tokio
                .block_on(self.accept_topics(&config, &who, &why))
                .map(|accepted| print_line(format_args!("{accepted}"))),
            _ => tokio.block_on(self.run_until(config, terminated())),
        };
        // Threads that wait for an absent broker do not hold up the end.
        tokio.shutdown_timeout(Duration::from_millis(500));
        result
    }

    /// Brings the database's tables to this build's version. Needs a role that may create tables. One that a newer build has migrated is
    /// refused.
    pub async fn migrate(&self, url: &str) -> anyhow::Result<()> {
        let options: PgConnectOptions = url.parse().context("database.migrate_url")?;
        let pool =
            PgPoolOptions::new().max_connections(1).connect_with(options).await.with_context(|| {
                format!("the database at {} (database.migrate_url) does not answer", hide_secrets(url))
            })?;
        let all = self.all_migrations();
        match migrations::applied(&pool).await {
            Ok(applied) => drop(migrations::compare(&all, &applied)?),
            Err(error) if migrations::is_missing(&error) => {}
            Err(error) => return Err(error).context("what the database was migrated with cannot be read"),
        }
        let mut tx = pool.begin().await?;
        self.store.prepare(&mut tx).await.map_err(anyhow::Error::from_boxed)?;
        tx.commit().await?;
        Migrator::with_migrations(all).run(&pool).await?;
        info!(service = S::Policy::SERVICE, "The database is migrated");
        pool.close().await;
        Ok(())
    }

    /// Accepts the service's topics as they are, where its database disagrees with them: then its relay goes on. Says what was accepted; who and
    /// why are kept in the database.
    pub async fn accept_topics(&self, config: &Config<C>, who: &str, why: &str) -> anyhow::Result<String> {
        let database: PgConnectOptions = config.database.url.parse().context("database.url")?;
        let topics = Topics::new(&config.kafka, S::Policy::SERVICE, published::topics::<S::Policy>())?;
        published::accept(topics, &database, who, why).await
    }

    /// All that this build's database has had.
    pub(crate) fn all_migrations(&self) -> Vec<Migration> {
        RUNTIME_TABLES.iter().chain(&self.migrations).cloned().collect()
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

#[derive(Subcommand)]
enum Command {
    /// Run the service (the default)
    Run,
    /// Bring the service's database to this build's version, as the migrator role
    Migrate,
    /// Accept this service's topics as they are, where they hold what its database does not know: read docs/operating.md first
    AcceptTopics {
        /// Who accepts: a name or an address
        #[arg(long)]
        who: String,
        /// Why, in your own words
        #[arg(long)]
        why: String,
    },
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
