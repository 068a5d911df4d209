//! `hostile`: while sound orders pass on two instances of each service, everything arrives that has once stopped a service, and seeded
//! variations of it: headers, ids, schemas, compression, sizes, a registry that answers oddly, databases that go silent or read-only.
//! Every sound order ends, every bad record is told with its place, nothing stands still for long, and no memory stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use quadrille_core::Record as _;
use quadrille_events::{OrderCancellationRequested, OrderRequested, frame};
use quadrille_program::say;
use quadrille_testkit::{Direction, Proxy};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    Goods, Kind, Placed, Shop, accounts,
    odd_registry::OddRegistry,
    raw::{RawProducer, RawRecord},
    report::Report,
    standing::Standing,
};
use quadrille_roster::SERVICES;

/// The same storm each time.
const SEED: u64 = 11;
const TOPIC: &str = "order.requests";
const TIMEOUT: Duration = Duration::from_secs(240);
/// What an instance may say or do wrongly, and a partition stand: the contract's bounds, and some seconds in which they are seen.
const SAID: Duration = Duration::from_secs(38);
const STOOD: Duration = Duration::from_secs(60);
/// What a service may hold more after the storm than before.
const KEPT_MIB: f64 = 64.0;
const MIB: f64 = 1024.0 * 1024.0;

/// How much of it.
pub struct Size {
    orders: usize,
    variations: usize,
    faults: &'static [Fault],
    rest: Duration,
}

/// Each in turn, at the services in turn.
const FAULTS: [Fault; 9] = [
    Fault::Silent(Direction::Both),
    Fault::OddRegistry,
    Fault::Unreadable,
    Fault::CommitLost,
    Fault::ReadOnly,
    Fault::HalfOpen,
    Fault::Silent(Direction::ToClient),
    Fault::Refused,
    Fault::Silent(Direction::ToServer),
];

/// All of it.
pub const FULL: Size = Size { orders: 500, variations: 1_000, faults: &FAULTS, rest: Duration::from_secs(60) };
/// What guards every commit.
pub const SHORT: Size =
    Size { orders: 100, variations: 200, faults: FAULTS.split_at(4).0, rest: Duration::from_secs(10) };

