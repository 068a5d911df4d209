//! The inbox: each input takes effect once, however often it arrives.

use std::collections::BTreeSet;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::transaction::Now;

/// Enters `ids`, and returns those that were not known together with the database's clock.
///
/// Another instance that has the same input in hand makes this wait for its commit or roll-back: one of the two sees the id as known.
/// Ids go in sorted, so that two instances with the same inputs cannot wait for each other.
pub(crate) async fn enter(tx: &mut PgConnection, ids: &BTreeSet<Uuid>) -> sqlx::Result<(Now, BTreeSet<Uuid>)> {
    let ids: Vec<Uuid> = ids.iter().copied().collect();
    let row = sqlx::query(
        "with entered as (insert into inbox (id) select unnest($1::uuid[]) on conflict do nothing returning id)
         select array(select id from entered) as fresh, clock_timestamp() as now",
    )
    .bind(ids)
    .fetch_one(tx)
    .await?;
    let fresh: Vec<Uuid> = row.try_get("fresh")?;
    Ok((row.try_get("now")?, fresh.into_iter().collect()))
}
