//! Business deadlines: what is on the topics counts before they do. The order service's own policy and tables would do; here a smaller
//! one, so that each case is a few records.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{Instance, Shop, Versions, VersionsBySku};
use chrono::TimeDelta;
use quadrille_core::{Decision, Envelope, Input, Moment, Named, Nothing, Policy, Record as _, Row, records};
use quadrille_events::{Money, ProductListed, StockReplenished, StockReplenishmentRequested};
use quadrille_runtime::Config;
use quadrille_testkit::decoded;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

records! { pub enum Heard { StockReplenishmentRequested, StockReplenished } }
records! { pub enum Stated { ProductListed } }

/// A request sets a deadline of as many milliseconds as its quantity says; an answer that is heard before clears it. Whichever is first
/// is stated as a product's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiter;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct AnswerBy;

impl Named for AnswerBy {
    fn kind(&self) -> &'static str {
        "answer_by"
    }
}

impl Policy for Waiter {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = AnswerBy;
    type Command = Nothing;
    type State = VersionsBySku;

    fn rows(_: &VersionsBySku, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(state: &VersionsBySku, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let first = state.get(&input.key).is_none_or(|version| *version == 0);
        let says = |name: &str| {
            let price = Money::try_cents(100).expect("a price");
            Decision::fact(ProductListed { name: name.into(), ..ProductListed::new(input.key.clone(), price) })
        };
        match &input.input {
            Input::Record(Heard::StockReplenishmentRequested(asked)) => {
                let due = moment.now + TimeDelta::milliseconds(asked.quantity.into());
                Decision::nothing().set(&input.key, AnswerBy, due)
            }
            Input::Record(Heard::StockReplenished(_)) if first => says("answered").clear(&input.key, "answer_by"),
            Input::Timer(AnswerBy) if input.key.starts_with("BAD-") => panic!("this one fails\0at each try"),
            Input::Timer(AnswerBy) if first => says("expired"),
            _ => Decision::nothing(),
        }
    }

    fn is_deadline(_: &AnswerBy) -> bool {
        true
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut VersionsBySku, Stated::ProductListed(listed): &Stated) -> &'a mut i64 {
        state.entry(listed.sku.clone()).or_default()
    }
}

fn start(shop: &Shop, after_return_ms: u64) -> Instance {
    let mut config = shop.config();
    config.timers.after_return_ms = after_return_ms;
    start_with(config)
}

pub fn start_with(config: Config) -> Instance {
    Instance::start(Versions::<Waiter>::service(), config)
}

async fn answer(shop: &mut Shop, sku: &str) -> anyhow::Result<()> {
    let value = shop.world.framed(&StockReplenished::new(sku.into(), Uuid::new_v4(), 1)).await?;
    let headers = [("ce_id", Uuid::new_v4().to_string())];
    shop.world.send_raw(&StockReplenished::TYPE.topic.name, Some(sku.as_bytes()), &value, &headers).await?;
    Ok(())
}

/// What was stated of each SKU, once there are so many facts.
async fn stated(shop: &Shop, count: usize) -> anyhow::Result<BTreeMap<String, String>> {
    let records = shop.world.read_until("product.events", move |records| records.len() >= count).await?;
    let says = |record: &quadrille_cli::kafka::Record| Ok((record.key_text(), decoded::<ProductListed>(record)?.name));
    records.iter().map(says).collect()
}

const DEADLINE: &str = "select due from timer where deadline and key = $1";

/// Waits until a deadline is set, and then until it is past by the database's clock.
async fn passed(shop: &Shop, sku: &'static str) -> anyhow::Result<()> {
    let _: chrono::DateTime<chrono::Utc> =
        shop.row(|pool| sqlx::query_scalar(DEADLINE).bind(sku).fetch_optional(pool)).await?;
    const PASSED: &str = "select due from timer where deadline and key = $1 and due < clock_timestamp()";
    let _: chrono::DateTime<chrono::Utc> =
        shop.row(|pool| sqlx::query_scalar(PASSED).bind(sku).fetch_optional(pool)).await?;
    Ok(())
}

/// Cases, "Time": the service was down past a deadline while the answer lay on the topic. The answer counts; where there is none, the
/// deadline does.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lies_on_the_topic_counts_before_a_deadline_that_passed() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instance = start(&shop, 0);
    shop.ask_for("ANSWERED", 3_000, None).await?;
    shop.ask_for("SILENT", 3_000, None).await?;
    let _: chrono::DateTime<chrono::Utc> =
        shop.row(|pool| sqlx::query_scalar(DEADLINE).bind("ANSWERED").fetch_optional(pool)).await?;
    let _: chrono::DateTime<chrono::Utc> =
        shop.row(|pool| sqlx::query_scalar(DEADLINE).bind("SILENT").fetch_optional(pool)).await?;
    instance.stop().await?;
    // Many records before it, so that it is read late; and in another partition what was aborted, with markers at the end.
    for n in 0..2_000 {
        shop.world.send_raw("stock.events", Some(format!("SKU-{n}").as_bytes()), b"no event", &[]).await?;
    }
    answer(&mut shop, "ANSWERED").await?;
    passed(&shop, "ANSWERED").await?;
    passed(&shop, "SILENT").await?;
    let instance = start(&shop, 0);
    let says = stated(&shop, 2).await?;
    assert_eq!((says["ANSWERED"].as_str(), says["SILENT"].as_str()), ("answered", "expired"));
    instance.stop().await
}

