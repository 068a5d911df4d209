//! The example `board`, which only listens and serves: its rows and positions whatever becomes of instances and of the group's offsets, what it
//! hears of state topics and dead letters, and what its routes answer.

#[allow(dead_code, reason = "it has a main of its own")]
#[path = "../examples/board/main.rs"]
mod board;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use quadrille_core::{Fact, Policy as _, Record as _};
use quadrille_events::{StockReplenished, frame};
use quadrille_kafka::Record;
use quadrille_platform::{DeadLetter, DiscardRequested, InstanceHeartbeat};
use quadrille_runtime::{
    Config, Context, Ended, Service, Store,
    axum::{Router, body::Body, routing::get},
    config::NoSettings,
};
use quadrille_testkit::{Direction, Given, Proxy, decoded, given};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    message::{Header, OwnedHeaders},
    producer::FutureRecord,
};
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::support::{Instance, Shop};

const STOCK: &str = "stock.events";
/// A change is heard within 5 s even where the word of it is lost; as much again for a slow machine.
const HEARD: Duration = Duration::from_secs(10);

/// Whether two instances of this database listen for what is committed: their connections are known by what they did last.
const LISTENING: &str = "select count(*) = 2 from pg_stat_activity where datname = current_database()
     and (query ilike 'listen \"quadrille_committed\"%' or query = 'select pg_notify($1, $2)')";
/// Their connections, cut.
const CUT: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()
     and (query ilike 'listen \"quadrille_committed\"%' or query = 'select pg_notify($1, $2)')";
/// The connection of one that listens.
const LISTENER: &str = "select pid from pg_stat_activity where datname = current_database()
     and (query ilike 'listen \"quadrille_committed\"%' or query = 'select pg_notify($1, $2)')";

impl Instance {
    /// Waits for so many pieces, as its page does: the answer, and as of when.
    async fn pieces(&self, sku: &str, at_least: i64) -> anyhow::Result<(i64, Option<DateTime<Utc>>)> {
        let answer = reqwest::get(self.at.url(&format!("/stock/{sku}/{at_least}"))).await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// A connection that asks for this path alone, and has read nothing of the answer.
    async fn get(&self, path: &str) -> anyhow::Result<TcpStream> {
        let mut client = TcpStream::connect(&self.at.0).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: board\r\nconnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await?;
        Ok(client)
    }
}

async fn open() -> anyhow::Result<Shop> {
    Shop::of(board::service(), board::Board::DEAD_LETTERS_OF).await
}

/// Starts an instance, and waits until it listens.
async fn start(config: Config) -> anyhow::Result<Instance> {
    let instance = Instance::listening(board::service(), config)?;
    instance.at.says("live", true, HEARD).await?;
    Ok(instance)
}

/// An instance with these routes, which listens.
async fn serving(routes: Router, config: Config) -> anyhow::Result<Instance> {
    let service = Service::new(board::Tables).migrations(&sqlx::migrate!("examples/board")).routes(move |_| routes);
    let instance = Instance::listening(service, config)?;
    instance.at.says("live", true, HEARD).await?;
    Ok(instance)
}

impl Shop {
    /// One piece of each of ten SKUs, with this version.
    async fn round(&mut self, version: i64) -> anyhow::Result<()> {
        for sku in 0..10 {
            self.came(&format!("SKU-{sku}"), version, 1).await?;
        }
        Ok(())
    }

    /// A record with neither value nor headers.
    async fn gone(&self, topic: &str, key: &str) -> anyhow::Result<()> {
        let topic = self.world.settings.topic(topic);
        let sent = self.producer.send(FutureRecord::<str, [u8]>::to(&topic).key(key), None).await;
        sent.map(drop).map_err(|(error, _)| error.into())
    }

    /// Records that were taken, pieces that were counted, and rows of the inbox.
    async fn counted(&self) -> anyhow::Result<(i64, i64, i64)> {
        let counted = "select sum(taken)::bigint, sum(pieces)::bigint, (select count(*) from inbox) from stock";
        Ok(sqlx::query_as(counted).fetch_one(&self.database.pool).await?)
    }

