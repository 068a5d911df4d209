//! A batch that the client does not unpack: every tool names it and reads on behind it, on the real broker.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use common::{World, field, order, spawn};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

const PARTITION: i32 = 4;

/// More than 100 MB in one zstd batch: more than the client unpacks, and some kilobytes for the broker.
const RECORDS: i64 = 110_000;

/// Puts records into one batch of order.requests.
fn send(world: &World, records: impl Iterator<Item = (String, Vec<u8>)>) {
    let topic = world.settings.topic("order.requests");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.settings.kafka.brokers)
        .set("compression.type", "zstd")
        .set("message.max.bytes", "900000000")
        .set("batch.size", "900000000")
        .set("batch.num.messages", "1000000")
        .set("queue.buffering.max.kbytes", "2000000")
        .set("queue.buffering.max.messages", "1000000")
        // Longer than filling the batch takes: a flush sends it at once.
        .set("linger.ms", "60000")
        .create()
        .unwrap();
    for (key, value) in records {
        let record = BaseRecord::to(&topic).partition(PARTITION).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    assert_eq!(producer.in_flight_count(), 0);
}

fn send_order(world: &World) -> String {
    let json = order(world, &[]);
    let (id, value) = (field(&json, "/order_id"), world.bytes(&["encode", "OrderRequested"], json.as_bytes()));
    send(world, [(id.clone(), value)].into_iter());
    id
}

fn send_unreadable(world: &World) {
    send(world, (0..RECORDS).map(|_| ("k".to_owned(), vec![0; 1_000])));
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_name_what_cannot_be_read_and_read_on_behind_it() {
    let world = World::new();
    let first = send_order(&world);
    send_unreadable(&world);
    let second = send_order(&world);
    let place = format!("order.requests/{PARTITION}@1 to {RECORDS} cannot be read");
    let keys: Vec<String> = world.records("order.requests").await.iter().map(|record| record.key_text()).collect();
    assert_eq!(keys, [first.clone(), second.clone()]);

    for arguments in [
        &["orders"][..],
        &["saga", &second],
        &["watch", "order.requests", "--to-end", "--key", &second, "--until", "1"],
    ] {
        let output = world.run(arguments, b"");
        let (out, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{arguments:?}: {told}");
        assert!(out.contains(&second) && told.contains(&place), "{arguments:?}: {out}{told}");
    }
    // Nobody made it a dead letter, so whoever hears it stands still there.
    let audit = world.refused(&["audit", "--settle", "0s", "--json"], b"");
    let audit: serde_json::Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    assert!(audit["unreadable"][0].as_str().unwrap().starts_with(&place), "{audit}");
    assert_eq!((audit["records"].as_i64(), audit["unreadable"].as_array().unwrap().len()), (Some(2), 1), "{audit}");

    // What a person would pass over is shown first.
    let skip = |offset: i64| {
        let place = format!("order.requests/{PARTITION}@{offset}");
        world.refused(&["group", "skip", "order", &place, "--who", "ann", "--why", "test"], b"")
    };
    let [at_first, within, at_second] = [0, 1_000, RECORDS + 1].map(skip);
    assert!(at_first.contains("OrderRequested") && at_first.contains(&first), "{at_first}");
    assert!(within.contains(&format!("@1000 to {RECORDS} cannot be read")), "{within}");
    assert!(at_second.contains(&second) && at_second.contains("--yes"), "{at_second}");
    let beyond = skip(RECORDS + 2);
    assert!(beyond.contains(&format!("holds the offsets 0 to {}", RECORDS + 1)), "{beyond}");
}

#[test]
fn who_watches_sees_what_comes_behind_it() {
    let world = World::new();
    let mut command = world.command(&["watch", "order.*", "user.*", "--until", "2", "--for", "60s", "--json"]);
    let mut watch = spawn(command.args(["--from", "beginning"]));
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let first = send_order(&world);
    assert_eq!(field(&lines.next().unwrap().unwrap(), "/key"), first);
    send_unreadable(&world);
    let second = send_order(&world);
    assert_eq!(field(&lines.next().unwrap().unwrap(), "/key"), second);
    let output = watch.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains(&format!("order.requests/{PARTITION}@1 to ")), "{told}");
}
