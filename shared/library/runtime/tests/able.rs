//! Ready means able to work: whatever a database does, the service goes on by itself, and says so meanwhile.

use std::time::{Duration, Instant};

use crate::support::{Instance, Shop, assert_order, service};
use quadrille_testkit::{Direction, Proxy};
use sqlx::{Connection, Executor, PgConnection};

/// How long a standstill may last that a fault of the database leaves behind: a bound of the runtime, with as much again for a slow machine.
const AGAIN: Duration = Duration::from_secs(90);
/// Never ready for longer than half a minute while nothing is done, and never unready for longer while work goes on; and some patience.
const SAID: Duration = Duration::from_secs(45);

/// An instance over this database, to be asked whether it is ready.
fn start(shop: &Shop, database: &str) -> anyhow::Result<Instance> {
    Instance::listening(service(), shop.over(database))
}

/// Waits until the instance says that it is ready, or that it is not.
async fn says(instance: &Instance, ready: bool) -> anyhow::Result<()> {
    instance.at.says("ready", ready, SAID).await
}

async fn ask(shop: &Shop, count: usize) -> anyhow::Result<()> {
    for n in 0..count {
        shop.ask(&format!("SKU-{}", n % 3), (n % 6) as i32).await?;
    }
    Ok(())
}

/// Every fact, in order, and none twice beside exact repeats.
async fn all_stated(shop: &Shop, count: usize) -> anyhow::Result<()> {
    let asked = Instant::now();
    let stated = shop.stated(count).await?;
    assert_order(&stated);
    assert!(asked.elapsed() < AGAIN, "it took {:?}", asked.elapsed());
    assert_eq!(shop.pieces().await?, count as i64);
    Ok(())
}

async fn silent(direction: Direction) -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let proxy = Proxy::before(&shop.database.url()).await?;
    let instance = start(&shop, proxy.url())?;
    ask(&shop, 10).await?;
    all_stated(&shop, 10).await?;
    says(&instance, true).await?;
    proxy.silence(direction);
    ask(&shop, 10).await?;
    says(&instance, false).await?;
    all_stated(&shop, 20).await?;
    says(&instance, true).await?;
    instance.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_go_silent_are_given_up() -> anyhow::Result<()> {
    silent(Direction::Both).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_answers_are_lost_are_given_up() -> anyhow::Result<()> {
    silent(Direction::ToClient).await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_whose_statements_are_lost_are_given_up() -> anyhow::Result<()> {
    silent(Direction::ToServer).await
}

/// In each phase of a transaction: whether its commit arrived or not, each input takes effect once.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_cut_off_in_any_phase_takes_effect_once() -> anyhow::Result<()> {
    // At the same time: each waits half a minute for its session to be given up.
    let phases = [
        ("BEGIN", Direction::ToServer),
        ("insert into tally", Direction::ToClient),
        ("insert into inbox", Direction::ToClient),
        ("insert into outbox", Direction::ToServer),
        ("COMMIT", Direction::ToServer),
        ("COMMIT", Direction::ToClient),
    ];
    let cut_off = phases.map(async |(text, direction)| {
        let shop = Shop::open().await?;
        let proxy = Proxy::before(&shop.database.url()).await?;
        proxy.silence_at(text, direction);
        let instance = start(&shop, proxy.url())?;
        ask(&shop, 10).await?;
        proxy.sprung().await;
        all_stated(&shop, 10).await.map_err(|error| error.context(format!("{text} {direction:?}")))?;
        instance.stop().await
    });
    futures::future::try_join_all(cut_off).await.map(drop)
}

/// What a failover does to those who reach the demoted server for a moment: the setting passes, the sessions that have it stay.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_from_a_read_only_spell_are_not_used_again() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = start(&shop, &shop.database.url())?;
    ask(&shop, 10).await?;
    all_stated(&shop, 10).await?;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&shop.database.pool).await?;
    let server = shop.database.url().replace(&name, "postgres");
    let mut elsewhere = PgConnection::connect(&server).await?;
    let set = |value: &str| sqlx::AssertSqlSafe(format!("alter database {name} {value}"));
    elsewhere.execute(sqlx::raw_sql(set("set default_transaction_read_only = on"))).await?;
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
    )
    .bind(&name)
    .execute(&mut elsewhere)
    .await?;
    ask(&shop, 10).await?;
    says(&instance, false).await?;
    elsewhere.execute(sqlx::raw_sql(set("reset default_transaction_read_only"))).await?;
    all_stated(&shop, 20).await?;
    says(&instance, true).await?;
    assert_eq!(
        sqlx::query_scalar::<_, i64>("select count(*) from dead_letter").fetch_one(&shop.database.pool).await?,
        0
    );
    instance.stop().await
}

/// Somebody's migration, or a report with a lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_makes_it_unready_until_it_is_let_go() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = start(&shop, &shop.database.url())?;
    says(&instance, true).await?;
    let mut other = PgConnection::connect(&shop.database.url()).await?;
    let mut lock = other.begin().await?;
    lock.execute("lock table tally in access exclusive mode").await?;
    ask(&shop, 10).await?;
    says(&instance, false).await?;
    lock.rollback().await?;
    all_stated(&shop, 10).await?;
    says(&instance, true).await?;
    instance.stop().await
}
