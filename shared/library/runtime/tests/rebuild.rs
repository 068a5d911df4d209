//! The example `shelf`, a read model that is rebuilt beside the one that serves: what either answers all the while, what is taken over, who serves
//! from when on, and what is refused.

#[allow(dead_code, reason = "it has a main of its own")]
#[path = "../examples/shelf/main.rs"]
mod shelf;

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quadrille_cli::{
    Catalogue, Service, Settings, dead_letters,
    generations::Generation,
    group,
    kafka::{Admin, Start},
    operate::Person,
    settings::Overrides,
    status,
};
use quadrille_core::Fact;
use quadrille_events::{RECORD_TYPES, TOPICS};
use quadrille_platform::DeadLetterClosed;
use quadrille_runtime::{Batches, By, Store};
use quadrille_testkit::{Database, decoded};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use reqwest::StatusCode;
use sqlx::{PgConnection, error::BoxDynError};
use tokio::{process::Child, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{self, At, Instance, Shop};

const STOCK: &str = "stock.events";
const TIMEOUT: Duration = Duration::from_secs(60);

/// A generation, what came last, and how much came in all.
type Answer = (u16, (i64, i64));

impl Instance {
    async fn item(&self, sku: &str) -> anyhow::Result<Answer> {
        answer(&self.at, sku).await?.ok_or_else(|| anyhow::anyhow!("it refuses to answer"))
    }

    /// Asks for `sku` without a break until `done`, and returns how often it was answered and refused. Each answer is `right`.
    fn ask(&self, sku: &'static str, right: Answer, done: CancellationToken) -> JoinHandle<anyhow::Result<(u32, u32)>> {
        let at = self.at.clone();
        tokio::spawn(async move {
            let (mut answered, mut refused) = (0, 0);
            while !done.is_cancelled() {
                match answer(&at, sku).await? {
                    Some(answer) => {
                        anyhow::ensure!(answer == right, "{answer:?} in place of {right:?}");
                        answered += 1;
                    }
                    None => refused += 1,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok((answered, refused))
        })
    }
}

/// What is answered; nothing where it is refused with 503.
async fn answer(at: &At, sku: &str) -> anyhow::Result<Option<Answer>> {
    let answer = reqwest::get(at.url(&format!("/shelf/{sku}"))).await?;
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?))
}

async fn open() -> anyhow::Result<Shop> {
    Shop::of(shelf::service::<1>(true), &[]).await
}

/// Starts an instance of a generation, and waits until it listens.
async fn start<const G: u16>(shop: &Shop, takes_over: bool) -> anyhow::Result<Instance> {
    let instance = Instance::listening(shelf::service::<G>(takes_over), shop.config())?;
    instance.at.says("live", true, TIMEOUT).await?;
    Ok(instance)
}

async fn ready(instance: &Instance) -> anyhow::Result<()> {
    instance.at.says("ready", true, TIMEOUT).await
}

impl Shop {
    /// Starts an instance of the second generation in a process of its own.
    fn process(&self) -> anyhow::Result<Child> {
        let mut process = self.command();
        process.env("QUADRILLE__BATCH__MAX_INPUTS", "1").stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(process.spawn()?)
    }

    /// Drops a generation once nobody keeps it any more, as a build of the second one.
    async fn drop(&self, number: u16) -> anyhow::Result<String> {
        let began = Instant::now();
        loop {
            match self.try_drop(number).await {
                Ok(dropped) => return Ok(dropped),
                Err(error) => anyhow::ensure!(began.elapsed() < TIMEOUT, error),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn try_drop(&self, number: u16) -> anyhow::Result<String> {
        shelf::service::<2>(true)
            .drop_generation(&self.config(), number, &By::new("ann", "the other one is right"))
            .await
    }

    /// Why an instance ends by itself.
    async fn refused<const G: u16>(&self, takes_over: bool) -> anyhow::Result<String> {
        let started = shelf::service::<G>(takes_over).run_until(self.config(), std::future::pending());
        let ended = tokio::time::timeout(TIMEOUT, started).await?;
        Ok(ended.expect_err("it is refused").to_string())
    }

    /// Deletes the topic, and creates it again.
    async fn make_anew(&self) -> anyhow::Result<()> {
        let topic = self.world.settings.topic(STOCK);
        let admin = Admin::connect(&self.world.settings.kafka)?;
        admin.delete(std::slice::from_ref(&topic)).await?;
        let anew = NewTopic::new(&topic, 6, TopicReplication::Fixed(1));
        let began = Instant::now();
        // The broker does both a little after it has said so.
        while let Err(error) = admin.create(std::slice::from_ref(&anew)).await {
            anyhow::ensure!(began.elapsed() < TIMEOUT, error);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while !self.world.read(STOCK).await.is_ok_and(|records| records.is_empty()) {
            anyhow::ensure!(began.elapsed() < TIMEOUT, "the topic is not empty after a minute");
        }
        Ok(())
    }

    /// As retention does: the topic holds none of what it has now.
    async fn delete_records(&self) -> anyhow::Result<()> {
        let kafka = &self.world.settings.kafka;
        let topic = self.world.settings.topic(STOCK);
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create()?;
        let mut ends = TopicPartitionList::new();
        for partition in 0..6 {
            let (_, end) = client.fetch_watermarks(&topic, partition, TIMEOUT)?;
            ends.add_partition_offset(&topic, partition, Offset::Offset(end))?;
        }
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create()?;
        let deleted = admin.delete_records(&ends, &AdminOptions::new()).await?;
        for partition in deleted.elements() {
            partition.error()?;
        }
        Ok(())
    }
}

/// Cases: rows of which topics hold nothing, some, and all; an instance that is killed in the middle; two instances of either generation, asked without
/// a break; what comes after the switch; the old generation, kept up to date until it is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_filled_beside_the_one_that_answers_and_switched_to_once() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let old = [start::<1>(&shop, true).await?, start::<1>(&shop, true).await?];
    for sku in 0..10 {
        shop.came(&format!("GONE-{sku}"), 1, 7).await?;
        shop.came(&format!("SOME-{sku}"), 1, 3).await?;
    }
    shop.until("select coalesce(sum(taken), 0) = 20 from shelf").await?;
    shop.delete_records().await?;
    for version in 2..=21 {
        for sku in 0..10 {
            shop.came(&format!("SOME-{sku}"), version, 1).await?;
            shop.came(&format!("ALL-{sku}"), version - 1, 2).await?;
        }
    }
    shop.until("select sum(taken) = 420 from shelf").await?;
    assert_eq!(old[0].item("GONE-3").await?, (1, (7, 7)));
    assert_eq!(old[1].item("SOME-3").await?, (1, (1, 23)));

    let done = CancellationToken::new();
    let mut asked = vec![old[0].ask("GONE-3", (1, (7, 7)), done.clone())];
    asked.push(old[1].ask("SOME-3", (1, (1, 23)), done.clone()));
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let mut killed = shop.process()?;
    shop.until("select coalesce(sum(taken), 0) > 20 from g2.shelf").await?;
    killed.kill().await?;
    assert!(shop.is("select sum(taken) < 400 from g2.shelf").await?, "it was filled before it was killed");
    assert!(shop.is("select served_at is null and taken_over = 30 from generation where number = 2").await?);

    let new = [start::<2>(&shop, true).await?, start::<2>(&shop, true).await?];
    asked.push(new[0].ask("GONE-3", (2, (700, 7)), done.clone()));
    asked.push(new[1].ask("SOME-3", (2, (100, 23)), done.clone()));
    for instance in &new {
        ready(instance).await?;
    }
    assert!(shop.is("select sum(taken) = 400 from g2.shelf").await?, "each record that is held was taken once");
    let answers = "select count(*) = 30 and bool_and((last, sum) in ((700, 7), (100, 23), (200, 40))) from g2.shelf";
    assert!(shop.is(answers).await?);
    tokio::time::sleep(Duration::from_millis(200)).await;
    done.cancel();
    let mut counts = vec![];
    for asked in asked {
        counts.push(asked.await??);
    }
    assert!(counts.iter().all(|(answered, _)| *answered > 0), "{counts:?}");
    assert_eq!((counts[0].1, counts[1].1), (0, 0), "the old generation answers all the time");
    assert!(counts[2].1 > 0, "the new one does not before it is complete: {counts:?}");
    eprintln!("answered and refused, of old and new: {counts:?}");

    // Both go on, and it is not switched again.
    const SERVED: &str = "select served_at::text from generation where number = 2";
    let served: String = sqlx::query_scalar(SERVED).fetch_one(&shop.database.pool).await?;
    shop.came("GONE-3", 2, 5).await?;
    shop.until("select (select last = 5 from public.shelf where sku = 'GONE-3') and last = 500 and sum = 12 from g2.shelf where sku = 'GONE-3'")
        .await?;
    assert_eq!((old[1].item("GONE-3").await?, new[1].item("GONE-3").await?), ((1, (5, 12)), (2, (500, 12))));
    let [one, two] = new;
    one.stop().await?;
    let again = start::<2>(&shop, true).await?;
    ready(&again).await?;
    assert_eq!(sqlx::query_scalar::<_, String>(SERVED).fetch_one(&shop.database.pool).await?, served);

    let kept = shop.try_drop(1).await.expect_err("its instances run").to_string();
    assert_eq!(kept, "2 running instances keep generation 1: stop them, and come again");
    for instance in old {
        instance.stop().await?;
    }
    assert_eq!(shop.drop(1).await?, "generation 1 is dropped, with 0 open dead letters; generation 2 serves");
    assert!(shop.is("select to_regclass('public.shelf') is null").await?);
    let refused = shop.refused::<1>(true).await?;
    assert!(refused.contains("generation 1 was dropped at"), "{refused}");
    assert_eq!(two.item("GONE-3").await?, (2, (500, 12)));
    again.stop().await?;
    two.stop().await
}

/// Cases: nothing is taken over and topics hold all; the same once records are gone; then with what is taken over; a lower number than has served.
#[tokio::test(flavor = "multi_thread")]
async fn rows_do_not_vanish_unseen() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, false).await?;
    shop.came("TEA", 1, 3).await?;
    shop.until("select exists(select from shelf where taken = 1)").await?;
    shelf::service::<3>(false).migrate(&shop.database.url()).await?;
    let third = start::<3>(&shop, false).await?;
    ready(&third).await?;
    assert_eq!(third.item("TEA").await?, (3, (300, 3)));

    shop.delete_records().await?;
    shelf::service::<4>(false).migrate(&shop.database.url()).await?;
    let refused = shop.refused::<4>(false).await?;
    assert!(
        refused.starts_with("stock.events/") && refused.contains("would vanish when generation 4 serves"),
        "{refused}"
    );
    assert!(shop.is("select begun_at is null from generation where number = 4").await?);
    let fourth = start::<4>(&shop, true).await?;
    ready(&fourth).await?;
    assert_eq!(fourth.item("TEA").await?, (4, (300, 3)));

    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let refused = shop.refused::<2>(true).await?;
    assert!(refused.contains("generation 3 has served: give this build a higher one than 2"), "{refused}");
    for instance in [first, third, fourth] {
        instance.stop().await?;
    }
    Ok(())
}

/// Cases: a record that only the first generation cannot handle; one that none can; what is stated of the letters of a generation that is dropped, by a
/// build of which no instance ran.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_one_generations() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    shop.came("TEA", 1, -1).await?;
    shop.world.send_raw(STOCK, Some(b"TEA"), b"no record", &[("ce_id", Uuid::new_v4().to_string())]).await?;
    shop.until("select count(*) = 2 from dead_letter").await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let second = start::<2>(&shop, true).await?;
    ready(&second).await?;
    assert_eq!(second.item("TEA").await?, (2, (-100, -1)));
    let letters: Vec<(i32, String)> =
        sqlx::query_as("select generation, reason from dead_letter order by generation, \"offset\"")
            .fetch_all(&shop.database.pool)
            .await?;
    let letters: Vec<(i32, &str)> = letters.iter().map(|(number, reason)| (*number, &**reason)).collect();
    assert_eq!(letters, [(1, "handling_failed"), (1, "bad_frame"), (2, "bad_frame")]);
    first.stop().await?;

    sqlx::query("delete from stated_schema").execute(&shop.database.pool).await?;
    assert_eq!(shop.drop(1).await?, "generation 1 is dropped, with 2 open dead letters; generation 2 serves");
    assert!(shop.is("select exists(select from stated_schema where subject like '%DeadLetterClosed')").await?);
    let of_first = "select id from dead_letter where generation = 1 order by \"offset\" limit 1";
    let letter: Uuid = sqlx::query_scalar(of_first).fetch_one(&shop.database.pool).await?;
    let closed = decoded::<DeadLetterClosed>(&shop.platform_events(letter, 1).await?[0])?;
    assert_eq!((&*closed.how, &*closed.who), ("discarded", "ann"));
    second.stop().await
}

/// The statements of a build that knows no generations, as they were. Cases: its positions; a letter that it is asked to handle again, which only the
/// generation does whose letter it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_knows_no_generations_moves_and_handles_nothing_of_a_later_one() -> anyhow::Result<()> {
    const MOVE: &str = r#"update position set "offset" = new.next, as_of = greatest(position.as_of, clock_timestamp())
         from unnest(array['stock.events'], array[$1]::int[], array[99]::bigint[]) as new(topic, partition, next)
         where position.topic = new.topic and position.partition = new.partition"#;
    const REDRIVE: &str =
        "update dead_letter set next_try = clock_timestamp(), redriven_by = 'ann', redriven_why = 'again'
         where closed_at is null and ($1 = '' or topic = $1)";
    const CLAIM: &str = r#"update dead_letter set next_try = clock_timestamp() + interval '30 seconds'
         where id = any(array(
             select id from dead_letter letter where closed_at is null and next_try <= now() and (holds is null or not exists (
                 select from dead_letter first where first.closed_at is null and first.topic = letter.topic
                     and first.holds = letter.holds and first."offset" < letter."offset"))
             order by next_try limit 10 for update skip locked))
         returning generation"#;
    const STAND: &str = r#"select string_agg(partition || '@' || "offset", ' ' order by partition) from g2.position where topic = 'stock.events'"#;
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let second = start::<2>(&shop, true).await?;
    ready(&second).await?;
    shop.world.send_raw(STOCK, Some(b"TEA"), b"no record", &[("ce_id", Uuid::new_v4().to_string())]).await?;
    shop.until("select count(*) = 2 from dead_letter").await?;
    first.stop().await?;

    let stood: String = sqlx::query_scalar(STAND).fetch_one(&shop.database.pool).await?;
    let mut moved = 0;
    for partition in 0..6 {
        moved += sqlx::query(MOVE).bind(partition).execute(&shop.database.pool).await?.rows_affected();
    }
    assert_eq!(moved, 6, "it moves its own");
    assert_eq!(sqlx::query_scalar::<_, String>(STAND).fetch_one(&shop.database.pool).await?, stood);
    shop.came("TEA", 1, 3).await?;
    shop.until("select exists(select from g2.shelf where taken = 1)").await?;

    sqlx::query(REDRIVE).bind(STOCK).execute(&shop.database.pool).await?;
    let claimed: Vec<i32> = sqlx::query_scalar(CLAIM).fetch_all(&shop.database.pool).await?;
    assert_eq!(claimed, [1], "it takes its own");
    shop.until("select attempts = 2 and due is null from dead_letter where generation = 2").await?;
    assert!(shop.is("select attempts = 1 from dead_letter where generation = 1").await?);
    second.stop().await
}

