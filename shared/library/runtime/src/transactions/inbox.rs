//! The inbox: each input takes effect once, however often it arrives.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Those of the keys whose rows have gone, long after their end.
    pub gone: BTreeSet<String>,
}

/// Enters `ids`: those of inputs, and those that earlier builds gave requests, each with the id that the request has now. And looks which of
/// `keys` have gone: their rows are made and locked before, so that a row which was removed just now is one that is seen to have gone.
///
/// Another instance that has the same input in hand makes this wait for its commit or roll-back: one of the two sees the id as known.
/// Ids go in sorted, so that two instances with the same inputs cannot wait for each other.
pub(crate) async fn enter(
    tx: &mut PgConnection,
    ids: &BTreeSet<Uuid>,
    former: &[(Uuid, Uuid)],
    keys: &[String],
) -> sqlx::Result<Entered> {
    let mut entries: BTreeMap<Uuid, Option<Uuid>> = ids.iter().map(|id| (*id, None)).collect();
    entries.extend(former.iter().map(|(former, now)| (*former, Some(*now))));
    let (all, current): (Vec<Uuid>, Vec<Option<Uuid>>) = entries.into_iter().unzip();
    let row = sqlx::query(
        "with entered as (
             insert into inbox (id, current_id) select * from unnest($1::uuid[], $2::uuid[]) on conflict do nothing returning id)
         select array(select id from entered) as fresh, clock_timestamp() as now,
             exists (select from dead_letter where closed_at is null and holds is not null) as holding,
             array(select key from gone where key = any($3)) as gone",
    )
    .bind(all)
    .bind(current)
    .bind(keys)
    .fetch_one(&mut *tx)
    .await?;
    let fresh: Vec<Uuid> = row.try_get("fresh")?;
    let mut fresh: BTreeSet<Uuid> = fresh.into_iter().collect();
    let known: Vec<Uuid> = former.iter().map(|(former, _)| *former).filter(|former| !fresh.contains(former)).collect();
    if !known.is_empty() {
        // Looked up by itself: what another instance has just committed shows only to a new statement. A row without the id of now was
        // entered by an earlier build, which could not tell two kinds of request apart.
        let earlier: Vec<Uuid> = sqlx::query_scalar("select id from inbox where id = any($1) and current_id is null")
            .bind(known)
            .fetch_all(tx)
            .await?;
        // Two kinds of request may have one former id: whichever it was, both are taken for seen, as the earlier build took them.
        for (_, id) in former.iter().filter(|(former, _)| earlier.contains(former)) {
            fresh.remove(id);
        }
    }
    let gone: Vec<String> = row.try_get("gone")?;
    Ok(Entered { fresh, now: row.try_get("now")?, holding: row.try_get("holding")?, gone: gone.into_iter().collect() })
}

/// Takes ids out again that were entered in this transaction: their inputs wait, or came too early.
pub(crate) async fn leave(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query("delete from inbox where id = any($1)").bind(ids).execute(tx).await?;
    Ok(())
}
