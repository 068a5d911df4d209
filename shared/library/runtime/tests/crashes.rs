//! Where a process may die: after each, what is found is what a crash at that point leaves behind.

use std::time::{Duration, Instant};

use crate::support::{Shop, assert_order, distinct};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::Child;

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let id = child.id().ok_or_else(|| anyhow::anyhow!("the process has ended"))?;
    Ok(kill(Pid::from_raw(id.try_into()?), signal)?)
}

/// Kills at many moments of a run: commits without publications, publications without removals, commits without offsets.
#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_nothing_is_lost_or_doubled() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    const ROUNDS: usize = 6;
    const EACH: usize = 400;
    let mut sent = 0;
    for round in 0..ROUNDS {
        let mut child = shop.spawn()?;
        for n in 0..EACH {
            shop.ask(&format!("SKU-{}", n % 7), (n % 6) as i32).await?;
        }
        sent += EACH;
        // Dies once a part of this round is out, in the middle of the rest.
        shop.stated(round * EACH + 1 + 37 * round).await?;
        child.kill().await?;
    }
    let mut child = shop.spawn()?;
    let stated = shop.stated(sent).await?;
    signal(&child, Signal::SIGTERM)?;
    assert!(child.wait().await?.success());
    let stated_after = shop.world.read("stock.events").await?;
    assert!(stated_after.len() >= stated.len());
    let repeats = assert_order(&stated_after);
    assert_eq!(distinct(&stated_after), sent);
    assert_eq!(shop.pieces().await?, sent as i64);
    println!("{sent} requests, {ROUNDS} kills: 0 lost, 0 doubled, {repeats} exact repeats");
    Ok(())
}

/// Between publication and removal: the row is still there, so it is published again, the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_published_and_not_removed_is_repeated_exactly() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    sqlx::query("create table kept as select * from outbox").execute(&shop.database.pool).await?;
    sqlx::query(
        "create function keep() returns trigger language plpgsql as
         $$ begin insert into kept select old.*; return old; end $$",
    )
    .execute(&shop.database.pool)
    .await?;
    sqlx::query("create trigger keep before delete on outbox for each row execute function keep()")
        .execute(&shop.database.pool)
        .await?;
    let instance = shop.start();
    for n in 0..20 {
        shop.ask("TEA", n % 6).await?;
    }
    shop.stated(20).await?;
    instance.stop().await?;
    // As if the process had died before the rows were removed.
    sqlx::query("drop trigger keep on outbox").execute(&shop.database.pool).await?;
    sqlx::query("insert into outbox overriding system value select * from kept").execute(&shop.database.pool).await?;
    let instance = shop.start();
    shop.ask("TEA", 0).await?;
    let stated = shop.stated(21).await?;
    instance.stop().await?;
    assert_eq!(assert_order(&stated), 20, "each row is repeated once, exactly, before what is new");
    Ok(())
}

/// Between the commit and the offset: everything is read again and changes nothing, also in a group that starts over.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_again_changes_nothing() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = shop.start();
    for n in 0..300 {
        shop.ask(&format!("SKU-{}", n % 5), n % 6).await?;
    }
    shop.stated(300).await?;
    instance.stop().await?;
    let mut over = shop.config();
    over.kafka.group_prefix = format!("over.{}", over.kafka.group_prefix);
    let instance = shop.start_with(over);
    for partition in 0..6 {
        shop.ask("LAST", partition).await?;
    }
    let stated = shop.stated(306).await?;
    instance.stop().await?;
    assert_eq!(assert_order(&stated), 0);
    assert_eq!((distinct(&stated), stated.len()), (306, 306));
    assert_eq!(shop.pieces().await?, 306);
    Ok(())
}

/// A suspended instance loses its partitions and the relay; when it comes back it can only repeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_instance_comes_back_and_doubles_nothing() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut zombie = shop.spawn()?;
    for n in 0..60 {
        shop.ask(&format!("SKU-{}", n % 5), n % 6).await?;
    }
    // It owns the relay and all partitions.
    shop.stated(60).await?;
    for n in 0..300 {
        shop.ask(&format!("SKU-{}", n % 5), n % 6).await?;
    }
    signal(&zombie, Signal::SIGSTOP)?;
    let mut heir = shop.spawn()?;
    for n in 0..300 {
        shop.ask(&format!("SKU-{}", n % 5), n % 6).await?;
    }
    // The heir takes over although the zombie never left: group and lease both look at silence.
    shop.stated(660).await?;
    signal(&zombie, Signal::SIGCONT)?;
    for n in 0..300 {
        shop.ask(&format!("SKU-{}", n % 5), n % 6).await?;
    }
    shop.stated(960).await?;
    for child in [&mut zombie, &mut heir] {
        signal(child, Signal::SIGTERM)?;
        assert!(child.wait().await?.success());
    }
    let stated = shop.world.read("stock.events").await?;
    let repeats = assert_order(&stated);
    assert_eq!(distinct(&stated), 960);
    assert_eq!(shop.pieces().await?, 960);
    println!("960 requests past a suspended instance: {repeats} exact repeats");
    Ok(())
}

/// SIGTERM under load: ends with 0 within ten seconds, in-flight work whole or not at all; a second one changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_ends_soon_and_loses_nothing() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut child = shop.spawn()?;
    for n in 0..2_000 {
        shop.ask(&format!("SKU-{}", n % 50), n % 6).await?;
        if n == 1_000 {
            shop.stated(1).await?;
        }
    }
    let asked = Instant::now();
    signal(&child, Signal::SIGTERM)?;
    let _ = signal(&child, Signal::SIGTERM);
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await??;
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(10), "took {:?}", asked.elapsed());
    let waiting: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&shop.database.pool).await?;
    assert_eq!(waiting, 0, "what was committed is published");

    let mut child = shop.spawn()?;
    let stated = shop.stated(2_000).await?;
    signal(&child, Signal::SIGTERM)?;
    child.wait().await?;
    assert_order(&stated);
    assert_eq!(shop.pieces().await?, 2_000);
    Ok(())
}
