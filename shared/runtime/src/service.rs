//! A service: a policy, a store and an outside, run on Kafka and PostgreSQL.

use std::{
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use quadrille_core::{Policy, Records};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    PgPool,
    migrate::{Migration, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::{self, Config, NoSettings},
    consumer::Consumer,
    dead_letters,
    decode::Decoder,
    effects::Performer,
    health::{self, Health},
    heartbeat,
    kafka::{self, Topics},
    outside::{NoOutside, Outside},
    registry::Registry,
    relay::{Relay, Wake},
    store::Store,
    telemetry::{self, Spans},
    timers,
    transaction::Transactions,
    worker::Worker,
};

/// The runtime's own tables.
static RUNTIME_TABLES: Migrator = sqlx::migrate!();
/// What a wait for infrastructure sleeps between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long a stop waits for the batch in hand, and then for the outbox to empty.
const FINISH: Duration = Duration::from_secs(4);

/// A service before it runs.
pub struct Service<S: Store, O = NoOutside<<S as Store>::Policy>, C = NoSettings> {
    store: S,
    migrations: Vec<Migration>,
    http: &'static str,
    has_effects: bool,
    outside: Box<dyn FnOnce(C) -> anyhow::Result<O> + Send>,
}

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
        let running = self.run(config, stop.clone());
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

    async fn run(self, config: Config<C>, stop: CancellationToken) -> anyhow::Result<()> {
        let service = S::Policy::SERVICE;
        // One TLS stack for all; a second service in the same process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let instance = format!("{service}-{}", uuid::Uuid::now_v7().simple());
        let started_at = chrono::Utc::now();
        let health = Arc::new(Health::default());
        let listener = listen(&config.http.bind, config.instance).await?;
        let http = listener.local_addr()?;
        info!(service, instance, "Health and metrics on http://{http}");
        let mut tasks = JoinSet::new();
        let router = health::router(Arc::clone(&health), metrics()?.clone());
        tasks.spawn(async move { axum::serve(listener, router).await.context("the health server") });

        let types: Vec<_> = S::Policy::types().collect();
        let registry = Registry::new(&config.registry.url)?;
        let database: PgConnectOptions = config.database.url.parse().context("database.url")?;
        let pool = pool(&database, config.database.connections);
        let ready = async {
            topics(&config.kafka, &types, &health).await?;
            tables(&pool, &health).await;
            schemas::<S::Policy>(&registry, &health).await
        };
        let schema_ids = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            ids = ready => ids?,
        };

        let retention = quadrille_events::TOPICS
            .iter()
            .filter_map(|topic| Some((topic.name.as_ref(), i64::try_from(topic.retention?.as_millis()).ok()?)))
            .collect();
        let decoder = Arc::new(Decoder::new::<<S::Policy as Policy>::Heard>(registry.clone(), retention));
        let consumer = Arc::new(Consumer::subscribe::<S::Policy>(&config.kafka, &instance, Arc::clone(&health))?);
        let (worker, arrivals) = mpsc::channel(config.batch.waiting);
        let (relay_wake, effects_wake, timers_wake) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
        let owner = Arc::new(AtomicBool::default());
        let wake = || Wake { pool: pool.clone(), owner: Arc::clone(&owner), local: Arc::clone(&relay_wake) };

        // In the order in which a stop ends them: what takes, what works, what publishes.
        let polling_stopped = Arc::new(AtomicBool::default());
        let poller = {
            let (consumer, decoder, worker) = (Arc::clone(&consumer), decoder, worker.clone());
            let stopped = Arc::clone(&polling_stopped);
            let tokio = tokio::runtime::Handle::current();
            std::thread::Builder::new()
                .name(format!("{service}-consumer"))
                .spawn(move || consumer.run(decoder, worker, stopped, tokio))?
        };
        let taking = stop.child_token();
        tasks.spawn(done(timers::run::<S::Policy>(
            pool.clone(),
            worker.clone(),
            Arc::clone(&timers_wake),
            taking.clone(),
        )));
        if self.has_effects {
            let outside = (self.outside)(config.outside.clone()).context("the outside")?;
            let performer = Performer {
                pool: pool.clone(),
                outside,
                config: config.effects.clone(),
                worker: worker.clone(),
                wake: Arc::clone(&effects_wake),
            };
            tasks.spawn(done(performer.run(taking.clone())));
        }
        drop(worker);

        let spans = Spans::new(service, &config.telemetry.otlp_endpoint)?;
        let transactions = Transactions {
            pool: pool.clone(),
            store: self.store,
            spans: spans.clone(),
            schema_ids,
            has_effects: self.has_effects,
        };
        let work = Worker {
            transactions,
            arrivals,
            consumer: Arc::clone(&consumer),
            config: config.batch.clone(),
            health: Arc::clone(&health),
            relay: wake(),
            effects: effects_wake,
            timers: timers_wake,
        };
        let mut working = tokio::spawn(work.run(taking.clone()));

        let (publishing, abort) = (CancellationToken::new(), CancellationToken::new());
        let relay = Relay {
            database: database.clone(),
            kafka: config.kafka.clone(),
            service,
            instance: instance.clone(),
            wake: Arc::clone(&relay_wake),
            owner: Arc::clone(&owner),
            health: Arc::clone(&health),
        };
        let mut relaying = tokio::spawn(relay.run(publishing.clone(), abort.clone()));
        tasks.spawn(done(wake().listen(taking.clone())));
        let lane = dead_letters::Lane {
            pool: pool.clone(),
            kafka: config.kafka.clone(),
            registry: registry.clone(),
            service,
            health: Arc::clone(&health),
        };
        tasks.spawn(done(lane.run(taking.clone())));
        let beat = heartbeat::Heartbeat {
            kafka: config.kafka.clone(),
            registry,
            health: Arc::clone(&health),
            instance,
            service,
            http: http.to_string(),
            hears: types.iter().map(|t| t.name.to_owned()).collect(),
            started_at,
        };
        let beating = tokio::spawn(beat.run(taking.clone()));
        health.ok("kafka");
        info!(service, "Ready");

        let unexpected = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut working => Some(format!("the worker ended: {ended:?}")),
            ended = &mut relaying => Some(format!("the relay ended: {ended:?}")),
            Some(ended) = tasks.join_next() => Some(format!("a part ended: {ended:?}")),
        };
        health.stopping();
        taking.cancel();
        polling_stopped.store(true, Ordering::Relaxed);
        if !working.is_finished() && tokio::time::timeout(FINISH, &mut working).await.is_err() {
            warn!("The batch in hand was not committed in time: nothing of it has happened, it comes again");
            working.abort();
        }
        publishing.cancel();
        relay_wake.notify_one();
        if !relaying.is_finished() && tokio::time::timeout(FINISH, &mut relaying).await.is_err() {
            warn!("The outbox was not emptied in time: it is published by the next owner");
            abort.cancel();
            let _ = tokio::time::timeout(Duration::from_millis(300), relaying).await;
        }
        let leave = tokio::task::spawn_blocking(move || {
            let _ = poller.join();
            consumer.commit();
            // The last one that holds the consumer leaves the group.
            drop(consumer);
            spans.shutdown();
        });
        let _ = tokio::time::timeout(Duration::from_millis(1_200), async { tokio::join!(leave, beating) }).await;
        tasks.abort_all();
        match unexpected {
            None => Ok(info!(service, "Stopped")),
            Some(what) => {
                error!(service, "{what}");
                bail!(what)
            }
        }
    }
}