    /// Waits until so many instances have partitions, by their newest heartbeats.
    async fn assigned(&self, count: usize) -> anyhow::Result<()> {
        let have = move |records: &[Record]| {
            let newest: BTreeMap<_, _> = records.iter().map(|record| (record.key_text(), record)).collect();
            let beats = newest.values().filter_map(|record| decoded::<InstanceHeartbeat>(record).ok());
            beats.filter(|beat| !beat.assigned.is_empty()).count() == count
        };
        self.world.read_until("platform.instances", have).await.map(drop)
    }

    /// Waits until the only instance that is left in the group has been given all partitions, whatever it does with them.
    async fn left_to_one(&self) -> anyhow::Result<()> {
        let kafka = &self.world.settings.kafka;
        let group = format!("{}board", kafka.group_prefix);
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create()?;
        let began = Instant::now();
        loop {
            let ask = || client.fetch_group_list(Some(&group), Duration::from_secs(10));
            let found = tokio::task::block_in_place(ask)?;
            if found.groups().iter().any(|group| group.state() == "Stable" && group.members().len() == 1) {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "the group does not settle");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sets the group, which has no members, to this offset of each partition of the stock.
    fn reset(&self, to: impl Fn(i64, i64) -> i64) -> anyhow::Result<()> {
        let topic = self.world.settings.topic(STOCK);
        let kafka = &self.world.settings.kafka;
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &kafka.brokers)
            .set("group.id", format!("{}board", kafka.group_prefix))
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..6 {
            let (low, high) = client.fetch_watermarks(&topic, partition, Duration::from_secs(5))?;
            list.add_partition_offset(&topic, partition, Offset::Offset(to(low, high)))?;
        }
        let began = Instant::now();
        // Members that have just left are in the group for a moment still.
        while let Err(error) = client.commit(&list, CommitMode::Sync) {
            anyhow::ensure!(began.elapsed() < Duration::from_secs(30), error);
        }
        Ok(())
    }
}

/// Cases: the same event twice, the second time at a later offset; an instance that leaves, and one that was never there. In memory.
#[test]
fn a_policy_without_facts_is_told_in_stories() {
    let came = StockReplenished::new("TEA".into(), Uuid::nil(), 2);
    let there = |story: &Given<board::Board>| story.service().state.clone();
    let story = given::<board::Board>().heard(came.clone()).heard(heartbeat("board-1"));
    let with_instance = there(&story);
    let story = story.gone("platform.instances", "board-1").then_nothing().gone("platform.instances", "board-2");
    assert_ne!(there(&story), with_instance);
    assert_eq!(there(&story).stock["TEA"].pieces, 2);
    assert_eq!(there(&story.heard_as(1, came)).stock["TEA"].pieces, 2);
}

/// Cases: an instance is killed in the middle of a load; another comes; one leaves. Each record is taken once.
#[tokio::test(flavor = "multi_thread")]
async fn kills_and_rebalances_change_nothing_twice() -> anyhow::Result<()> {
    let mut board = open().await?;
    let mut killed = board.spawn()?;
    for version in 1..=10 {
        board.round(version).await?;
    }
    board.until("select coalesce(sum(taken), 0) > 0 from stock").await?;
    let one = start(board.config()).await?;
    for version in 11..=20 {
        board.round(version).await?;
    }
    killed.kill().await?;
    let two = start(board.config()).await?;
    for version in 21..=30 {
        board.round(version).await?;
    }
    one.stop().await?;
    for version in 31..=35 {
        board.round(version).await?;
    }
    board.until("select coalesce(sum(taken), 0) >= 350 from stock").await?;
    two.stop().await?;
    assert_eq!(board.counted().await?, (350, 350, 0));
    let positions = "select sum(\"offset\")::bigint from position where topic = 'stock.events'";
    assert_eq!(sqlx::query_scalar::<_, i64>(positions).fetch_one(&board.database.pool).await?, 350);
    Ok(())
}

/// Cases: the group's offsets are set to the beginning, and to the end of what was not taken; a record below its position comes.
#[tokio::test(flavor = "multi_thread")]
async fn reading_starts_at_the_position_and_a_lower_offset_is_passed_over() -> anyhow::Result<()> {
    let mut board = open().await?;
    let instance = start(board.config()).await?;
    board.round(1).await?;
    board.until("select coalesce(sum(taken), 0) = 10 from stock").await?;
    instance.stop().await?;

    board.reset(|low, _| low)?;
    let instance = start(board.config()).await?;
    board.round(2).await?;
    board.until("select sum(taken) >= 20 from stock").await?;
    instance.stop().await?;
    assert_eq!(board.counted().await?, (20, 20, 0));

    board.round(3).await?;
    board.reset(|_, high| high)?;
    let instance = start(board.config()).await?;
    board.until("select sum(taken) >= 30 from stock").await?;
    assert_eq!(board.counted().await?, (30, 30, 0));

    // As if another instance had taken what comes next.
    sqlx::query("update position set \"offset\" = \"offset\" + 1").execute(&board.database.pool).await?;
    let skus = "select count(*) from position where topic = 'stock.events' and \"offset\" > 1";
    let with_records: i64 = sqlx::query_scalar(skus).fetch_one(&board.database.pool).await?;
    board.round(4).await?;
    board.round(5).await?;
    let took = 50 - with_records;
    let began = Instant::now();
    while board.counted().await?.0 < took && began.elapsed() < HEARD {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    instance.stop().await?;
    assert_eq!(board.counted().await?.0, took, "of {with_records} partitions one record each was taken already");
    Ok(())
}

/// Cases: a heartbeat, without headers or not, is heard; a key that is gone takes its row with it; a service's dead letters are heard, as one input
/// with headers and without, one older than its topic's retention too; one that says another id than a UUID is a dead letter itself.
#[tokio::test(flavor = "multi_thread")]
async fn state_topics_their_tombstones_and_dead_letters_are_inputs() -> anyhow::Result<()> {
    let mut board = open().await?;
    let mut config = board.config();
    config.history.keep = true;
    let (one, two) = (start(config.clone()).await?, start(config).await?);
    // Their own.
    board.until("select count(*) = 2 from instance where name like 'board-%'").await?;
    board.world.send(&heartbeat("stranger-1")).await?;
    board.until("select exists(select from instance where name = 'stranger-1' and status = 'ok')").await?;
    board.gone("platform.instances", "stranger-1").await?;
    board.until("select not exists(select from instance where name = 'stranger-1')").await?;
    two.stop().await?;
    board.until("select count(*) = 1 from instance where name like 'board-%'").await?;

    let topic = DeadLetter::TYPE.topic.name_of("inventory");
    let registry = board.world.settings.registry()?;
    let subject = format!("{topic}-{}", DeadLetter::TYPE.name);
    let id = registry.id_of(&subject, DeadLetter::TYPE.schema).await?.expect("`make up` registers it");
    let letter = letter("inventory");
    let mut datum = vec![];
    letter.encode(&mut datum);
    // Twice, as after a process that died in between; once as earlier builds sent it; and once as nobody does.
    let of_none = [("ce_id", "42".to_owned())];
    for headers in [&[("ce_id", letter.key())][..], &[("ce_id", letter.key())], &[], &of_none] {
        board.world.send_raw(&topic, Some(letter.key().as_bytes()), &frame(id, &datum), headers).await?;
    }
    board.until("select exists(select from letters where service = 'inventory' and count = 3)").await?;
    board.until("select exists(select from dead_letter where reason = 'no_id')").await?;
    let ids =
        "select distinct decided->>'id' from history where decided->'input'->'record'->>'type' like '%DeadLetter'";
    let ids: Vec<String> = sqlx::query_scalar(ids).fetch_all(&board.database.pool).await?;
    assert_eq!(ids, [letter.key()], "with headers and without it is one input");
    // It is held still, so it is taken: nothing is forgotten that tells whether it was.
    let (topic, value) = (board.world.settings.topic(&topic), frame(id, &datum));
    let long_ago = Utc::now() - chrono::TimeDelta::days(1_000);
    let (key, id) = (letter.key(), letter.key());
    let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some(&id) });
    let old = FutureRecord::<str, [u8]>::to(&topic).payload(&value).timestamp(long_ago.timestamp_millis());
    board.producer.send(old.key(&key).headers(headers), None).await.map_err(|(error, _)| error)?;
    board.until("select exists(select from letters where service = 'inventory' and count = 4)").await?;
    one.stop().await
}

/// Cases: an operator's request to another service, and one to this one, twice; all of them older than their topic's retention.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_request_of_an_operators_is_no_dead_letter_and_carried_out_once() -> anyhow::Result<()> {
    let mut board = open().await?;
    let topic = board.world.settings.topic(&DiscardRequested::TYPE.topic.name);
    let long_ago = (Utc::now() - chrono::TimeDelta::days(1_000)).timestamp_millis();
    for (service, ce_id) in [("inventory", "1"), ("board", "2"), ("board", "2")] {
        let (who, why) = ("ann".into(), "it is of no use".into());
        let request = DiscardRequested { who, why, ..DiscardRequested::new(service.into(), Uuid::nil()) };
        let value = board.world.framed(&request).await?;
        let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some(ce_id) });
        let old = FutureRecord::<str, [u8]>::to(&topic).key(service).payload(&value).timestamp(long_ago);
        board.producer.send(old.headers(headers), None).await.map_err(|(error, _)| error)?;
    }
    let instance = start(board.config()).await?;
    board.until("select coalesce(max(\"offset\"), 0) = 3 from position where topic = 'platform.requests'").await?;
    let done: Vec<(String, String)> =
        sqlx::query_as("select result, detail from operator_action").fetch_all(&board.database.pool).await?;
    let nil = Uuid::nil();
    let refused = format!("dead_letter_id: this service has no open dead letter {nil}");
    assert_eq!(done, [("refused".to_owned(), refused)]);
    assert!(board.is("select not exists(select from dead_letter)").await?);
    instance.stop().await
}

