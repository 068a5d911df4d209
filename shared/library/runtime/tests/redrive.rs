//! A failed event holds its key; a redrive or a discard lets it go, in order, in the service that failed alone.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::support::{Instance, Shop, Versions, VersionsBySku, assert_order};
use quadrille_core::{
    Decision, Declaration, Envelope, Input, Moment, Nothing, Policy, Record as _, Records, Row, ids, records,
};
use quadrille_events::{Money, ProductListed, StockReplenished};
use quadrille_platform::{DeadLetterClosed, DiscardRequested, InstanceHeartbeat, RedriveRequested};
use quadrille_testkit::decoded;
use uuid::Uuid;

records! { pub enum Heard { StockReplenished } }
records! { pub enum Stated { ProductListed } }

/// What no build of today can handle.
const UNLUCKY: i32 = 13;
/// Whether the build of tomorrow runs.
static MENDED: AtomicBool = AtomicBool::new(false);

/// Lists each delivery as a product whose name is its quantity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lister;

impl Policy for Lister {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    const CHOREOGRAPHY: Declaration = Declaration {
        alarms: &[StockReplenished::TYPE],
        ..Declaration::new("tally", <Heard as Records>::TYPES, <Stated as Records>::TYPES)
    };
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
        let Input::Record(Heard::StockReplenished(came)) = &input.input else { return Decision::nothing() };
        assert!(came.quantity != UNLUCKY || MENDED.load(Ordering::SeqCst), "{UNLUCKY} is unlucky");
        let price = Money::try_cents(100).expect("a price");
        Decision::fact(ProductListed { name: came.quantity.to_string(), ..ProductListed::new(came.sku.clone(), price) })
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut VersionsBySku, Stated::ProductListed(listed): &Stated) -> &'a mut i64 {
        state.entry(listed.sku.clone()).or_default()
    }
}

fn start(shop: &Shop) -> Instance {
    Instance::start(Versions::<Lister>::service(), shop.config())
}

/// An event, as inventory would state it.
async fn came(shop: &mut Shop, sku: &str, quantity: i32) -> anyhow::Result<()> {
    let value = shop.world.framed(&StockReplenished::new(sku.into(), Uuid::new_v4(), quantity)).await?;
    let headers = [("ce_id", Uuid::new_v4().to_string())];
    shop.world.send_raw(&StockReplenished::TYPE.topic.name, Some(sku.as_bytes()), &value, &headers).await?;
    Ok(())
}

/// The names listed so far, by SKU and in order, once there are so many.
async fn listed(shop: &Shop, count: usize) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let records = shop.world.read_until("product.events", move |records| records.len() >= count).await?;
    assert_eq!(assert_order(&records), 0, "nothing is stated twice");
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in &records {
        names.entry(record.key_text()).or_default().push(decoded::<ProductListed>(record)?.name);
    }
    Ok(names)
}

/// Waits until so many letters are open, and returns their ids, keys and reasons by offset.
async fn open(shop: &Shop, key: &str, count: i64) -> anyhow::Result<Vec<(Uuid, String, i32)>> {
    const COUNT: &str = "select count(*) from dead_letter where closed_at is null and holds = $1 having count(*) = $2";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(COUNT).bind(key).bind(count).fetch_optional(pool)).await?;
    let open =
        "select id, reason, attempts from dead_letter where closed_at is null and holds = $1 order by \"offset\"";
    Ok(sqlx::query_as(open).bind(key).fetch_all(&shop.database.pool).await?)
}