/// Cases: an instance that was suspended while its generation was dropped, and has records to take; a batch of a generation that was dropped; the
/// number again, of a later one and of the first.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_on_in_a_generation_that_was_dropped() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    shop.came("TEA", 1, 3).await?;
    shop.until("select exists(select from shelf where taken = 1)").await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let suspended = shop.process()?;
    let pid = Pid::from_raw(suspended.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs"));
    shop.until("select coalesce((select served_at is not null from generation where number = 2), false)").await?;
    kill(pid, Signal::SIGSTOP)?;
    assert_eq!(shop.drop(2).await?, "generation 2 is dropped, with 0 open dead letters; generation 1 serves");
    shop.came("TEA", 2, 4).await?;
    shop.until("select exists(select from public.shelf where taken = 2)").await?;
    kill(pid, Signal::SIGCONT)?;
    let ended = tokio::time::timeout(TIMEOUT, suspended.wait_with_output()).await??;
    let said = String::from_utf8(ended.stderr)?;
    assert!(!ended.status.success() && said.contains("generation 2 was dropped at"), "{said}");
    assert_eq!(first.item("TEA").await?, (1, (4, 7)));
    assert!(shop.is("select taken = 2 from public.shelf").await?, "it wrote what it found by the same name");

    let again = shelf::service::<2>(true).migrate(&shop.database.url()).await.expect_err("the number was dropped");
    assert!(again.to_string().contains("generation 2 was dropped at"), "{again}");
    assert!(shop.is("select to_regnamespace('g2') is null").await?);
    first.stop().await?;
    sqlx::query("update generation set dropped_at = now() where number = 1").execute(&shop.database.pool).await?;
    let again = shelf::service::<1>(true).migrate(&shop.database.url()).await.expect_err("the number was dropped");
    assert!(again.to_string().contains("generation 1 was dropped at"), "{again}");
    let batches = Batches::over(&shop.database.url(), shelf::Tables::<1> { takes_over: true }).await?;
    let refused = batches.commit([]).await.expect_err("it was dropped").to_string();
    assert_eq!(refused, "generation 1 was dropped");
    Ok(())
}

