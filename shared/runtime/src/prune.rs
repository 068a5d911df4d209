//! Forgets what nothing can bring back any more: inbox ids, and dead letters that were closed, once they are older than the retention
//! of whatever the service hears.

use std::time::Duration;

use anyhow::bail;
use quadrille_core::{Policy, Records};
use quadrille_schemas::Topic;
use sqlx::Connection;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{config, database::Database};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows that one transaction removes at most, and the pause after it: nobody waits behind it.
const BATCH: i64 = 1_000;
const PAUSE: Duration = Duration::from_millis(20);

const DAY: Duration = Duration::from_secs(86_400);

/// Refuses a retention that would forget an id while a topic can still bring its record back. Topics without end are no part of it: what
/// is folded from them compares versions.
pub(crate) fn check<P: Policy>(retention: &config::Retention) -> anyhow::Result<()> {
    let heard = |topic: &&Topic| P::Heard::TYPES.iter().any(|heard| heard.topic == topic.name);
    let longest =
        quadrille_events::TOPICS.iter().filter(heard).filter_map(|topic| Some((topic.retention?, &topic.name)));
    if let Some((kept, topic)) = longest.max()
        && kept >= DAY * u32::from(retention.inbox_days)
    {
        bail!(
            "retention.inbox_days is {}, and {topic}, which {} hears, keeps records for {} days: their ids must be known for longer",
            retention.inbox_days,
            P::SERVICE,
            kept.as_secs().div_ceil(DAY.as_secs()),
        );
    }
    Ok(())
}

/// Looks at once, and then each hour, until `stop`.
pub(crate) async fn run(pool: Database, retention: config::Retention, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pruned = async {
            let inbox =
                prune(&pool, "inbox", "at < clock_timestamp() - make_interval(days => $1)", &retention, &stop).await?;
            let closed = "closed_at < clock_timestamp() - make_interval(days => $1)";
            let letters = prune(&pool, "dead_letter", closed, &retention, &stop).await?;
            Ok::<_, sqlx::Error>((inbox, letters))
        };
        match pruned.await {
            Ok((0, 0)) => {}
            Ok((inbox, letters)) => info!("Forgot {inbox} inputs and {letters} closed dead letters"),
            Err(error) => warn!(%error, "What is old enough to be forgotten stays for now"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Removes the old rows of a table, a batch a transaction, and returns how many there were.
async fn prune(
    pool: &Database,
    table: &'static str,
    is_old: &'static str,
    retention: &config::Retention,
    stop: &CancellationToken,
) -> sqlx::Result<u64> {
    let mut removed = 0;
    while !stop.is_cancelled() {
        let batch = pool.bounded(prune_batch(pool, table, is_old, retention)).await?;
        removed += batch;
        if batch < BATCH as u64 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(removed)
}

async fn prune_batch(
    pool: &Database,
    table: &'static str,
    is_old: &'static str,
    retention: &config::Retention,
) -> sqlx::Result<u64> {
    let mut session = pool.session().await?;
    let mut tx = session.begin().await?;
    // The inbox's index on its time is a block range index, which only a bitmap scan can use.
    sqlx::query("set local enable_bitmapscan = on").execute(&mut *tx).await?;
    let removed = sqlx::query(sqlx::AssertSqlSafe(format!(
        "delete from {table} where ctid = any(array(
             select ctid from {table} where {is_old} limit {BATCH} for update skip locked))"
    )))
    .bind(i32::from(retention.inbox_days))
    .execute(&mut *tx)
    .await?
    .rows_affected();
    tx.commit().await?;
    session.done();
    Ok(removed)
}
