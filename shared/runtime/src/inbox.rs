//! The inbox: each input takes effect once, however often it arrives.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// What entering a batch's ids tells.
pub(crate) struct Entered {
    /// Those that were not known.
    pub fresh: BTreeSet<Uuid>,
    /// The database's clock, now that the locks are held.
    pub now: DateTime<Utc>,
    /// Whether any key of this service waits behind a dead letter: asked on the way, as it is rarely so.
    pub holding: bool,
}

/// Enters `ids`.
///
/// Another instance that has the same input in hand makes this wait for its commit or roll-back: one of the two sees the id as known.
/// Ids go in sorted, so that two instances with the same inputs cannot wait for each other.
pub(crate) async fn enter(tx: &mut PgConnection, ids: &BTreeSet<Uuid>) -> sqlx::Result<Entered> {
    let ids: Vec<Uuid> = ids.iter().copied().collect();
    let row = sqlx::query(
        "with entered as (insert into inbox (id) select unnest($1::uuid[]) on conflict do nothing returning id)
         select array(select id from entered) as fresh, clock_timestamp() as now,
             exists (select from dead_letter where closed_at is null and holds is not null) as holding",
    )
    .bind(ids)
    .fetch_one(tx)
    .await?;
    let fresh: Vec<Uuid> = row.try_get("fresh")?;
    Ok(Entered { fresh: fresh.into_iter().collect(), now: row.try_get("now")?, holding: row.try_get("holding")? })
}

/// Takes ids out again that were entered in this transaction: their inputs wait.
pub(crate) async fn leave(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query("delete from inbox where id = any($1)").bind(ids).execute(tx).await?;
    Ok(())
}