/// Runs the show.
pub async fn run(size: &Size) -> anyhow::Result<Report> {
    let mut shop = Shop::open_with("hostile", 0, &[]).await?;
    let registry = OddRegistry::before(&shop.settings.registry.url).await?;
    let mut databases = BTreeMap::new();
    for service in SERVICES {
        let proxy = Proxy::before(&shop.database(service)?.url()).await?;
        shop.set(service, "QUADRILLE__DATABASE__URL", proxy.url());
        shop.set(service, "QUADRILLE__REGISTRY__URL", &registry.url);
        databases.insert(service, proxy);
        for _ in 0..2 {
            shop.start(service).await?;
        }
    }
    shop.ready().await?;
    let goods = shop.stock().await?;
    say!("two instances of each service are ready; logs in {}", shop.logs());

    let mut storm = Storm::new(&shop, &goods).await?;
    let before = resident(&shop)?;
    let instances = shop.instances.iter().map(|i| (i.process.name().to_owned(), i.http.clone())).collect();
    let standing = Standing::watch(&shop.settings, instances)?;
    let mut kinds = Kind::mixed(size.orders);
    let mut placed = vec![];
    let faults: Vec<(&str, Fault)> =
        size.faults.iter().enumerate().map(|(n, fault)| (fault.service(n), *fault)).collect();
    // Orders and variations are spread over the faults: each fault has some of both before it, in it and after it.
    let (share, varied) = (size.orders / faults.len() + 1, size.variations / faults.len() + 1);
    for (service, fault) in &faults {
        placed.extend(shop.place(&goods, kinds.by_ref().take(share / 2)).await?);
        let proxy = databases.get(service).context("a service of ours")?;
        if let Fault::Unreadable = fault {
            storm.unreadable(&shop).await?;
        }
        let healing = fault.strike(&shop, service, proxy, &registry).await?;
        placed.extend(shop.place(&goods, kinds.by_ref().take(share - share / 2)).await?);
        for _ in 0..varied.min(size.variations - storm.sent) {
            storm.variation().await?;
        }
        healing.heal(&shop, proxy).await?;
        // One fault at a time: what is promised of each is measured.
        shop.settled(&placed, TIMEOUT).await.with_context(|| format!("after {fault:?} at {service}"))?;
    }
    say!("{} variations and {} faults came to pass", storm.sent, faults.len());
    let Storm { letters, sound, ranges, .. } = storm;
    placed.extend(sound);
    shop.settled(&placed, TIMEOUT).await?;
    let longest = standing.longest();
    drop(standing);
    tokio::time::sleep(size.rest).await;

    let mut report = Report::default();
    report.figure(format!(
        "{} variations, {} faults, {} odd answers of the registry",
        size.variations,
        faults.len(),
        registry.given()
    ));
    check_dead_letters(&shop, &letters, &ranges, &mut report).await?;
    for (what, (lasted, place), bound) in [
        ("an instance was ready and idle", &longest.ready_and_idle, SAID),
        ("an instance was unready and busy", &longest.unready_and_busy, SAID),
        ("a partition stood still", &longest.partition, STOOD),
    ] {
        report.figure(format!("{what} for {:.0} s at most", lasted.as_secs_f64()));
        report.must(*lasted <= bound, || format!("{what} for {lasted:?}: {place}"));
    }
    let mut most = 0f64;
    for ((name, before), (_, after)) in before.iter().zip(resident(&shop)?) {
        most = most.max(after - before);
        report.must(after - before <= KEPT_MIB, || format!("{name} holds {after:.1} MiB, and held {before:.1}"));
    }
    report.figure(format!("{most:.1} MiB more at most after {:?}", size.rest));
    for instance in &mut shop.instances {
        let status = instance.process.status()?;
        report.must(status.is_none(), || format!("{} ended: {status:?}", instance.process.name()));
        instance.ready().await?;
    }
    accounts::check(&shop, &placed, &mut report).await?;
    Ok(report)
}

/// Memory of each instance in MiB.
fn resident(shop: &Shop) -> anyhow::Result<Vec<(String, f64)>> {
    let of = |process: &crate::process::Process| Ok((process.name().to_owned(), process.resident()? as f64 / MIB));
    shop.instances.iter().map(|instance| of(&instance.process)).collect()
}

/// Every bad record must be a dead letter of the order service at its place; those that no client can read, one for all of a batch.
async fn check_dead_letters(
    shop: &Shop,
    letters: &BTreeSet<(i32, i64)>,
    ranges: &[(i32, i64)],
    report: &mut Report,
) -> anyhow::Result<()> {
    let rows: Vec<(i32, i64, String)> =
        sqlx::query_as("select partition, \"offset\", reason from dead_letter where topic = $1")
            .bind(TOPIC)
            .fetch_all(&shop.database("order")?.pool)
            .await?;
    let found: BTreeMap<(i32, i64), String> = rows.into_iter().map(|(p, o, reason)| ((p, o), reason)).collect();
    let place = |(partition, offset): &(i32, i64)| format!("{TOPIC}/{partition}@{offset}");
    let missing: Vec<String> = letters.iter().filter(|at| !found.contains_key(at)).map(place).collect();
    report.must_be_none("bad records that nobody tells of", &missing);
    let unread: Vec<String> = ranges.iter().filter(|at| !found.contains_key(at)).map(place).collect();
    report.must_be_none("batches that cannot be read and nobody tells of", &unread);
    let known = |at: &(i32, i64)| letters.contains(at) || ranges.contains(at);
    let more: Vec<String> =
        found.iter().filter(|(at, _)| !known(at)).map(|(at, why)| format!("{} {why}", place(at))).collect();
    report.must_be_none("sound records that are dead letters", &more);
    report.figure(format!("{} bad records told with their places", letters.len() + ranges.len()));
    Ok(())
}

