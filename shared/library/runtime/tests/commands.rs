//! The example `desk`, which is told over HTTP what is wanted: a command is an input like a record, answered after its commit, and taken once.

#[allow(dead_code, reason = "it has a main of its own")]
#[path = "../examples/desk/main.rs"]
mod desk;

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use quadrille_cli::{Catalogue, Service, kafka::Record};
use quadrille_core::{Decision, Envelope, Fact, Input, Moment, Nothing, Policy, Record as _, Row, ids};
use quadrille_events::{RECORD_TYPES, StockReplenished, StockReplenishmentRequested, TOPICS};
use quadrille_runtime::{
    Config, Context, Mapped, Service as Runtime, Store,
    axum::{Json, Router, http::HeaderMap, routing::post},
    table,
};
use quadrille_testkit::{Direction, Proxy, given};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::{process::Child, task::JoinHandle};
use uuid::Uuid;

use crate::support::{self, At, Instance, Shop, distinct, migrated};

/// A handler gives its command up after 5 s; as much again for a slow machine.
const ANSWERED: Duration = Duration::from_secs(10);
/// With a batch in hand and none committed it is ready for half a minute at most; and some patience.
const UNREADY: Duration = Duration::from_secs(45);
const TIMEOUT: Duration = Duration::from_secs(60);

impl At {
    /// Wants stock, under this key.
    async fn want(&self, key: &str, sku: &str, quantity: i32) -> anyhow::Result<Response> {
        self.post(key, json!({ "sku": sku, "quantity": quantity }).to_string()).await
    }

    async fn post(&self, key: &str, body: String) -> anyhow::Result<Response> {
        let request = reqwest::Client::new().post(self.url("/replenishments")).header("Idempotency-Key", key);
        Ok(request.header("Content-Type", "application/json").body(body).send().await?)
    }

    /// The same, answered 202: where it is to be seen.
    async fn wanted(&self, key: &str, sku: &str, quantity: i32) -> anyhow::Result<String> {
        let answer = self.want(key, sku, quantity).await?;
        let (status, location) = (answer.status(), answer.headers().get("location").cloned());
        anyhow::ensure!(status == StatusCode::ACCEPTED, "{status}: {}", answer.text().await?);
        Ok(location.expect("it is to be seen somewhere").to_str()?.to_owned())
    }

    async fn status(self, key: &'static str, quantity: i32) -> anyhow::Result<StatusCode> {
        Ok(self.want(key, "TEA", quantity).await?.status())
    }

    async fn shown(&self, location: &str) -> anyhow::Result<Value> {
        let answer = reqwest::get(self.url(location)).await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}

async fn open() -> anyhow::Result<Shop> {
    Shop::of(desk::service(), &[]).await
}

/// Starts an instance, and waits until it is ready.
async fn start(config: Config) -> anyhow::Result<Instance> {
    start_as(desk::service(), config).await
}

async fn start_as<S: Store>(service: Runtime<S>, config: Config) -> anyhow::Result<Instance> {
    let instance = Instance::listening(service, config)?;
    instance.at.says("ready", true, TIMEOUT).await?;
    Ok(instance)
}

/// An instance in a process of its own, to be killed, over this database.
async fn spawn(desk: &Shop, database: &str) -> anyhow::Result<(Child, At)> {
    let at = At::free()?;
    let mut command = desk.command();
    command.env("QUADRILLE__DATABASE__URL", database).env("QUADRILLE__HTTP__BIND", &at.0).stdout(Stdio::null());
    let child = command.spawn()?;
    at.says("ready", true, TIMEOUT).await?;
    Ok((child, at))
}

/// Stock came, of which somebody else had wanted it.
async fn came(desk: &mut Shop, sku: &str, replenishment: Uuid) -> anyhow::Result<()> {
    let value = desk.world.framed(&StockReplenished::new(sku.into(), replenishment, 1)).await?;
    let headers = [("ce_id", Uuid::new_v4().to_string()), ("ce_aggregateversion", "1".to_owned())];
    desk.world.send_raw("stock.events", Some(sku.as_bytes()), &value, &headers).await?;
    Ok(())
}

impl Shop {
    /// What was requested, once there are so many.
    async fn requested(&self, count: usize) -> anyhow::Result<Vec<Record>> {
        let topic = &StockReplenishmentRequested::TYPE.topic.name;
        self.world.read_until(topic, move |records| records.len() >= count).await
    }

