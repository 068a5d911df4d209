//! A database that knows less than its topic, and the other ways in which the two can part.

use std::time::Duration;

use crate::support::{Shop, assert_order, distinct, service, tally};
use quadrille_cli::{
    Catalogue, Service, Settings,
    doctor::{self, Verdict},
    kafka::Admin,
    settings::Overrides,
};
use quadrille_events::{RECORD_TYPES, TOPICS};
use quadrille_runtime::By;
use quadrille_testkit::Database;
use rdkafka::{
    ClientConfig,
    admin::{NewTopic, TopicReplication},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer as _},
};
use sqlx::PgPool;
use uuid::Uuid;

const TOPIC: &str = "stock.events";

/// States this many events of one key, over the shop's own database.
async fn state(shop: &Shop, count: usize) -> anyhow::Result<()> {
    let before = shop.world.read(TOPIC).await?.len();
    let instance = shop.start();
    for n in 0..count {
        shop.ask("TEA", (n % 6) as i32).await?;
    }
    shop.stated(before + count).await?;
    instance.stop().await
}

/// Waits until the relay has said why it publishes nothing.
async fn disagrees(database: &Database) -> anyhow::Result<String> {
    row(&database.pool, "select disagrees from published where disagrees is not null").await
}

/// Waits for a row: nothing tells a test of it.
async fn row<T>(pool: &PgPool, query: &'static str) -> anyhow::Result<T>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = sqlx::query_scalar(query).fetch_optional(pool).await? {
            return Ok(found);
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "no row within a minute: {query}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for one more, and waits until the service over `database` has committed what it states of that.
async fn committed_and_not_published(shop: &Shop, database: &Database) -> anyhow::Result<()> {
    let published = shop.world.read(TOPIC).await?.len();
    shop.ask("TEA", 0).await?;
    let _: i64 = row(&database.pool, "select id from outbox limit 1").await?;
    let _ = disagrees(database).await?;
    assert_eq!(shop.world.read(TOPIC).await?.len(), published, "nothing is published");
    Ok(())
}

/// ThreeDotsLabs/watermill#576: it says so instead of stating the same version twice with other content.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_older_than_its_topic_publishes_nothing_until_a_newer_one_is_restored() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    state(&shop, 3).await?;
    let older = shop.database.restored().await;
    state(&shop, 2).await?;
    let newer = shop.database.restored().await;

    let instance = shop.start_with(shop.over(&older.url()));
    committed_and_not_published(&shop, &older).await?;
    let why = disagrees(&older).await?;
    assert!(why.contains("stock.events/") && why.contains("from offset 3 on"), "{why}");
    assert!(why.contains("key TEA and version 4"), "{why}");
    instance.stop().await?;

    let instance = shop.start_with(shop.over(&newer.url()));
    shop.ask("TEA", 0).await?;
    let stated = shop.stated(6).await?;
    instance.stop().await?;
    assert_eq!((assert_order(&stated), stated.len()), (0, 6));
    let left: i64 =
        sqlx::query_scalar("select count(*) from published where disagrees is not null").fetch_one(&newer.pool).await?;
    assert_eq!(left, 0);
    Ok(())
}

/// An empty database beside a topic that is not empty is the oldest of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_forgotten_all_publishes_nothing() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let empty = shop.database.restored().await;
    state(&shop, 3).await?;
    let instance = shop.start_with(shop.over(&empty.url()));
    committed_and_not_published(&shop, &empty).await?;
    let why = disagrees(&empty).await?;
    assert!(why.contains("from offset 0 on") && why.contains("key TEA and version 1"), "{why}");
    instance.stop().await
}

/// The way back: what was lost with the newer database is decided again from what the service heard, and has the same ids.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_that_reads_again_what_it_heard_goes_on_by_itself() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    state(&shop, 3).await?;
    let older = shop.database.restored().await;
    // One partition, so that they are decided in the same order again.
    let instance = shop.start();
    for _ in 0..4 {
        shop.ask("TEA", 0).await?;
    }
    shop.stated(7).await?;
    instance.stop().await?;
    let mut over = shop.over(&older.url());
    over.kafka.group_prefix = format!("again.{}", over.kafka.group_prefix);
    let instance = shop.start_with(over);
    shop.ask("TEA", 0).await?;
    let stated = shop.stated(8).await?;
    instance.stop().await?;
    assert_eq!((assert_order(&stated), distinct(&stated)), (4, 8), "what was lost comes again, exactly");
    Ok(())
}