/// Cases: the only other generation is kept by nobody, and is kept again; then it is dropped, while nobody keeps the one that would serve.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_over_or_serves_on_is_kept_up_to_date() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    shop.came("TEA", 1, 3).await?;
    shop.until("select exists(select from shelf where taken = 1)").await?;
    first.stop().await?;
    shop.came("TEA", 2, 4).await?;
    shop.until("select bool_and(as_of is null or as_of < now() - interval '10 seconds') from position").await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let second = start::<2>(&shop, true).await?;
    let began = Instant::now();
    loop {
        let said = reqwest::get(second.at.url("/health")).await?.text().await?;
        if said.contains("generation 1, from which generation 2 takes over, is not kept up to date: start instances") {
            break;
        }
        anyhow::ensure!(began.elapsed() < TIMEOUT, said);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(shop.is("select begun_at is null from generation where number = 2").await?);
    let first = start::<1>(&shop, true).await?;
    ready(&second).await?;
    assert_eq!(second.item("TEA").await?, (2, (400, 7)));

    first.stop().await?;
    second.stop().await?;
    shop.until("select bool_and(as_of is null or as_of < now() - interval '10 seconds') from position").await?;
    shop.until("select bool_and(as_of is null or as_of < now() - interval '10 seconds') from g2.position").await?;
    let refused = shop.try_drop(1).await.expect_err("nobody keeps the other one").to_string();
    assert!(refused.starts_with("generation 2, which would serve, is not kept up to date"), "{refused}");
    assert!(shop.is("select count(*) = 1 from public.shelf").await?);
    Ok(())
}

