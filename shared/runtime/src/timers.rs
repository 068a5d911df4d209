//! Timers: rows that come back as inputs once the database's clock has passed them. Late is possible, early is not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use quadrille_core::{Envelope, Input, Named, Policy, TimerRow, Trace};
use sqlx::{PgConnection, PgPool, types::Json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::arrival::{Arrival, Content, Origin};

/// How long a claim on a due timer lasts: an instance that died with it in hand delays it by this much.
const CLAIM: &str = "30 seconds";
/// The longest sleep between two looks: the net under lost wake-ups and other instances' timers.
const NET: Duration = Duration::from_secs(1);

pub(crate) async fn insert<P: Policy>(tx: &mut PgConnection, timers: &[TimerRow<P>]) -> sqlx::Result<()> {
    if timers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into timer (id, key, name, timer, causation_id, traceparent, tracestate, due, next_try)
         select id, key, name, timer, causation_id, traceparent, tracestate, due, due
         from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::uuid[], $6::text[], $7::text[], $8::timestamptz[])
             as new(id, key, name, timer, causation_id, traceparent, tracestate, due)",
    )
    .bind(timers.iter().map(|timer| timer.id).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.key.as_str()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.timer.name()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| Json(&timer.timer)).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.cause).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.trace.parent.as_str()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.trace.state.as_str()).collect::<Vec<_>>())
    .bind(timers.iter().map(|timer| timer.due).collect::<Vec<_>>())
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
pub(crate) async fn back_off(pool: &PgPool, id: Uuid, failure: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update timer set tries = tries + 1, last_failure = $2,
             next_try = clock_timestamp() + least(interval '1 second' * power(2, least(tries, 10)), interval '5 minutes')
         where id = $1",
    )
    .bind(id)
    .bind(failure)
    .execute(pool)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Due {
    id: Uuid,
    key: String,
    timer: serde_json::Value,
    causation_id: Uuid,
    traceparent: String,
    tracestate: String,
}

/// Hands due timers to the worker until `stop`. `wake` says that new ones were set.
pub(crate) async fn run<P: Policy>(
    pool: PgPool,
    worker: mpsc::Sender<Arrival<P>>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let wait = match hand_on_due::<P>(&pool, &worker).await {
            Ok(wait) => wait,
            Err(error) => {
                warn!(%error, "Due timers could not be read");
                NET
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Hands on what is due, and returns how long nothing more will be.
async fn hand_on_due<P: Policy>(pool: &PgPool, worker: &mpsc::Sender<Arrival<P>>) -> sqlx::Result<Duration> {
    let due: Vec<Due> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "update timer set next_try = clock_timestamp() + interval '{CLAIM}'
         where id in (select id from timer where next_try <= now() and due <= now()
                      order by next_try limit 200 for update skip locked)
         returning id, key, timer, causation_id, traceparent, tracestate"
    )))
    .fetch_all(pool)
    .await?;
    let full = due.len() == 200;
    for due in due {
        let timer = match serde_json::from_value(due.timer) {
            Ok(timer) => timer,
            Err(error) => {
                back_off(pool, due.id, &format!("the row cannot be read: {error}")).await?;
                continue;
            }
        };
        let content = Content::Input(Envelope {
            id: due.id,
            cause: due.causation_id,
            key: due.key,
            version: 0,
            trace: Trace { parent: due.traceparent, state: due.tracestate },
            input: Input::Timer(timer),
        });
        if worker.send(Arrival { origin: Origin::Timer, content, room: None }).await.is_err() {
            return Ok(NET);
        }
    }
    if full {
        return Ok(Duration::ZERO);
    }
    let next: Option<(DateTime<Utc>, DateTime<Utc>)> =
        sqlx::query_as("select min(next_try), clock_timestamp() from timer having min(next_try) is not null")
            .fetch_optional(pool)
            .await?;
    Ok(next.map_or(NET, |(next, now)| (next - now).to_std().unwrap_or_default().min(NET)))
}
