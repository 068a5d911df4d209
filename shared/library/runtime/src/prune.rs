//! Forgets what nothing can bring back any more: inbox ids, and dead letters that were closed, once they are older than the retention
//! of whatever the service hears; and an order's rows, some time after their end.
//!
//! A key whose rows have gone stays in the table `gone`, for ever: whatever comes of it later is a dead letter `too_old` (see
//! `transaction.rs`), and never the beginning of a new order or a second charge.

use std::{collections::BTreeSet, time::Duration};

use anyhow::bail;
use quadrille_core::{KeyKind, Policy, Records, is_projection};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config,
    database::Database,
    store::{Ended, Store},
};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3_600);
/// Rows that one transaction removes at most, and the pause after it: nobody waits behind it.
const BATCH: i64 = 1_000;
const PAUSE: Duration = Duration::from_millis(20);

const DAY: Duration = Duration::from_secs(86_400);

/// Refuses a retention that would forget an id while a topic can still bring its record back. Topics without end are no part of it: what
/// is folded from them compares versions.
///
/// Refuses a projection whose rows end, too: it remembers neither ids nor what is gone, so a record that is read again would bring them back.
pub(crate) fn check<S: Store>(retention: &config::Retention) -> anyhow::Result<()> {
    let service = <S::Policy as Policy>::SERVICE;
    if is_projection::<S::Policy>() {
        if let Some(Ended { table, .. }) = S::ENDED {
            bail!(
                "{service} only listens, and its store declares that rows of {table} end (Store::ENDED): a projection's rows go when its policy \
                 removes them; leave ENDED out"
            );
        }
        // It remembers no ids.
        return Ok(());
    }
    let heard = <S::Policy as Policy>::Heard::TYPES.iter().map(|heard| heard.topic);
    if let Some((kept, topic)) = heard.filter_map(|topic| Some((topic.retention?, &topic.name))).max()
        && kept >= DAY * u32::from(retention.inbox_days)
    {
        bail!(
            "retention.inbox_days is {}, and {topic}, which {} hears, keeps records for {} days: their ids must be known for longer",
            retention.inbox_days,
            service,
            kept.as_secs().div_ceil(DAY.as_secs()),
        );
    }
    Ok(())
}

/// Looks at once, and then each hour, until `stop`.
pub(crate) async fn run<S: Store>(pool: Database, retention: config::Retention, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pruned = async {
            let inbox =
                prune(&pool, "inbox", "at < clock_timestamp() - make_interval(days => $1)", &retention, &stop).await?;
            let closed = "closed_at < clock_timestamp() - make_interval(days => $1)";
            let letters = prune(&pool, "dead_letter", closed, &retention, &stop).await?;
            let rows = prune_ended::<S>(&pool, &retention, &stop).await?;
            Ok::<_, sqlx::Error>((inbox, letters, rows))
        };
        match pruned.await {
            Ok((0, 0, 0)) => {}
            Ok((inbox, letters, rows)) => {
                info!(
                    "Forgot {inbox} inputs, {letters} closed dead letters, and the rows of {rows} that ended long ago"
                );
            }
            Err(error) => warn!(%error, "What is old enough to be forgotten stays for now"),
        }
        stop.run_until_cancelled(tokio::time::sleep(EVERY)).await;
    }
}

/// Removes the old rows of a table, a batch per transaction, and returns how many there were.
async fn prune(
    pool: &Database,
    table: &'static str,
    is_old: &'static str,
    retention: &config::Retention,
    stop: &CancellationToken,
) -> sqlx::Result<u64> {
    let mut removed = 0;
    while !stop.is_cancelled() {
        let batch = pool.transaction(async |tx| prune_batch(tx, table, is_old, retention).await).await?;
        removed += batch;
        if batch < BATCH as u64 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(removed)
}

async fn prune_batch(
    tx: &mut PgConnection,
    table: &'static str,
    is_old: &'static str,
    retention: &config::Retention,
) -> sqlx::Result<u64> {
    // The inbox's index on its time is a block range index, which only a bitmap scan can use.
    sqlx::query("set local enable_bitmapscan = on").execute(&mut *tx).await?;
    let removed = sqlx::query(sqlx::AssertSqlSafe(format!(
        "delete from {table} where ctid = any(array(
             select ctid from {table} where {is_old} limit {BATCH} for update skip locked))"
    )))
    .bind(i32::from(retention.inbox_days))
    .execute(tx)
    .await?;
    Ok(removed.rows_affected())
}