/// A person accepts the topic as it is: who and why stay with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_accepts_the_topic_as_it_is() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    state(&shop, 2).await?;
    let older = shop.database.restored().await;
    let config = || shop.over(&older.url());
    let refused =
        service().accept_topics(&config(), &By::new("ann", "to see")).await.expect_err("there is nothing to accept");
    assert!(refused.to_string().contains("nothing to accept"), "{refused}");
    state(&shop, 1).await?;
    let instance = shop.start_with(config());
    committed_and_not_published(&shop, &older).await?;
    let nobody = service().accept_topics(&config(), &By::new(" ", "to see")).await.expect_err("nobody accepts");
    assert!(nobody.to_string().contains("--who"), "{nobody}");

    let accepted = service().accept_topics(&config(), &By::new("ann", "the backup of today is lost")).await?;
    assert!(accepted.contains("stock.events/"), "{accepted}");
    shop.stated(4).await?;
    instance.stop().await?;
    let kept: (String, String, String, String) =
        sqlx::query_as("select what, who, why, detail from operator_action").fetch_one(&older.pool).await?;
    assert_eq!(kept, ("accept".into(), "ann".into(), "the backup of today is lost".into(), accepted));
    Ok(())
}

/// A topic made anew is said likewise: what was acknowledged is not on it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_said() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    state(&shop, 3).await?;
    let topic = shop.world.settings.topic(TOPIC);
    let admin = Admin::connect(&shop.world.settings.kafka)?;
    admin.delete(std::slice::from_ref(&topic)).await?;
    let anew = NewTopic::new(&topic, 6, TopicReplication::Fixed(1));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    // The broker does both a little after it has said so.
    while let Err(error) = admin.create(std::slice::from_ref(&anew)).await {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, error);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while !shop.world.read(TOPIC).await.is_ok_and(|records| records.is_empty()) {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "the topic is not empty after a minute");
    }
    let instance = shop.start();
    shop.ask("TEA", 0).await?;
    let why = disagrees(&shop.database).await?;
    let _: i64 = row(&shop.database.pool, "select id from outbox limit 1").await?;
    assert_eq!(shop.world.read(TOPIC).await?.len(), 0, "nothing is published");
    assert!(
        why.contains("ends at 0") && why.contains("offset 2 was acknowledged") && why.contains("made anew"),
        "{why}"
    );
    service().accept_topics(&shop.config(), &By::new("ann", "it was deleted by mistake")).await?;
    let stated = shop.stated(1).await?;
    instance.stop().await?;
    assert_eq!(stated[0].header("ce_aggregateversion"), Some("4"));
    Ok(())
}

/// A process that died between acknowledgement and removal: its rows are in the outbox, and come again.
#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_the_note_that_wait_in_the_outbox_are_published_again() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let pool = &shop.database.pool;
    sqlx::query("create table kept as select * from outbox").execute(pool).await?;
    sqlx::query(
        "create function keep() returns trigger language plpgsql as
         $$ begin insert into kept select old.*; return old; end $$",
    )
    .execute(pool)
    .await?;
    sqlx::query("create trigger keep before delete on outbox for each row execute function keep()")
        .execute(pool)
        .await?;
    state(&shop, 5).await?;
    sqlx::query("drop trigger keep on outbox").execute(pool).await?;
    // Of the last two events neither removal nor note was committed: they are one transaction.
    sqlx::query("insert into outbox overriding system value select * from kept where version > 3")
        .execute(pool)
        .await?;
    sqlx::query("update published set \"offset\" = 2 where \"offset\" = 4").execute(pool).await?;
    let instance = shop.start();
    shop.ask("TEA", 0).await?;
    let stated = shop.stated(6).await?;
    instance.stop().await?;
    assert_eq!((assert_order(&stated), stated.len()), (2, 8));
    Ok(())
}