fn heartbeat(instance: &str) -> InstanceHeartbeat {
    InstanceHeartbeat { status: "ok".into(), ..InstanceHeartbeat::new(instance.into()) }
}

fn letter(service: &str) -> DeadLetter {
    DeadLetter {
        dead_letter_id: Uuid::new_v4(),
        service: service.into(),
        reason: "no_key".into(),
        field: "key".into(),
        detail: String::new(),
        input: "record".into(),
        input_id: None,
        topic: STOCK.into(),
        partition: 0,
        offset: 0,
        record_time: Utc::now(),
        record_type: String::new(),
        key: None,
        value: None,
        value_size: 0,
        value_digest: String::new(),
        withheld: false,
        headers: vec![],
        attempts: 1,
        failed_at: Utc::now(),
    }
}

/// Cases: a value that is no record; an input whose handling fails. Each is a dead letter, and holds up nothing of its key.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handled_is_a_dead_letter_and_holds_no_key() -> anyhow::Result<()> {
    let mut board = open().await?;
    let instance = start(board.config()).await?;
    board.world.send_raw(STOCK, Some(b"TEA"), b"no record", &[("ce_id", Uuid::new_v4().to_string())]).await?;
    board.came("TEA", 1, -1).await?;
    board.came("TEA", 2, 3).await?;
    board.until("select exists(select from stock where sku = 'TEA' and pieces = 3 and taken = 1)").await?;
    let letters: Vec<(String, Option<String>)> =
        sqlx::query_as("select reason, holds from dead_letter order by \"offset\"")
            .fetch_all(&board.database.pool)
            .await?;
    assert_eq!(letters, [("bad_frame".to_owned(), None), ("handling_failed".to_owned(), None)]);
    instance.stop().await
}

