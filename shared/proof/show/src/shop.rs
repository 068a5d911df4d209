//! A shop of its own: a stage with the outside world, the six services and those who order, all fresh, and all gone with this value.

use std::{
    io::Write,
    ops::{Deref, DerefMut},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use quadrille_cli::{kafka::Start, watch};
use quadrille_program::say;
use quadrille_roster::SERVICES;
use tokio::task::JoinSet;

use crate::{
    Clients, Follower, Goods, Kind, Placed, Tally, binaries,
    outside::Outside,
    process::START,
    stage::{Instance, Stage},
};

/// Every shop records its decisions, unless it is told otherwise.
pub const KEEP_HISTORY: &str = "QUADRILLE__HISTORY__KEEP";

/// With this in the environment a shop in which orders do not end stays as it is, to be looked at.
const HOLD: &str = "QUADRILLE_SHOW_HOLD";

/// A shop: a [`Stage`], and who is at work there.
pub struct Shop {
    // In the order in which they end.
    clients_at_work: JoinSet<anyhow::Result<()>>,
    /// Who orders.
    pub clients: Arc<Clients>,
    /// What the topics hold.
    pub follower: Arc<Follower>,
    stage: Stage,
    /// Payment provider, carrier, mail catcher.
    pub outside: Outside,
}

impl Deref for Shop {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

impl DerefMut for Shop {
    fn deref_mut(&mut self) -> &mut Stage {
        &mut self.stage
    }
}

impl Shop {
    /// Opens a shop with so many instances of each service, all ready. Its logs are in `.run/show/<name>-<pid>`.
    pub async fn open(name: &str, instances: usize) -> anyhow::Result<Self> {
        Self::open_with(name, instances, &[]).await
    }

    /// The same, with further settings of all services.
    pub async fn open_with(name: &str, instances: usize, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = own_folder(name)?;
        let outside = Outside::start(&folder).await?;
        // A later one counts.
        let settings = [&[(KEEP_HISTORY, "true")], settings].concat();
        let stage = Stage::open(folder, Some(&outside), &settings).await?;
        let follower = Arc::new(Follower::start(&stage.settings, Start::Beginning, |_| {})?);
        let clients = Arc::new(Clients::connect(&stage.settings)?.with_carrier(&outside.carrier));
        let mut shop = Self { clients_at_work: JoinSet::new(), clients, follower, stage, outside };
        let programs = binaries::folder()?;
        let migrated = SERVICES.map(|service| shop.migrate(service, programs.join(format!("quadrille-{service}"))));
        futures::future::try_join_all(migrated).await?;
        for service in SERVICES {
            for _ in 0..instances {
                shop.start(service).await?;
            }
        }
        shop.ready().await?;
        Ok(shop)
    }

    /// Whether its services record their decisions.
    pub fn records(&self) -> bool {
        self.variable(KEEP_HISTORY) == Some("true")
    }

    /// Starts one more instance of a service. It listens when this returns; whether it is ready is another question.
    pub async fn start(&mut self, service: &'static str) -> anyhow::Result<&mut Instance> {
        let program = binaries::find(&format!("quadrille-{service}"))?;
        self.stage.start_as(service, &program, &[]).await
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
