//! Several instances of a service on the real broker and database.

use crate::support::{Shop, assert_order, distinct};

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
