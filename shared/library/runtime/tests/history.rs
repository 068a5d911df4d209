//! The history has each decision that was committed, and nothing else.

use std::process::Stdio;

use crate::support::{Shop, distinct, tally::Tally};
use quadrille_cli::replay;
use quadrille_core::{Policy, Record as _, ids};
use quadrille_events::StockReplenishmentRequested;
use quadrille_history::{Decided, Header, Taken};
use uuid::Uuid;

/// Of such a request two spellings of the id are entered, and one decision is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_may_begin_with_a_request_that_has_an_id() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let value = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::from_u128(1), 5)).await?;
    let named = [("ce_id", "the first".to_owned()), ("ce_source", "/test".to_owned())];
    shop.world.send_raw(&StockReplenishmentRequested::TYPE.topic.name, Some(b"TEA"), &value, &named).await?;
    let mut config = shop.config();
    config.history.keep = true;
    let instance = shop.start_with(config);
    shop.stated(1).await?;
    instance.stop().await?;
    assert_eq!(history(&shop).await?.len(), 1);
    replay::from_the_beginning(&mut *shop.database.pool.acquire().await?, "tally").await
}

/// Cases: what was seen before, what cannot be handled and what the database refuses leave nothing in it; all else is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_kept_with_what_it_came_to_if_it_is_committed() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let request = StockReplenishmentRequested::new("TEA".into(), Uuid::from_u128(1), 5);
    let value = shop.world.framed(&request).await?;
    let topic = &StockReplenishmentRequested::TYPE.topic.name;
    let named = [("ce_id", "the same".to_owned()), ("ce_source", "/test".to_owned())];
    // All of it lies there before the instance starts: it arrives as one batch.
    shop.world.send_raw(topic, Some(b"TEA"), &value, &named).await?;
    shop.world.send_raw(topic, Some(b"TEA"), &value, &named).await?; // seen
    for partition in 0..6 {
        shop.ask_for("BAD", -1, Some(partition)).await?; // the policy panics
        shop.ask_for("HUGE", 1_000_000_000, Some(partition)).await?; // a check constraint fails once it has decided
        shop.ask("AFTER", partition).await?;
    }
    let mut config = shop.config();
    config.history.keep = true;
    let instance = shop.start_with(config);
    let letters = "select count(*) from dead_letter having count(*) = 12";
    let letters: i64 = shop.row(|pool| sqlx::query_scalar(letters).fetch_optional(pool)).await?;
    assert_eq!(letters, 12);
    let stated = shop.stated(7).await?;
    instance.stop().await?;

    let history = history(&shop).await?;
    replay::from_the_beginning(&mut *shop.database.pool.acquire().await?, "tally").await?;
    assert_eq!(ids_stated(&history), ids_on_topic(&stated));
    assert_eq!(history.len(), 7, "one of each");
    assert!(history.is_sorted_by_key(|decided| decided.now), "in the order of its decisions");

    let tea: Vec<&Decided> = history.iter().filter(|decided| decided.key == "TEA").collect();
    let [tea] = tea[..] else { panic!("one decision on TEA: {tea:?}") };
    assert_eq!(tea.id, ids::request(topic, "TEA", StockReplenishmentRequested::TYPE.name, "/test", "the same"));
    let mut datum = vec![];
    request.encode(&mut datum);
    let Taken::Record { r#type, datum: kept } = &tea.input else { panic!("a record: {:?}", tea.input) };
    assert_eq!((r#type.as_str(), &kept.0), (StockReplenishmentRequested::TYPE.name, &datum));
    let [fact] = &tea.came_to.facts[..] else { panic!("one fact: {:?}", tea.came_to) };
    let published = stated.iter().find(|record| record.key_text() == "TEA").and_then(|record| record.value.clone());
    assert_eq!(
        Some(&fact.datum.0[..]),
        published.as_deref().map(|value| &value[5..]),
        "the very bytes that were published"
    );
    assert_eq!((fact.version, fact.time, fact.cause), (Some(1), tea.now, Some(tea.cause)));

    let headers: Vec<(Uuid, sqlx::types::Json<Header>)> =
        sqlx::query_as("select id, header from history_header").fetch_all(&shop.database.pool).await?;
    assert_eq!(
        headers.iter().map(|(id, header)| (*id, &header.0)).collect::<Vec<_>>(),
        [(tea.header, &Header::of::<Tally>())]
    );
    assert_eq!(headers[0].1.service, Tally::SERVICE);
    Ok(())
}

/// What was not kept is missed: before the history's first decision, and after its last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_not_whole_says_so() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let taken = async |keep: bool, count: usize| {
        let mut config = shop.config();
        config.history.keep = keep;
        let instance = shop.start_with(config);
        for partition in 0..6 {
            shop.ask("TEA", partition).await?;
        }
        shop.stated(count).await?;
        instance.stop().await
    };
    let kept = "select array(select decided is not null from history order by number)";
    let kept = async || sqlx::query_scalar::<_, Vec<bool>>(kept).fetch_one(&shop.database.pool).await;

    taken(false, 6).await?;
    assert_eq!(kept().await?, [false; 0], "nothing is kept unless it is asked for, and what is not kept has no gap");
    let headers: i64 = sqlx::query_scalar("select count(*) from history_header").fetch_one(&shop.database.pool).await?;
    assert_eq!(headers, 0);

    taken(true, 12).await?;
    assert_eq!(kept().await?, [true; 6]);
    taken(false, 18).await?;
    taken(false, 24).await?;
    taken(true, 30).await?;
    let decisions_gap_decisions = [&[true; 6][..], &[false], &[true; 6]].concat();
    assert_eq!(kept().await?, decisions_gap_decisions);

    let mut connection = shop.database.pool.acquire().await?;
    let refused = replay::from_the_beginning(&mut connection, "tally").await.map_err(|error| error.to_string());
    let refused = refused.expect_err("it begins in the middle");
    assert!(refused.contains("the tally history begins in the middle: 6 inputs were taken before"), "{refused}");
    Ok(())
}