/// What befalls a service.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its connections to the database go silent.
    Silent(Direction),
    /// A commit's answer is lost.
    CommitLost,
    /// New connections are taken and never answered.
    HalfOpen,
    /// The database is read-only for a while.
    ReadOnly,
    /// Nobody listens there for a while.
    Refused,
    /// A batch that no client unpacks lies on one of its partitions.
    Unreadable,
    /// The registry answers as strangers do.
    OddRegistry,
}

/// What is still to be fixed.
enum Healing {
    ByItself,
    Proxy,
    ReadOnly(String),
}

/// How long a spell lasts that ends by itself elsewhere.
const SPELL: Duration = Duration::from_secs(8);

impl Fault {
    /// Whom it befalls as the `n`-th.
    fn service(self, n: usize) -> &'static str {
        if let Self::Unreadable = self { "order" } else { SERVICES[n % SERVICES.len()] }
    }

    async fn strike(
        self,
        shop: &Shop,
        service: &str,
        proxy: &Proxy,
        registry: &OddRegistry,
    ) -> anyhow::Result<Healing> {
        match self {
            Self::Silent(direction) => proxy.silence(direction),
            Self::CommitLost => proxy.silence_at("COMMIT", Direction::ToClient),
            Self::HalfOpen => {
                proxy.silence_new(Direction::Both);
                proxy.cut();
                return Ok(Healing::Proxy);
            }
            Self::Refused => {
                proxy.refuse();
                proxy.cut();
                return Ok(Healing::Proxy);
            }
            Self::ReadOnly => {
                let name: String =
                    sqlx::query_scalar("select current_database()").fetch_one(&shop.database(service)?.pool).await?;
                let mut elsewhere = elsewhere(shop, service, &name).await?;
                let set = format!("alter database {name} set default_transaction_read_only = on");
                elsewhere.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(set))).await?;
                proxy.cut();
                return Ok(Healing::ReadOnly(name));
            }
            Self::Unreadable => {}
            Self::OddRegistry => registry.answer_oddly(40),
        }
        Ok(Healing::ByItself)
    }
}

impl Healing {
    async fn heal(self, shop: &Shop, proxy: &Proxy) -> anyhow::Result<()> {
        match self {
            Self::ByItself => {}
            Self::Proxy => {
                tokio::time::sleep(SPELL).await;
                proxy.heal();
            }
            Self::ReadOnly(name) => {
                tokio::time::sleep(SPELL).await;
                let service = name.rsplit('_').next().unwrap_or_default();
                let reset = format!("alter database {name} reset default_transaction_read_only");
                elsewhere(shop, service, &name).await?.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(reset))).await?;
            }
        }
        Ok(())
    }
}

/// A connection to the same server and another database: one that is read-only cannot be altered from within.
async fn elsewhere(shop: &Shop, service: &str, name: &str) -> anyhow::Result<PgConnection> {
    Ok(PgConnection::connect(&shop.database(service)?.url().replace(name, "postgres")).await?)
}

/// Sends variations, and keeps what is to come of each.
struct Storm {
    random: StdRng,
    producer: RawProducer,
    goods: Goods,
    order_id: u32,
    cancellation_id: u32,
    /// Schemas of other kinds, or that describe more than any memory holds.
    unusable: Vec<u32>,
    sent: usize,
    /// Where bad records lie.
    letters: BTreeSet<(i32, i64)>,
    /// Where batches begin that cannot be read.
    ranges: Vec<(i32, i64)>,
    /// Orders that look hostile, and are sound.
    sound: Vec<Placed>,
}