/// Cases: a generation that was never filled is dropped beside one that serves; another takes over from that and has what its topic holds since; that
/// is kept while none of its partitions is read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_holds_up_no_rebuild() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    for sku in 0..60 {
        shop.came(&format!("SKU-{sku}"), 1, 3).await?;
    }
    // Of each partition more than comes anew.
    const ALL: &str = "select count(as_of) = 6 and bool_and(\"offset\" > 1) and sum(\"offset\") = 60 from position where topic = 'stock.events'";
    shop.until(ALL).await?;
    first.stop().await?;
    shop.make_anew().await?;
    let first = start::<1>(&shop, true).await?;
    shop.until("select bool_and(as_of < now() - interval '10 seconds') from position where topic = 'stock.events'")
        .await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    assert_eq!(shop.try_drop(2).await?, "generation 2 is dropped, with 0 open dead letters; generation 1 serves");

    shop.came("SKU-7", 2, 4).await?;
    shelf::service::<3>(true).migrate(&shop.database.url()).await?;
    let third = start::<3>(&shop, true).await?;
    ready(&third).await?;
    assert_eq!(third.item("SKU-7").await?, (3, (400, 7)));
    assert_eq!(third.item("SKU-8").await?, (3, (3, 3)));
    assert_eq!(first.item("SKU-7").await?, (1, (3, 3)), "what the topic has now is beneath its position");
    let kept = shop.try_drop(1).await.expect_err("its instance runs").to_string();
    assert_eq!(kept, "1 running instances keep generation 1: stop them, and come again");
    first.stop().await?;
    assert_eq!(shop.drop(1).await?, "generation 1 is dropped, with 0 open dead letters; generation 3 serves");
    third.stop().await
}