fn redrive(id: Uuid) -> RedriveRequested {
    let (who, why) = ("ann".into(), "the new build knows thirteen".into());
    RedriveRequested { dead_letter_id: Some(id), who, why, ..RedriveRequested::new("tally".into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_events_of_a_failed_ones_key_wait_behind_it_and_follow_it_in_order() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instances = [start(&shop), start(&shop)];
    for (sku, quantity) in [("HELD", 1), ("HELD", UNLUCKY), ("HELD", 2), ("FREE", 1), ("HELD", 3), ("FREE", 2)] {
        came(&mut shop, sku, quantity).await?;
    }
    let letters = open(&shop, "HELD", 3).await?;
    let reasons: Vec<(&str, i32)> = letters.iter().map(|(_, reason, attempts)| (reason.as_str(), *attempts)).collect();
    assert_eq!(reasons, [("handling_failed", 1), ("waits_behind", 1), ("waits_behind", 1)]);
    let names = listed(&shop, 3).await?;
    assert_eq!((names["HELD"].len(), names["FREE"].len()), (1, 2), "other keys go on: {names:?}");

    // The build is still the same: it fails again, and still holds.
    let (result, detail) = shop.operate(&redrive(letters[0].0)).await?;
    assert_eq!(result, "done", "{detail}");
    const AGAIN: &str = "select attempts from dead_letter where attempts = 2";
    let _: i32 = shop.row(|pool| sqlx::query_scalar(AGAIN).fetch_optional(pool)).await?;
    assert_eq!(open(&shop, "HELD", 3).await?.len(), 3);

    MENDED.store(true, Ordering::SeqCst);
    shop.operate(&redrive(letters[0].0)).await?;
    let names = listed(&shop, 6).await?;
    assert_eq!(names["HELD"], ["1", "13", "2", "3"]);
    open_none(&shop).await?;
    let how: Vec<(String, Option<String>)> =
        sqlx::query_as("select closed_how, closed_by from dead_letter order by \"offset\"")
            .fetch_all(&shop.database.pool)
            .await?;
    assert_eq!(how[0], ("redriven".into(), Some("ann".into())));
    assert_eq!(how[1], ("handled".into(), None));
    let (result, detail) = shop.operate(&redrive(letters[0].0)).await?;
    assert_eq!(result, "refused", "{detail}");

    // Once nothing holds it the key goes on by itself; and what is read again changes nothing.
    came(&mut shop, "HELD", 4).await?;
    assert_eq!(listed(&shop, 7).await?["HELD"].last().map(String::as_str), Some("4"));
    assert_eq!(shop.world.read("stock.events").await?.len(), 7, "nothing was published for others to hear again");

    // Given up: what waits behind it goes on.
    MENDED.store(false, Ordering::SeqCst);
    came(&mut shop, "GIVEN-UP", UNLUCKY).await?;
    came(&mut shop, "GIVEN-UP", 5).await?;
    let letters = open(&shop, "GIVEN-UP", 2).await?;
    let (who, why) = ("ann".to_owned(), "nobody needs it".to_owned());
    let discard = DiscardRequested { who, why, ..DiscardRequested::new("tally".into(), letters[0].0) };
    let (result, detail) = shop.operate(&discard).await?;
    assert_eq!(result, "done", "{detail}");
    assert_eq!(listed(&shop, 8).await?["GIVEN-UP"], ["5"]);
    for (letter, how, who) in [(letters[0].0, "discarded", "ann"), (letters[1].0, "handled", "")] {
        let closed: DeadLetterClosed = decoded(&shop.platform_events(letter, 1).await?[0])?;
        assert_eq!((closed.how.as_str(), closed.who.as_str()), (how, who));
    }
    for instance in instances {
        instance.stop().await?;
    }
    Ok(())
}

/// A request that two instances carry out at the same moment is one act, and told once: by whoever has kept it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_another_instance_carries_out_just_then_is_not_told_again() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instance = start(&shop);
    let (who, why) = ("ann".to_owned(), "nobody needs it".to_owned());
    let discard = DiscardRequested { who, why, ..DiscardRequested::new("tally".into(), Uuid::nil()) };
    let (topic, ce_id, source) = (&*DiscardRequested::TYPE.topic.name, Uuid::new_v4().to_string(), "/test");
    let id = ids::request(topic, &discard.key(), DiscardRequested::TYPE.name, source, &ce_id);
    // As the other one has it before its commit.
    let mut other = shop.database.pool.begin().await?;
    sqlx::query("insert into operator_action (id, what, who, why, result, detail) values ($1, 'discard', '', '', 'refused', '')")
        .bind(id)
        .execute(&mut *other)
        .await?;
    let value = shop.world.framed(&discard).await?;
    let headers = [("ce_id", ce_id), ("ce_source", source.to_owned())];
    shop.world.send_raw(topic, Some(discard.key().as_bytes()), &value, &headers).await?;
    const BLOCKED: &str = "select pid from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like '%into operator_action%' limit 1";
    let _: i32 = shop.row(|pool| sqlx::query_scalar(BLOCKED).fetch_optional(pool)).await?;
    other.commit().await?;

    shop.operate(&discard).await?;
    let next: Uuid = sqlx::query_scalar("select id from operator_action where id <> $1")
        .bind(id)
        .fetch_one(&shop.database.pool)
        .await?;
    shop.platform_events(next, 1).await?;
    let told = shop.world.read("platform.events").await?;
    assert!(
        told.iter().all(|event| event.key_text() != id.to_string()),
        "the other one tells it, which is nobody here"
    );
    instance.stop().await
}

async fn open_none(shop: &Shop) -> anyhow::Result<()> {
    const NONE: &str = "select 1::bigint from dead_letter having count(*) filter (where closed_at is null) = 0";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(NONE).fetch_optional(pool)).await?;
    Ok(())
}

