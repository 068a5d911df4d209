//! An example in a world of its own, `tally` unless another one is named, as instances in this process or in others.

#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../examples/tally/main.rs"]
pub mod tally;

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use quadrille_cli::kafka::{Admin, Record};
use quadrille_core::{Fact, Policy, Record as _, ids};
use quadrille_events::{StockReplenished, StockReplenishmentRequested, TOPICS};
use quadrille_platform::DeadLetter;
use quadrille_runtime::{
    Config, Mapped, Outside, Service, Store,
    config::{Log, LogFormat},
    table,
};
use quadrille_testkit::{Database, World, decoded};
use rdkafka::{
    ClientConfig,
    admin::{NewTopic, TopicReplication},
    producer::{FutureProducer, FutureRecord},
};
use sqlx::{PgConnection, migrate::Migrator};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An example's topics and database.
pub struct Shop {
    pub world: World,
    pub database: Database,
    pub producer: FutureProducer,
    service: &'static str,
    value: Vec<u8>,
}

/// An instance in this process.
pub struct Instance {
    pub at: At,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

/// The IP address and port where an instance listens.
#[derive(Clone)]
pub struct At(pub String);

impl At {
    /// One that is free.
    pub fn free() -> anyhow::Result<Self> {
        Ok(Self(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string()))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }

    /// Whether it says that it is live, or ready; nothing where it does not answer.
    pub async fn is(&self, what: &str) -> Option<bool> {
        Some(reqwest::get(self.url(&format!("/health/{what}"))).await.ok()?.status().is_success())
    }

