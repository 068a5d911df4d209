//! What all parts of an instance stand on.

use std::sync::Arc;

use anyhow::Context;
use quadrille_kafka::{Connection, Registry};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{config::Config, database::Database, generation, health::Health, limits};

/// The infrastructure of one instance, as its parts reach it.
pub(crate) struct Resources {
    pub service: &'static str,
    /// Which generation of its rows it keeps, where it is a projection; else 1.
    pub generation: u16,
    /// This instance's name, new at each start.
    pub instance: String,
    pub kafka: Connection,
    pub registry: Registry,
    /// The service's database, as it is configured.
    configured: PgConnectOptions,
    /// How the relay makes the connection that its lease lives on.
    pub database: PgConnectOptions,
    pub pool: Database,
    pub health: Arc<Health>,
}

impl Resources {
    /// Prepares clients; nothing is asked of anybody yet.
    pub fn new<C>(service: &'static str, generation: u16, config: &Config<C>) -> anyhow::Result<Self> {
        // One TLS stack for all but librdkafka, which has OpenSSL's; a second service in the same process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database: PgConnectOptions = config.database.url.parse().context("database.url")?;
        Ok(Self {
            service,
            generation,
            instance: format!("{service}-{}", uuid::Uuid::now_v7().simple()),
            kafka: config.kafka.clone(),
            registry: Registry::new(&config.registry, limits::REGISTRY)?,
            pool: pool(&database, generation, config),
            // A delete that is lost in a crash of the server is a repeat, and the outbox is read in the order of its index.
            database: by_index(&database).options([("synchronous_commit", "off"), ("enable_sort", "off")]),
            configured: database,
            health: Arc::default(),
        })
    }

    /// The group in which this instance's generation reads.
    pub fn group(&self) -> String {
        quadrille_core::group(self.service, self.generation)
    }

    /// The database for a service's own routes, of so many connections: read-only, and beside the pool, so that no page takes the worker's.
    /// Plans are the server's own: a page may well read a whole table.
    pub fn read_only(&self, connections: u32) -> PgPool {
        let statement = format!("{}ms", limits::ROUTE.as_millis());
        let read_only = [("default_transaction_read_only", "on"), ("statement_timeout", &statement)];
        let options = generation::searched(self.configured.clone().options(read_only), self.generation);
        PgPoolOptions::new().max_connections(connections).acquire_timeout(limits::CONNECT).connect_lazy_with(options)
    }

    /// The database as a generation takes it over: plans are the server's own, as a whole table is copied.
    pub fn taking_over(&self) -> PgConnectOptions {
        let statement = format!("{}ms", limits::STATEMENT.as_millis());
        let silence = format!("{}ms", self.kafka.session_timeout_ms);
        let database = bounded_locks(self.configured.clone())
            .options([("statement_timeout", statement), ("idle_in_transaction_session_timeout", silence)])
            // A process that dies in the middle of a copy leaves it to nobody.
            .options([("client_connection_check_interval", "5s")]);
        generation::searched(database, self.generation)
    }
}

/// The same database, where a lock is waited for no longer than [`limits::LOCK`].
pub(crate) fn bounded_locks(database: PgConnectOptions) -> PgConnectOptions {
    database.options([("lock_timeout", format!("{}ms", limits::LOCK.as_millis()))])
}

fn pool<C>(database: &PgConnectOptions, generation: u16, config: &Config<C>) -> Database {
    // A process that is suspended within a transaction would keep its rows locked for as long as it sleeps, whoever waits for them.
    // It loses them when it loses its partitions; what it held is tried again, or met in the inbox.
    let silence = format!("{}ms", config.kafka.session_timeout_ms);
    let options = by_index(database).options([("idle_in_transaction_session_timeout", silence)]);
    Database::new(generation::searched(options, generation), config.database.connections)
}

/// Every statement finds its rows by an index: a plan made while a table was empty must not scan it once it is full.
fn by_index(database: &PgConnectOptions) -> PgConnectOptions {
    let off = ["enable_seqscan", "enable_bitmapscan"].map(|scan| (scan, "off"));
    let statement = format!("{}ms", limits::STATEMENT.as_millis());
    database
        .clone()
        .options(off)
        // With scans off a plan's cost says nothing, and by cost a server with JIT would compile what takes a millisecond.
        .options([("plan_cache_mode", "force_generic_plan"), ("jit", "off")])
        .options([("statement_timeout", statement)])
}