/// Cases: a change that one of two instances commits, as both tell it; the same with every listener's connection cut; as of when it is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_instance_commits_every_instance_tells() -> anyhow::Result<()> {
    let mut board = open().await?;
    let began = Utc::now();
    let (one, two) = (start(board.config()).await?, start(board.config()).await?);
    board.came("TEA", 1, 1).await?;
    board.until("select exists(select from stock where pieces = 1)").await?;
    board.until(LISTENING).await?;

    for (version, cut) in [(2, false), (3, true)] {
        let waiting = async || tokio::try_join!(one.pieces("TEA", version), two.pieces("TEA", version));
        let came = async {
            // They wait by now.
            tokio::time::sleep(Duration::from_millis(300)).await;
            if cut {
                let cut: i64 = sqlx::query_scalar(CUT).fetch_one(&board.database.pool).await?;
                assert_eq!(cut, 2);
            }
            board.came("TEA", version, 1).await?;
            Ok(Instant::now())
        };
        let (answers, came) = tokio::try_join!(waiting(), came)?;
        assert!(came.elapsed() < HEARD, "it took {:?}", came.elapsed());
        assert_eq!((answers.0.0, answers.1.0), (version, version));
    }

    board
        .until("select count(as_of) = count(*) and count(*) > 0 from position where topic <> 'platform.requests'")
        .await?;
    let patience = Instant::now();
    while one.pieces("TEA", 0).await?.1.is_none_or(|as_of| as_of < began) {
        anyhow::ensure!(patience.elapsed() < Duration::from_secs(60), "it is not known as of when");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    one.stop().await?;
    two.stop().await
}