/// Cases: it takes over from one that hears nothing which it hears; that is dropped by a build that hears nothing which the one that serves hears.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_may_hear_none_of_the_former_ones_topics() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    shop.came("TEA", 1, 3).await?;
    shop.until("select exists(select from shelf where taken = 1)").await?;
    beats::service().migrate(&shop.database.url()).await?;
    let second = Instance::listening(beats::service(), shop.config())?;
    ready(&second).await?;
    first.stop().await?;
    // By a build that hears the stock.
    assert_eq!(shop.drop(1).await?, "generation 1 is dropped, with 0 open dead letters; generation 2 serves");
    second.stop().await
}

/// A second generation of the shelf that hears of instances, and keeps nothing.
mod beats {
    use std::collections::BTreeMap;

    use quadrille_core::{Decision, Envelope, Fact, Moment, Nothing, Policy, Row, records};
    use quadrille_platform::InstanceHeartbeat;
    use quadrille_runtime::{Service, Store};
    use sqlx::PgConnection;

    records! { pub enum Heard { InstanceHeartbeat } }
    records! { pub enum Stated {} }

    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub struct Beats;

    type State = BTreeMap<String, i64>;

    impl Policy for Beats {
        const SERVICE: &'static str = "shelf";
        const TABLES: &'static [&'static str] = &["shelf"];
        type State = State;
        type Heard = Heard;
        type Stated = Stated;
        type Effect = Nothing;
        type Outcome = Nothing;
        type Timer = Nothing;
        type Command = Nothing;
        fn rows(_: &State, _: &Envelope<Self>) -> Vec<Row> {
            vec![]
        }
        fn react(_: &State, _: &Moment, _: &Envelope<Self>) -> Decision<Self> {
            Decision::nothing()
        }
        fn evolve(_: &mut State, _: &Envelope<Self>, _: &Decision<Self>) {}
        fn version<'a>(_: &'a mut State, fact: &Stated) -> &'a mut i64 {
            match *fact {}
        }
    }

    pub struct NoRows;

    impl Store for NoRows {
        type Policy = Beats;

        async fn load(&self, _: &mut PgConnection, _: &'static str, _: &[String], _: &mut State) -> sqlx::Result<()> {
            Ok(())
        }

        async fn save(&self, _: &mut PgConnection, _: &State, _: &State, _: &[Fact<Beats>]) -> sqlx::Result<()> {
            Ok(())
        }
    }

    pub fn service() -> Service<NoRows> {
        Service::new(NoRows).migrations(&sqlx::migrate!("examples/shelf")).generation(2)
    }
}

