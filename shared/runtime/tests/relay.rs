//! The relay against transactions that commit in another order than that of their numbers.

mod support;

use sqlx::{Connection, PgConnection};
use support::Shop;
use uuid::Uuid;

async fn begin(shop: &Shop) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(&shop.database.url()).await?;
    sqlx::raw_sql("begin; select pg_current_xact_id()").execute(&mut connection).await?;
    Ok(connection)
}

async fn insert(connection: &mut PgConnection, key: &str) -> anyhow::Result<()> {
    sqlx::query(
        "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
         values ('stock.events', $1, $2, 'quadrille.stock.StockReplenished', 1, $2, clock_timestamp(), '', '', 'x')",
    )
    .bind(key)
    .bind(Uuid::new_v4())
    .execute(connection)
    .await?;
    Ok(())
}

async fn commit(mut connection: PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql("commit").execute(&mut connection).await?;
    Ok(())
}

/// A low number that commits late is published all the same. The transaction that holds it has the higher id of two, so that it lies above
/// what a snapshot calls completed: a floor that trusts the snapshot alone passes it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_commits_late_is_published() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = shop.start();
    shop.ask("FIRST", 0).await?;
    shop.stated(1).await?;

    let mut early = begin(&shop).await?;
    let mut late = begin(&shop).await?;
    insert(&mut late, "LATE").await?;
    insert(&mut early, "EARLY").await?;
    commit(early).await?;
    shop.stated(2).await?;
    for round in 0..3 {
        let mut next = begin(&shop).await?;
        insert(&mut next, &format!("NEXT-{round}")).await?;
        commit(next).await?;
        shop.stated(3 + round).await?;
    }
    commit(late).await?;
    let stated = shop.stated(6).await?;
    assert!(stated.iter().any(|record| record.key_text() == "LATE"));
    instance.stop().await
}