/// What is on the topic beside the service's own events: others', unreadable ones, and late repeats of an owner that was suspended.
#[tokio::test(flavor = "multi_thread")]
async fn neither_strangers_records_nor_late_repeats_are_news() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    state(&shop, 3).await?;
    let stated = shop.stated(3).await?;
    let topic = shop.world.settings.topic(TOPIC);
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", &shop.world.settings.kafka.brokers).create()?;
    let partition = stated[0].partition;
    let send = async |key: &str, headers: OwnedHeaders, time: i64| {
        let record =
            FutureRecord::to(&topic).partition(partition).key(key).payload("x").headers(headers).timestamp(time);
        producer.send(record, None).await.map_err(|(error, _)| error)
    };
    let of = |source: &str, id: &str, version: &str| {
        let headers = [("ce_source", source), ("ce_id", id), ("ce_aggregateversion", version)];
        let insert = |headers: OwnedHeaders, (key, value)| headers.insert(Header { key, value: Some(value) });
        headers.into_iter().fold(OwnedHeaders::new(), insert)
    };
    let own = |id: &str, version: &str| of("/quadrille/tally", id, version);
    let new = Uuid::new_v4().to_string();
    send("TEA", of("/quadrille/other", &new, "9"), 0).await?;
    send("TEA", OwnedHeaders::new(), 0).await?;
    let first = &stated[0];
    let (id, version) =
        (first.header("ce_id").expect("an id"), first.header("ce_aggregateversion").expect("a version"));
    send("TEA", own(id, version), first.timestamp_ms).await?;
    producer.flush(Duration::from_secs(10))?;
    let instance = shop.start();
    shop.ask("TEA", 0).await?;
    shop.world.read_until(TOPIC, |records| records.len() == 7).await?;
    instance.stop().await?;

    // The same id under another version is no repeat, nor is an id that is nowhere.
    send("TEA", own(id, "9"), first.timestamp_ms).await?;
    send("OTHER", own(&new, "1"), first.timestamp_ms).await?;
    let instance = shop.start();
    let why = disagrees(&shop.database).await?;
    assert!(why.contains("from offset 7 on") && why.contains("key TEA and version 9"), "{why}");
    assert!(why.contains("of keys OTHER, TEA"), "{why}");
    instance.stop().await
}

/// A database of before there were notes is taken at its word; so it is after an owner of an older build, which noted nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_build_published_is_taken_as_it_is() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let pool = &shop.database.pool;
    let noted = async || {
        let noted = "select \"offset\" from published order by \"offset\" desc";
        sqlx::query_scalar::<_, i64>(noted).fetch_all(pool).await
    };
    state(&shop, 3).await?;
    sqlx::raw_sql(
        "drop table published; alter table lease drop column noted_by; delete from _sqlx_migrations where version = 6",
    )
    .execute(pool)
    .await?;
    service().migrate(&shop.database.url()).await?;
    state(&shop, 1).await?;
    assert_eq!(noted().await?, [3, -1, -1, -1, -1, -1]);
    // As if it had been an older build, while versions are mixed.
    sqlx::raw_sql("update lease set owner = 'older'; update published set \"offset\" = 2 where \"offset\" = 3")
        .execute(pool)
        .await?;
    state(&shop, 1).await?;
    assert_eq!(noted().await?, [4, -1, -1, -1, -1, -1]);
    Ok(())
}

/// `quadrille doctor` finds it in the service's database, whether an instance runs or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_to_do() -> anyhow::Result<()> {
    let prefix = format!("quadrille_test_{}_", Uuid::new_v4().simple());
    let database = Database::named(format!("{prefix}tally")).await;
    service().migrate(&database.url()).await?;
    sqlx::query(
        "insert into published values ('payment.events', 2, 9, null), ('payment.events', 3, 16, 'it holds more')",
    )
    .execute(&database.pool)
    .await?;
    let catalogue = Catalogue::new(TOPICS, RECORD_TYPES, [Service::of::<tally::Tally>()]);
    let mut settings = Settings::load(catalogue, Overrides::default())?;
    settings.database.prefix = prefix;
    let looks = doctor::examine(&settings).await;
    let found: Vec<_> = looks.iter().filter(|look| look.what == "published").collect();
    let [look] = &found[..] else { anyhow::bail!("{looks:?}") };
    assert_eq!(look.verdict, Verdict::Wrong);
    assert_eq!(look.found, "tally publishes nothing (1 partitions): it holds more");
    for fix in ["restore its newest backup", "quadrille group rewind tally", "quadrille-tally accept-topics"] {
        assert!(look.fix.contains(fix), "{}", look.fix);
    }
    Ok(())
}
