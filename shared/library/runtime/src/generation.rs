//! A read model's generations: a build whose rows come out different fills its own beside those that serve, and is switched to when it stands
//! where they stand.
//!
//! A generation is a schema with the service's tables and its positions, and a group that reads for it. Everything else of the service (outbox, lease, dead
//! letters, operators' requests) is one for all of them. An instance keeps and answers from its own generation alone, since its statements know
//! these tables and no others.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use quadrille_core::{Policy, TopicKind, TopicType, bounds, is_projection};
use quadrille_kafka::Connection as Kafka;
use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgExecutor,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    dead_letters,
    failure::Failure,
    health::Health,
    heard,
    lease::answered,
    limits, platform_events,
    resources::{self, Resources},
    retention_check, startup,
    store::Store,
};

/// The first one, whose tables stand in `public` like those of every service.
pub(crate) const FIRST: u16 = 1;
/// How often it is looked whether one can serve.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// So long ago each partition may have been read to its end for a generation to count as complete, and as kept up to date.
const FRESH: Duration = Duration::from_secs(10);

/// The first record that a partition holds.
struct Start {
    topic: &'static TopicType,
    partition: i32,
    first: i64,
}

impl Start {
    /// Whether rows may have come of records that are gone. A compacted topic holds all that is current.
    fn has_lost(&self) -> bool {
        self.first > 0 && self.topic.kind != TopicKind::State
    }
}

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

/// Waits until this build's generation has begun: at once for the first that there is; any other one takes over what its store takes, on
/// `database`, and reads from the first records that its topics hold. It waits while the generation that serves is not kept up to date: what that one
/// has not taken and the topics no longer hold would be in neither.
///
/// # Errors
///
/// It was dropped, a higher one has served, or rows would vanish with the switch: topics have lost records, and the store takes nothing over.
pub(crate) async fn begin<S: Store>(
    resources: &Resources,
    store: &S,
    database: &PgConnectOptions,
) -> anyhow::Result<()> {
    startup::wait_for(&resources.health, "generation", async || match begin_once(resources, store, database).await {
        Ok(()) => Ok(Ok(())),
        Err(NotBegun::Refused(error)) => Err(error),
        Err(NotBegun::Waits(why)) => Ok(Err(why)),
        Err(NotBegun::Database(error)) => Ok(Err(format!(
            "the database (database.url) does not let generation {} begin: {error}",
            resources.generation
        ))),
        Err(NotBegun::Kafka(error)) => {
            Ok(Err(format!("where generation {} begins is not known: {error:#}", resources.generation)))
        }
    })
    .await
}

/// Why a generation has not begun.
enum NotBegun {
    /// For good.
    Refused(anyhow::Error),
    /// Until something else has happened.
    Waits(String),
    Database(sqlx::Error),
    Kafka(anyhow::Error),
}

