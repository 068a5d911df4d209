//! A service: a policy, a store and an outside, run on Kafka and PostgreSQL.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use axum::Router;
use clap::{Parser, Subcommand};
use quadrille_core::Policy;
use quadrille_program::{complain, environment, hide_secrets, print_line, quietly};
use sqlx::{
    ConnectOptions, Connection,
    migrate::{Migration, Migrator},
    postgres::PgConnectOptions,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    config::{self, Config, NoSettings, Settings},
    context::Context,
    generation, instance,
    migrations::{self, Migrated},
    operators::By,
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
    pub(crate) generation: u16,
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
        Self {
            store,
            migrations: vec![],
            http: "127.0.0.1:0",
            has_effects: false,
            outside,
            routes: None,
            generation: generation::FIRST,
        }
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

    /// Which generation of its rows this build keeps, of a service that only listens; 1 unless said otherwise.
    ///
    /// A build whose rows come out different is given a higher number than the one that serves. Its `migrate` makes tables of its own, in a
    /// schema `g<number>`; its instances fill them from all that the topics hold, with what [`Store::take_over`] takes of the old rows,
    /// while instances of the old build go on to answer. Until it has caught up with every partition its instances are unready, and their
    /// own routes are refused (503); then it serves. Old instances keep their generation up to date for as long as they run. A number that was
    /// dropped is refused for ever.
    #[must_use]
    pub fn generation(mut self, number: u16) -> Self {
        self.generation = number;
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
            generation: self.generation,
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

    /// The whole of a `main`: `run` (the default), `migrate`, `accept-topics`, `drop-generation` and `config`.
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
            Command::AcceptTopics(by) => {
                tokio.block_on(self.accept_topics(&config, &by)).map(|accepted| print_line(format_args!("{accepted}")))
            }
            Command::DropGeneration { number, by } => tokio
                .block_on(self.drop_generation(&config, number, &by))
                .map(|dropped| print_line(format_args!("{dropped}"))),
            _ => tokio.block_on(self.run_until(config, terminated())),
        };
        // Threads that wait for an absent broker do not hold up the end.
        tokio.shutdown_timeout(Duration::from_millis(500));
        result
    }

    /// Brings the database's tables to this build's version. Needs a role that may create tables. One that a newer build has migrated is
    /// refused, as is a generation that was dropped.
    pub async fn migrate(&self, url: &str) -> anyhow::Result<()> {
        generation::check::<S::Policy>(self.generation)?;
        let options: PgConnectOptions = url.parse().context("database.migrate_url")?;
        let connect = async |options: PgConnectOptions| {
            options.connect().await.with_context(|| {
                format!("the database at {} (database.migrate_url) does not answer", hide_secrets(url))
            })
        };
        let schemas = self.migrated();
        generation::check_not_dropped(&mut connect(options.clone()).await?, self.generation).await?;
        for migrated in &schemas {
            let mut database = connect(options.clone()).await?;
            match migrated.applied(&mut database).await {
                Ok(applied) => drop(migrations::compare(&migrated.migrations, &applied)?),
                Err(error) if migrations::is_missing(&error) => {}
                Err(error) => return Err(error).context("what the database was migrated with cannot be read"),
            }
        }
        for Migrated { schema, migrations, beside_others } in schemas {
            let mut database = match &schema {
                None => connect(options.clone()).await?,
                // In this schema alone: a name that it does not have is not to be found in another generation's.
                Some(schema) => connect(options.clone().options([("search_path", schema)])).await?,
            };
            if !beside_others {
                if schema.is_some() {
                    generation::make_schema(&mut database, self.generation).await?;
                }
                let mut tx = database.begin().await?;
                self.store.prepare(&mut tx).await.map_err(anyhow::Error::from_boxed)?;
                tx.commit().await?;
            }
            let mut migrator = Migrator::with_migrations(migrations);
            migrator.set_ignore_missing(beside_others).run(&mut database).await?;
            database.close().await?;
        }
        info!(service = S::Policy::SERVICE, generation = self.generation, "The database is migrated");
        Ok(())
    }

    /// Drops a generation that no instance keeps, for good, while another one that is kept serves: its rows, positions and open dead letters. Of
    /// the first one the tables of [`Policy::TABLES`] go. Says what was dropped; who and why are kept in the database. Needs the migrator's role,
    /// and a broker that answers.
    pub async fn drop_generation(&self, config: &Config<C>, number: u16, by: &By) -> anyhow::Result<String> {
        let database: PgConnectOptions = config.database.migrate_url.parse().context("database.migrate_url")?;
        generation::drop::<S::Policy>(&database, &config.kafka, number, by).await
    }

    /// Accepts the service's topics as they are, where its database disagrees with them: then its relay goes on. Says what was accepted; who and
    /// why are kept in the database.
    pub async fn accept_topics(&self, config: &Config<C>, by: &By) -> anyhow::Result<String> {
        let database: PgConnectOptions = config.database.url.parse().context("database.url")?;
        let topics = Topics::new(&config.kafka, S::Policy::SERVICE, published::topics::<S::Policy>())?;
        published::accept(topics, &database, by).await
    }

    /// All that this build's database has had: of a later generation the service's own in a schema of theirs.
    pub(crate) fn migrated(&self) -> Vec<Migrated> {
        let (runtime, own) = (RUNTIME_TABLES.iter().cloned(), self.migrations.iter().cloned());
        match self.generation {
            generation::FIRST => {
                vec![Migrated { schema: None, migrations: runtime.chain(own).collect(), beside_others: false }]
            }
            number => vec![
                Migrated { schema: Some("public".to_owned()), migrations: runtime.collect(), beside_others: true },
                Migrated { schema: Some(generation::schema(number)), migrations: own.collect(), beside_others: false },
            ],
        }
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
    AcceptTopics(By),
    /// Drop a generation of this read model that no instance keeps any more, as the migrator role: read docs/operating.md first
    DropGeneration {
        /// Its number
        number: u16,
        #[command(flatten)]
        by: By,
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