/// Removes the rows that ended long enough ago, a batch per transaction, and returns how many there were.
async fn prune_ended<S: Store>(
    pool: &Database,
    retention: &config::Retention,
    stop: &CancellationToken,
) -> sqlx::Result<u64> {
    let mut removed = 0;
    while !stop.is_cancelled() {
        let batch = pool.transaction(async |tx| remove_ended::<S>(tx, retention).await).await?;
        removed += batch.rows;
        if !batch.is_full {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(removed)
}

/// What [`remove_ended`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many rows.
    pub rows: u64,
    /// There may be more, of rows or of what is kept beside them: it was as much as one transaction removes.
    pub is_full: bool,
}

/// Removes rows that ended long enough ago, as many as one transaction may: what a running instance does each hour, until none is left.
///
/// A row stays while anything of its key is open: an effect, a timer, a fact that is not published, a dead letter. One that is in use
/// just now is passed over, and looked at again an hour later.
pub async fn remove_ended<S: Store>(
    connection: &mut PgConnection,
    retention: &config::Retention,
) -> sqlx::Result<Removed> {
    let Some(Ended { table, key, settled, booked, beside }) = S::ENDED else { return Ok(Removed::default()) };
    let (ended_days, books_days) = (i32::from(retention.ended_days), i32::from(retention.books_days));
    let mut tx = connection.begin().await?;
    // As above: the index on the time of the last change is a block range index.
    sqlx::query("set local enable_bitmapscan = on").execute(&mut *tx).await?;
    let open = open_keys::<S::Policy>(&mut tx).await?;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "with old as (
             select {key}, changed_at from {table}
             where changed_at < clock_timestamp() - make_interval(days => $1)
                 and (({settled}) or ({booked}) and changed_at < clock_timestamp() - make_interval(days => $2))
                 and {key}::text <> all($3)
                 and not exists (select from effect where effect.key = {table}.{key}::text)
                 and not exists (select from timer where timer.key = {table}.{key}::text)
                 and not exists (select from outbox where outbox.key = {table}.{key}::text)
             limit {BATCH} for update skip locked),
         removed as (delete from {table} using old where {table}.{key} = old.{key})
         insert into gone (key, ended_at, beside) select {key}::text, changed_at, $4 from old
         on conflict do nothing"
    )))
    .bind(ended_days)
    .bind(books_days)
    .bind(open)
    .bind(beside.is_some())
    .execute(&mut *tx)
    .await?
    .rows_affected();
    let mut keys = 0;
    if let Some(delete) = beside {
        keys = sqlx::query(sqlx::AssertSqlSafe(format!(
            "with old as (
                 select key from gone where beside and ended_at < clock_timestamp() - make_interval(days => $1)
                 limit {BATCH} for update skip locked),
             removed as ({delete})
             update gone set beside = false from old where gone.key = old.key"
        )))
        .bind(books_days)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    }
    tx.commit().await?;
    Ok(Removed { rows, is_full: rows.max(keys) == BATCH as u64 })
}

/// The keys of open dead letters, in each normal form that they may have: a letter keeps its key as it came, in whatever spelling.
async fn open_keys<P: Policy>(tx: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    // The longest spelling of a key that is one has 45 bytes.
    let keys: Vec<Vec<u8>> = sqlx::query_scalar(
        "select distinct key from dead_letter where closed_at is null and octet_length(key) between 1 and 64",
    )
    .fetch_all(tx)
    .await?;
    let kinds: Vec<&KeyKind> = P::Heard::TYPES.iter().map(|heard| &heard.topic.key).collect();
    let forms = keys.iter().flat_map(|key| kinds.iter().filter_map(|kind| kind.normalize(Some(key)).ok()));
    Ok(forms.collect::<BTreeSet<String>>().into_iter().collect())
}
