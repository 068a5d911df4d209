//! Small inputs that must not stop a service: what a record's headers, its batch, its schema's id and its own id may do.

use std::time::{Duration, Instant};

use crate::support::{Instance, Shop, Versions, VersionsBySku, distinct};
use quadrille_core::{Decision, Envelope, Input, Moment, Nothing, Policy, Row, ids, records};
use quadrille_events::{Money, ProductListingRequested, StockReplenished, StockReplenishmentRequested};
use quadrille_platform::{OffsetSkipRequested, RedriveRequested};
use quadrille_testkit::Proxy;
use rdkafka::{
    ClientConfig,
    error::RDKafkaErrorCode,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::json;
use uuid::Uuid;

const TOPIC: &str = "stock.requests";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Reason, field and offset of each dead letter, in the order of their offsets.
async fn letters(shop: &Shop, count: i64) -> anyhow::Result<Vec<(String, String, i64)>> {
    let enough = "select count(*) from dead_letter having count(*) >= $1";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(enough).bind(count).fetch_optional(pool)).await?;
    let all = "select reason, field, \"offset\" from dead_letter order by \"offset\"";
    Ok(sqlx::query_as(all).fetch_all(&shop.database.pool).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_size_and_kind_leave_a_request_what_it_is() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instance = shop.start();
    let large = "x".repeat(900_000);
    let parent = ("traceparent", PARENT.to_owned());
    let harmless: Vec<Vec<(&str, String)>> = vec![
        vec![parent.clone(), ("tracestate", format!("k={large}"))],
        vec![parent.clone(), ("tracestate", "a=b\0c".to_owned())],
        vec![("traceparent", format!("{PARENT}\0")), ("tracestate", "a=\0b".to_owned())],
        vec![("traceparent", format!("01{}-{large}", &PARENT[2..]))],
        vec![("x-debug", large.clone())],
        vec![("x", String::new()); 100_000],
        vec![("ce_type", "\0".to_owned()), ("ce_time", "never\0".to_owned()), ("ce_source", "\0".to_owned())],
        vec![parent.clone(), ("tracestate", "a=b".to_owned())],
    ];
    for headers in &harmless {
        let value = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::new_v4(), 1)).await?;
        shop.world.send_raw(TOPIC, Some(b"TEA"), &value, headers).await?;
    }
    let value = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::new_v4(), 1)).await?;
    let refused = [("ce_id", "1".to_owned()), ("ce_source", "x".repeat(20_000))];
    let placed = shop.world.send_raw(TOPIC, Some(b"TEA"), &value, &refused).await?;

    let stated = shop.stated(harmless.len()).await?;
    let states: Vec<&str> = stated.iter().filter_map(|record| record.header("tracestate")).collect();
    assert_eq!(states, ["a=b"], "what no hop has to carry on goes no further");
    let parents = stated.iter().filter_map(|record| record.header("traceparent"));
    assert!(parents.into_iter().all(|parent| parent.len() == 55));
    assert_eq!(letters(&shop, 1).await?, [("too_large".to_owned(), "ce_source".to_owned(), placed.offset)]);
    assert_eq!(shop.pieces().await?, harmless.len() as i64);
    instance.stop().await
}

