//! Connections to the database on which nobody answers and which nobody ends: the relay's, and the one on which instances wake each other.

use std::time::{Duration, Instant};

use crate::support::{Shop, assert_order};
use quadrille_testkit::{Direction, Proxy};

/// The relay's connection goes silent at this statement, and all is published in order all the same: within the time that one read waits.
async fn goes_on(statement: &str, direction: Direction) -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let proxy = Proxy::before(&shop.database.url()).await?;
    proxy.silence_at(statement, direction);
    let instance = shop.start_with(shop.over(proxy.url()));
    for n in 0..12 {
        shop.ask("TEA", n % 6).await?;
    }
    proxy.sprung().await;
    shop.stated(12).await?;
    shop.ask("TEA", 0).await?;
    let stated = shop.stated(13).await?;
    instance.stop().await?;
    assert_order(&stated);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_lease_is_asked_for() -> anyhow::Result<()> {
    goes_on("pg_try_advisory_lock", Direction::ToClient).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_lease_is_written() -> anyhow::Result<()> {
    goes_on("insert into lease", Direction::Both).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_database_and_topics_are_compared() -> anyhow::Result<()> {
    goes_on("from published", Direction::ToClient).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_outbox_is_read() -> anyhow::Result<()> {
    goes_on("from outbox where", Direction::ToServer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_owner_says_that_it_lives() -> anyhow::Result<()> {
    goes_on("update lease set beat", Direction::ToServer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_what_was_published_is_removed() -> anyhow::Result<()> {
    goes_on("delete from outbox", Direction::Both).await
}

/// A stop does not wait for a silent database either.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_soon_although_the_database_is_silent() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let proxy = Proxy::before(&shop.database.url()).await?;
    let instance = shop.start_with(shop.over(proxy.url()));
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    proxy.silence_at("update lease set beat", Direction::Both);
    proxy.silence(Direction::Both);
    let asked = Instant::now();
    instance.stop().await?;
    assert!(asked.elapsed() < Duration::from_secs(10), "took {:?}", asked.elapsed());
    Ok(())
}

/// A database that is away, in each of the ways in which one can be, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_for_a_while() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let proxy = Proxy::before(&shop.database.url()).await?;
    let instance = shop.start_with(shop.over(proxy.url()));
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    proxy.refuse();
    proxy.cut();
    for n in 0..12 {
        shop.ask("TEA", n % 6).await?;
    }
    proxy.heal();
    // And one that takes connections and says nothing on them.
    shop.stated(13).await?;
    proxy.silence_new(Direction::ToClient);
    proxy.cut();
    proxy.silent().await;
    shop.ask("TEA", 1).await?;
    proxy.heal();
    let stated = shop.stated(14).await?;
    instance.stop().await?;
    assert_order(&stated);
    Ok(())
}

/// Wake-ups that are not heard cost 100 ms each, for as long as nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_listener_is_followed_by_another() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let proxy = Proxy::before(&shop.database.url()).await?;
    let listening = "select pid from pg_stat_activity
        where datname = current_database() and query = 'LISTEN \"quadrille_outbox\"' and pid <> $1";
    let instance = shop.start_with(shop.over(proxy.url()));
    let first: i32 = shop.row(|pool| sqlx::query_scalar(listening).bind(0).fetch_optional(pool)).await?;
    // What it is asked when nothing is heard for long.
    proxy.silence_at("select 1", Direction::ToClient);
    proxy.sprung().await;
    let second: i32 = shop.row(|pool| sqlx::query_scalar(listening).bind(first).fetch_optional(pool)).await?;
    assert_ne!(first, second);
    instance.stop().await
}
