//! The history: each decision, kept in the transaction that it is committed in. Off unless `history.keep` is set.
//!
//! A kill loses none of it and leaves none of what was not committed.

use quadrille_core::{Envelope, Moment, Policy, Processed};
use quadrille_history::{Decided, Header};
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{database::Database, failure::Failure};

/// Enters what all decisions of this build have in common, and returns its id.
pub(crate) async fn begin<P: Policy>(pool: &Database) -> sqlx::Result<Uuid> {
    let header = Header::of::<P>();
    sqlx::query("insert into history_header (id, header) values ($1, $2) on conflict do nothing")
        .bind(header.id)
        .bind(Json(&header))
        .execute(pool)
        .await?;
    Ok(header.id)
}

/// Ends a history, if there is one: this instance takes inputs and keeps none. What others add behind the gap is not replayed.
pub(crate) async fn end(pool: &Database) -> sqlx::Result<()> {
    sqlx::query(
        "insert into history (decided)
         select null where (select decided is not null from history order by number desc limit 1)",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// One decision as it is kept.
pub(crate) fn decided<P: Policy>(
    header: Uuid,
    moment: &Moment,
    input: &Envelope<P>,
    unlocked: Option<Value>,
    came_to: &Processed<P>,
) -> Result<String, Failure> {
    Decided::new(header, moment, input, unlocked, came_to)
        .and_then(|decided| serde_json::to_string(&decided))
        .map_err(|error| Failure::Poisoned(format!("history.keep is set, and the decision has no JSON form: {error}")))
}

/// Inserts a batch's decisions in their order, under the locks of their rows.
pub(crate) async fn insert(tx: &mut PgConnection, decided: &[String]) -> sqlx::Result<()> {
    if decided.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into history (decided)
         select decided::json from unnest($1::text[]) with ordinality as new(decided, n) order by n",
    )
    .bind(decided)
    .execute(tx)
    .await?;
    Ok(())
}
