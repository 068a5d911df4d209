//! Those who order: an open loop. A request goes out when it is due, however long earlier ones take, and its latency counts from when it
//! was due: a system that stalls cannot slow down whoever measures it.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use quadrille_core::Record as _;
use quadrille_events::{
    Delivery, Money, OrderRequested, Personal, ProductListingRequested, RequestedLine, Secret,
    StockReplenishmentRequested, UserRegistrationRequested,
};
use quadrille_show::Clients;
use quadrille_testkit::World;
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::stage::Stage;

/// How many products there are; each order is of two of them.
pub const SKUS: u64 = 1_000;
/// How many customers there are.
const CUSTOMERS: u64 = 100;
/// Of each product.
const STOCK: i32 = 1_000_000;
/// How much of a product an order's line is for.
pub const QUANTITY: i32 = 2;
/// A hash that the user service accepts, of a password that nobody uses.
const PASSWORD_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cXVhZHJpbGxlLXNhbHQtMQ$xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";

/// The clients of one run. Orders are numbered from 0.
pub struct Load {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    /// The upper half of the ids of this run.
    run: u64,
    placed: u64,
}

/// Requests that were put, and when each was due.
pub struct Sent {
    pub orders: Range<u64>,
    pub due: Vec<Instant>,
}

impl Load {
    /// Connects to a stage's world.
    pub fn connect(world: &World) -> anyhow::Result<Self> {
        let kafka = &world.settings.kafka;
        // Not our own producer's settings: it stands for any client.
        let producer = kafka
            .client("quadrille-bench")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "0")
            .create()?;
        let topic = world.settings.topic(&OrderRequested::TYPE.topic.name);
        Ok(Self { producer, topic, run: Uuid::new_v4().as_u64_pair().0, placed: 0 })
    }

    /// The number of the order that a record's key names.
    pub fn numbers(&self) -> impl Fn(&[u8]) -> Option<u64> + Send + Sync + 'static {
        let run = self.run;
        move |key| {
            let (of, number) = Uuid::try_parse_ascii(key).ok()?.as_u64_pair();
            (of == run).then_some(number)
        }
    }

    /// How many orders were placed.
    pub fn placed(&self) -> u64 {
        self.placed
    }

    /// Registers customers, lists and replenishes products, and waits until all who need to know of them do.
    pub async fn stock(&self, stage: &Stage) -> anyhow::Result<()> {
        let clients = Clients::connect(&stage.settings)?;
        for number in 0..CUSTOMERS {
            let name = format!("bench-{number}");
            let registration = UserRegistrationRequested {
                user_name: name.clone(),
                personal: Personal {
                    name: Some("Ann Example".into()),
                    address: Some("1 Harbour Street, 20095 Hamburg".into()),
                    email: Some(format!("{name}@example.com")),
                    sealed: None,
                },
                password_hash: Secret::new(PASSWORD_HASH),
                ..UserRegistrationRequested::new(customer(number))
            };
            clients.send(&registration).await?;
        }
        for number in 0..SKUS {
            let listing = ProductListingRequested {
                name: format!("Tea {number}"),
                currency: "EUR".into(),
                ..ProductListingRequested::new(sku(number), Money::cents(1_000 + number as i64))
            };
            clients.send(&listing).await?;
        }
        let skus = SKUS as i64;
        counted(&stage.database("inventory")?.pool, "select count(*) from stock where name is not null", skus).await?;
        for number in 0..SKUS {
            clients.send(&StockReplenishmentRequested::new(sku(number), Uuid::new_v4(), STOCK)).await?;
        }
        let all = skus * i64::from(STOCK);
        counted(&stage.database("inventory")?.pool, "select sum(available)::bigint from stock", all).await?;
        counted(&stage.database("order")?.pool, "select count(*) from price", skus).await?;
        let mail = "select count(*) from address where email is not null";
        counted(&stage.database("notification")?.pool, mail, CUSTOMERS as i64).await
    }

    /// Sends so many requests, `rate` a second, and as fast as can be where there is no rate.
    pub async fn send(&mut self, world: &mut World, count: u64, rate: Option<u32>) -> anyhow::Result<Sent> {
        let orders = self.placed..self.placed + count;
        self.placed = orders.end;
        let mut requests = vec![];
        for number in orders.clone() {
            let request = request(Uuid::from_u64_pair(self.run, number), number);
            requests.push((request.key(), world.framed(&request).await?));
        }
        let due = tokio::task::block_in_place(|| self.on_schedule(&requests, rate))?;
        Ok(Sent { orders, due })
    }

    fn on_schedule(&self, requests: &[(String, Vec<u8>)], rate: Option<u32>) -> anyhow::Result<Vec<Instant>> {
        let began = Instant::now();
        let mut all_due = vec![];
        for (number, (key, value)) in requests.iter().enumerate() {
            let due = rate.map_or(began, |rate| began + Duration::from_secs_f64(number as f64 / f64::from(rate)));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut record = BaseRecord::to(&self.topic).key(key).payload(value);
            while let Err((error, returned)) = self.producer.send(record) {
                ensure!(
                    matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
                    "a request was not taken: {error}"
                );
                record = returned;
                std::thread::sleep(Duration::from_millis(1));
            }
            all_due.push(due);
        }
        self.producer.flush(Duration::from_secs(30)).context("the last requests were not acknowledged")?;
        Ok(all_due)
    }
}

fn request(id: Uuid, number: u64) -> OrderRequested {
    // Two different products, spread over all of them.
    let (first, second) = (number.wrapping_mul(7_919) % SKUS, (number.wrapping_mul(104_729) + 1) % SKUS);
    let second = if first == second { (second + 1) % SKUS } else { second };
    let line = |number| RequestedLine::new(sku(number), QUANTITY);
    OrderRequested {
        lines: vec![line(first), line(second)],
        currency: "EUR".into(),
        payment_token: "tok_approve".into(),
        delivery: Delivery {
            method: "standard".into(),
            personal: Personal {
                name: Some("Ann Example".into()),
                address: Some("1 Harbour Street, 20095 Hamburg".into()),
                ..Personal::default()
            },
        },
        ..OrderRequested::new(id, customer(number % CUSTOMERS))
    }
}

fn sku(number: u64) -> String {
    format!("TEA-{number}")
}

fn customer(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0bec_0bec_0bec_0bec, number)
}

async fn counted(database: &PgPool, query: &'static str, wanted: i64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found: Option<i64> = sqlx::query_scalar(query).fetch_one(database).await?;
        if found == Some(wanted) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{query}: {found:?} instead of {wanted} after a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
