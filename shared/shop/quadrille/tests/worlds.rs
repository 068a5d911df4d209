//! Topics, schemas, reading to the end, sagas and the audit, on the real broker and registry.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path, time::Duration};

use common::{World, field, order};
use quadrille_cli::{
    codec::Encoder,
    kafka::{Admin, Producer},
    types::named,
};
use quadrille_shop::CATALOGUE;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas");

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_corrected_and_never_given_other_partitions() {
    let world = World::without_topics();
    let last = |text: &str| text.lines().last().unwrap().to_owned();
    let made = world.ok(&["topics", "apply"]);
    assert!(last(&made).ends_with("0 corrected, 0 as declared before."), "{made}");
    let again = world.ok(&["topics", "apply"]);
    assert!(again.lines().count() == 1 && again.contains(" 0 made, 0 corrected,"), "{again}");

    // Somebody changes a setting that is declared, and sets one that is not.
    let admin = Admin::connect(&world.settings.kafka).unwrap();
    let topic = world.settings.topic("user.requests");
    let found = || async { admin.find(std::slice::from_ref(&topic)).await.unwrap().remove(&topic).unwrap() };
    let changed = [("retention.ms", "1000000".to_owned()), ("segment.bytes", "20000000".to_owned())];
    admin.set(&topic, &found().await, &changed).await.unwrap();
    let listed = world.ok(&["topics", "list"]);
    assert!(listed.contains("retention.ms is 1000000"), "{listed}");
    let corrected = world.ok(&["topics", "apply"]);
    assert!(corrected.contains(&format!("corrected {topic}: retention.ms from 1000000 to 86400000")), "{corrected}");
    let settings = found().await.settings;
    assert_eq!((settings["retention.ms"].as_str(), settings["segment.bytes"].as_str()), ("86400000", "20000000"));

    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &world.settings.kafka.brokers).create().unwrap();
    client.create_partitions([&NewPartitions::new(&topic, 8)], &AdminOptions::new()).await.unwrap();
    let refused = loop {
        let output = world.run(&["topics", "apply"], b"");
        if !output.status.success() {
            break String::from_utf8(output.stderr).unwrap();
        }
        // The broker shows the new partitions a little later.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(refused.contains(&format!("{topic} has 8 partitions, 6 are declared")), "{refused}");
}

#[test]
fn schemas_are_registered_once_and_listed() {
    let world = World::without_topics();
    world.ok(&["schemas", "apply"]);
    let again = world.ok(&["schemas", "apply"]);
    assert!(again.lines().count() == 1 && again.contains(": 0 registered,"), "{again}");
    let listed: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["schemas", "list", "--json"])).unwrap();
    assert!(listed.len() > 40);
    for subject in listed {
        assert_eq!(subject["state"], "registered", "{subject}");
        assert_eq!(subject["compatibility"], "FULL_TRANSITIVE", "{subject}");
    }
    // What a program without a checkout would register is the same.
    let mut command = world.command(&["schemas", "list", "--json"]);
    command.current_dir(std::env::temp_dir());
    let built_in: Vec<serde_json::Value> = serde_json::from_slice(&common::finish(command, b"").stdout).unwrap();
    assert!(built_in.iter().all(|subject| subject["state"] == "registered"), "{built_in:?}");
}

