//! A shop of its own: topics, databases, the outside world and the six services, all fresh, and all gone with this value.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use quadrille_cli::{Settings, kafka::Start, settings::Overrides, watch};
use quadrille_events::TOPICS;
use quadrille_program::say;
use quadrille_roster::SERVICES;
use quadrille_shop::CATALOGUE;
use quadrille_testkit::{Database, World};
use tokio::task::JoinSet;

use crate::{
    Clients, Follower, Goods, Kind, Placed, Tally, binaries, http,
    outside::Outside,
    process::{Process, START},
};

/// How long a service may take to end.
const STOP: Duration = Duration::from_secs(20);

/// Every shop records its decisions, unless it is told otherwise.
pub const KEEP_HISTORY: &str = "QUADRILLE__HISTORY__KEEP";

/// With this in the environment a shop in which orders do not end stays as it is, to be looked at.
const HOLD: &str = "QUADRILLE_SHOW_HOLD";

/// A shop.
pub struct Shop {
    // In the order in which they end.
    /// The instances of the services.
    pub instances: Vec<Instance>,
    /// What the topics hold.
    pub follower: Arc<Follower>,
    /// Payment provider, carrier, mail catcher.
    pub outside: Outside,
    /// Its topics.
    pub world: World,
    /// For the command line's functions: they see this shop only.
    pub settings: Settings,
    /// Who orders.
    pub clients: Arc<Clients>,
    clients_at_work: JoinSet<anyhow::Result<()>>,
    databases: BTreeMap<&'static str, Database>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    /// Further settings of one service.
    of_service: Vec<(&'static str, String, String)>,
    started: usize,
}

/// One process of a service.
pub struct Instance {
    /// Which service.
    pub service: &'static str,
    /// The process.
    pub process: Process,
    /// Where its health and metrics are.
    pub http: String,
}

impl Instance {
    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while !http::is_ok(&format!("{}/health/ready", self.http)).await {
            if let Some(status) = self.process.status()? {
                anyhow::bail!(
                    "{} ended with {status} while it was starting; its log: {}",
                    self.process.name(),
                    self.process.log()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "{} is not ready after {START:?}; its log: {}",
                self.process.name(),
                self.process.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// What the command line's functions need to know to see this world.
pub fn settings_in(world: &World) -> anyhow::Result<Settings> {
    let mut settings = Settings::load(*CATALOGUE, Overrides::default())?;
    settings.kafka.clone_from(&world.settings.kafka);
    Ok(settings)
}

impl Shop {
    /// Opens a shop with so many instances of each service, all ready. Its logs are in `.run/show/<name>-<pid>`.
    pub async fn open(name: &str, instances: usize) -> anyhow::Result<Self> {
        Self::open_with(name, instances, &[]).await
    }

    /// The same, with further settings of all services.
    pub async fn open_with(name: &str, instances: usize, further: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = own_folder(name)?;
        let world = World::new(TOPICS, &SERVICES).await?;
        let prefix = format!("quadrille_test_{}_", world.prefix().trim_end_matches('.'));
        let mut databases = BTreeMap::new();
        for service in SERVICES {
            databases.insert(service, Database::named(format!("{prefix}{service}")).await);
        }
        let outside = Outside::start(&folder).await?;
        let mut settings = settings_in(&world)?;
        settings.database.prefix = prefix;
        settings.provider.url.clone_from(&outside.payment);
        let follower = Arc::new(Follower::start(&settings, Start::Beginning, |_| {})?);
        let clients = Arc::new(Clients::connect(&settings)?.with_carrier(&outside.carrier));
        // A later one counts.
        let further = [(KEEP_HISTORY, "true")].into_iter().chain(further.iter().copied());
        let environment = further.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut shop = Self {
            instances: vec![],
            follower,
            outside,
            world,
            settings,
            clients,
            clients_at_work: JoinSet::new(),
            databases,
            folder,
            environment,
            of_service: vec![],
            started: 0,
        };
        futures::future::try_join_all(SERVICES.map(|service| shop.migrate(service))).await?;
        for service in SERVICES {
            for _ in 0..instances {
                shop.start(service).await?;
            }
        }
        shop.ready().await?;
        Ok(shop)
    }

    /// What a process of this service is told of its world.
    pub fn environment(&self, service: &'static str) -> anyhow::Result<Vec<(String, String)>> {
        let mut environment = self.world.environment(&self.database(service)?.url());
        let outside = match service {
            "payment" => self.outside.payment.clone(),
            "shipping" => self.outside.carrier.clone(),
            "notification" => format!("smtp://{}", self.outside.smtp),
            _ => String::new(),
        };
        if !outside.is_empty() {
            environment.push(("QUADRILLE__OUTSIDE__URL".to_owned(), outside));
        }
        environment.extend(self.environment.iter().cloned());
        let own = self.of_service.iter().filter(|(of, ..)| *of == service);
        environment.extend(own.map(|(_, variable, value)| (variable.clone(), value.clone())));
        Ok(environment)
    }

    /// Whether its services record their decisions.
    pub fn records(&self) -> bool {
        let settings = || self.environment.iter().rev();
        settings().find(|(key, _)| key == KEEP_HISTORY).is_some_and(|(_, value)| value == "true")
    }

    /// Sets a variable for those instances of a service that start from now on.
    pub fn set(&mut self, service: &'static str, variable: &str, value: &str) {
        self.of_service.push((service, variable.to_owned(), value.to_owned()));
    }

    async fn migrate(&self, service: &'static str) -> anyhow::Result<()> {
        let program = binaries::find(&format!("quadrille-{service}"))?;
        let log = self.folder.join(format!("{service}.migrate.log"));
        let environment = self.environment(service)?;
        let mut process =
            Process::start(format!("{service} migrate"), &program, &["migrate".to_owned()], &environment, log)?;
        let status = process.ended().await?;
        ensure!(status.success(), "{service} migrate ended with {status}; its log: {}", process.log());
        Ok(())
    }

    /// Starts one more instance of a service. It listens when this returns; whether it is ready is another question.
    pub async fn start(&mut self, service: &'static str) -> anyhow::Result<&mut Instance> {
        self.started += 1;
        let name = format!("{service}-{}", self.started);
        let program = binaries::find(&format!("quadrille-{service}"))?;
        let log = self.folder.join(format!("{name}.log"));
        let mut process = Process::start(name, &program, &[], &self.environment(service)?, log)?;
        let http = process.says("Health and metrics on ").await?;
        self.instances.push(Instance { service, process, http });
        self.instances.last_mut().context("it was just pushed")
    }

    /// Stops every instance of a service, gracefully.
    pub async fn stop(&mut self, service: &str) -> anyhow::Result<()> {
        let (stopping, others) = self.instances.drain(..).partition(|instance| instance.service == service);
        self.instances = others;
        let stopping: Vec<Instance> = stopping;
        for mut instance in stopping {
            let (_, status) = instance.process.stop(STOP).await?;
            ensure!(
                status.success(),
                "{} ended with {status}; its log: {}",
                instance.process.name(),
                instance.process.log()
            );
        }
        Ok(())
    }

    /// Waits until every instance is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        for instance in &mut self.instances {
            instance.ready().await?;
        }
        Ok(())
    }

    /// Kills every instance of every service at once, as a power cut would.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        // All signals first: nobody may tidy up after another one's end.
        for instance in &self.instances {
            instance.process.signal(Signal::SIGKILL)?;
        }
        for mut instance in self.instances.drain(..) {
            instance.process.kill().await?;
        }
        Ok(())
    }

    /// A service's database.
    pub fn database(&self, service: &str) -> anyhow::Result<&Database> {
        self.databases.get(service).with_context(|| format!("there is no service {service}"))
    }

    /// Registers a customer and lists goods, and waits until all who need to know of them do.
    pub async fn stock(&self) -> anyhow::Result<Goods> {
        let goods = Goods::new();
        self.clients.register(&goods).await?;
        self.clients.list(&goods.products()).await?;
        for product in goods.products() {
            self.heard(product.sku, "ProductListed").await?;
        }
        self.clients.replenish(&goods.products()).await?;
        for product in goods.products() {
            self.heard(product.sku, "StockReplenished").await?;
        }
        self.heard(&goods.customer.to_string(), "UserRegistered").await?;
        priced(&self.database("order")?.pool, &goods).await?;
        Ok(goods)
    }

    /// Waits until a type was stated of a key.
    pub async fn heard(&self, key: &str, name: &str) -> anyhow::Result<()> {
        let missing = || format!("no {name} of {key}");
        self.follower.until(START, |tally| tally.is(key, |story| story.has(name)), |_| missing()).await
    }

    /// Places orders of these kinds. What their clients do later they do while the shop goes on.
    pub async fn place(&mut self, goods: &Goods, kinds: impl IntoIterator<Item = Kind>) -> anyhow::Result<Vec<Placed>> {
        let placed: Vec<Placed> = kinds.into_iter().map(Placed::new).collect();
        self.place_these(goods, &placed).await?;
        Ok(placed)
    }

    /// Places these orders likewise.
    pub async fn place_these(&mut self, goods: &Goods, placed: &[Placed]) -> anyhow::Result<()> {
        let before = placed.iter().map(|order| self.clients.before(&self.follower, order));
        futures::future::try_join_all(before).await?;
        self.clients.place(goods, placed).await?;
        for order in placed.iter().filter(|order| !order.kind.plan().later.is_empty()) {
            let order = *order;
            let (clients, follower, goods) = (Arc::clone(&self.clients), Arc::clone(&self.follower), goods.clone());
            self.clients_at_work.spawn(async move { clients.after(&follower, &goods, &order).await });
        }
        Ok(())
    }

    /// Waits until every order is settled and its mails are sent. Where that does not come, what there is to look at is kept.
    pub async fn settled(&mut self, placed: &[Placed], patience: Duration) -> anyhow::Result<()> {
        let settled = self.all_settled(placed, patience).await;
        if settled.is_err() {
            say!("all records are kept in {}, logs beside them", self.keep_records()?);
            if std::env::var_os(HOLD).is_some() {
                say!("{HOLD} is set: topics under {} stay until Ctrl-C", self.world.prefix());
                std::future::pending::<()>().await;
            }
        }
        settled
    }

    async fn all_settled(&mut self, placed: &[Placed], patience: Duration) -> anyhow::Result<()> {
        while let Some(done) = self.clients_at_work.join_next().await {
            done??;
        }
        let open = |tally: &Tally| -> Vec<Placed> {
            let over = |order: &Placed| tally.is(&order.key(), |story| order.is_over(story));
            placed.iter().filter(|order| !over(order)).copied().collect()
        };
        let all = |tally: &Tally| open(tally).is_empty();
        let missing = |tally: &Tally| {
            let open = open(tally);
            let told = open.iter().take(5).map(|order| {
                let key = order.key();
                format!("\n  {key} ({}): {}", order.kind.name(), tally.story(&key).describe())
            });
            format!("{} of {} orders are not settled, such as{}", open.len(), placed.len(), told.collect::<String>())
        };
        self.follower.until(patience, all, missing).await.with_context(|| format!("logs: {}", self.folder.display()))
    }

    /// Writes all records of its topics beside its logs, one per line, and says where: what cannot be explained wants a look.
    pub fn keep_records(&self) -> anyhow::Result<String> {
        let path = self.folder.join("records.jsonl");
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        let all = watch::Options {
            topics: vec![],
            keys: vec![],
            types: vec![],
            correlations: vec![],
            from: Start::Beginning,
            until: None,
            time: None,
            to_end: true,
            json: true,
        };
        tokio::task::block_in_place(|| watch::run(&self.settings, &all, |line| Ok(writeln!(file, "{line}")?)))?;
        file.flush()?;
        Ok(path.display().to_string())
    }

    /// Where its logs are.
    pub fn logs(&self) -> String {
        self.folder.display().to_string()
    }
}

/// Waits until the order service, whose database this is, has these goods on its own price list: it refuses an unknown SKU for good.
pub async fn priced(pool: &sqlx::PgPool, goods: &Goods) -> anyhow::Result<()> {
    let skus = goods.products().map(|product| product.sku.to_owned());
    let deadline = Instant::now() + START;
    loop {
        let known = sqlx::query_scalar("select count(*) from price where sku = any($1)").bind(&skus[..]);
        let known: i64 = known.fetch_one(pool).await.context("the order service's price list")?;
        if known == skus.len() as i64 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the order service has {known} of {} prices after {START:?}", skus.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `.run/show/<name>-<pid>`; those of shows that ended are removed.
pub fn own_folder(name: &str) -> anyhow::Result<PathBuf> {
    let shows = binaries::run_folder().join("show");
    std::fs::create_dir_all(&shows)?;
    for entry in std::fs::read_dir(&shows)? {
        let entry = entry?;
        let file = entry.file_name();
        let owner = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('-')?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let folder = shows.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
