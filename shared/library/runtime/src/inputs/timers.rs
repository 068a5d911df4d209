//! Timers: rows that come back as inputs once the database's clock has passed them. Late is possible, early is not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use quadrille_core::{Input, Named, Policy, TimerRow, bounds};
use sqlx::{PgConnection, types::Json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::{
    causality::Causality,
    database::Database,
    deadline_barrier::DeadlineBarrier,
    work::{Work, WorkItem},
};

/// How long a claim on a due timer lasts: an instance that died with it in hand delays it by this much.
const CLAIM: &str = "30 seconds";
/// Timers that are claimed at once.
const BATCH: usize = 200;
/// Later than any timer that is due.
const FAR: TimeDelta = TimeDelta::days(36_500);
/// The longest sleep between two polls, for lost wake-ups and other instances' timers.
pub(crate) const FALLBACK_POLL: Duration = Duration::from_secs(1);

pub(crate) async fn insert<P: Policy>(tx: &mut PgConnection, timers: &[TimerRow<P>]) -> sqlx::Result<()> {
    if timers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into timer (id, key, name, timer, causation_id, traceparent, tracestate, due, next_try, deadline)
         select id, key, name, timer, causation_id, traceparent, tracestate, due, due, deadline
         from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::uuid[], $6::text[], $7::text[], $8::timestamptz[], $9::boolean[])
             as new(id, key, name, timer, causation_id, traceparent, tracestate, due, deadline)",
    )
    .bind(timers.iter().map(|timer| timer.id).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.key.as_str()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.timer.name()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| Json(&timer.timer)).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.cause).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.trace.parent.as_str()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.trace.state.as_str()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.due).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| P::is_deadline(&timer.timer)).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

pub(crate) async fn clear(tx: &mut PgConnection, cleared: &[(String, String)]) -> sqlx::Result<()> {
    if cleared.is_empty() {
        return Ok(());
    }
    let (keys, names): (Vec<&str>, Vec<&str>) = cleared.iter().map(|(k, n)| (k.as_str(), n.as_str())).unzip();
    sqlx::query("delete from timer where (key, name) in (select * from unnest($1::text[], $2::text[]))")
        .bind(keys)
        .bind(names)
        .execute(tx)
        .await?;
    Ok(())
}

/// Removes timers that fire now, and returns those that were still there.
pub(crate) async fn remove(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<BTreeSet<Uuid>> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let removed: Vec<Uuid> =
        sqlx::query_scalar("delete from timer where id = any($1) returning id").bind(ids).fetch_all(tx).await?;
    Ok(removed.into_iter().collect())
}

/// A timer whose handling failed waits, longer each time, and is shown; others go on.
pub(crate) async fn back_off(pool: &Database, id: Uuid, failure: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update timer set tries = tries + 1, last_failure = $2,
             next_try = clock_timestamp() + least(interval '1 second' * power(2, least(tries, 10)), interval '5 minutes')
         where id = $1",
    )
    .bind(id)
    .bind(bounds::fitted(failure))
    .execute(pool)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Due {
    id: Uuid,
    key: String,
    timer: serde_json::Value,
    #[sqlx(flatten)]
    causality: Causality,
}

/// What of the table is looked at: business deadlines go their own way, so that nothing else waits for them.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Deadline,
}

impl Kind {
    const fn sql(self) -> &'static str {
        match self {
            Self::Plain => "not deadline",
            Self::Deadline => "deadline",
        }
    }
}

/// Hands due timers to the worker until `stop`. `wake` says that new ones were set.
pub(crate) async fn run<P: Policy>(
    pool: Database,
    worker: mpsc::Sender<WorkItem<P>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let wait = async {
            hand_on::<P>(&pool, &worker, Kind::Plain, Utc::now() + FAR).await?;
            next(&pool, Kind::Plain).await
        };
        let wait = match wait.await {
            Ok(Next { wait, .. }) => wait,
            Err(error) => {
                warn!(%error, "Due timers could not be read");
                FALLBACK_POLL
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Hands due business deadlines to the worker until `stop`, each once what the service hears is read beyond it.
pub(crate) async fn run_deadlines<P: Policy>(
    pool: Database,
    worker: mpsc::Sender<WorkItem<P>>,
    barrier: DeadlineBarrier,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let wait = async {
            let Next { due, wait } = next(&pool, Kind::Deadline).await?;
            let Some(due) = due else { return Ok::<_, sqlx::Error>(wait) };
            let read = tokio::select! {
                () = stop.cancelled() => return Ok(wait),
                read = barrier.wait_until_consumed(due) => read,
            };
            hand_on::<P>(&pool, &worker, Kind::Deadline, read).await?;
            Ok(next(&pool, Kind::Deadline).await?.wait)
        };
        let wait = wait.await.unwrap_or_else(|error| {
            warn!(%error, "Due deadlines could not be read");
            FALLBACK_POLL
        });
        stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

/// When there is something to do.
struct Next {
    /// The oldest timer that is due, if any is.
    due: Option<DateTime<Utc>>,
    /// How long nothing more will be.
    wait: Duration,
}

async fn next(pool: &Database, kind: Kind) -> sqlx::Result<Next> {
    let query = format!("select min(next_try), clock_timestamp() from timer where {}", kind.sql());
    let (next, now): (Option<DateTime<Utc>>, DateTime<Utc>) =
        sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(pool).await?;
    let wait = next.map_or(FALLBACK_POLL, |next| (next - now).to_std().unwrap_or_default().min(FALLBACK_POLL));
    Ok(Next { due: next.filter(|next| *next <= now), wait })
}

/// Hands on what is due by the database's clock and was due by `until`.
async fn hand_on<P: Policy>(
    pool: &Database,
    worker: &mpsc::Sender<WorkItem<P>>,
    kind: Kind,
    until: DateTime<Utc>,
) -> sqlx::Result<()> {
    loop {
        let query = format!(
            "update timer set next_try = clock_timestamp() + interval '{CLAIM}'
             where id in (select id from timer where {} and next_try <= now() and due <= now() and due <= $1
                          order by next_try limit {BATCH} for update skip locked)
             returning id, key, timer, causation_id, traceparent, tracestate",
            kind.sql()
        );
        let due: Vec<Due> = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(until).fetch_all(pool).await?;
        let full = due.len() == BATCH;
        for due in due {
            let timer = match serde_json::from_value(due.timer) {
                Ok(timer) => timer,
                Err(error) => {
                    back_off(pool, due.id, &format!("the row cannot be read: {error}")).await?;
                    continue;
                }
            };
            let envelope = due.causality.envelope(due.id, due.key, Input::Timer(timer));
            if worker.send(Work::Timer(envelope).into()).await.is_err() {
                return Ok(());
            }
        }
        if !full {
            return Ok(());
        }
    }
}