/// A redrive whose transaction is cut off in its middle, as a kill does it, has not happened: it is handled once all the same, and what
/// waits behind it comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_that_is_cut_off_is_handled_once() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instances = [start(&shop), start(&shop)];
    came(&mut shop, "CUT", 1).await?;
    listed(&shop, 1).await?;
    let pool = shop.database.pool.clone();
    sqlx::query("alter table tally add constraint too_early check (version < 2)").execute(&pool).await?;
    came(&mut shop, "CUT", 2).await?;
    came(&mut shop, "CUT", 3).await?;
    let letters = open(&shop, "CUT", 2).await?;
    sqlx::query("alter table tally drop constraint too_early").execute(&pool).await?;

    let mut held = pool.begin().await?;
    sqlx::query("select from tally where sku = 'CUT' for update").execute(&mut *held).await?;
    let (result, detail) = shop.operate(&redrive(letters[0].0)).await?;
    assert_eq!(result, "done", "{detail}");
    for _ in 0..2 {
        // The letter is closed and the row waited for: all but the commit of it is yet to come.
        const CUT: &str = "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like '%from tally%' limit 1";
        let cut: bool = shop.row(|pool| sqlx::query_scalar(CUT).fetch_optional(pool)).await?;
        assert!(cut);
    }
    assert_eq!(open(&shop, "CUT", 2).await?.len(), 2, "nothing of it has happened");
    held.rollback().await?;

    assert_eq!(listed(&shop, 3).await?["CUT"], ["1", "2", "3"]);
    open_none(&shop).await?;
    for instance in instances {
        instance.stop().await?;
    }
    assert_eq!(shop.world.read("product.events").await?.len(), 3, "once each");
    Ok(())
}

/// A letter whose type nobody can tell may be one that holds an order up: it is alarmed by its topic, until somebody has looked at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_cannot_be_read_alarms_by_its_topic() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let instance = start(&shop);
    shop.world.send_raw(&StockReplenished::TYPE.topic.name, Some(b"TEA".as_slice()), b"not framed", &[]).await?;
    let says = |wanted: bool| {
        move |records: &[quadrille_cli::kafka::Record]| {
            let beats = records.iter().rev().filter(|record| record.value.is_some());
            let last = beats.filter_map(|record| decoded::<InstanceHeartbeat>(record).ok()).next();
            last.is_some_and(|beat| beat.detail.contains("1 dead letters leave sagas open") == wanted)
        }
    };
    shop.world.read_until(&InstanceHeartbeat::TYPE.topic.name, says(true)).await?;
    let letter: Uuid =
        sqlx::query_scalar("select id from dead_letter where record_type = ''").fetch_one(&shop.database.pool).await?;
    let (who, why) = ("ann".to_owned(), "nobody knows it".to_owned());
    let discard = DiscardRequested { who, why, ..DiscardRequested::new("tally".into(), letter) };
    let (result, detail) = shop.operate(&discard).await?;
    assert_eq!(result, "done", "{detail}");
    shop.world.read_until(&InstanceHeartbeat::TYPE.topic.name, says(false)).await?;
    instance.stop().await
}