    /// That so many were requested, and no more, nor one twice.
    async fn requested_once(&self, count: usize) -> anyhow::Result<()> {
        self.until("select not exists (select from outbox)").await?;
        let all = self.world.read(&StockReplenishmentRequested::TYPE.topic.name).await?;
        assert_eq!((all.len(), distinct(&all)), (count, count));
        Ok(())
    }

    /// From now on the database refuses this row, as if the service had no right to it: which may pass, as far as anybody knows.
    async fn forbid(&self, row: Uuid) -> anyhow::Result<()> {
        let forbid = format!(
            "create function forbid() returns trigger language plpgsql as
                 $$ begin raise 'forbidden' using errcode = 'insufficient_privilege'; end $$;
             create trigger forbid before insert or update on replenishment for each row
                 when (new.id = '{row}') execute function forbid();"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(forbid)).execute(&self.database.pool).await?;
        Ok(())
    }

    /// Holds up the worker, with one command in its hands, until what is returned is rolled back: what is sent meanwhile is one batch.
    async fn hold_up(
        &self,
        at: &At,
        key: &'static str,
    ) -> anyhow::Result<(Transaction<'static, Postgres>, JoinHandle<anyhow::Result<StatusCode>>)> {
        let mut hold = self.database.pool.begin().await?;
        sqlx::query("lock table replenishment in exclusive mode").execute(&mut *hold).await?;
        let in_hand = tokio::spawn(at.clone().status(key, 1));
        self.until("select exists (select from pg_locks where not granted and relation = 'replenishment'::regclass)")
            .await?;
        Ok((hold, in_hand))
    }

    async fn count(&self, query: &'static str) -> anyhow::Result<i64> {
        Ok(sqlx::query_scalar(query).fetch_one(&self.database.pool).await?)
    }
}

/// The id of a command of the example.
fn command(key: &str) -> Uuid {
    ids::command(desk::Desk::SERVICE, "anybody", desk::REPLENISHMENTS, key)
}

/// In memory: the state alone knows a command that the inbox has forgotten, and what others wanted.
#[test]
fn a_policy_is_told_commands_in_stories() {
    let tea = desk::Command::Replenish { sku: "TEA".into(), quantity: 2 };
    let key = Uuid::from_u128(7);
    let came = |id| StockReplenished::new("TEA".into(), id, 2);
    given::<desk::Desk>()
        .told(key, tea)
        .then_states_types(["StockReplenishmentRequested"])
        .again()
        .then_nothing()
        .heard(came(Uuid::from_u128(8)))
        .then_state(|wanted| wanted.len() == 1 && !wanted[&key.to_string()].came)
        .heard(came(key))
        .then_state(|wanted| wanted[&key.to_string()].came);
}

/// Cases: what was committed is there when the answer is; it is published, answered by another service, and seen; what a route refuses itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_after_its_commit_and_published() -> anyhow::Result<()> {
    let desk = open().await?;
    let one = start(desk.config()).await?;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = reqwest::Client::new().post(one.at.url("/replenishments")).header("traceparent", parent);
    let body = json!({ "sku": "tea", "quantity": 3 }).to_string();
    let request = request.header("Idempotency-Key", "one").header("Content-Type", "application/json").body(body);
    let answer = request.send().await?;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let location = format!("/replenishments/{}", command("one"));
    assert_eq!(answer.headers().get("location").and_then(|at| at.to_str().ok()), Some(location.as_str()));
    assert_eq!(one.at.shown(&location).await?["sku"], "TEA");

    let requested = desk.requested(1).await?;
    let id = ids::fact("desk", command("one"), StockReplenishmentRequested::TYPE.name, 0);
    assert_eq!(requested[0].header("ce_id"), Some(id.to_string().as_str()));
    assert_eq!(requested[0].header("traceparent"), Some(parent));
    assert_eq!(requested[0].header("ce_causationid"), None);