/// The id of a schema that is not Avro, as somebody else's serializer registers it.
async fn foreign_schema(shop: &Shop, kind: &str, text: &str) -> anyhow::Result<u32> {
    let url = format!("{}/subjects/someone-elses-{kind}/versions", shop.world.settings.registry.url);
    let body = json!({ "schemaType": kind, "schema": text });
    let answer: serde_json::Value = reqwest::Client::new().post(url).json(&body).send().await?.json().await?;
    answer["id"].as_u64().and_then(|id| id.try_into().ok()).ok_or_else(|| anyhow::anyhow!("no id: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_kind_is_a_dead_letter_and_holds_up_nothing() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let json = foreign_schema(&shop, "JSON", r#"{"type":"object","properties":{"a":{"type":"string"}}}"#).await?;
    let protobuf = foreign_schema(&shop, "PROTOBUF", "syntax = \"proto3\"; message A { string a = 1; }").await?;
    for id in [json, protobuf] {
        let value = quadrille_events::frame(id, b"{}");
        shop.world.send_raw(TOPIC, Some(b"TEA"), &value, &[]).await?;
    }
    shop.world.send(&StockReplenishmentRequested::new("TEA".into(), Uuid::new_v4(), 1)).await?;
    let instance = shop.start();
    assert_eq!(distinct(&shop.stated(1).await?), 1);
    let letters = letters(&shop, 2).await?;
    let reasons: Vec<&str> = letters.iter().map(|(reason, ..)| reason.as_str()).collect();
    assert_eq!(reasons, ["unusable_schema"; 2]);
    instance.stop().await
}

/// A client whose garbage begins with a zero byte names a new schema id with each record.
#[tokio::test(flavor = "multi_thread")]
async fn ids_that_nobody_knows_cost_one_question_each() -> anyhow::Result<()> {
    const IDS: u32 = 300;
    let mut shop = Shop::open().await?;
    for id in 0..IDS {
        let value = quadrille_events::frame(700_000_000 + id, b"xx");
        shop.world.send_raw(TOPIC, Some(b"TEA"), &value, &[]).await?;
    }
    shop.world.send(&StockReplenishmentRequested::new("TEA".into(), Uuid::new_v4(), 1)).await?;
    let began = Instant::now();
    let instance = shop.start();
    shop.stated(1).await?;
    let took = began.elapsed();
    // Joining the group included. It took two minutes and more when each id had 17 questions asked.
    assert!(took < Duration::from_secs(30), "the record behind {IDS} unknown ids waited for {took:?}");
    assert_eq!(letters(&shop, i64::from(IDS)).await?.len(), IDS as usize);
    instance.stop().await
}

/// librdkafka unpacks at most 100,000,000 bytes of a zstd batch, and meets a larger one again and again.
async fn send_a_batch_that_cannot_be_unpacked(shop: &Shop) -> anyhow::Result<()> {
    let most = "900000000";
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &shop.world.settings.kafka.brokers)
        .set("compression.type", "zstd")
        .set("linger.ms", "3000")
        .set("message.max.bytes", most)
        .set("batch.size", most)
        .set("batch.num.messages", "1000000")
        .set("queue.buffering.max.kbytes", "2000000")
        .create()?;
    let topic = shop.world.settings.topic(TOPIC);
    let zeros = vec![0; 1_000_000];
    let sends = (0..120).map(|_| producer.send(FutureRecord::to(&topic).key("TEA").payload(&zeros).partition(0), None));
    for sent in futures::future::join_all(sends).await {
        sent.map_err(|(error, _)| error)?;
    }
    Ok(())
}

/// A topic says what one record may unpack to, so that its client hears of it at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_unpacks_to_more_than_a_record_may_have_is_refused_by_the_broker() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    for codec in ["gzip", "lz4", "zstd"] {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &shop.world.settings.kafka.brokers)
            .set("compression.type", codec)
            .set("message.max.bytes", "100000000")
            .create()?;
        let topic = shop.world.settings.topic(TOPIC);
        let sent = producer.send(FutureRecord::to(&topic).key("TEA").payload(&vec![0; 50_000_000]), None).await;
        let refused = sent.map(drop).map_err(|(error, _)| error.rdkafka_error_code());
        assert_eq!(refused, Err(Some(RDKafkaErrorCode::InvalidRecord)), "{codec}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_unpacked_is_told_and_passed_over() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    shop.ask("TEA", 0).await?;
    // Two, with a sound record between them, which whoever looks in steps may step over; and a third behind the second.
    send_a_batch_that_cannot_be_unpacked(&shop).await?;
    shop.ask("TEA", 0).await?;
    send_a_batch_that_cannot_be_unpacked(&shop).await?;
    send_a_batch_that_cannot_be_unpacked(&shop).await?;
    shop.ask("TEA", 0).await?;
    let instance = shop.start();
    shop.world.read_until("stock.events", |records| distinct(records) == 1).await?;
    // The first is passed over after half a minute, the others after another: each is told, and the record behind is handled.
    letters(&shop, 1).await?;
    let told = letters(&shop, 3).await?;
    assert_eq!(told, [1, 122, 242].map(|offset| ("unreadable".to_owned(), "value".to_owned(), offset)));
    let details: Vec<String> =
        sqlx::query_scalar("select detail from dead_letter order by \"offset\"").fetch_all(&shop.database.pool).await?;
    for (detail, offsets) in details.iter().zip(["1 to 120", "122 to 241", "242 to 361"]) {
        assert!(detail.starts_with(&format!("the offsets {offsets} cannot be read: ")), "{detail}");
    }
    shop.stated(3).await?;
    instance.stop().await?;

    // They are not met again.
    shop.ask("TEA", 0).await?;
    let instance = shop.start();
    shop.stated(4).await?;
    assert_eq!(letters(&shop, 3).await?.len(), 3);
    // Nothing of them was kept that could be handled again.
    let again = RedriveRequested {
        topic: TOPIC.to_owned(),
        who: "ann".to_owned(),
        why: "to see".to_owned(),
        ..RedriveRequested::new("tally".to_owned())
    };
    let (result, detail) = shop.operate(&again).await?;
    assert!(result == "refused" && detail.contains("kept whole"), "{result}: {detail}");
    instance.stop().await
}

fn skip(topic: &str, partition: i32, offset: i64) -> OffsetSkipRequested {
    OffsetSkipRequested {
        topic: topic.to_owned(),
        partition,
        offset,
        who: "ann".to_owned(),
        why: "its client has sent it again".to_owned(),
        ..OffsetSkipRequested::new("tally".to_owned())
    }
}

/// Without waiting for half a minute, and whatever stands in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_an_offset_passed_over() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instance = shop.start();
    for (refused, field) in [
        (skip("order.requests", 0, 0), "topic: tally hears no"),
        (skip("nothing", 0, 0), "topic: tally hears no"),
        (skip(TOPIC, 6, 0), "partition: "),
        (skip(TOPIC, -1, 0), "partition: "),
        (skip(TOPIC, 0, -1), "offset: "),
    ] {
        let (result, detail) = shop.operate(&refused).await?;
        assert!(result == "refused" && detail.starts_with(field), "{result}: {detail}");
    }
    let (result, detail) = shop.operate(&skip(TOPIC, 3, 1)).await?;
    assert_eq!(result, "done", "{detail}");
    instance.stop().await?;

    for _ in 0..3 {
        shop.ask("TEA", 3).await?;
    }
    let instance = shop.start();
    shop.stated(2).await?;
    assert_eq!(letters(&shop, 1).await?, [("skipped".to_owned(), "offset".to_owned(), 1)]);
    let kept: Option<Vec<u8>> =
        sqlx::query_scalar("select value from dead_letter").fetch_one(&shop.database.pool).await?;
    assert!(kept.is_some_and(|value| !value.is_empty()), "it can be redriven");
    assert_eq!(shop.pieces().await?, 2);
    instance.stop().await
}

