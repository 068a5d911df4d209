//! What a person asks of services, and what tools tell of dead letters: on the real broker and PostgreSQL, with the answers of a service
//! that does as it is told.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::{World, field, order};
use quadrille_cli::{
    kafka::{Reader, Start},
    produce,
};
use quadrille_core::ids;
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

/// Has the order service's group committed an offset.
fn commit(world: &World, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.settings.kafka.brokers)
        .set("group.id", world.settings.group("order"))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&world.settings.topic(topic), partition, Offset::Offset(offset)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// The order service's database in a world: with the runtime's tables, and nobody at work.
struct Database {
    server: String,
    prefix: String,
}

impl Database {
    async fn new(world: &mut World) -> Self {
        let server = std::env::var("QUADRILLE_TEST_DATABASE_URL")
            .unwrap_or_else(|_| "postgres://quadrille_test:quadrille@127.0.0.1:5433/postgres".to_owned());
        let server = server.rsplit_once('/').unwrap().0.to_owned();
        let prefix = format!("quadrille_test_{}_", Uuid::new_v4().simple());
        world.settings.database.base_url.clone_from(&server);
        world.settings.database.prefix.clone_from(&prefix);
        let database = Self { server, prefix };
        database.at("postgres", &format!("create database {}order", database.prefix)).await;
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../library/runtime/migrations");
        let mut files: Vec<_> = fs::read_dir(migrations).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            database.run(&fs::read_to_string(file).unwrap()).await;
        }
        database
    }

    async fn at(&self, name: &str, sql: &str) {
        let mut connection = PgConnection::connect(&format!("{}/{name}", self.server)).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }

    async fn run(&self, sql: &str) {
        self.at(&format!("{}order", self.prefix), sql).await;
    }

    async fn letter(&self, topic: &str, (partition, offset): (i32, i64), key: &str, reason: &str) -> Uuid {
        let id = Uuid::new_v4();
        self.run(&format!(
            "insert into dead_letter (id, topic, partition, \"offset\", record_time, record_type, key, value_size, value_digest, headers,
                 withheld, reason, field, detail)
             values ('{id}', '{topic}', {partition}, {offset}, now(), '', convert_to('{key}', 'UTF8'), 0, '', '[]', false, '{reason}', '', '')"
        ))
        .await;
        id
    }

    async fn discard(&self, id: Uuid) {
        self.run(&format!("update dead_letter set closed_at = now(), closed_how = 'discarded' where id = '{id}'"))
            .await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), format!("{}order", self.prefix));
        let drop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
                let sql = format!("drop database if exists {name} with (force)");
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
            });
        });
        let _ = drop.join();
    }
}

/// Takes `count` requests of the order service as they come and says of each that it is done, unless its value says `refuse`.
fn answer(world: &World, count: usize) -> tokio::task::JoinHandle<Vec<Value>> {
    let settings = world.settings.clone();
    tokio::spawn(async move {
        let url = settings.database_url("order");
        let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
        let (handle, follow) = (tokio::runtime::Handle::current(), settings.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let _runtime = handle.enter();
            let decoder = quadrille_cli::codec::Decoder::connect(&follow).unwrap();
            let reader = Reader::connect(&follow.kafka).unwrap();
            let partitions = reader.partitions(&["platform.requests"]).unwrap();
            let positions = reader.positions(&partitions, Start::Beginning).unwrap();
            let follow = reader.follow(&positions).unwrap();
            for _ in 0..count {
                let record = follow.next(std::time::Duration::from_secs(60)).unwrap().expect("a request");
                let quadrille_cli::codec::Decoded::Record { json, info } =
                    decoder.decode(Some("platform.requests"), record.value.as_deref()).unwrap()
                else {
                    panic!("no request: {record:?}")
                };
                sender.send((record.header("ce_id").unwrap().to_owned(), info.record.name, json)).unwrap();
            }
        });
        let mut seen = vec![];
        let mut connection = PgConnection::connect(&url).await.unwrap();
        while let Some((id, name, json)) = requests.recv().await {
            let id = ids::request("platform.requests", "order", name, produce::SOURCE, &id);
            sqlx::query("insert into operator_action (id, what, who, why, result, detail) values ($1, 'x', 'ann', 'test', 'done', $2) on conflict do nothing")
                .bind(id)
                .bind(&json)
                .execute(&mut connection)
                .await
                .unwrap();
            seen.push(serde_json::from_str(&json).unwrap());
        }
        reading.await.unwrap();
        seen
    })
}

fn ids_of(requests: &[Value]) -> Vec<&str> {
    requests.iter().map(|request| request["dead_letter_id"].as_str().unwrap()).collect()
}

const WHO: [&str; 4] = ["--who", "ann", "--why", "test"];