    // Whoever has the stock states that it came.
    let stock = migrated(support::service()).await?;
    let tally = Instance::start(support::service(), desk.world.config("tally", &stock.url()));
    let began = Instant::now();
    while one.at.shown(&location).await?["came"] != true {
        anyhow::ensure!(began.elapsed() < TIMEOUT, "it does not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let large = format!("{}{}", json!({ "sku": "TEA", "quantity": 1 }), " ".repeat(256 * 1024));
    assert_eq!(one.at.post("large", large).await?.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(one.at.want("no sku", "TEA 1", 1).await?.status(), StatusCode::BAD_REQUEST);
    assert_eq!(desk.count("select count(*) from inbox").await?, 2, "the command, and what came of it");
    tally.stop().await?;
    one.stop().await
}

/// Cases: a command that states something; the same once more; one that the policy does not decide on. A build decides the same again.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_in_the_history_and_decided_again() -> anyhow::Result<()> {
    let desk = open().await?;
    let mut config = desk.config();
    config.history.keep = true;
    let one = start(config).await?;
    for key in ["one", "one", "two"] {
        one.at.wanted(key, "TEA", 2).await?;
    }
    one.at.want("three", "TEA", 0).await?;
    one.stop().await?;
    let lines = "select format('{\"header\":%s}', header) from history_header
         union all select format('{\"decided\":%s}', decided) from (select decided from history order by number) kept";
    let lines: Vec<String> = sqlx::query_scalar(lines).fetch_all(&desk.database.pool).await?;
    let told = r#""input":{"command":{"Replenish":{"quantity":2,"sku":"TEA"}}}"#;
    assert_eq!(lines.iter().filter(|line| line.contains(told)).count(), 2, "{lines:?}");
    let report = Catalogue::new(TOPICS, RECORD_TYPES, [Service::of::<desk::Desk>()])
        .build()
        .replay(lines.join("\n").as_bytes(), "desk")?;
    assert_eq!((report.decisions, report.facts, report.is_same()), (2, 2, true), "{report}");
    Ok(())
}

/// Cases: one after another, on either instance; all at once, on both; the same key for something else.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_command_has_one_effect() -> anyhow::Result<()> {
    const KEYS: usize = 30;
    let desk = open().await?;
    let (one, two) = (start(desk.config()).await?, start(desk.config()).await?);
    let first = one.at.wanted("again", "TEA", 1).await?;
    assert_eq!(one.at.wanted("again", "TEA", 1).await?, first);
    assert_eq!(two.at.wanted("again", "TEA", 1).await?, first);
    assert_eq!(two.at.clone().status("again", 2).await?, StatusCode::UNPROCESSABLE_ENTITY);

    let keys: Vec<String> = (0..KEYS).map(|n| format!("at once {n}")).collect();
    // Each four times at once: twice at either.
    let four = keys.iter().flat_map(|key| [&one.at, &two.at, &one.at, &two.at].map(|at| at.wanted(key, "TEA", 1)));
    let seen = futures::future::try_join_all(four).await?;
    assert!(seen.chunks(4).all(|same| same.iter().all(|at| *at == same[0])));
    desk.requested_once(1 + KEYS).await?;
    one.stop().await?;
    two.stop().await
}

/// Neither broker nor registry is there, at a start already: it is ready for commands, and publishes once they are back.
#[tokio::test(flavor = "multi_thread")]
async fn commands_need_neither_broker_nor_registry() -> anyhow::Result<()> {
    let desk = open().await?;
    let mut config = desk.config();
    let (kafka, registry) = (Proxy::before(&config.kafka.brokers).await?, Proxy::before(&config.registry.url).await?);
    kafka.url().clone_into(&mut config.kafka.brokers);
    registry.url().clone_into(&mut config.registry.url);
    kafka.refuse();
    registry.refuse();
    let one = start(config).await?;
    let first = one.at.wanted("away", "TEA", 1).await?;
    assert_eq!(one.at.wanted("away", "TEA", 1).await?, first);
    assert_eq!(one.at.shown(&first).await?["quantity"], 1);
    assert_eq!(desk.count("select count(*) from outbox").await?, 1);
    registry.heal();
    kafka.heal();
    desk.requested_once(1).await?;
    one.stop().await
}

/// Cases: refused within the time of a command; the same key once it is back; what was sent meanwhile took effect once at most.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_a_command_is_to_be_sent_again() -> anyhow::Result<()> {
    let desk = open().await?;
    let proxy = Proxy::before(&desk.database.url()).await?;
    let one = start(desk.over(proxy.url())).await?;
    one.at.wanted("before", "TEA", 1).await?;
    // Cut off before its row is removed it would be published again.
    desk.requested_once(1).await?;
    proxy.refuse();
    proxy.cut();
    let began = Instant::now();
    let refused = one.at.want("away", "TEA", 1).await?;
    assert!(began.elapsed() < ANSWERED, "it took {:?}", began.elapsed());
    assert_eq!(
        (refused.status(), refused.headers().contains_key("retry-after")),
        (StatusCode::SERVICE_UNAVAILABLE, true)
    );
    assert!(refused.text().await?.contains("send it again with the same key"));
    proxy.heal();
    let began = Instant::now();
    while one.at.clone().status("away", 1).await? != StatusCode::ACCEPTED {
        anyhow::ensure!(began.elapsed() < TIMEOUT, "it is not back");
    }
    desk.requested_once(2).await?;
    one.stop().await
}

/// The worker is held up by a row that somebody has locked: one command in its hands, one that waits, and no room for a third.
#[tokio::test(flavor = "multi_thread")]
async fn more_commands_than_may_wait_are_refused_at_once() -> anyhow::Result<()> {
    let desk = open().await?;
    let mut config = desk.config();
    config.http.commands = 1;
    let one = start(config).await?;
    one.at.wanted("there", "TEA", 1).await?;
    let (hold, in_hand) = desk.hold_up(&one.at, "in hand").await?;
    let waits = tokio::spawn(one.at.clone().status("waits", 1));
    // It waits by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let refused = one.at.want("no room", "TEA", 1).await?;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().await?.contains("http.commands"));
    hold.rollback().await?;
    assert_eq!(waits.await??, StatusCode::ACCEPTED);
    assert_eq!(in_hand.await??, StatusCode::ACCEPTED);
    one.at.wanted("no room", "TEA", 1).await?;
    desk.requested_once(4).await?;
    one.stop().await
}

/// The process dies after its commit and before it knows of that: the next one has the command and its row.
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_commit_and_answer_the_command_is_seen() -> anyhow::Result<()> {
    let desk = open().await?;
    let proxy = Proxy::before(&desk.database.url()).await?;
    let (mut killed, at) = spawn(&desk, proxy.url()).await?;
    at.wanted("before", "TEA", 1).await?;
    desk.until("select not exists (select from outbox)").await?;
    proxy.silence_at("COMMIT", Direction::ToClient);
    let unanswered = tokio::spawn(at.status("unanswered", 1));
    proxy.sprung().await;
    desk.until("select count(*) = 2 from replenishment").await?;
    killed.kill().await?;
    assert!(unanswered.await?.is_err(), "nobody was there to answer");

    let next = start(desk.config()).await?;
    next.at.wanted("unanswered", "TEA", 1).await?;
    desk.requested_once(2).await?;
    next.stop().await
}

/// A batch takes two inputs here. While commands come without end records are taken all the same, and while records wait commands are.
#[tokio::test(flavor = "multi_thread")]
async fn neither_commands_nor_records_wait_for_the_other_to_end() -> anyhow::Result<()> {
    const RECORDS: usize = 1_500;
    const CLIENTS: usize = 24;
    let mut desk = open().await?;
    let value = desk.world.framed(&StockReplenished::new("TEA".into(), Uuid::from_u128(1), 1)).await?;
    let came = (1..=RECORDS).map(|version| {
        let headers = [("ce_id", Uuid::new_v4().to_string()), ("ce_aggregateversion", version.to_string())];
        let (world, value) = (&desk.world, &value);
        async move { world.send_raw("stock.events", Some(b"TEA"), value, &headers).await }
    });
    futures::future::try_join_all(came).await?;
    let mut config = desk.config();
    config.batch.max_inputs = 2;
    let one = start(config).await?;
    let (done, answered, late) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let client = async |number: usize| {
        let mut n = 0;
        while !done.load(Ordering::Relaxed) {
            let began = Instant::now();
            one.at.wanted(&format!("{number}/{n}"), "TEA", 1).await?;
            answered.fetch_add(1, Ordering::Relaxed);
            late.fetch_max(began.elapsed().as_millis() as usize, Ordering::Relaxed);
            n += 1;
        }
        anyhow::Ok(())
    };
    let taken = async {
        let taken = "select count(*) from inbox where not exists (select from replenishment where replenishment.id = inbox.id::text)";
        let began = Instant::now();
        let mut first = None;
        loop {
            let records = desk.count(taken).await? as usize;
            let commands = answered.load(Ordering::Relaxed);
            if records > 0 {
                first.get_or_insert((Instant::now(), commands));
            }
            if let Some((began, before)) = first.filter(|_| records == RECORDS) {
                done.store(true, Ordering::Relaxed);
                return anyhow::Ok((began.elapsed(), commands - before));
            }
            anyhow::ensure!(began.elapsed() < TIMEOUT, "{records} records were taken within a minute");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (_, (took, meanwhile)) = tokio::try_join!(futures::future::try_join_all((0..CLIENTS).map(client)), taken)?;
    // Commands that waited for the records to end would have had one answer per client at most.
    assert!(meanwhile > 2 * CLIENTS, "{meanwhile} commands beside {RECORDS} records");
    let late = late.into_inner();
    println!("{RECORDS} records in {took:?}, beside {meanwhile} commands, of which the slowest took {late} ms");
    one.stop().await
}

/// Cases: a policy that panics; the others of its batch; the same again. Nothing of it stays, no dead letter either.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_handled_is_told_to_its_caller_alone() -> anyhow::Result<()> {
    let desk = open().await?;
    let one = start(desk.config()).await?;
    let many = (0..20).map(|n| {
        let at = &one.at;
        async move { anyhow::Ok(at.want(&format!("key {n}"), "TEA", n % 4).await?.status()) }
    });
    let answers = futures::future::try_join_all(many).await?;
    for (n, status) in answers.iter().enumerate() {
        let expected = if n % 4 == 0 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::ACCEPTED };
        assert_eq!(*status, expected, "key {n}");
    }
    let again = one.at.want("key 0", "TEA", 0).await?;
    assert_eq!(again.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!again.text().await?.contains("pieces"), "what went wrong is this service's own business");
    let left = "select (select count(*) from dead_letter) + (select count(*) from inbox where id = $1)";
    let left: i64 = sqlx::query_scalar(left).bind(command("key 0")).fetch_one(&desk.database.pool).await?;
    assert_eq!(left, 0);
    desk.requested_once(15).await?;
    one.stop().await
}

/// What one command cannot come to looks like a fault of the database, so it is tried again and again, but not after its caller has left. Cases:
/// it is alone; a record is in its batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_awaits_any_more_holds_up_nothing() -> anyhow::Result<()> {
    let mut desk = open().await?;
    let one = start(desk.config()).await?;
    desk.forbid(command("forbidden")).await?;
    assert_eq!(one.at.clone().status("forbidden", 1).await?, StatusCode::SERVICE_UNAVAILABLE);
    let began = Instant::now();
    while one.at.clone().status("behind", 1).await? != StatusCode::ACCEPTED {
        anyhow::ensure!(began.elapsed() < TIMEOUT, "everything waits behind it");
    }