/// A partition that waits for a schema which the registry does not tell is what a person would pass over, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_waits_for_the_registry_is_passed_over_when_a_person_says_so() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let mut config = shop.config();
    let registry = Proxy::before(&config.registry.url).await?;
    config.registry.url = registry.url().to_owned();
    let instance = shop.start_with(config);
    // It has the schemas of what is asked of it.
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    shop.operate(&skip("nothing", 0, 0)).await?;
    registry.refuse();
    registry.cut();
    let unknown = quadrille_events::frame(700_000_000, b"xx");
    let placed = shop.world.send_raw(TOPIC, Some(b"TEA"), &unknown, &[]).await?;
    shop.ask("TEA", placed.partition).await?;
    let (result, detail) = shop.operate(&skip(TOPIC, placed.partition, placed.offset)).await?;
    assert_eq!(result, "done", "{detail}");
    shop.stated(2).await?;
    assert_eq!(letters(&shop, 1).await?, [("skipped".to_owned(), "offset".to_owned(), placed.offset)]);
    instance.stop().await
}

records! { pub enum Heard { StockReplenishmentRequested, ProductListingRequested } }
records! { pub enum Stated { StockReplenished } }

/// Answers two kinds of request, each with a fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Two;

impl Policy for Two {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;
    type State = VersionsBySku;

    fn rows(_: &VersionsBySku, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(_: &VersionsBySku, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let quantity = match &input.input {
            Input::Record(Heard::StockReplenishmentRequested(asked)) => asked.quantity,
            _ => 1_000,
        };
        Decision::fact(StockReplenished::new(input.key.clone(), input.id, quantity))
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut VersionsBySku, Stated::StockReplenished(came): &Stated) -> &'a mut i64 {
        state.entry(came.sku.clone()).or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_id_for_two_kinds_of_request_silences_neither_over_an_upgrade_too() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let headers = |id: &str| [("ce_id", id.to_owned()), ("ce_source", "/shop".to_owned())];
    let replenished = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::new_v4(), 5)).await?;
    let price = Money::try_cents(100).expect("a price");
    let listed = shop.world.framed(&ProductListingRequested::new("TEA".into(), price)).await?;

    // "old", "both": an instance of an earlier build has handled the one that it was first sent, and knows the id without its type.
    for id in ["old", "both"] {
        let old = ids::former_request(TOPIC, "TEA", "/shop", id).expect("its key is no number");
        sqlx::query("insert into inbox (id) values ($1)").bind(old).execute(&shop.database.pool).await?;
    }
    for value in [&replenished, &replenished, &listed, &listed] {
        shop.world.send_raw(TOPIC, Some(b"TEA"), value, &headers("new")).await?;
    }
    shop.world.send_raw(TOPIC, Some(b"TEA"), &replenished, &headers("old")).await?;
    // In one batch: which of the two it was that the earlier build handled cannot be told any more.
    for value in [&replenished, &listed] {
        shop.world.send_raw(TOPIC, Some(b"TEA"), value, &headers("both")).await?;
    }
    shop.world.send_raw(TOPIC, Some(b"TEA"), &replenished, &headers("last")).await?;
    let instance = Instance::start(Versions::<Two>::service(), shop.config());
    let stated = shop.stated(3).await?;
    let quantities = crate::support::quantities(&stated);
    assert_eq!(quantities, [5, 1_000, 5], "each kind once, the redelivery over the upgrade not again, and the last");

    // An instance of an earlier build that meets them again finds the ids that it computes.
    for id in ["new", "old", "both", "last"] {
        let former = ids::former_request(TOPIC, "TEA", "/shop", id).expect("its key is no number");
        let known: i64 = sqlx::query_scalar("select count(*) from inbox where id = $1")
            .bind(former)
            .fetch_one(&shop.database.pool)
            .await?;
        assert_eq!(known, 1, "{id}");
    }
    instance.stop().await
}