#[tokio::test(flavor = "multi_thread")]
async fn many_letters_are_discarded_by_their_ids_or_by_what_they_have_in_common() {
    let mut world = World::new();
    let database = Database::new(&mut world).await;
    let key = "6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11";
    let mut letters = vec![];
    for offset in 0..4 {
        let key = if offset == 3 { "other".to_owned() } else { key.to_uppercase() };
        letters.push(database.letter("order.requests", (0, offset), &key, "too_large").await.to_string());
    }
    let answered = answer(&world, 2);
    let said = world.ok(&[&["dead-letters", "discard", &letters[0], &letters[3]][..], &WHO].concat());
    assert_eq!(said.lines().filter(|line| line.starts_with("done: ")).count(), 2, "{said}");
    // The last one first: what waits behind a letter is handled as soon as that is given up.
    assert_eq!(ids_of(&answered.await.unwrap()), [letters[3].as_str(), &letters[0]]);
    database.discard(letters[0].parse().unwrap()).await;

    // The two requests before lie on the topic still, and were answered.
    let answered = answer(&world, 4);
    let by_key = ["dead-letters", "discard", "--service", "order", "--key", key];
    let said = world.ok(&[&by_key[..], &WHO].concat());
    assert_eq!(said.lines().count(), 2, "{said}");
    assert_eq!(ids_of(&answered.await.unwrap())[2..], [letters[2].as_str(), &letters[1]]);

    let refused = world.refused(&[&["dead-letters", "discard", &letters[0], &letters[1]][..], &WHO].concat(), b"");
    assert!(refused.contains(&letters[0]) && !refused.contains("done"), "{refused}");
    let none = ["dead-letters", "discard", "--service", "order", "--topic", "stock.requests"];
    let refused = world.refused(&[&none[..], &WHO].concat(), b"");
    assert!(refused.contains("no open dead letter matches"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_asked_to_pass_over_an_offset_and_what_came_of_it_is_told() {
    let mut world = World::new();
    let _database = Database::new(&mut world).await;
    let json = order(&world, &[]);
    let sent: Value =
        serde_json::from_str(&world.ok_with(&["produce", "OrderRequested", "--json"], json.as_bytes())).unwrap();
    let place = format!("order.requests/{}@{}", sent["partition"], sent["offset"]);
    let answered = answer(&world, 1);
    // What was read already is handled.
    let other = format!("order.requests/{}@0", (sent["partition"].as_i64().unwrap() + 1) % 6);
    commit(&world, "order.requests", (sent["partition"].as_i64().unwrap() as i32 + 1) % 6, 3);
    let refused = world.refused(&[&["group", "skip", "order", &other, "--yes"][..], &WHO].concat(), b"");
    assert!(refused.contains("order has read") && refused.contains("up to 3"), "{refused}");
    let skip = [&["group", "skip", "order", &place][..], &WHO].concat();
    let refused = world.refused(&skip, b"");
    assert!(refused.contains("OrderRequested") && refused.contains("Nothing was changed"), "{refused}");
    let said = world.ok(&[&skip[..], &["--yes"]].concat());
    assert!(said.starts_with("done: "), "{said}");
    let expected = json!({
        "service": "order", "topic": "order.requests", "partition": sent["partition"], "offset": sent["offset"],
        "who": "ann", "why": "test",
    });
    assert_eq!(answered.await.unwrap(), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_saga_say_of_a_request_that_it_is_a_dead_letter() {
    let mut world = World::new();
    let database = Database::new(&mut world).await;
    let json = order(&world, &[]);
    let id = field(&json, "/order_id");
    let sent: Value =
        serde_json::from_str(&world.ok_with(&["produce", "OrderRequested", "--json"], json.as_bytes())).unwrap();
    let orders = |arguments: &[&str]| -> Vec<Value> {
        serde_json::from_str(&world.ok(&[&["orders", "--json"], arguments].concat())).unwrap()
    };
    assert_eq!(orders(&["--open"])[0]["waits"][0]["rows"], json!([]));

    let place = (sent["partition"].as_i64().unwrap() as i32, sent["offset"].as_i64().unwrap());
    let letter = database.letter("order.requests", place, &id, "too_large").await;
    let open = &orders(&["--open"])[0];
    assert_eq!((&open["state"], &open["order"]), (&json!("requested"), &json!(id)));
    let row = &open["waits"][0]["rows"][0];
    assert_eq!((&row["state"], &row["id"], &row["reason"]), (&json!("open"), &json!(letter), &json!("too_large")));
    let told = format!("open dead letter of order (too_large): {letter}");
    assert!(world.ok(&["orders"]).contains(&told));
    let saga = world.ok(&["saga", &id]);
    assert_eq!(saga.matches(&told).count(), 2, "{saga}");

    database.discard(letter).await;
    assert_eq!(orders(&["--open"]), Vec::<Value>::new());
    let ended = &orders(&[])[0];
    assert_eq!((&ended["state"], &ended["waits"]), (&json!("discarded"), &json!([])));
    let saga = world.ok(&["saga", &id]);
    assert!(saga.contains(&format!("discarded dead letter of order (too_large): {letter}")), "{saga}");
    assert!(saga.lines().last().unwrap().contains(": discarded, 1 records"), "{saga}");
}