    let (hold, in_hand) = desk.hold_up(&one.at, "in hand").await?;
    let forbidden = tokio::spawn(one.at.clone().status("forbidden", 1));
    came(&mut desk, "TEA", Uuid::from_u128(1)).await?;
    // Both wait by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    hold.rollback().await?;
    assert_eq!(in_hand.await??, StatusCode::ACCEPTED);
    assert_eq!(forbidden.await??, StatusCode::SERVICE_UNAVAILABLE);
    desk.until("select count(*) = 3 from inbox").await?;
    desk.requested_once(2).await?;
    one.stop().await
}

/// The database takes writes, but not the one that is in hand: whoever sends commands is told, and told again once it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_commits_nothing_is_not_ready_for_commands() -> anyhow::Result<()> {
    let mut desk = open().await?;
    let one = start(desk.config()).await?;
    let forbidden = Uuid::from_u128(1);
    desk.forbid(forbidden).await?;
    let began = Instant::now();
    came(&mut desk, "TEA", forbidden).await?;
    one.at.says("ready", false, TIMEOUT).await?;
    assert!(began.elapsed() < UNREADY, "it took {:?}", began.elapsed());
    sqlx::raw_sql("drop trigger forbid on replenishment").execute(&desk.database.pool).await?;
    one.at.says("ready", true, TIMEOUT).await?;
    one.at.wanted("after", "TEA", 1).await?;
    one.stop().await
}

