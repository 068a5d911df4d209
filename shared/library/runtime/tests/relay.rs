//! The relay against transactions that commit in another order than that of their numbers, and against what no broker takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{Instance, Shop, Versions, VersionsBySku};
use quadrille_cli::kafka::Admin;
use quadrille_core::{Decision, Envelope, Input, Moment, Nothing, Policy, Record as _, Row, records};
use quadrille_events::{StockReplenishmentRequested, StockRequestRefused};
use quadrille_platform::{DiscardRequested, OperatorRequestCarriedOut};
use quadrille_runtime::axum::{self, Router, body::Bytes, extract::Request, http::StatusCode};
use quadrille_testkit::decoded;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

async fn begin(shop: &Shop) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&shop.database.url()).await?;
    sqlx::raw_sql("begin; select pg_current_xact_id()").execute(&mut connection).await?;
    Ok(connection)
}

async fn insert(connection: &mut PgConnection, key: &str) -> anyhow::Result<()> {
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
         values ('stock.events', $1, $2, 'quadrille.stock.StockReplenished', 1, $2, clock_timestamp(), '', '', 'x')",
    )
    .bind(key)
    .bind(Uuid::new_v4())
    .execute(connection)
    .await?;
    Ok(())
}

async fn commit(mut connection: PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql("commit").execute(&mut connection).await?;
    Ok(())
}

/// A low number that commits late is published all the same. The transaction that holds it has the higher id of two, so that it lies above
/// what a snapshot calls completed: a floor that trusts the snapshot alone passes it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_commits_late_is_published() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = shop.start();
    shop.ask("FIRST", 0).await?;
    shop.stated(1).await?;

    let mut early = begin(&shop).await?;
    let mut late = begin(&shop).await?;
    insert(&mut late, "LATE").await?;
    insert(&mut early, "EARLY").await?;
    commit(early).await?;
    shop.stated(2).await?;
    for round in 0..3 {
        let mut next = begin(&shop).await?;
        insert(&mut next, &format!("NEXT-{round}")).await?;
        commit(next).await?;
        shop.stated(3 + round).await?;
    }
    commit(late).await?;
    let stated = shop.stated(6).await?;
    assert!(stated.iter().any(|record| record.key_text() == "LATE"));
    instance.stop().await
}

records! { enum Heard { StockReplenishmentRequested } }
records! { enum Stated { StockRequestRefused } }

/// Refuses all, with as many letters as pieces are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wordy;

fn refusal(sku: &str, letters: usize) -> StockRequestRefused {
    let mut refused = StockRequestRefused::new(sku.to_owned());
    refused.detail = "x".repeat(letters);
    refused
}

impl Policy for Wordy {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type State = VersionsBySku;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;

    fn rows(_: &VersionsBySku, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(_: &VersionsBySku, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let Input::Record(Heard::StockReplenishmentRequested(asked)) = &input.input else { return Decision::nothing() };
        Decision::fact(refusal(&input.key, asked.quantity as usize))
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut VersionsBySku, Stated::StockRequestRefused(refused): &Stated) -> &'a mut i64 {
        state.entry(refused.sku.clone()).or_default()
    }
}

/// A fact that could never be published is not committed: its input is a dead letter, and nothing of it has happened. One letter less is published.
#[tokio::test(flavor = "multi_thread")]
async fn a_fact_that_no_broker_takes_is_refused_before_it_is_committed() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    // The bound on the whole record, less what goes with it: its frame and headers, the key thrice, a trace.
    let rest = 1_000_000 - 1_024 - 3 * "TEA".len() - "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".len();
    let framed = |letters: usize| {
        let mut datum = vec![];
        refusal("TEA", letters).encode(&mut datum);
        5 + datum.len()
    };
    let most = rest - (framed(900_000) - 900_000);
    assert_eq!(framed(most), rest);

    let instance = Instance::start(Versions::<Wordy>::service(), shop.config());
    for letters in [1, most + 1, most, 2] {
        shop.ask_for("TEA", i32::try_from(letters)?, Some(0)).await?;
    }
    let stated = shop.stated(3).await?;
    let letters: Vec<usize> = stated
        .iter()
        .map(|record| decoded::<StockRequestRefused>(record).map(|refused| refused.detail.len()))
        .collect::<Result<_, _>>()?;
    assert_eq!(letters, [1, most, 2]);
    let versions: Vec<_> = stated.iter().filter_map(|record| record.header("ce_aggregateversion")).collect();
    assert_eq!(versions, ["1", "2", "3"], "nothing of the refused one has happened");
    let letters: Vec<(String, String)> =
        sqlx::query_as("select reason, detail from dead_letter").fetch_all(&shop.database.pool).await?;
    let [(reason, detail)] = &letters[..] else { anyhow::bail!("{letters:?}") };
    assert_eq!(reason, "handling_failed");
    assert!(detail.contains("StockRequestRefused would be a record of 1000001 bytes"), "{detail}");
    instance.stop().await
}