/// Cases: a letter that is behind what the rows taken over say that they stand for; one that is discarded.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_former_generation_could_not_handle_is_told_at_a_take_over() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    for (version, pieces) in [(1, 3), (2, -1), (3, 4)] {
        shop.came("TEA", version, pieces).await?;
    }
    shop.until("select exists(select from shelf where summed = 3) and exists(select from dead_letter)").await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let second = start::<2>(&shop, true).await?;
    ready(&second).await?;
    assert_eq!(second.item("TEA").await?, (2, (400, 7)), "of the sum it is not known that one came back");
    let told = "generation 2 has taken rows over from generation 1, which has open dead letters (1 of stock.events)";
    let health = reqwest::get(second.at.url("/health")).await?.text().await?;
    assert!(health.contains(told), "{health}");
    let metrics = reqwest::get(second.at.url("/metrics")).await?.text().await?;
    assert!(metrics.contains("quadrille_dead_letters_left_total{topic=\"stock.events\"} 1"), "{metrics}");

    second.stop().await?;
    assert_eq!(shop.drop(2).await?, "generation 2 is dropped, with 0 open dead letters; generation 1 serves");
    sqlx::query("update dead_letter set closed_at = now(), closed_how = 'discarded'")
        .execute(&shop.database.pool)
        .await?;
    shelf::service::<3>(true).migrate(&shop.database.url()).await?;
    let third = start::<3>(&shop, true).await?;
    ready(&third).await?;
    let health = reqwest::get(third.at.url("/health")).await?.text().await?;
    assert!(!health.contains("open dead letters"), "{health}");
    first.stop().await?;
    third.stop().await
}