/// Whoever sends what cannot be handled is told so; that the worker has nothing else to do is no reason to turn others away.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_only_refuses_is_ready_for_commands() -> anyhow::Result<()> {
    // So many that while a batch of them is handled, one by one, the next one gathers.
    const CLIENTS: usize = 64;
    let desk = open().await?;
    let one = start(desk.config()).await?;
    let began = Instant::now();
    // Longer than a worker may stand still.
    let lasts = || began.elapsed() < Duration::from_secs(30);
    let (http, body) = (reqwest::Client::new(), json!({ "sku": "TEA", "quantity": 0 }));
    let client = async |_: usize| {
        while lasts() {
            let request =
                http.post(one.at.url("/replenishments")).header("Idempotency-Key", Uuid::new_v4().to_string());
            assert_eq!(request.json(&body).send().await?.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
        anyhow::Ok(())
    };
    let probe = async {
        while lasts() {
            assert_eq!(one.at.is("ready").await, Some(true), "after {:?}", began.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(futures::future::try_join_all((0..CLIENTS).map(client)), probe)?;
    one.stop().await
}

/// As the example, but at once, and it cannot say which rows it needs for some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Rowless;

const NO_ROWS: &str = "NO-ROWS";

impl Policy for Rowless {
    const SERVICE: &'static str = "desk";
    const TABLES: &'static [&'static str] = &["replenishment"];
    type State = desk::Wanted;
    type Heard = desk::Heard;
    type Stated = desk::Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = desk::Command;

    fn rows(_: &Self::State, input: &Envelope<Self>) -> Vec<Row> {
        let sku = match &input.input {
            Input::Record(desk::Heard::StockReplenished(came)) => &came.sku,
            Input::Command(desk::Command::Replenish { sku, .. }) => sku,
            _ => unreachable!("it has no others"),
        };
        assert!(sku != NO_ROWS, "no rows are known");
        vec![Row::new("replenishment", &input.key)]
    }

    fn react(_: &Self::State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
        Decision::nothing()
    }

    fn evolve(wanted: &mut Self::State, input: &Envelope<Self>, _: &Decision<Self>) {
        wanted.insert(input.key.clone(), desk::Replenishment { sku: input.key.clone(), quantity: 1, came: true });
    }

    fn version<'a>(_: &'a mut Self::State, _: &Self::Stated) -> &'a mut i64 {
        unreachable!("nobody numbers requests")
    }
}

struct RowlessTable;

impl Store for RowlessTable {
    type Policy = Rowless;

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        ids: &[String],
        wanted: &mut desk::Wanted,
    ) -> sqlx::Result<()> {
        desk::Table.load(tx, table, ids, wanted).await
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        old: &desk::Wanted,
        new: &desk::Wanted,
        _: &[Fact<Rowless>],
    ) -> sqlx::Result<()> {
        desk::Table.save(tx, old, new, &[]).await
    }
}

