//! Several instances of a service on the real broker and database.

use sqlx::PgPool;

use crate::support::{Instance, Shop, assert_order, distinct, service};

/// Cases: both first inputs of one aggregate in two instances at once. There is no row to lock yet; none may be lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn first_inputs_of_a_new_key_in_two_instances_at_once() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let (one, two) = (shop.start(), shop.start());
    // Both have work to do before the keys begin.
    for partition in 0..6 {
        shop.ask("WARM-UP", partition).await?;
    }
    shop.stated(6).await?;

    const KEYS: usize = 1_000;
    for key in 0..KEYS {
        let sku = format!("NEW-{key}");
        // One request through every partition: whoever owns which, both instances meet at this key.
        let asked = (0..6).map(|partition| shop.ask(&sku, partition));
        futures::future::try_join_all(asked).await?;
    }
    let stated = shop.stated(6 + 6 * KEYS).await?;
    assert_order(&stated);
    assert_eq!(distinct(&stated), 6 + 6 * KEYS);
    assert_eq!(shop.pieces().await?, 6 + 6 * KEYS as i64);
    one.stop().await?;
    two.stop().await
}

/// Of an instance that its caller drops half-way nothing runs on: no session of its, no port, no member of the group that keeps the others
/// from its partitions.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_dropped_half_way_leaves_nothing_running() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let dropped = Instance::listening(service(), shop.config())?;
    for partition in 0..6 {
        shop.ask("TEA", partition).await?;
    }
    shop.stated(6).await?;
    // The test's own pool has some, too.
    let others = "select count(*) - $1 from pg_stat_activity where datname = current_database()";
    let pool = &shop.database.pool;
    let during: i64 = sqlx::query_scalar(others).bind(i64::from(pool.size())).fetch_one(pool).await?;
    assert!(during > 0, "it has sessions while it runs: {during}");
    let at = dropped.at.clone();
    dropped.give_up().await;
    let are_gone = "select 1 from (select count(*) from pg_stat_activity where datname = current_database()) as all_of_them where count <= $1";
    let are_gone = |pool| sqlx::query_scalar(are_gone).bind(i64::from(PgPool::size(pool))).fetch_optional(pool);
    let _: i32 = shop.row(are_gone).await?;
    assert_eq!(at.is("live").await, None);
    let next = shop.start();
    for partition in 0..6 {
        shop.ask("TEA", partition).await?;
    }
    let stated = shop.stated(12).await?;
    assert_order(&stated);
    assert_eq!(distinct(&stated), 12);
    next.stop().await
}

/// Whoever waits for the relay's lease takes it from an owner that is silent, and from none whose statement takes long.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_statement_waits_keeps_the_lease() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let (one, two) = (shop.start(), shop.start());
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    let owner = "select pid from lease";
    let before: i32 = sqlx::query_scalar(owner).fetch_one(&shop.database.pool).await?;
    // Longer by far than the lease is good for.
    sqlx::raw_sql("begin; lock table outbox in access exclusive mode; select pg_sleep(8); commit")
        .execute(&shop.database.pool)
        .await?;
    shop.ask("TEA", 0).await?;
    assert_order(&shop.stated(2).await?);
    let after: i32 = sqlx::query_scalar(owner).fetch_one(&shop.database.pool).await?;
    assert_eq!(after, before);
    one.stop().await?;
    two.stop().await
}

/// The example is a whole service, and short enough to be read at a sitting; the tests beside this one run it.
#[test]
fn the_example_is_a_whole_service_in_seventy_lines() {
    assert!(include_str!("../examples/tally/main.rs").lines().count() <= 70);
}
