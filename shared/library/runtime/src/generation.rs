//! A read model's generations: a build whose rows come out different fills its own beside those that serve, and is switched to when it stands
//! where they stand.
//!
//! A generation is a schema with the service's tables and its positions, and a group that reads for it. Everything else of the service (outbox, lease, dead
//! letters, operators' requests) is one for all of them. An instance keeps and answers from its own generation alone, since its statements know
//! these tables and no others.

mod begin;
mod drop;
mod serve;

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use quadrille_core::{Policy, TopicType, is_projection};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor, postgres::PgConnectOptions};

pub(crate) use self::{
    begin::begin,
    drop::drop,
    serve::{once_served, watch},
};
use crate::failure::Failure;

/// The first one, whose tables stand in `public` like those of every service.
pub(crate) const FIRST: u16 = 1;
/// So long ago each partition may have been read to its end for a generation to count as complete, and as kept up to date.
const FRESH: Duration = Duration::from_secs(10);

/// All of them.
const ALL: &str = "select number, begun_at, served_at, dropped_at from generation order by number";

/// A generation's row.
#[derive(Clone, Debug, sqlx::FromRow)]
struct Generation {
    number: i32,
    begun_at: Option<DateTime<Utc>>,
    served_at: Option<DateTime<Utc>>,
    dropped_at: Option<DateTime<Utc>>,
}

/// Refuses a generation of a service that has none.
pub(crate) fn check<P: Policy>(generation: u16) -> anyhow::Result<()> {
    match generation {
        0 => bail!("generations are counted from 1"),
        FIRST => Ok(()),
        _ if is_projection::<P>() => Ok(()),
        _ => bail!(
            "{} does not only listen: what it has stated and asked cannot be built anew from its topics",
            P::SERVICE
        ),
    }
}

/// The schema of a generation's tables.
pub(crate) fn schema(generation: impl Into<i32>) -> String {
    match generation.into() {
        1 => "public".to_owned(),
        number => format!("g{number}"),
    }
}

/// The same database with a generation's tables before the runtime's.
pub(crate) fn searched(database: PgConnectOptions, generation: u16) -> PgConnectOptions {
    match generation {
        FIRST => database,
        _ => database.options([("search_path", format!("{},public", schema(generation)))]),
    }
}

fn was_dropped(number: i32, at: DateTime<Utc>) -> String {
    format!("generation {number} was dropped at {at}: give this build a higher one")
}

/// Makes a generation's schema with its positions, where whoever may use the migrator's tables in `public` may use its tables too.
///
/// # Errors
///
/// It was dropped: an instance that was suspended then would go on into the one that is made now.
pub(crate) async fn make_schema(database: &mut PgConnection, generation: u16) -> anyhow::Result<()> {
    let (number, schema) = (i32::from(generation), schema(generation));
    let mut tx = database.begin().await?;
    sqlx::query("insert into public.generation (number) values ($1) on conflict do nothing")
        .bind(number)
        .execute(&mut *tx)
        .await?;
    let dropped = sqlx::query_scalar("select dropped_at from public.generation where number = $1");
    if let Some(at) = dropped.bind(number).fetch_one(&mut *tx).await? {
        bail!(was_dropped(number, at));
    }
    sqlx::raw_sql(AssertSqlSafe(format!(
        "create schema if not exists {schema};
         do $$ declare allowed record; begin
             for allowed in
                 select kind, grantee::regrole as grantee, privilege_type as privilege
                 from (select defaclobjtype as kind, (aclexplode(defaclacl)).* from pg_default_acl
                       where defaclrole = current_user::regrole and defaclnamespace = 'public'::regnamespace) as rights
                 where grantee <> 0 and grantee <> current_user::regrole and kind in ('r', 'S')
             loop
                 execute format('grant usage on schema {schema} to %s', allowed.grantee);
                 execute format('alter default privileges in schema {schema} grant %s on %s to %s', allowed.privilege,
                     case allowed.kind when 'r' then 'tables' else 'sequences' end, allowed.grantee);
             end loop;
         end $$;
         create table if not exists {schema}.position (like public.position including all)
             with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
    )))
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

/// The database's time, in the transaction that has locked a generation's positions and has not committed.
///
/// # Errors
///
/// The generation was dropped. Nobody drops one whose tables a transaction has in use; one that comes later finds those of `public` by the same names.
pub(crate) async fn now(tx: &mut PgConnection, generation: u16) -> Result<DateTime<Utc>, Failure> {
    let now = sqlx::query_scalar(
        "select clock_timestamp() where not exists (select from generation where number = $1 and dropped_at is not null)",
    );
    let now = now.bind(i32::from(generation)).fetch_optional(tx).await?;
    now.ok_or_else(|| Failure::Transient(format!("generation {generation} was dropped")))
}

/// A position of a generation.
#[derive(sqlx::FromRow)]
struct Position {
    topic: String,
    partition: i32,
    offset: i64,
    /// Whether its partition was read to its end within [`FRESH`].
    is_fresh: bool,
}

/// The positions of a generation.
async fn positions(database: impl PgExecutor<'_>, number: i32) -> sqlx::Result<Vec<Position>> {
    let positions = format!(
        "select topic, partition, \"offset\", coalesce(as_of > clock_timestamp() - make_interval(secs => $1), false) as is_fresh
         from {}.position",
        schema(number)
    );
    sqlx::query_as(AssertSqlSafe(positions)).bind(FRESH.as_secs_f64()).fetch_all(database).await
}

/// Those of `positions` that are of `topics`.
fn of_topics<'a>(positions: &'a [Position], topics: &'a [&'static TopicType]) -> impl Iterator<Item = &'a Position> {
    positions.iter().filter(|position| topics.iter().any(|topic| topic.name == position.topic))
}

/// Whether these are kept up to date. Another build's generation may have heard fewer topics.
fn are_fresh(positions: &[Position], topics: &[&'static TopicType]) -> bool {
    let mut ours = of_topics(positions, topics).peekable();
    ours.peek().is_some() && ours.all(|position| position.is_fresh)
}

/// The one that serves, if any does.
fn serving(all: &[Generation]) -> Option<&Generation> {
    let alive = all.iter().filter(|generation| generation.dropped_at.is_none() && generation.served_at.is_some());
    alive.max_by_key(|generation| generation.served_at)
}