/// Cases: a record among others, of which it alone is a dead letter; a command, whose caller alone is told. The instance goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_panics_over_its_rows_stops_one_input_alone() -> anyhow::Result<()> {
    let mut desk = open().await?;
    for sku in ["A", NO_ROWS, "B", "C"] {
        came(&mut desk, sku, Uuid::new_v4()).await?;
    }
    let routes = |context: Context<Rowless>| {
        let tell = async move |headers: HeaderMap, Json(asked): Json<Value>| {
            let id = Uuid::new_v4();
            let told = desk::Command::Replenish { sku: asked["sku"].as_str().unwrap_or_default().into(), quantity: 1 };
            context.commands().send(id, id, told, &headers).await.map(|_| ())
        };
        Router::new().route("/replenishments", post(tell))
    };
    let one =
        start_as(Runtime::new(RowlessTable).migrations(&sqlx::migrate!("examples/desk")).routes(routes), desk.config())
            .await?;
    desk.until("select count(*) = 3 from replenishment where came").await?;
    desk.until("select exists (select from dead_letter)").await?;
    let letters: Vec<(String, String)> =
        sqlx::query_as("select reason, detail from dead_letter").fetch_all(&desk.database.pool).await?;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].0 == "handling_failed" && letters[0].1.contains("no rows are known"), "{letters:?}");
    assert_eq!(one.at.want("no rows", NO_ROWS, 1).await?.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(one.at.want("rows", "TEA", 1).await?.status(), StatusCode::OK);
    one.stop().await
}

/// Counts what is wanted by a UUID that the caller chooses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counter;

impl Policy for Counter {
    const SERVICE: &'static str = "desk";
    const TABLES: &'static [&'static str] = &["replenishment"];
    type State = BTreeMap<String, i32>;
    type Heard = desk::Heard;
    type Stated = desk::Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = desk::Command;

    fn rows(_: &Self::State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("replenishment", &input.key)]
    }

    fn react(_: &Self::State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
        Decision::nothing()
    }

    fn evolve(wanted: &mut Self::State, input: &Envelope<Self>, _: &Decision<Self>) {
        *wanted.entry(input.key.clone()).or_default() += 1;
    }

    fn version<'a>(_: &'a mut Self::State, _: &Self::Stated) -> &'a mut i64 {
        unreachable!("nobody numbers requests")
    }
}