impl From<sqlx::Error> for NotBegun {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

async fn begin_once<S: Store>(resources: &Resources, store: &S, database: &PgConnectOptions) -> Result<(), NotBegun> {
    let number = i32::from(resources.generation);
    let refused = |why: String| Err(NotBegun::Refused(anyhow::Error::msg(why)));
    let mut connection = answered(database.connect()).await?;
    let all: Vec<Generation> = answered(sqlx::query_as(ALL).fetch_all(&mut connection)).await?;
    let own = all.iter().find(|generation| generation.number == number);
    if let Some(at) = own.and_then(|own| own.dropped_at) {
        return refused(was_dropped(number, at));
    }
    if own.is_some_and(|own| own.begun_at.is_some()) {
        return Ok(());
    }
    if let Some(higher) = all.iter().find(|other| other.number > number && other.served_at.is_some()) {
        return refused(format!("generation {} has served: give this build a higher one than {number}", higher.number));
    }
    let Some(serving) = serving(&all) else {
        // Nothing answers that could answer meanwhile.
        let begin = sqlx::query(
            "insert into generation (number, begun_at, served_at) values ($1, clock_timestamp(), clock_timestamp())
             on conflict (number) do update set begun_at = excluded.begun_at, served_at = excluded.served_at
                 where generation.begun_at is null and generation.dropped_at is null",
        );
        answered(begin.bind(number).execute(&mut connection)).await?;
        return Ok(());
    };
    let topics = heard::topics::<S::Policy>();
    let old = answered(positions(&mut connection, serving.number)).await?;
    if !are_fresh(&old, &topics) {
        return Err(NotBegun::Waits(format!(
            "generation {}, from which generation {number} takes over, is not kept up to date: start instances of its build beside this one",
            serving.number
        )));
    }
    // Nothing is locked while the broker is asked.
    let starts = starts(&resources.kafka, resources.service, topics).await.map_err(NotBegun::Kafka)?;
    // One moment for all that is taken over.
    let mut tx = answered(connection.begin_with("begin isolation level repeatable read")).await?;
    let ours = sqlx::query(
        "select from generation own join generation old on old.number = $2 and old.dropped_at is null
         where own.number = $1 and own.begun_at is null and own.dropped_at is null for update of own skip locked",
    );
    if answered(ours.bind(number).bind(serving.number).fetch_optional(&mut *tx)).await?.is_none() {
        return Err(NotBegun::Waits(format!(
            "another instance begins generation {number}, or a generation is dropped"
        )));
    }
    answered(statements_take(&mut tx, limits::TAKE_OVER)).await?;
    let old_schema = schema(serving.number);
    let taking = tokio::time::timeout(limits::TAKE_OVER, store.take_over(&mut tx, &old_schema));
    let late = |_| Err(format!("it has taken longer than {:?}", limits::TAKE_OVER).into());
    let taken = taking.await.unwrap_or_else(late).map_err(|error| {
        let what = format!("generation {number} cannot take over from generation {}", serving.number);
        NotBegun::Refused(anyhow::Error::from_boxed(error).context(what))
    })?;
    answered(statements_take(&mut tx, limits::STATEMENT)).await?;
    if let (None, Some(Start { topic, partition, first })) = (taken, starts.iter().find(|start| start.has_lost())) {
        return refused(format!(
            "{}/{partition} begins at {first}: rows that came of what it held before would vanish when generation {number} serves. \
             Give its store a `take_over`, which returns `Some(0)` where nothing of them is to be kept",
            topic.name
        ));
    }
    // So that what retention takes before it is read is known to be lost.
    let start = sqlx::query(
        "insert into position (topic, partition, \"offset\") select * from unnest($1::text[], $2::int[], $3::bigint[]) on conflict do nothing",
    );
    let start = start
        .bind(starts.iter().map(|start| &*start.topic.name).collect::<Vec<_>>())
        .bind(starts.iter().map(|start| start.partition).collect::<Vec<_>>())
        .bind(starts.iter().map(|start| start.first).collect::<Vec<_>>());
    answered(start.execute(&mut *tx)).await?;
    let begin = "update generation set begun_at = clock_timestamp(), taken_over = $2 where number = $1";
    let taken = taken.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
    answered(sqlx::query(begin).bind(number).bind(taken).execute(&mut *tx)).await?;
    answered(tx.commit()).await?;
    info!(
        service = resources.service,
        "Generation {number} begins with {} rows of generation {}, which serves meanwhile",
        taken.unwrap_or_default(),
        serving.number
    );
    // Neither in what was taken over nor to be read.
    for start in starts.iter().filter(|start| start.has_lost()) {
        let position = old.iter().find(|old| old.topic == start.topic.name && old.partition == start.partition);
        if let Some(position) = position.filter(|position| position.offset < start.first) {
            let topic = resources.kafka.topic(&start.topic.name);
            retention_check::report_lost(resources.service, topic, start.partition, position.offset, start.first);
        }
    }
    Ok(())
}

/// From now on a statement of this transaction may take so long.
async fn statements_take(tx: &mut PgConnection, time: Duration) -> sqlx::Result<()> {
    let set = format!("set local statement_timeout = '{}ms'", time.as_millis());
    sqlx::raw_sql(AssertSqlSafe(set)).execute(tx).await?;
    Ok(())
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

/// Where the partitions of these topics begin now.
async fn starts(kafka: &Kafka, service: &'static str, topics: Vec<&'static TopicType>) -> anyhow::Result<Vec<Start>> {
    let (client, prefix) = (kafka.client(&format!("quadrille-{service}-start")), kafka.topic_prefix.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = client.create()?;
        let mut starts = vec![];
        for topic in topics {
            for partition in 0..i32::try_from(topic.partitions).unwrap_or(i32::MAX) {
                let physical = format!("{prefix}{}", topic.name);
                let (first, _) = client.fetch_watermarks(&physical, partition, limits::BROKER)?;
                starts.push(Start { topic, partition, first });
            }
        }
        KafkaResult::Ok(starts)
    });
    asked.await?.context("the first records of what it hears are not told (kafka.brokers)")
}

/// Has a generation serve, once, as soon as it has all that its topics hold; until `stop`.
///
/// # Errors
///
/// It was dropped. An instance that was suspended meanwhile ends by that.
pub(crate) async fn watch(
    resources: Arc<Resources>,
    topics: Vec<&'static TopicType>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let number = resources.generation;
    loop {
        match serve(&resources, &topics).await {
            Ok(Standing::Serves) => {
                resources.health.filling(false);
                resources.health.ok("generation");
            }
            Ok(Standing::Filled { unread }) => {
                let what = format!(
                    "generation {number} is being filled: {unread} partitions were not read to their ends just now"
                );
                resources.health.warn("generation", &what);
            }
            Ok(Standing::Dropped(at)) => bail!(was_dropped(number.into(), at)),
            Err(error) => warn!(%error, "Whether generation {number} serves is not known"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
            return Ok(());
        }
    }
}

/// How a generation stands.
enum Standing {
    Serves,
    /// So many partitions were not read to their ends just now.
    Filled {
        unread: i64,
    },
    Dropped(DateTime<Utc>),
}

/// Switches to the generation if it is complete and no higher one serves.
async fn serve(resources: &Resources, topics: &[&'static TopicType]) -> sqlx::Result<Standing> {
    let number = i32::from(resources.generation);
    let all: Vec<Generation> = sqlx::query_as(ALL).fetch_all(&resources.pool).await?;
    match all.into_iter().find(|generation| generation.number == number) {
        Some(Generation { dropped_at: Some(at), .. }) => return Ok(Standing::Dropped(at)),
        Some(Generation { served_at: Some(_), .. }) => return Ok(Standing::Serves),
        _ => {}
    }
    let partitions: i64 = topics.iter().map(|topic| i64::from(topic.partitions)).sum();
    let positions = positions(&resources.pool, number).await?;
    let unread = partitions - of_topics(&positions, topics).filter(|position| position.is_fresh).count() as i64;
    if unread > 0 {
        return Ok(Standing::Filled { unread });
    }
    let switched = sqlx::query(
        "update generation set served_at = clock_timestamp() where number = $1 and served_at is null and dropped_at is null
             and not exists (select from generation higher where higher.number > $1 and higher.served_at is not null)",
    )
    .bind(number)
    .execute(&resources.pool)
    .await?;
    if switched.rows_affected() == 0 {
        // Another instance has switched, which is seen at the next look; or a higher one serves.
        return Ok(Standing::Filled { unread });
    }
    info!(service = resources.service, "Generation {number} serves from now on");
    Ok(Standing::Serves)
}

/// Routes that answer once their instance's generation serves, and refuse before: its rows are not complete.
pub(crate) fn once_served(routes: Router, health: Arc<Health>) -> Router {
    async fn refuse(State(health): State<Arc<Health>>, request: Request, next: Next) -> Response {
        if health.is_filling() {
            let why = "this instance's generation is being filled: one of the generation that serves answers";
            return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response();
        }
        next.run(request).await
    }
    routes.layer(middleware::from_fn_with_state(health, refuse))
}

/// Drops a generation that no instance keeps, with its rows, positions and open dead letters. Another one that is kept has to serve. Its number is
/// not given again: an instance that is suspended meanwhile would go on into what is made under it, and its closed letters would hide the new ones.
pub(crate) async fn drop<P: Policy>(
    database: &PgConnectOptions,
    number: u16,
    who: &str,
    why: &str,
) -> anyhow::Result<String> {
    bounds::filled_text("--who", who).and_then(|()| bounds::filled_text("--why", why))?;
    let database = resources::bounded_locks(database.clone());
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(limits::CONNECT).connect_with(database);
    let pool = pool.await.context("the database (database.migrate_url) does not answer")?;
    let mut tx = pool.begin().await?;
    let number = i32::from(number);
    let all = sqlx::query_as(AssertSqlSafe(format!("{ALL} for update"))).fetch_all(&mut *tx).await;
    let all: Vec<Generation> =
        all.context("a generation that takes over now, or another drop, is in the way: come again")?;
    if !all.iter().any(|generation| generation.number == number && generation.dropped_at.is_none()) {
        let there = all.iter().filter(|generation| generation.dropped_at.is_none());
        let there: Vec<String> = there.map(|generation| generation.number.to_string()).collect();
        bail!("there is no generation {number}: there are {}", there.join(", "));
    }
    let others: Vec<Generation> = all.iter().filter(|other| other.number != number).cloned().collect();
    let Some(serving) = serving(&others) else { bail!("no other generation than {number} could serve") };
    if positions(&mut *tx, number).await?.iter().any(|position| position.is_fresh) {
        bail!("an instance keeps generation {number}: stop it, wait {} s, and come again", FRESH.as_secs());
    }
    if !are_fresh(&positions(&mut *tx, serving.number).await?, &heard::topics::<P>()) {
        bail!(
            "generation {}, which would serve, is not kept up to date: start instances of its build, and come again once they have caught up",
            serving.number
        );
    }
    let schema = schema(number);
    let gone = match number {
        1 => {
            let tables = P::TABLES.iter().map(|table| format!("drop table if exists {schema}.{table}; "));
            tables.collect::<String>() + "delete from public.position"
        }
        _ => format!("drop schema if exists {schema} cascade"),
    };
    sqlx::raw_sql(AssertSqlSafe(gone)).execute(&mut *tx).await?;
    let letters: Vec<Uuid> = sqlx::query_scalar(
        "update dead_letter set closed_at = clock_timestamp(), closed_how = 'discarded', closed_by = $2, closed_why = $3
         where generation = $1 and closed_at is null returning id",
    )
    .bind(number)
    .bind(who)
    .bind(why)
    .fetch_all(&mut *tx)
    .await?;
    let events = dead_letters::number_closed(&mut tx, P::SERVICE, &letters).await?;
    platform_events::insert(&mut tx, P::SERVICE, &events).await?;
    sqlx::query("update generation set dropped_at = clock_timestamp() where number = $1")
        .bind(number)
        .execute(&mut *tx)
        .await?;
    let detail = format!(
        "generation {number} is dropped, with {} open dead letters; generation {} serves",
        letters.len(),
        serving.number
    );
    sqlx::query(
        "insert into operator_action (id, what, who, why, result, detail) values ($1, 'drop', $2, $3, 'done', $4)",
    )
    .bind(Uuid::now_v7())
    .bind(who)
    .bind(why)
    .bind(&detail)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    pool.close().await;
    Ok(detail)
}