/// Cases: kill -9 amid the load, again and again: the history has each fact that came to be once, and none that did not.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_of_it_and_leaves_nothing_half_done() -> anyhow::Result<()> {
    const REQUESTS: usize = 3_000;
    let shop = Shop::open().await?;
    let asked = (0..REQUESTS).map(|n| {
        let sku = format!("SKU-{}", n % 50);
        let shop = &shop;
        async move { shop.ask(&sku, (n % 6) as i32).await }
    });
    futures::future::try_join_all(asked).await?;
    let start = || shop.command().env("QUADRILLE__HISTORY__KEEP", "true").stdout(Stdio::null()).spawn();
    for share in [REQUESTS / 4, REQUESTS / 2] {
        let mut instance = start()?;
        shop.row(|pool| {
            let reached = sqlx::query_scalar("select count(*) from inbox having count(*) >= $1").bind(share as i64);
            async move { reached.fetch_optional(pool).await.map(|count: Option<i64>| count) }
        })
        .await?;
        instance.kill().await?;
    }
    let mut instance = start()?;
    let stated = shop.stated(REQUESTS).await?;
    instance.kill().await?;
    assert_eq!(distinct(&stated), REQUESTS);
    let history = history(&shop).await?;
    assert_eq!(history.len(), REQUESTS);
    assert_eq!(ids_stated(&history), ids_on_topic(&stated));
    Ok(())
}

async fn history(shop: &Shop) -> anyhow::Result<Vec<Decided>> {
    let rows: Vec<sqlx::types::Json<Decided>> =
        sqlx::query_scalar("select decided from history order by number").fetch_all(&shop.database.pool).await?;
    Ok(rows.into_iter().map(|decided| decided.0).collect())
}

fn ids_stated(history: &[Decided]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> =
        history.iter().flat_map(|decided| decided.came_to.facts.iter().map(|fact| fact.id)).collect();
    ids.sort_unstable();
    ids
}

/// Each once: what was published again after a kill is the same event.
fn ids_on_topic(records: &[quadrille_cli::kafka::Record]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = records.iter().filter_map(|record| record.event().id.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