/// The types of a policy.
trait Types: Policy {
    fn types() -> impl Iterator<Item = quadrille_core::RecordType> {
        Self::Heard::TYPES.iter().chain(Self::Stated::TYPES).copied()
    }
}
impl<P: Policy> Types for P {}

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

async fn done(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    // A part that ends because it was told to is no news; the stop goes on meanwhile.
    Ok(std::future::pending::<()>().await)
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

async fn listen(bind: &str, instance: u16) -> anyhow::Result<TcpListener> {
    let mut address: std::net::SocketAddr =
        bind.parse().with_context(|| format!("http.bind '{bind}' is no address like 127.0.0.1:9101"))?;
    if instance == 0 {
        bail!("instance is counted from 1");
    }
    if address.port() != 0 {
        let port = u32::from(address.port()) + 100 * u32::from(instance - 1);
        address.set_port(u16::try_from(port).with_context(|| format!("instance {instance} has no port left"))?);
    }
    TcpListener::bind(address).await.with_context(|| format!("http.bind: {address} is not free"))
}

/// The process's metrics: installed by the first service in it.
fn metrics() -> anyhow::Result<&'static PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle);
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets(&[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0])?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        // Another service of this process was faster; its handle is in place or about to be.
        return Ok(HANDLE.get_or_init(|| handle));
    }
    Ok(HANDLE.get_or_init(|| handle))
}

fn pool(database: &PgConnectOptions, connections: u32) -> PgPool {
    // Every statement finds its rows by key: a plan made while a table was empty must not scan it once it is full.
    let options = database.clone().options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

async fn topics(kafka: &config::Kafka, types: &[quadrille_core::RecordType], health: &Health) -> anyhow::Result<()> {
    loop {
        let (kafka, types) = (kafka.clone(), types.to_vec());
        match tokio::task::spawn_blocking(move || kafka::check_topics(&kafka, &types)).await? {
            Topics::Ready => return Ok(health.ok("kafka")),
            Topics::Refused(cause) => bail!(cause),
            Topics::Waiting(cause) => {
                warn!("Waiting: {cause}");
                health.error("kafka", &cause);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn tables(pool: &PgPool, health: &Health) {
    while let Err(error) = sqlx::query("select from inbox limit 0").execute(pool).await {
        let missing = error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01"));
        let cause = match missing {
            true => "the database has no tables yet: run this service's `migrate`".to_owned(),
            false => format!("the database (database.url) does not answer: {error}"),
        };
        warn!("Waiting: {cause}");
        health.error("database", &cause);
        tokio::time::sleep(LOOK).await;
    }
    health.ok("database");
}

/// The schema ids of what the service states. What it hears must be registered too: else the registry has lost its data.
async fn schemas<P: Policy>(registry: &Registry, health: &Health) -> anyhow::Result<Vec<u32>> {
    loop {
        let found = async {
            let heard = registry.ids_of(P::Heard::TYPES).await?;
            heard.map_err(|subject| registry.lost(&subject))?;
            let stated = registry.ids_of(P::Stated::TYPES).await?;
            stated.map_err(|subject| registry.lost(&subject))
        };
        match found.await {
            Ok(ids) => {
                health.ok("registry");
                return Ok(ids);
            }
            Err(error) => {
                warn!("Waiting: {error}");
                health.error("registry", &error.to_string());
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
