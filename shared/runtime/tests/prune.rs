//! What is old enough is forgotten, and no sooner than a topic may bring it back.

mod support;

use support::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_forgotten_once_nothing_can_bring_them_back() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    // More than a few batches, and some that are a day too young.
    sqlx::query(
        "insert into inbox (id, at) select gen_random_uuid(), clock_timestamp() - interval '1 day' * case when n > 3500 then 34 else 36 end
         from generate_series(1, 3600) n",
    )
    .execute(&shop.database.pool)
    .await?;
    let instance = shop.start();
    let left =
        "select count(*) from inbox having count(*) filter (where at < clock_timestamp() - interval '35 days') = 0";
    let left: i64 = shop.row(|pool| sqlx::query_scalar(left).fetch_optional(pool)).await?;
    assert_eq!(left, 100, "what is younger stays");
    instance.stop().await
}

/// An id that is forgotten while its record can still come would let it take effect twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_retention_that_a_topic_outlives_is_refused_at_the_start() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut config = shop.config();
    config.retention.inbox_days = 7;
    let refused = support::service().run_until(config, std::future::pending()).await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("retention.inbox_days is 7") && refused.contains("stock.requests"), "{refused}");
    Ok(())
}