/// In JSON a key of control characters is six times as long, and longer than PostgreSQL takes: its change is told without it, on the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_too_long_to_be_named_costs_no_connection() -> anyhow::Result<()> {
    let mut board = open().await?;
    let instance = start(board.config()).await?;
    let before: i32 = board.row(|pool| sqlx::query_scalar(LISTENER).fetch_optional(pool)).await?;
    board.world.send(&heartbeat(&"\u{1}".repeat(1_500))).await?;
    board.until("select exists(select from instance where length(name) = 1500)").await?;
    // It is told by now.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after: i32 = board.row(|pool| sqlx::query_scalar(LISTENER).fetch_optional(pool)).await?;
    assert_eq!(after, before);
    instance.stop().await
}

/// Cases: a projection over a database with an inbox; another service over one with positions. Each would take everything again.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_kind_of_build_is_refused() -> anyhow::Result<()> {
    let board = open().await?;
    sqlx::query("insert into inbox (id) values ($1)").bind(Uuid::new_v4()).execute(&board.database.pool).await?;
    let refused = board::service().run_until(board.config(), std::future::pending()).await.expect_err("an inbox");
    let said = refused.to_string();
    assert!(
        said.contains("a build that did not only listen, as board does now: give this build an empty one"),
        "{said}"
    );

    let shop = Shop::open().await?;
    sqlx::query("insert into generation (number) values (1)").execute(&shop.database.pool).await?;
    let refused = crate::support::service().run_until(shop.config(), std::future::pending()).await;
    let said = refused.expect_err("a generation").to_string();
    assert!(
        said.contains("a build that only listened, as tally does no longer: give this build an empty one"),
        "{said}"
    );
    Ok(())
}

/// A store of a projection that says when its rows end.
struct Ending;

impl Store for Ending {
    type Policy = board::Board;

    const ENDED: Option<Ended> =
        Some(Ended { table: "stock", key: "sku", settled: "true", booked: "false", beside: None });

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut board::State,
    ) -> sqlx::Result<()> {
        board::Tables.load(tx, table, keys, state).await
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        old: &board::State,
        new: &board::State,
        facts: &[Fact<board::Board>],
    ) -> sqlx::Result<()> {
        board::Tables.save(tx, old, new, facts).await
    }
}