/// Has the service tell of an operator's request, and then state something: the request's id.
async fn told_and_stated(shop: &mut Shop, count: usize) -> anyhow::Result<Uuid> {
    let (who, why) = ("ann".to_owned(), "nobody needs it".to_owned());
    let discard = DiscardRequested { who, why, ..DiscardRequested::new("tally".into(), Uuid::new_v4()) };
    let (result, _) = shop.operate(&discard).await?;
    assert_eq!(result, "refused");
    let newest = "select id from operator_action order by at desc limit 1";
    let id: Uuid = sqlx::query_scalar(newest).fetch_one(&shop.database.pool).await?;
    // Each of them would wait behind what is told.
    let began = Instant::now();
    for n in 1..=count {
        shop.ask("TEA", 0).await?;
        shop.stated(n).await?;
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{count} facts took {:?}", began.elapsed());
    let waits = "select count(*) from outbox where topic = 'platform.events'";
    assert_eq!(sqlx::query_scalar::<_, i64>(waits).fetch_one(&shop.database.pool).await?, 1, "what is told waits");
    Ok(id)
}

/// Without its topic, what tells operators waits: a service starts and states its facts all the while, and tells once the topic is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_of_platform_events_holds_up_no_facts() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let declared = OperatorRequestCarriedOut::TYPE.topic;
    let physical = shop.world.settings.topic(&declared.name);
    let topics = Admin::connect(&shop.world.settings.kafka)?;
    topics.delete(std::slice::from_ref(&physical)).await?;
    while !topics.find(std::slice::from_ref(&physical)).await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let instance = shop.start();
    let id = told_and_stated(&mut shop, 3).await?;
    topics.create(&[NewTopic::new(&physical, declared.partitions as i32, TopicReplication::Fixed(1))]).await?;
    shop.platform_events(id, 1).await?;
    instance.stop().await
}

/// A registry before the real one that has no subject of `platform.events` until it is told so.
async fn registry_without_platform_events(url: &str) -> anyhow::Result<(String, Arc<AtomicBool>)> {
    let (real, path) = url.split_at(url.find("/apis").expect("the local registry's path"));
    let (real, has_all) = (real.to_owned(), Arc::new(AtomicBool::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let own = format!("http://{}{path}", listener.local_addr()?);
    let (client, all) = (reqwest::Client::new(), Arc::clone(&has_all));
    let answer = async move |request: Request| {
        let lost = "{\"error_code\":40401,\"message\":\"no such subject\"}";
        let json = [("content-type", "application/vnd.schemaregistry.v1+json")];
        let (parts, body) = request.into_parts();
        if parts.uri.path().contains("/subjects/platform.events-") && !all.load(Ordering::SeqCst) {
            return (StatusCode::NOT_FOUND, json, Bytes::from(lost));
        }
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("the client's body");
        let asked = client.request(parts.method, format!("{real}{}", parts.uri)).header("content-type", json[0].1);
        let answered = asked.body(body).send().await.expect("the registry answers");
        (answered.status(), json, answered.bytes().await.expect("all of it"))
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok((own, has_all))
}

/// The same without its schemas.
#[tokio::test(flavor = "multi_thread")]
async fn missing_schemas_of_platform_events_hold_up_no_facts() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let mut config = shop.config();
    let (url, has_all) = registry_without_platform_events(&config.registry.url).await?;
    config.registry.url = url;
    let instance = shop.start_with(config);
    let id = told_and_stated(&mut shop, 3).await?;
    has_all.store(true, Ordering::SeqCst);
    shop.platform_events(id, 1).await?;
    instance.stop().await
}

/// A row of an older build bears what no broker takes: a trace of a megabyte. The event is published without it, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_beyond_its_bounds_keeps_no_event_back() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut connection = begin(&shop).await?;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traces =
        [(parent, "a=b".to_owned()), (parent, format!("k={}", "x".repeat(1_047_800))), (parent, String::new())];
    for (n, (parent, state)) in traces.iter().enumerate() {
        insert(&mut connection, "TEA").await?;
        sqlx::query(
            "update outbox set version = $1, traceparent = $2, tracestate = $3 where version = 1 and traceparent = ''",
        )
        .bind(n as i64 + 1)
        .bind(parent)
        .bind(state)
        .execute(&mut connection)
        .await?;
    }
    insert(&mut connection, "TEA").await?;
    sqlx::query("update outbox set traceparent = $1, tracestate = 'a=b' where traceparent = ''")
        .bind(format!("01{}", "0".repeat(40_000)))
        .execute(&mut connection)
        .await?;
    commit(connection).await?;
    let instance = shop.start();
    let stated = tokio::time::timeout(Duration::from_secs(30), shop.stated(4)).await??;
    let traces: Vec<_> =
        stated.iter().map(|record| (record.header("traceparent"), record.header("tracestate"))).collect();
    assert_eq!(traces, [(Some(parent), Some("a=b")), (Some(parent), None), (Some(parent), None), (None, None)]);
    instance.stop().await
}

/// Whichever build committed a row, it is framed by the schema that it was written with. Here that is one that its type does not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_framed_by_the_schema_that_it_names() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let written_with = StockReplenishmentRequested::TYPE;
    sqlx::query("insert into stated_schema (fingerprint, subject, text) values (1, $1, $2)")
        .bind(written_with.subject())
        .bind(written_with.schema)
        .execute(&shop.database.pool)
        .await?;
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, datum, schema)
         select 'stock.events', 'TEA', id, 'quadrille.stock.StockReplenished', 1, id, now(), '', '', 'datum', 1 from gen_random_uuid() id",
    )
    .execute(&shop.database.pool)
    .await?;
    let instance = shop.start();
    let stated = shop.stated(1).await?;
    instance.stop().await?;
    let mut framed = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::nil(), 1)).await?;
    framed.truncate(5);
    framed.extend(b"datum");
    assert_eq!(stated[0].value.as_deref(), Some(framed.as_slice()));
    Ok(())
}