/// Cases: its connection is lost, which is tried again; a row that no other try makes right.
#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_is_tried_again_after_a_passing_error() -> anyhow::Result<()> {
    let mut shop = open().await?;
    let first = start::<1>(&shop, true).await?;
    shop.came("TEA", 1, 3).await?;
    shop.until("select exists(select from shelf where taken = 1)").await?;
    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let service = |fault| {
        let store = Faulty { tables: shelf::Tables { takes_over: true }, fault, is_tried: AtomicBool::default() };
        quadrille_runtime::Service::new(store).migrations(&sqlx::migrate!("examples/shelf")).generation(2)
    };
    let refused = service("select 1 / 0").run_until(shop.config(), std::future::pending());
    let refused = tokio::time::timeout(TIMEOUT, refused).await?.expect_err("its error does not pass");
    assert_eq!(refused.to_string(), "generation 2 cannot take over from generation 1");

    let lost = service("select pg_terminate_backend(pg_backend_pid())");
    let second = Instance::listening(lost, shop.config())?;
    ready(&second).await?;
    assert!(shop.is("select taken_over = 1 from generation where number = 2").await?);
    first.stop().await?;
    second.stop().await
}

/// A store's own error, which has the database's for its cause.
#[derive(Debug, thiserror::Error)]
#[error("the shelf is not taken over")]
struct NotTaken(#[source] sqlx::Error);

/// A second generation whose first try to take over meets a fault.
struct Faulty {
    tables: shelf::Tables<2>,
    fault: &'static str,
    is_tried: AtomicBool,
}

impl Store for Faulty {
    type Policy = shelf::Shelf<2>;

    async fn take_over(&self, tx: &mut PgConnection, old: &str) -> Result<Option<u64>, BoxDynError> {
        if !self.is_tried.swap(true, Ordering::Relaxed) {
            let fault = sqlx::query(self.fault).execute(&mut *tx).await;
            fault.map_err(NotTaken)?;
        }
        self.tables.take_over(tx, old).await
    }

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        skus: &[String],
        state: &mut BTreeMap<String, shelf::Item>,
    ) -> sqlx::Result<()> {
        self.tables.load(tx, table, skus, state).await
    }

    async fn save(
        &self,
        tx: &mut PgConnection,
        old: &BTreeMap<String, shelf::Item>,
        new: &BTreeMap<String, shelf::Item>,
        facts: &[Fact<shelf::Shelf<2>>],
    ) -> sqlx::Result<()> {
        self.tables.save(tx, old, new, facts).await
    }
}