#[test]
fn a_schema_that_the_registered_one_cannot_read_is_refused_before_anything_changes() {
    let world = World::without_topics();
    world.ok(&["schemas", "apply"]);
    let folder = std::env::temp_dir().join(format!("{}schemas", world.settings.kafka.topic_prefix));
    copy(Path::new(SCHEMAS), &folder);
    let file = folder.join("order.events/OrderShipped.avsc");
    let text = fs::read_to_string(&file).unwrap();
    let broken = text.replace(
        r#""name": "tracking_id", "type": "string", "default": """#,
        r#""name": "tracking_id", "type": "long", "default": 0"#,
    );
    let broken = broken.replace(r#""quadrille.example": "PARCEL-1""#, r#""quadrille.example": 1"#);
    assert_ne!(text, broken);
    fs::write(&file, broken).unwrap();
    let folder_text = folder.to_str().unwrap();
    for command in ["apply", "check"] {
        let refused = world.refused(&["schemas", command, "--schemas", folder_text], b"");
        assert!(refused.contains("tracking_id") && refused.contains("version 1"), "{refused}");
    }
    fs::remove_dir_all(&folder).unwrap();
    let listed = world.ok(&["schemas", "list"]);
    let of = listed.lines().find(|line| line.contains("OrderShipped")).unwrap();
    assert!(of.ends_with("registered"), "{of}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            // Without frozen versions: what is registered alone must be enough to refuse.
            if entry.file_name() != "versions" {
                copy(&entry.path(), &target);
            }
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_to_the_end_ends_although_markers_take_up_offsets() {
    let world = World::new();
    let topic = world.settings.topic("user.credentials");
    let (settings, id) = (world.settings.clone(), world.settings.kafka.topic_prefix.clone());
    let write = move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &settings.kafka.brokers)
            .set("transactional.id", &id)
            .create()
            .unwrap();
        producer.init_transactions(Duration::from_secs(20)).unwrap();
        for (value, is_kept) in [("kept", true), ("aborted", false), ("kept too", true), ("aborted too", false)] {
            producer.begin_transaction().unwrap();
            producer.send(BaseRecord::to(&topic).key("k").payload(value)).map_err(|(error, _)| error).unwrap();
            if is_kept {
                producer.commit_transaction(Duration::from_secs(20)).unwrap();
            } else {
                producer.flush(Duration::from_secs(20)).unwrap();
                producer.abort_transaction(Duration::from_secs(20)).unwrap();
            }
        }
    };
    tokio::task::spawn_blocking(write).await.unwrap();
    let began = std::time::Instant::now();
    let records = world.records("user.credentials").await;
    let values: Vec<_> = records.iter().filter_map(|record| record.value.as_deref()).collect();
    assert_eq!(values, [&b"kept"[..], b"kept too"]);
    assert!(began.elapsed() < Duration::from_secs(8), "it waited for a record that never comes");
}

#[test]
fn an_unanswered_request_is_an_offence_once_it_is_no_longer_young() {
    let world = World::new();
    let quiet = world.ok(&["audit", "--settle", "0s"]);
    assert!(quiet.lines().last().unwrap().starts_with("audit: 0 records, 0 orders"), "{quiet}");

    let json = order(&world, &[]);
    let id = field(&json, "/order_id");
    world.ok_with(&["produce", "OrderRequested"], json.as_bytes());
    let young = world.ok(&["audit", "--settle", "0s", "--grace", "1h"]);
    assert!(young.contains("1 on their way, 0 offences."), "{young}");
    let offends = world.refused(&["audit", "--settle", "0s", "--grace", "0s"], b"");
    assert!(offends.contains(&format!("OrderRequested of {id} has no answer")), "{offends}");
    let place = offends.lines().find(|line| line.contains("has no answer")).unwrap().trim();
    assert!(place.starts_with("order.requests/") && place.contains("@0 "), "{place}");

    let saga = world.ok(&["saga", &id.to_uppercase()]);
    assert!(saga.lines().last().unwrap().ends_with("requested, 1 records, 0 ms."), "{saga}");
    assert!(saga.contains("expects OrderCreated or OrderRejected from order, for "), "{saga}");
    let orders: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["orders", "--json"])).unwrap();
    assert_eq!(orders[0]["waits"][0]["expects"], serde_json::json!(["OrderCreated", "OrderRejected"]));
    assert_eq!(
        (orders.len(), orders[0]["order"].as_str(), orders[0]["state"].as_str()),
        (1, Some(id.as_str()), Some("requested"))
    );
    let refused = world.refused(&["saga", "67e55044-10b1-426f-9247-bb680e5fe0c8"], b"");
    assert!(refused.contains("quadrille orders"), "{refused}");
}

/// A saga's facts, each of which answers the one before: at any moment one question is open, and no other.
const CHAIN: [&str; 8] = [
    "OrderRequested",
    "OrderCreated",
    "CustomerVerified",
    "StockReserved",
    "PaymentCaptured",
    "OrderConfirmed",
    "ShipmentDelivered",
    "OrderDelivered",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_order_waits_for_what_a_later_fact_disproves_while_orders_flow() {
    let world = World::new();
    let mut encoders = vec![];
    for name in CHAIN {
        encoders.push((name, Encoder::connect(&world.settings, named(&CATALOGUE, name).unwrap(), None).await.unwrap()));
    }
    let (encoders, producer) = (&encoders, &Producer::connect(&world.settings.kafka).unwrap());
    let flowing = std::sync::atomic::AtomicBool::new(true);
    // The first so many facts of a new order.
    let order = async |facts: usize| {
        let id = uuid::Uuid::new_v4().to_string();
        for (name, encoder) in &encoders[..facts] {
            let info = encoder.info();
            let example: serde_json::Value = serde_json::from_str(info.example).unwrap();
            let json = info.example.replace(example["order_id"].as_str().unwrap(), &id);
            let framed = encoder.encode(&json).unwrap_or_else(|error| panic!("{name}: {error}"));
            producer.send(&info.record.topic.name, Some(framed.key.as_bytes()), &framed.value, &[]).await.unwrap();
        }
    };
    // One that stays open, and is to be seen each time.
    order(2).await;
    let flow = async || {
        let mut count = 0;
        while flowing.load(std::sync::atomic::Ordering::Relaxed) {
            order(CHAIN.len()).await;
            count += 1;
        }
        count
    };
    let look = async || {
        let mut open = 0;
        for _ in 0..8 {
            let mut command = world.command(&["orders", "--json"]);
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let orders: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
            for order in &orders {
                assert!(order["waits"].as_array().unwrap().len() <= 1, "{order:#}");
            }
            open += orders.iter().filter(|order| order["waits"][0].is_object()).count();
        }
        flowing.store(false, std::sync::atomic::Ordering::Relaxed);
        open
    };
    let flows = futures::future::join_all((0..32).map(|_| flow()));
    let (counts, open) = tokio::join!(flows, look());
    assert!(counts.iter().sum::<u32>() > 100 && open >= 8, "{counts:?} {open}");
}

#[test]
fn what_is_away_is_named_with_the_fix() {
    let world = World::without_topics();
    let away = world.refused(&["topics", "list", "--brokers", "127.0.0.1:1"], b"");
    assert!(away.contains("127.0.0.1:1") && away.contains("make up"), "{away}");
    let away = world.refused(&["schemas", "list", "--registry", "http://127.0.0.1:1/ccompat"], b"");
    assert!(away.contains("http://127.0.0.1:1/ccompat") && away.contains("make up"), "{away}");
    let missing = world.refused(&["orders"], b"");
    assert!(missing.contains("quadrille topics apply"), "{missing}");
    let doctor = world.refused(&["doctor"], b"");
    assert!(doctor.contains("missing:") && doctor.contains("fix: `quadrille topics apply`"), "{doctor}");
    assert!(world.ok(&["completions", "bash"]).contains("quadrille"));
}
