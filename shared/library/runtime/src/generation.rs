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

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use quadrille_core::{Policy, TopicKind, TopicType, is_projection};
use quadrille_kafka::Connection as Kafka;
use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor, postgres::PgConnectOptions};

pub(crate) use self::{
    begin::begin,
    drop::drop,
    serve::{once_served, watch},
};
use crate::{failure::Failure, limits, migrations};

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

/// Refuses a generation that was dropped: an instance that was suspended then would go on into the one that is made now.
pub(crate) async fn check_not_dropped(database: &mut PgConnection, generation: u16) -> anyhow::Result<()> {
    let dropped = "select dropped_at from generation where number = $1 and dropped_at is not null";
    match sqlx::query_scalar(dropped).bind(i32::from(generation)).fetch_optional(database).await {
        Ok(None) => Ok(()),
        Ok(Some(at)) => bail!(was_dropped(generation.into(), at)),
        // Not migrated yet.
        Err(error) if migrations::is_missing(&error) => Ok(()),
        Err(error) => Err(error).context("which generations were dropped cannot be read"),
    }
}

/// Makes a generation's schema with its positions, where whoever may use the migrator's tables in `public` may use its tables too.
pub(crate) async fn make_schema(database: &mut PgConnection, generation: u16) -> anyhow::Result<()> {
    let (number, schema) = (i32::from(generation), schema(generation));
    let mut tx = database.begin().await?;
    sqlx::query("insert into public.generation (number) values ($1) on conflict do nothing")
        .bind(number)
        .execute(&mut *tx)
        .await?;
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

/// A partition's first offset and the one behind its last record, as the broker has them.
struct Watermarks {
    topic: &'static TopicType,
    partition: i32,
    low: i64,
    high: i64,
}

impl Watermarks {
    /// Whether rows may have come of records that are gone. A compacted topic holds all that is current.
    fn has_lost(&self) -> bool {
        self.low > 0 && self.topic.kind != TopicKind::State
    }

    /// Whether they are of a position's partition.
    fn are_of(&self, position: &Position) -> bool {
        self.topic.name == position.topic && self.partition == position.partition
    }

    /// Whether a position lies beyond the end of its partition: its topic was made anew, and nothing that it has is taken there any more.
    fn end_before(&self, position: &Position) -> bool {
        self.are_of(position) && self.high < position.offset
    }
}

/// The watermarks of all partitions of these topics.
async fn watermarks(
    kafka: &Kafka,
    service: &'static str,
    topics: Vec<&'static TopicType>,
) -> anyhow::Result<Vec<Watermarks>> {
    let (client, prefix) = (kafka.client(&format!("quadrille-{service}-generation")), kafka.topic_prefix.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = client.create()?;
        let mut found = vec![];
        for topic in topics {
            for partition in 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX) {
                let physical = format!("{prefix}{}", topic.name);
                let (low, high) = client.fetch_watermarks(&physical, partition, limits::BROKER)?;
                found.push(Watermarks { topic, partition, low, high });
            }
        }
        KafkaResult::Ok(found)
    });
    asked.await?.context("which records the topics that it hears hold is not told (kafka.brokers)")
}

/// Whether a generation with these positions is kept up to date in the partitions that it has in common with a build that hears `heard`: another
/// build's may have heard fewer topics. Where a partition ends before its position there is nothing more that the generation would take. Where they
/// have none in common, any that is kept up to date tells that instances keep it.
fn are_fresh(positions: &[Position], heard: &[Watermarks]) -> bool {
    let mut common = positions.iter().filter(|position| heard.iter().any(|marks| marks.are_of(position))).peekable();
    if common.peek().is_none() {
        return positions.iter().any(|position| position.is_fresh);
    }
    common.all(|position| position.is_fresh || heard.iter().any(|marks| marks.end_before(position)))
}

/// The one that serves, if any does.
fn serving(all: &[Generation]) -> Option<&Generation> {
    let alive = all.iter().filter(|generation| generation.dropped_at.is_none() && generation.served_at.is_some());
    alive.max_by_key(|generation| generation.served_at)
}

#[cfg(test)]
mod tests {
    use quadrille_core::Record as _;
    use quadrille_events::{ProductListed, StockReplenished};

    use super::*;

    fn position(topic: &TopicType, partition: i32, is_fresh: bool) -> Position {
        Position { topic: topic.name.to_string(), partition, offset: 5, is_fresh }
    }

    /// Cases: one that is not read to its end; one whose topic was made anew, and one at its end; a topic that the other build does not hear, and
    /// nothing but such ones, of which one is kept or none.
    #[test]
    fn fresh_is_what_both_hear_and_does_not_end_before_its_position() {
        let (topic, other) = (StockReplenished::TYPE.topic, ProductListed::TYPE.topic);
        let heard = |highs: [i64; 2]| {
            let marks = |(partition, high)| Watermarks { topic, partition, low: 0, high };
            (0..).zip(highs).map(marks).collect::<Vec<_>>()
        };
        let positions = [position(topic, 0, true), position(topic, 1, false), position(other, 0, false)];
        assert!(!are_fresh(&positions, &heard([9, 9])));
        assert!(are_fresh(&positions, &heard([9, 4])));
        assert!(!are_fresh(&positions, &heard([9, 5])));
        assert!(!are_fresh(&positions, &heard([4, 9])));
        assert!(are_fresh(&positions[..1], &heard([9, 9])));
        assert!(!are_fresh(&positions[2..], &heard([9, 9])));
        assert!(are_fresh(&[position(other, 0, false), position(other, 1, true)], &heard([9, 9])));
        assert!(!are_fresh(&[], &heard([9, 9])));
    }
}