/// Its rows would come back with whatever is read again. It is refused before anything is asked of anybody.
#[tokio::test]
async fn a_projection_whose_rows_end_is_refused() {
    let service = Service::new(Ending);
    let refused = service.run_until(Config::<NoSettings>::of("board"), std::future::pending()).await;
    let said = refused.expect_err("rows that end").to_string();
    assert!(said.contains("board only listens") && said.contains("rows of stock end (Store::ENDED)"), "{said}");
}

/// An instance whose database is silent while partitions come to it leaves them to another one, and comes back once it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_waits_for_no_silent_database() -> anyhow::Result<()> {
    let mut board = open().await?;
    let proxy = Proxy::before(&board.database.url()).await?;
    let one = start(board.over(proxy.url())).await?;
    board.round(1).await?;
    board.until("select coalesce(sum(taken), 0) = 10 from stock").await?;
    let two = start(board.config()).await?;
    board.assigned(2).await?;

    // Its partitions pass on to one whose database says nothing, for as long as that may be.
    proxy.silence(Direction::Both);
    proxy.silence_new(Direction::Both);
    two.stop().await?;
    // A third one that came at once could take them before.
    board.left_to_one().await?;
    let three = start(board.config()).await?;
    let began = Instant::now();
    board.round(2).await?;
    // 20 s, and then the group's own time-outs: on a machine that has much to do that is more than a minute.
    let taken = "select sum(taken) = 20 from stock";
    if board.until(taken).await.is_err() {
        board.until(taken).await?;
    }
    assert!(began.elapsed() < Duration::from_secs(110), "it took {:?}", began.elapsed());

    proxy.heal();
    proxy.cut();
    board.assigned(2).await?;
    three.stop().await?;
    board.round(3).await?;
    board.until("select sum(taken) = 30 from stock").await?;
    one.stop().await?;
    assert_eq!(board.counted().await?, (30, 30, 0));
    Ok(())
}

/// A client that does not read its answer loses its connection, and its place with that: others find room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_keeps_no_place() -> anyhow::Result<()> {
    let board = open().await?;
    let mut config = board.config();
    config.http.requests = 1;
    let endless = async || {
        let piece = || Ok::<_, std::convert::Infallible>(vec![b'x'; 64 * 1024]);
        Body::from_stream(futures::stream::repeat_with(piece))
    };
    let routes = Router::new().route("/endless", get(endless)).route("/short", get(async || "short"));
    let instance = serving(routes, config).await?;
    let mut client = instance.get("/endless").await?;
    // It begins to read, so that its request is under way.
    client.read_exact(&mut [0; 100]).await?;
    let began = Instant::now();
    let short = async || anyhow::Ok(reqwest::get(instance.at.url("/short")).await?.status());
    assert_eq!(short().await?, 503);
    while short().await? != 200 {
        anyhow::ensure!(began.elapsed() < Duration::from_secs(20), "its place was kept for 20 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(9), "a client may be slow for a while: {:?}", began.elapsed());
    instance.stop().await
}

/// A client that takes 50 kB/s of some megabytes is slow, and is not cut off.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_has_its_whole_answer() -> anyhow::Result<()> {
    const LARGE: usize = 8 * 1024 * 1024;
    let board = open().await?;
    let large = async || vec![b'x'; LARGE];
    let instance = serving(Router::new().route("/large", get(large)), board.config()).await?;
    let mut client = instance.get("/large").await?;
    let (mut taken, mut piece) = (0, [0; 5_000]);
    let began = Instant::now();
    // Longer than a client may take nothing.
    while began.elapsed() < Duration::from_secs(25) {
        let read = client.read(&mut piece).await?;
        anyhow::ensure!(read > 0, "it was cut off after {:?}, with {taken} bytes", began.elapsed());
        taken += read;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = vec![];
    client.read_to_end(&mut rest).await?;
    assert!(taken + rest.len() > LARGE, "{taken} bytes slowly, and {} at once", rest.len());
    instance.stop().await
}

/// In a process that lives on. Cases: an answer that is under way; somebody who waits for changes, and has the instance's context; connections to
/// the database.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_instance_outlives_it() -> anyhow::Result<()> {
    const PAGE: &str = "select 1 as a_page";
    const CONNECTED: &str = "select count(*) > 0 from pg_stat_activity
        where datname = current_database() and query = 'select 1 as a_page'";
    const GONE: &str = "select count(*) = 0 from pg_stat_activity
        where datname = current_database() and query = 'select 1 as a_page'";
    let board = open().await?;
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    let routes = move |context: Context<board::Board>| {
        let waiting = context.clone();
        tokio::spawn(async move {
            let mut committed = waiting.committed();
            while committed.next().await.is_some() {}
            let _ = ended.send(waiting.committed().next().await);
        });
        let page = async move || match sqlx::query(PAGE).execute(context.pool()).await {
            Ok(_) => Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::convert::Infallible>>()),
            Err(error) => Body::from(error.to_string()),
        };
        Router::new().route("/page", get(page))
    };
    let service = Service::new(board::Tables).migrations(&sqlx::migrate!("examples/board")).routes(routes);
    let instance = Instance::listening(service, board.config())?;
    instance.at.says("ready", true, Duration::from_secs(60)).await?;
    let mut client = instance.get("/page").await?;
    client.read_exact(&mut [0; 10]).await?;
    board.until(CONNECTED).await?;

    instance.stop().await?;
    // It ends, be it by an error.
    let _ = tokio::time::timeout(HEARD, client.read_to_end(&mut vec![])).await?;
    assert_eq!(tokio::time::timeout(HEARD, has_ended).await??, None, "nothing more is to come");
    board.until(GONE).await
}