/// A row of an older build that is too large holds its own key, in its order, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_too_large_holds_its_key_alone() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let insert = "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
        select 'stock.events', key, gen_random_uuid(), 'quadrille.stock.StockReplenished', version, gen_random_uuid(),
            clock_timestamp(), '', '', convert_to(repeat('x', size), 'UTF8')
        from (values ('HELD', 1, 1000000), ('HELD', 2, 1), ('FREE', 1, 990000), ('FREE', 2, 1)) as fact(key, version, size)";
    sqlx::query(insert).execute(&shop.database.pool).await?;
    let instance = shop.start();
    let stated = shop.stated(2).await?;
    instance.stop().await?;
    assert!(stated.iter().all(|record| record.key_text() == "FREE"), "{stated:?}");
    crate::support::assert_order(&stated);
    let left: Vec<i64> = sqlx::query_scalar("select version from outbox where key = 'HELD' order by id")
        .fetch_all(&shop.database.pool)
        .await?;
    assert_eq!(left, [1, 2]);
    Ok(())
}

/// The broker refuses a whole batch for one of its records, and late: what comes behind in its key must not pass it, and its neighbours are
/// published all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_broker_refuses_holds_its_key_alone() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &shop.world.settings.kafka.brokers).create()?;
    let topic = shop.world.settings.topic("stock.events");
    let smaller = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", "100000");
    for altered in admin.alter_configs([&smaller], &AdminOptions::new()).await? {
        altered.map_err(|(_, error)| anyhow::anyhow!("{error}"))?;
    }
    // The broker follows a moment later: until then it takes them.
    let (mut taken, began) = (0, Instant::now());
    while shop.world.send_raw("stock.events", Some(b"PROBE"), &vec![0; 500_000], &[]).await.is_ok() {
        taken += 1;
        anyhow::ensure!(began.elapsed() < Duration::from_secs(60), "the broker takes what is too large");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let insert =
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
        select 'stock.events', key, gen_random_uuid(), 'quadrille.stock.StockReplenished', version, gen_random_uuid(),
            clock_timestamp(), '', '', convert_to(repeat('x', size), 'UTF8')
        from (select 'HELD' as key, 1 as version, 500000 as size
            union all select 'FREE-' || n, 1, 1000 from generate_series(1, 400) n union all select 'HELD', 2, 1) fact";
    sqlx::query(insert).execute(&shop.database.pool).await?;
    let instance = shop.start();
    // Those that were taken have no id, and count as one.
    let stated = shop.stated(400 + taken.min(1)).await?;
    instance.stop().await?;
    let held: Vec<_> = stated.iter().filter(|record| record.key_text() == "HELD").collect();
    assert!(held.is_empty(), "what comes behind it has passed it: {held:?}");
    let left: Vec<(String, i64)> =
        sqlx::query_as("select key, version from outbox order by id").fetch_all(&shop.database.pool).await?;
    assert_eq!(left, [("HELD".to_owned(), 1), ("HELD".to_owned(), 2)]);
    Ok(())
}

/// A broker that takes no record whose time is so far ahead is asked now and then, not as fast as it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_from_the_future_holds_its_key_alone() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut connection = begin(&shop).await?;
    for key in ["AHEAD", "TEA"] {
        insert(&mut connection, key).await?;
    }
    sqlx::query("update outbox set time = time + interval '2 hours' where key = 'AHEAD'")
        .execute(&mut connection)
        .await?;
    commit(connection).await?;
    let instance = shop.start();
    let stated = shop.stated(1).await?;
    assert_eq!(stated[0].key_text(), "TEA");
    instance.stop().await
}

/// More than one round may hold: each takes its part, in order.
#[tokio::test(flavor = "multi_thread")]
async fn large_rows_are_read_a_few_at_a_time() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let insert = "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
        select 'stock.events', 'KEY-' || n % 3, gen_random_uuid(), 'quadrille.stock.StockReplenished', 1 + n / 3, gen_random_uuid(),
            clock_timestamp(), '', '', convert_to(repeat('x', 900000), 'UTF8') from generate_series(0, 59) n";
    sqlx::query(insert).execute(&shop.database.pool).await?;
    let instance = shop.start();
    let stated = shop.stated(60).await?;
    crate::support::assert_order(&stated);
    assert_eq!(stated.len(), 60);
    instance.stop().await
}