impl Storm {
    async fn new(shop: &Shop, goods: &Goods) -> anyhow::Result<Self> {
        let id_of = |framed: &[u8]| u32::from_be_bytes([framed[1], framed[2], framed[3], framed[4]]);
        let order = shop.clients.framed(&Placed::new(Kind::Good).request(goods)).await?;
        let cancellation = shop.clients.framed(&OrderCancellationRequested::new(uuid::Uuid::new_v4())).await?;
        let mut unusable = vec![
            register(shop, "JSON", r#"{"type":"object","properties":{"a":{"type":"string"}}}"#).await?,
            register(shop, "PROTOBUF", "syntax = \"proto3\"; message A { string a = 1; }").await?,
            register(shop, "AVRO", r#"{"type":"array","items":"string"}"#).await?,
        ];
        for length in [14, 20, 26] {
            unusable.push(register(shop, "AVRO", &doubling(length)?).await?);
        }
        Ok(Self {
            random: StdRng::seed_from_u64(SEED),
            producer: RawProducer::connect(&shop.settings)?,
            goods: goods.clone(),
            order_id: id_of(&order),
            cancellation_id: id_of(&cancellation),
            unusable,
            sent: 0,
            letters: BTreeSet::new(),
            ranges: vec![],
            sound: vec![],
        })
    }

    /// Batches of every compression that unpack to far more than they take; librdkafka reads those of zstd never, the others whole.
    async fn unreadable(&mut self, shop: &Shop) -> anyhow::Result<()> {
        for (partition, codec, records) in [(5, "zstd", 120usize), (4, "gzip", 30), (3, "lz4", 30)] {
            let kafka = &shop.settings.kafka;
            let producer: FutureProducer = kafka
                .client("quadrille-show")
                .set("compression.type", codec)
                .set("linger.ms", "3000")
                .set("message.max.bytes", "900000000")
                .set("batch.size", "900000000")
                .set("batch.num.messages", "1000000")
                .set("queue.buffering.max.kbytes", "2000000")
                .create()?;
            let (topic, zeros) = (shop.settings.topic(TOPIC), vec![0; 1_000_000]);
            let record = || FutureRecord::to(&topic).key("TEA").payload(&zeros).partition(partition);
            let sends = (0..records).map(|_| producer.send(record(), None));
            let mut offsets = vec![];
            for sent in futures::future::join_all(sends).await {
                offsets.push(sent.map_err(|(error, _)| error)?.offset);
            }
            match codec {
                "zstd" => self.ranges.push((partition, offsets.iter().copied().min().unwrap_or_default())),
                _ => self.letters.extend(offsets.into_iter().map(|offset| (partition, offset))),
            }
        }
        Ok(())
    }

    /// One of twelve kinds, with sizes and bytes of its own.
    async fn variation(&mut self) -> anyhow::Result<()> {
        self.sent += 1;
        let order = Placed::new(Kind::Good);
        let request = order.request(&self.goods);
        let value = self.framed(&request);
        let mut record = RawRecord { key: Some(order.key().into_bytes()), value: Some(value), ..RawRecord::default() };
        // Whatever a stranger sends beside it, a sound request stays one.
        let sound = match self.random.random_range(0..12) {
            0 => {
                record.headers = self.trace();
                true
            }
            1 => {
                let size = self.random.random_range(0..900_000);
                record.headers = vec![("x-debug", Some(self.bytes(size)))];
                true
            }
            2 => {
                let count = self.random.random_range(0..50_000);
                record.headers = vec![("x", Some(vec![0])); count];
                true
            }
            3 => return self.twins(&order, record).await,
            4 => {
                let size = self.random.random_range(17_000..200_000);
                let name = ["ce_id", "ce_source", "ce_type", "ce_subject"][self.random.random_range(0..4)];
                record.headers = vec![(name, Some(vec![b'x'; size]))];
                false
            }
            5 => {
                record.value = Some(frame(self.random.random_range(0x7000_0000..0x7fff_ffff), b"xx"));
                false
            }
            6 => {
                let id = self.unusable[self.random.random_range(0..self.unusable.len())];
                let mut datum = vec![];
                request.encode(&mut datum);
                record.value = Some(frame(id, &datum));
                false
            }
            7 => {
                let size = self.random.random_range(0..5);
                record.value = Some(self.bytes(size));
                false
            }
            8 => {
                let size = self.random.random_range(1..300_000);
                record.value = Some([&[0x7b][..], &self.bytes(size)].concat());
                false
            }
            9 => {
                record.value = Some(frame(self.order_id, &vec![0x80; self.random.random_range(1..400_000)]));
                false
            }
            10 => {
                let size = self.random.random_range(0..200_000);
                record.key = Some([&[0xff][..], &self.bytes(size)].concat());
                false
            }
            _ => {
                let value = record.value.take().unwrap_or_default();
                let end = self.random.random_range(6..value.len());
                record.value = Some(value[..end].to_vec());
                false
            }
        };
        let placed = self.producer.send(TOPIC, &record).await?;
        match sound {
            true => self.sound.push(order),
            false => drop(self.letters.insert((placed.partition, placed.offset))),
        }
        Ok(())
    }

    /// One client's id for an order and for its cancellation: each has its answer.
    async fn twins(&mut self, order: &Placed, record: RawRecord) -> anyhow::Result<()> {
        let headers = vec![("ce_id", Some(order.key().into_bytes())), ("ce_source", Some(b"/hostile".to_vec()))];
        let mut datum = vec![];
        // Of an order that nobody knows, so that the answer is a refusal whatever comes first.
        OrderCancellationRequested::new(order.id).encode(&mut datum);
        let cancellation = RawRecord {
            key: record.key.clone(),
            value: Some(frame(self.cancellation_id, &datum)),
            headers: headers.clone(),
            ..RawRecord::default()
        };
        self.producer.send(TOPIC, &cancellation).await?;
        self.producer.send(TOPIC, &RawRecord { headers, ..record }).await?;
        self.sound.push(*order);
        Ok(())
    }

    fn trace(&mut self) -> Vec<(&'static str, Option<Vec<u8>>)> {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let size = self.random.random_range(0..900_000);
        let mut parent = PARENT.as_bytes().to_vec();
        match self.random.random_range(0..4) {
            0 => {}
            1 => parent[self.random.random_range(0..PARENT.len())] = self.random.random_range(0..=127),
            2 => parent.truncate(self.random.random_range(0..PARENT.len())),
            _ => {
                parent[1] = b'1';
                parent.extend(vec![b'-'; self.random.random_range(1..50_000)]);
            }
        }
        let state = match self.random.random_range(0..3) {
            0 => [b"k=".as_slice(), &vec![b'x'; size]].concat(),
            1 => b"a=b\0c".to_vec(),
            _ => self.bytes(size % 2_000),
        };
        vec![("traceparent", Some(parent)), ("tracestate", Some(state))]
    }

    fn framed(&self, request: &OrderRequested) -> Vec<u8> {
        let mut datum = vec![];
        request.encode(&mut datum);
        frame(self.order_id, &datum)
    }

    fn bytes(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.random.random()).collect()
    }
}

async fn register(shop: &Shop, kind: &str, text: &str) -> anyhow::Result<u32> {
    let subject = format!("someone-elses-{kind}-{}", uuid::Uuid::new_v4().simple());
    let url = format!("{}/subjects/{subject}/versions", shop.settings.registry.url);
    let body = json!({ "schemaType": kind, "schema": text });
    let answer: serde_json::Value = reqwest::Client::new().post(url).json(&body).send().await?.json().await?;
    answer["id"].as_u64().and_then(|id| id.try_into().ok()).with_context(|| format!("no id for a {kind}: {answer}"))
}

/// OrderRequested with one more field, whose type holds the one before it twice, and so on.
fn doubling(length: usize) -> anyhow::Result<String> {
    let mut schema: serde_json::Value = serde_json::from_str(OrderRequested::TYPE.schema)?;
    let fields = schema["fields"].as_array_mut().context("a record's schema")?;
    for n in 0..length {
        let held: Vec<serde_json::Value> = match n.checked_sub(1) {
            None => vec![],
            Some(before) => (0..2).map(|i| json!({"name": format!("f{i}"), "type": format!("x.C{before}")})).collect(),
        };
        fields.push(
            json!({"name": format!("more{n}"), "type": {"type": "record", "name": format!("x.C{n}"), "fields": held}}),
        );
    }
    Ok(schema.to_string())
}