/// Cases: as many connections as there may be, on which no request is ever complete; health, which waits until they are closed; headers that are
/// larger than they may be.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_ask_for_nothing_take_no_more_than_their_room() -> anyhow::Result<()> {
    let board = open().await?;
    let mut config = board.config();
    config.http.requests = 1;
    let instance = serving(Router::new(), config).await?;
    let mut silent = vec![];
    // One for the request, and 64 more.
    for _ in 0..65 {
        let mut client = TcpStream::connect(&instance.at.0).await?;
        client.write_all(b"GET / HTTP/1.1\r\n").await?;
        silent.push(client);
    }
    let at = instance.at.clone();
    let mut health = tokio::spawn(async move { at.is("live").await });
    let waited = tokio::time::timeout(Duration::from_secs(3), &mut health).await;
    assert!(waited.is_err(), "there was room for one more");
    // Each has 10 s.
    assert_eq!(tokio::time::timeout(Duration::from_secs(15), health).await??, Some(true));

    let mut client = TcpStream::connect(&instance.at.0).await?;
    let large = "x".repeat(300_000);
    let request = format!("GET /health/live HTTP/1.1\r\nhost: board\r\nconnection: close\r\nx: {large}\r\n\r\n");
    let mut answer = vec![];
    // The server closes while more is on its way, which may lose its answer.
    let _ = client.write_all(request.as_bytes()).await;
    let _ = client.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    instance.stop().await
}

/// Cases: one request more than there may be; health beside it; room again once the first is answered.
#[tokio::test(flavor = "multi_thread")]
async fn routes_are_bounded_and_health_is_not_theirs() -> anyhow::Result<()> {
    let mut board = open().await?;
    let mut config = board.config();
    config.http.requests = 1;
    let instance = start(config).await?;
    board.came("TEA", 1, 1).await?;
    instance.pieces("TEA", 1).await?;

    let first = tokio::spawn(reqwest::get(instance.at.url("/stock/TEA/2")));
    let url = instance.at.url("/stock/TEA/0");
    // It is under way by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let refused = reqwest::get(&url).await?.status();
    assert_eq!(refused, 503);
    assert_eq!(instance.at.is("live").await, Some(true));
    board.came("TEA", 2, 1).await?;
    assert!(first.await??.status().is_success());
    assert!(reqwest::get(&url).await?.status().is_success());
    // What is never there is given up.
    assert_eq!(reqwest::get(instance.at.url("/stock/TEA/3")).await?.status(), 504);
    instance.stop().await
}