/// Cases: the first generation alone; a second one, which serves and has read more; the first one dropped. An offset that one has passed and the other
/// has not; a group that is to be rewound.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_generations_apart() -> anyhow::Result<()> {
    let prefix = format!("quadrille_test_{}_", Uuid::new_v4().simple());
    let database = Database::named(format!("{prefix}shelf")).await;
    let mut shop = Shop::with(database, shelf::service::<1>(true), &["shelf"]).await?;
    let catalogue = Catalogue::new(TOPICS, RECORD_TYPES, [Service::of::<shelf::Shelf<1>>()]);
    let mut settings = Settings::load(catalogue, Overrides::default())?;
    settings.kafka.clone_from(&shop.world.settings.kafka);
    settings.registry.clone_from(&shop.world.settings.registry);
    settings.database.prefix = prefix;

    let first = start::<1>(&shop, true).await?;
    shop.came("TEA", 1, -1).await?;
    shop.until("select count(*) = 1 from dead_letter").await?;
    let alone = status::ask(&settings).await?;
    assert_eq!(alone.databases[0].error, None);
    assert!(alone.groups.iter().all(|group| group.generation.is_none()), "{:?}", alone.groups);

    shelf::service::<2>(true).migrate(&shop.database.url()).await?;
    let second = start::<2>(&shop, true).await?;
    ready(&second).await?;
    shop.world.send_raw(STOCK, Some(b"TEA"), b"no record", &[("ce_id", Uuid::new_v4().to_string())]).await?;
    shop.until("select count(*) = 3 from dead_letter").await?;
    let (letters, _) = dead_letters::open(&settings, Some("shelf")).await?;
    let mut whose: Vec<i32> = letters.iter().map(|letter| letter.generation).collect();
    whose.sort_unstable();
    assert_eq!(whose, [1, 1, 2]);

    first.stop().await?;
    shop.came("TEA", 2, 3).await?;
    shop.until("select exists(select from g2.shelf where taken = 2)").await?;
    let (old, new) = (Generation { number: 1, serves: false }, Generation { number: 2, serves: true });
    assert_eq!(unread(&settings).await?, [(Some(old), 1), (Some(new), 0)]);
    let last = r#"select partition, "offset" - 1 from g2.position where topic = 'stock.events' and "offset" > 0"#;
    let (partition, offset): (i32, i64) = sqlx::query_as(last).fetch_one(&shop.database.pool).await?;
    let place = group::named(&format!("{STOCK}/{partition}@{offset}"))?;
    let ann = Person { who: "ann".into(), why: "it is in the way".into() };
    // The first one may stand there.
    group::show(&settings, "shelf", &place).await?;

    shop.drop(1).await?;
    assert_eq!(unread(&settings).await?, [(Some(new), 0)]);
    let handled = group::skip(&settings, "shelf", &place, &ann, true).await.expect_err("it is handled");
    assert!(handled.to_string().starts_with(&format!("shelf has read {STOCK}/{partition} up to ")), "{handled}");
    let options = group::Options { to: Start::Beginning, only: vec![], yes: true, json: true };
    let refused = tokio::task::block_in_place(|| group::rewind(&settings, "shelf", &options));
    let refused = refused.expect_err("it goes by its positions").to_string();
    assert!(refused.contains("give its next build a higher generation"), "{refused}");
    second.stop().await
}

/// How many records of the stock each generation has not read, as `quadrille status` tells it.
async fn unread(settings: &Settings) -> anyhow::Result<Vec<(Option<Generation>, i64)>> {
    let status = status::ask(settings).await?;
    let of_stock = status.groups.iter().filter(|group| group.topic == STOCK);
    Ok(of_stock.map(|group| (group.generation, group.total)).collect())
}

/// Cases: a service that states; whoever may use the first generation's tables; migrating again.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_generation_are_made_by_migrate() -> anyhow::Result<()> {
    let database = Database::fresh([]).await;
    let refused = support::service().generation(2).migrate(&database.url()).await.expect_err("it states").to_string();
    assert!(refused.contains("tally does not only listen"), "{refused}");

    sqlx::raw_sql("alter default privileges in schema public grant insert on tables to quadrille_audit")
        .execute(&database.pool)
        .await?;
    for _ in 0..2 {
        shelf::service::<1>(true).migrate(&database.url()).await?;
        shelf::service::<2>(true).migrate(&database.url()).await?;
    }
    let may = "select has_schema_privilege('quadrille_audit', 'g2', 'usage') and has_table_privilege('quadrille_audit', 'g2.position', 'insert') and has_table_privilege('quadrille_audit', 'g2.shelf', 'insert')
         and not has_table_privilege('quadrille_audit', 'g2.shelf', 'delete')";
    assert!(sqlx::query_scalar::<_, bool>(may).fetch_one(&database.pool).await?);
    Ok(())
}