table! { struct CounterRow in "replenishment" { key id: Uuid, quantity: i32 } }

impl Mapped for CounterRow {
    type Value = i32;

    fn from_value(id: Uuid, quantity: &i32) -> Self {
        Self { id, quantity: *quantity }
    }

    fn into_value(self) -> sqlx::Result<i32> {
        Ok(self.quantity)
    }
}

struct CounterTable;

impl Store for CounterTable {
    type Policy = Counter;

    async fn load(
        &self,
        tx: &mut PgConnection,
        _: &str,
        ids: &[String],
        wanted: &mut BTreeMap<String, i32>,
    ) -> sqlx::Result<()> {
        CounterRow::load(tx, ids, wanted).await
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        old: &BTreeMap<String, i32>,
        new: &BTreeMap<String, i32>,
        _: &[Fact<Counter>],
    ) -> sqlx::Result<()> {
        CounterRow::save(tx, old, new).await
    }
}

/// A handler that passes on what a client calls an aggregate. Cases: another spelling of a row that is there; both spellings in one batch. The row
/// is not begun anew, the batch comes to its end, and the callers who spell it rightly are answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_another_spelling_is_refused_and_fails_its_caller_alone() -> anyhow::Result<()> {
    const KEY: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    const OTHER: &str = "67E55044-10B1-426F-9247-BB680E5FE0C8";
    const IN_HAND: &str = "67e55044-10b1-426f-9247-bb680e5fe0c9";
    let desk = open().await?;
    sqlx::query("alter table replenishment alter id type uuid using id::uuid").execute(&desk.database.pool).await?;
    let routes = |context: Context<Counter>| {
        let tell = async move |headers: HeaderMap| {
            let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
            let told = desk::Command::Replenish { sku: "TEA".into(), quantity: 1 };
            context.commands().send(Uuid::new_v4(), key, told, &headers).await.map(|_| ())
        };
        Router::new().route("/replenishments", post(tell))
    };
    let service = Runtime::new(CounterTable).migrations(&sqlx::migrate!("examples/desk")).routes(routes);
    let one = start_as(service, desk.config()).await?;
    for (key, expected) in [(KEY, StatusCode::OK), (OTHER, StatusCode::INTERNAL_SERVER_ERROR), (KEY, StatusCode::OK)] {
        assert_eq!(one.at.clone().status(key, 1).await?, expected, "{key}");
    }

    let (hold, in_hand) = desk.hold_up(&one.at, IN_HAND).await?;
    let both = [KEY, OTHER].map(|key| tokio::spawn(one.at.clone().status(key, 1)));
    // They wait by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    hold.rollback().await?;
    assert_eq!(in_hand.await??, StatusCode::OK);
    let [right, other] = both;
    assert_eq!((right.await??, other.await??), (StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR));
    let counted = format!("select quantity from replenishment where id = '{KEY}'");
    let counted: i32 = sqlx::query_scalar(sqlx::AssertSqlSafe(counted)).fetch_one(&desk.database.pool).await?;
    assert_eq!(counted, 3);
    one.stop().await
}

/// Long after its end: what it came to has gone, and it is not begun anew. Cases: one after another; several in one batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_about_what_has_gone_is_refused() -> anyhow::Result<()> {
    let desk = open().await?;
    let one = start(desk.config()).await?;
    let gone = command("gone").to_string();
    sqlx::query("insert into gone (key, ended_at, beside) values ($1, now(), false)")
        .bind(&gone)
        .execute(&desk.database.pool)
        .await?;
    for _ in 0..2 {
        assert_eq!(one.at.clone().status("gone", 1).await?, StatusCode::GONE);
    }
    let (hold, in_hand) = desk.hold_up(&one.at, "in hand").await?;
    let copies = [1; 3].map(|quantity| tokio::spawn(one.at.clone().status("gone", quantity)));
    // They wait by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    hold.rollback().await?;
    assert_eq!(in_hand.await??, StatusCode::ACCEPTED);
    for copy in copies {
        assert_eq!(copy.await??, StatusCode::GONE);
    }
    desk.requested_once(1).await?;
    one.stop().await
}