    /// Waits until it says that it is live, or ready, or that it is not.
    pub async fn says(&self, what: &str, wanted: bool, within: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.is(what).await != Some(wanted) {
            anyhow::ensure!(began.elapsed() < within, "within {within:?} it did not say {what}: {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Instance {
    /// Starts an instance, at any port that is free then.
    pub fn start<S: Store, O: Outside<Policy = S::Policy>>(service: Service<S, O>, config: Config) -> Self {
        let (at, stop) = (At(config.http.bind.clone()), CancellationToken::new());
        let stopped = stop.clone().cancelled_owned();
        Self { at, stop, ended: tokio::spawn(service.run_until(config, stopped)) }
    }

    /// The same at a port that is known beforehand, by `at`.
    pub fn listening<S: Store>(service: Service<S>, mut config: Config) -> anyhow::Result<Self> {
        config.http.bind = At::free()?.0;
        Ok(Self::start(service, config))
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.ended.await?
    }

    /// Drops it half-way, as a caller does who no longer waits for it.
    pub async fn give_up(self) {
        self.ended.abort();
        let ended = self.ended.await;
        assert!(ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled), "{ended:?}");
    }
}

/// An instance in a process of its own, with its log.
pub struct Logged {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Logged {
    pub fn start(shop: &Shop) -> anyhow::Result<Self> {
        let mut process = shop.command().stdout(Stdio::piped()).spawn()?;
        let out = process.stdout.take().expect("it is piped");
        Ok(Self { process, lines: BufReader::new(out).lines() })
    }

    /// Waits for a line with this text.
    pub async fn says(&mut self, text: &str) -> anyhow::Result<String> {
        let line = async {
            while let Some(line) = self.lines.next_line().await? {
                if line.contains(text) {
                    return Ok(line);
                }
            }
            anyhow::bail!("it ended without saying '{text}'")
        };
        tokio::time::timeout(Duration::from_secs(60), line).await?
    }

    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }
}

pub fn service() -> Service<tally::Table> {
    Service::new(tally::Table).migrations(&tables())
}

/// A new database with this service's tables.
pub async fn migrated<S: Store>(service: Service<S>) -> anyhow::Result<Database> {
    let database = Database::fresh([]).await;
    service.migrate(&database.url()).await?;
    Ok(database)
}

/// The example's tables, which other policies of these tests share.
pub fn tables() -> Migrator {
    sqlx::migrate!("examples/tally")
}

/// A state of nothing but the versions of what was stated, by SKU, in the example's table.
pub type VersionsBySku = BTreeMap<String, i64>;

table! {
    struct VersionRow in "tally" {
        key sku: String,
        version: i64,
    }
}

impl Mapped for VersionRow {
    type Value = i64;

    fn from_value(sku: String, version: &i64) -> Self {
        Self { sku, version: *version }
    }

    fn into_value(self) -> sqlx::Result<i64> {
        Ok(self.version)
    }
}

/// The store of a policy with such a state.
pub struct Versions<P>(PhantomData<P>);

impl<P: Policy<State = VersionsBySku>> Versions<P> {
    pub fn service() -> Service<Self> {
        Service::new(Self(PhantomData)).migrations(&tables())
    }
}

impl<P: Policy<State = VersionsBySku>> Store for Versions<P> {
    type Policy = P;

    async fn load(
        &self,
        tx: &mut PgConnection,
        _: &str,
        skus: &[String],
        state: &mut VersionsBySku,
    ) -> sqlx::Result<()> {
        VersionRow::load(tx, skus, state).await
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        old: &VersionsBySku,
        new: &VersionsBySku,
        _: &[Fact<P>],
    ) -> sqlx::Result<()> {
        VersionRow::save(tx, old, new).await
    }
}

impl Shop {
    /// `tally`'s.
    pub async fn open() -> anyhow::Result<Self> {
        // The example is none of the shop's services: its dead letters' topic is made where a test wants it.
        Self::of(service(), &[]).await
    }

    /// Another example's, with the dead letters' topics of these services.
    pub async fn of<S: Store>(service: Service<S>, dead_letters_of: &[&str]) -> anyhow::Result<Self> {
        Self::with(Database::fresh([]).await, service, dead_letters_of).await
    }

    /// The same over this database, which is empty.
    pub async fn with<S: Store>(
        database: Database,
        service: Service<S>,
        dead_letters_of: &[&str],
    ) -> anyhow::Result<Self> {
        if let Ok(filter) = std::env::var("QUADRILLE_TEST_LOG") {
            let _ = quadrille_runtime::init_logs(&Log { format: LogFormat::Human, filter });
        }
        let mut world = World::new(TOPICS, dead_letters_of).await?;
        service.migrate(&database.url()).await?;
        let producer = ClientConfig::new().set("bootstrap.servers", &world.settings.kafka.brokers).create()?;
        // Only asks for the schema's id; the value is made anew for each request.
        let value = world.framed(&StockReplenishmentRequested::new("A".into(), Uuid::nil(), 1)).await?;
        Ok(Self { world, database, producer, service: S::Policy::SERVICE, value })
    }

    pub fn config(&self) -> Config {
        self.over(&self.database.url())
    }

    /// The configuration over another database, or over a proxy before its own.
    pub fn over(&self, database: &str) -> Config {
        self.world.config(self.service, database)
    }

    /// An instance of `tally`.
    pub fn start(&self) -> Instance {
        self.start_with(self.config())
    }

    pub fn start_with(&self, config: Config) -> Instance {
        Instance::start(service(), config)
    }

    /// An instance in a process of its own.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        Ok(self.command().stdout(Stdio::null()).spawn()?)
    }

    /// The process that an instance would be.
    pub fn command(&self) -> Command {
        let mut command = Command::new(example(self.service));
        command.envs(self.world.environment(&self.database.url())).env("NO_COLOR", "1").kill_on_drop(true);
        command
    }

    /// Asks for one piece of `sku`, through this partition.
    pub async fn ask(&self, sku: &str, partition: i32) -> anyhow::Result<()> {
        self.ask_for(sku, 1, Some(partition)).await
    }

    pub async fn ask_for(&self, sku: &str, quantity: i32, partition: Option<i32>) -> anyhow::Result<()> {
        let topic = self.world.settings.topic(&StockReplenishmentRequested::TYPE.topic.name);
        let mut value = self.value[..5].to_vec();
        StockReplenishmentRequested::new(sku.into(), Uuid::new_v4(), quantity).encode(&mut value);
        let mut record = FutureRecord::to(&topic).key(sku).payload(&value);
        record.partition = partition;
        self.producer.send(record, None).await.map(drop).map_err(|(error, _)| error.into())
    }

    /// So many pieces came, as the `version`-th event of the SKU.
    pub async fn came(&mut self, sku: &str, version: i64, pieces: i32) -> anyhow::Result<()> {
        let value = self.world.framed(&StockReplenished::new(sku.into(), Uuid::new_v4(), pieces)).await?;
        let headers = [("ce_id", Uuid::new_v4().to_string()), ("ce_aggregateversion", version.to_string())];
        self.world.send_raw("stock.events", Some(sku.as_bytes()), &value, &headers).await?;
        Ok(())
    }

    /// Has the example's dead-letter topic, which is not declared, come to be, and its subject. Returns what removes it.
    pub async fn create_dead_letter_topic(&self) -> anyhow::Result<(Admin, String)> {
        let topic = "tally.dead-letters";
        let physical = self.world.settings.topic(topic);
        let admin = Admin::connect(&self.world.settings.kafka)?;
        admin.create(&[NewTopic::new(&physical, 1, TopicReplication::Fixed(1))]).await?;
        let subject = format!("{topic}-{}", DeadLetter::TYPE.name);
        self.world.settings.registry()?.register(&subject, DeadLetter::TYPE.schema).await?;
        Ok((admin, physical))
    }

    /// Sends an operator's request, and waits for what came of it: the result and its sentence.
    pub async fn operate<R: quadrille_core::Record>(&mut self, request: &R) -> anyhow::Result<(String, String)> {
        let (ce_id, source) = (Uuid::new_v4().to_string(), "/test");
        let value = self.world.framed(request).await?;
        let headers = [("ce_id", ce_id.clone()), ("ce_source", source.to_owned())];
        self.world.send_raw(&R::TYPE.topic.name, Some(request.key().as_bytes()), &value, &headers).await?;
        let id = ids::request(&R::TYPE.topic.name, &request.key(), R::TYPE.name, source, &ce_id);
        let came = "select result, detail from operator_action where id = $1";
        self.row(|pool| sqlx::query_as(came).bind(id).fetch_optional(pool)).await
    }

    /// Waits for a row: nothing tells a test of it.
    pub async fn row<'a, T, F>(&'a self, mut query: impl FnMut(&'a sqlx::PgPool) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = sqlx::Result<Option<T>>>,
    {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(row) = query(&self.database.pool).await? {
                return Ok(row);
            }
            anyhow::ensure!(Instant::now() < deadline, "the row did not come within a minute");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn is(&self, query: &'static str) -> anyhow::Result<bool> {
        let says: Option<bool> = sqlx::query_scalar(query).fetch_one(&self.database.pool).await?;
        Ok(says.unwrap_or(false))
    }

    /// Waits until a query says so.
    pub async fn until(&self, query: &'static str) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.is(query).await? {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "within a minute not: {query}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// What was stated so far, until there are `count` distinct events.
    pub async fn stated(&self, count: usize) -> anyhow::Result<Vec<Record>> {
        self.world.read_until("stock.events", move |records| distinct(records) >= count).await
    }

    /// What is stated of a letter, an effect or an operator's request on `platform.events`, once there are so many.
    pub async fn platform_events(&self, key: Uuid, count: usize) -> anyhow::Result<Vec<Record>> {
        let of_key = move |record: &Record| record.key_text() == key.to_string();
        let all =
            self.world.read_until("platform.events", move |all| all.iter().filter(|r| of_key(r)).count() >= count);
        let found: Vec<Record> = all.await?.into_iter().filter(of_key).collect();
        assert_order(&found);
        Ok(found)
    }

    pub async fn pieces(&self) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar("select coalesce(sum(pieces), 0)::bigint from tally")
            .fetch_one(&self.database.pool)
            .await?)
    }
}

pub fn distinct(records: &[Record]) -> usize {
    let mut ids: Vec<_> = records.iter().map(|record| record.header("ce_id")).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}

/// The sixth invariant: per key the first occurrences carry versions 1, 2, 3 .. in order; repeats are exact. Returns the repeats.
pub fn assert_order(records: &[Record]) -> usize {
    let mut versions: BTreeMap<String, i64> = BTreeMap::new();
    let mut seen: BTreeMap<Uuid, (i64, Vec<u8>)> = BTreeMap::new();
    let mut repeats = 0;
    for record in records {
        let id = record.event().id.parse().expect("an event has an id");
        let version: i64 = record.event().version.parse().expect("and a version");
        let value = record.value.clone().unwrap_or_default();
        match seen.get(&id) {
            Some(first) => {
                assert_eq!(*first, (version, value), "a repeat is exact");
                repeats += 1;
            }
            None => {
                let last = versions.entry(record.key_text()).or_default();
                assert_eq!(version, *last + 1, "versions of {} follow one another", record.key_text());
                *last = version;
                seen.insert(id, (version, value));
            }
        }
    }
    repeats
}

pub fn quantities(records: &[Record]) -> Vec<i32> {
    records.iter().map(|record| decoded::<StockReplenished>(record).expect("a StockReplenished").quantity).collect()
}

/// Where an example's program is.
pub fn example(name: &str) -> PathBuf {
    // Cargo builds a package's examples beside its tests: target/debug/deps/<test> and target/debug/examples/<example>.
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    path.join("examples").join(name)
}