/// What another instance has still to read counts too: deadlines look at the group, not at the instance.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_waits_for_what_another_instance_has_not_read() -> anyhow::Result<()> {
    const KEYS: i32 = 20;
    const SET: &str = "select count(*) from timer where deadline having count(*) = $1";
    const PASSED: &str = "select max(due) from timer where deadline having max(due) < clock_timestamp()";
    let mut shop = Shop::open().await?;
    let instances = [start(&shop, 0), start(&shop, 0)];
    both_have_partitions(&shop).await?;
    for n in 0..KEYS {
        // One after another, so that now this instance finds one due and now that.
        shop.ask_for(&format!("TEA-{n}"), 8_000 + 100 * n, Some(n % 6)).await?;
    }
    let _: i64 = shop.row(|pool| sqlx::query_scalar(SET).bind(i64::from(KEYS)).fetch_optional(pool)).await?;
    // Whoever has this record stands still with all of its partitions: somebody else has locked its row.
    sqlx::query("insert into tally (sku) values ('BLOCK')").execute(&shop.database.pool).await?;
    let mut hold = shop.database.pool.begin().await?;
    sqlx::query("select from tally where sku = 'BLOCK' for update").execute(&mut *hold).await?;
    answer(&mut shop, "BLOCK").await?;
    for n in 0..KEYS {
        answer(&mut shop, &format!("TEA-{n}")).await?;
    }
    let _: chrono::DateTime<chrono::Utc> = shop.row(|pool| sqlx::query_scalar(PASSED).fetch_optional(pool)).await?;
    // Time for a careless deadline to be handed on by the other one: it looks each second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    hold.rollback().await?;
    let says = stated(&shop, KEYS as usize + 1).await?;
    let expired: Vec<&String> = says.iter().filter(|(_, name)| *name != "answered").map(|(sku, _)| sku).collect();
    assert!(expired.is_empty(), "{expired:?} had their answers on the topic");
    for instance in instances {
        instance.stop().await?;
    }
    Ok(())
}

/// Waits until two members of the group have partitions: then nothing passes on any more.
async fn both_have_partitions(shop: &Shop) -> anyhow::Result<()> {
    let group = format!("{}tally", shop.world.settings.kafka.group_prefix);
    let onlooker: BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &shop.world.settings.kafka.brokers).create()?;
    tokio::task::block_in_place(|| {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let groups = onlooker.fetch_group_list(Some(&group), Duration::from_secs(10))?;
            // The consumer protocol's assignment: a version, then the number of topics.
            let has_some = |assignment: &[u8]| assignment.get(2..6).is_some_and(|count| count != [0; 4]);
            let members = groups.groups().iter().flat_map(|group| group.members());
            if members.filter(|member| member.assignment().is_some_and(has_some)).count() == 2 {
                return Ok(());
            }
            anyhow::ensure!(std::time::Instant::now() < deadline, "the group has not settled within a minute");
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

/// A trailing transaction that was aborted takes up offsets that nobody ever reads: they hold up no deadline.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_aborted_holds_up_no_deadline() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = start(&shop, 0);
    shop.ask_for("TEA", 500, None).await?;
    aborted(&shop)?;
    let says = stated(&shop, 1).await?;
    assert_eq!(says["TEA"], "expired");
    instance.stop().await
}

fn aborted(shop: &Shop) -> anyhow::Result<()> {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let producer: BaseProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &shop.world.settings.kafka.brokers)
        .set("transactional.id", Uuid::new_v4().to_string())
        .create()?;
    let patience = Duration::from_secs(30);
    producer.init_transactions(patience)?;
    producer.begin_transaction()?;
    let topic = shop.world.settings.topic("stock.events");
    for partition in 0..6 {
        producer
            .send(BaseRecord::to(&topic).partition(partition).key("X").payload("never"))
            .map_err(|(error, _)| error)?;
    }
    producer.flush(patience)?;
    producer.abort_transaction(patience)?;
    Ok(())
}

/// Not right after the broker's return, nor after a start that may follow one.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_waits_after_the_brokers_return() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let began = std::time::Instant::now();
    let instance = start(&shop, 12_000);
    shop.ask_for("TEA", 1, None).await?;
    let says = stated(&shop, 1).await?;
    assert_eq!(says["TEA"], "expired");
    assert!(began.elapsed() >= Duration::from_secs(12), "it fired after {:?}", began.elapsed());
    instance.stop().await
}

/// Cases: deadlines that fail at each try, with a cause that no database takes as it is, one good one due after them. It fires; the others
/// back off and are shown. More than are handed on at once: fewer would not stand in its way even if they were tried without a break.
#[tokio::test(flavor = "multi_thread")]
async fn failing_deadlines_do_not_hold_up_a_good_one() -> anyhow::Result<()> {
    const FAILING: i64 = 450;
    const SHOWN: &str =
        "select count(*) from timer where tries > 0 and last_failure like '%fails at each try%' having count(*) = $1";
    let shop = Shop::open().await?;
    let insert =
        "insert into timer (id, key, name, timer, causation_id, traceparent, tracestate, due, next_try, deadline)
                  select gen_random_uuid(), key, 'answer_by', 'null', gen_random_uuid(), '', '', due, due, true
                  from (select 'BAD-' || n as key, now() - interval '1 minute' as due from generate_series(1, $1) as n
                        union all select 'GOOD', now()) as deadlines";
    sqlx::query(insert).bind(FAILING).execute(&shop.database.pool).await?;
    let instance = start(&shop, 0);
    let says = stated(&shop, 1).await?;
    assert_eq!(says["GOOD"], "expired");
    let _: i64 = shop.row(|pool| sqlx::query_scalar(SHOWN).bind(FAILING).fetch_optional(pool)).await?;
    instance.stop().await
}
