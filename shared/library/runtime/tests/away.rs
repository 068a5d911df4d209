//! A service that starts while broker and registry are away needs its database alone to decide and commit.

use quadrille_testkit::Proxy;
use uuid::Uuid;

use crate::{deadlines::start_with, support::Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_without_broker_and_registry_commits_and_publishes_once_they_are_back()
-> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut config = shop.config();
    let (kafka, registry) = (Proxy::before(&config.kafka.brokers).await?, Proxy::before(&config.registry.url).await?);
    kafka.url().clone_into(&mut config.kafka.brokers);
    registry.url().clone_into(&mut config.registry.url);
    kafka.refuse();
    registry.refuse();
    let due = "insert into timer (id, key, name, timer, causation_id, traceparent, tracestate, due, next_try, deadline)
        values ($1, 'TEA', 'answer_by', 'null', $1, '', '', now(), now(), false)";
    sqlx::query(due).bind(Uuid::new_v4()).execute(&shop.database.pool).await?;

    let instance = start_with(config);
    let stated: String =
        shop.row(|pool| sqlx::query_scalar("select type from outbox where key = 'TEA'").fetch_optional(pool)).await?;
    assert_eq!(stated, "quadrille.product.ProductListed");

    // Without the registry nothing can be framed: the fact waits, and is not lost.
    kafka.heal();
    shop.ask("TEA", 0).await?;
    registry.heal();
    let published = shop.world.read_until("product.events", |records| !records.is_empty()).await?;
    assert_eq!(published.iter().map(|record| record.key_text()).collect::<Vec<_>>(), ["TEA"]);
    // What lay on its topics is read, too.
    let _: Uuid = shop
        .row(|pool| sqlx::query_scalar("select id from timer where deadline and key = 'TEA'").fetch_optional(pool))
        .await?;
    instance.stop().await
}
