//! A read model's generations: a build whose rows come out different fills its own beside those that serve, and is switched to when it stands
//! where they stand.
//!
//! A generation is a schema with the service's tables, positions, and a group that reads for it. Everything else of the service (outbox, lease, dead
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
    AssertSqlSafe, ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    dead_letters, health::Health, heard, lease::answered, limits, platform_events, resources::Resources, startup,
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

/// The group that reads for a generation.
pub(crate) fn group(service: &str, generation: u16) -> String {
    match generation {
        FIRST => service.to_owned(),
        _ => format!("{service}.g{generation}"),
    }
}

/// Makes a generation's schema, where whoever may use the migrator's tables in `public` may use its tables too.
pub(crate) async fn make_schema(database: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let mut tx = database.begin().await?;
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
         end $$"
    )))
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Waits until this build's generation has begun: at once for the first that there is; any other one takes over what its store takes, on
/// `database`, and reads from the first records that its topics hold.
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
    // One moment for all that is taken over. Of two instances the second one fails here, and finds it begun when it comes again.
    let mut tx = answered(connection.begin_with("begin isolation level repeatable read")).await?;
    let make = sqlx::query("insert into generation (number) values ($1) on conflict do nothing").bind(number);
    answered(make.execute(&mut *tx)).await?;
    let all: Vec<Generation> = answered(
        sqlx::query_as("select number, begun_at, served_at, dropped_at from generation order by number for update")
            .fetch_all(&mut *tx),
    )
    .await?;
    let own = all.iter().find(|generation| generation.number == number);
    if let Some(at) = own.and_then(|own| own.dropped_at) {
        return refused(format!("generation {number} was dropped at {at}: give this build a higher one"));
    }
    if own.is_some_and(|own| own.begun_at.is_some()) {
        return Ok(());
    }
    if let Some(higher) = all.iter().find(|other| other.number > number && other.served_at.is_some()) {
        return refused(format!("generation {} has served: give this build a higher one than {number}", higher.number));
    }
    let Some(serving) = serving(&all) else {
        // Nothing answers that could answer meanwhile.
        let begin =
            "update generation set begun_at = clock_timestamp(), served_at = clock_timestamp() where number = $1";
        answered(sqlx::query(begin).bind(number).execute(&mut *tx)).await?;
        return Ok(answered(tx.commit()).await?);
    };
    let taken = store.take_over(&mut tx, &schema(serving.number)).await;
    let taken = taken.map_err(|error| {
        let what = format!("generation {number} cannot take over from generation {}", serving.number);
        NotBegun::Refused(anyhow::Error::from_boxed(error).context(what))
    })?;
    let starts =
        starts(&resources.kafka, resources.service, heard::topics::<S::Policy>()).await.map_err(NotBegun::Kafka)?;
    if let (None, Some(Start { topic, partition, first })) = (taken, starts.iter().find(|start| start.has_lost())) {
        return refused(format!(
            "{}/{partition} begins at {first}: rows that came of what it held before would vanish when generation {number} serves. \
             Give its store a `take_over`, which returns `Some(0)` where nothing of them is to be kept",
            topic.name
        ));
    }
    // So that what retention takes before it is read is known to be lost.
    let start = sqlx::query(
        "insert into position (generation, topic, partition, \"offset\")
         select $1, * from unnest($2::text[], $3::int[], $4::bigint[]) on conflict do nothing",
    );
    let start = start
        .bind(number)
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
    Ok(())
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
pub(crate) async fn watch(resources: Arc<Resources>, topics: Vec<&'static TopicType>, stop: CancellationToken) {
    let number = resources.generation;
    loop {
        match serve(&resources, &topics).await {
            Ok(None) => {
                resources.health.filling(false);
                return resources.health.ok("generation");
            }
            Ok(Some(unread)) => {
                let what = format!(
                    "generation {number} is being filled: {unread} partitions were not read to their ends just now"
                );
                resources.health.warn("generation", &what);
            }
            Err(error) => warn!(%error, "Whether generation {number} serves is not known"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
            return;
        }
    }
}

/// Switches to the generation if it is complete and no higher one serves. Returns of how many partitions that cannot be said, none once it serves.
async fn serve(resources: &Resources, topics: &[&'static TopicType]) -> sqlx::Result<Option<i64>> {
    let number = i32::from(resources.generation);
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let partitions: i64 = topics.iter().map(|topic| i64::from(topic.partitions)).sum();
    let fresh: i64 = sqlx::query_scalar(
        "select count(*) from position
         where generation = $1 and topic = any($2) and as_of > clock_timestamp() - make_interval(secs => $3)",
    )
    .bind(number)
    .bind(names)
    .bind(FRESH.as_secs_f64())
    .fetch_one(&resources.pool)
    .await?;
    if fresh == partitions {
        let switched = sqlx::query(
            "update generation set served_at = clock_timestamp() where number = $1 and served_at is null and dropped_at is null
                 and not exists (select from generation higher where higher.number > $1 and higher.served_at is not null)",
        )
        .bind(number)
        .execute(&resources.pool)
        .await?;
        if switched.rows_affected() > 0 {
            info!(service = resources.service, "Generation {number} serves from now on");
        }
    }
    let serves = sqlx::query_scalar("select served_at is not null from generation where number = $1");
    let serves = serves.bind(number).fetch_optional(&resources.pool).await?.unwrap_or(false);
    Ok((!serves).then_some(partitions - fresh))
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

/// Drops a generation that no instance keeps, with its rows, positions and open dead letters. Another one has to serve. One that has never served
/// is as if it had not been, and its number may be given again.
pub(crate) async fn drop<P: Policy>(
    database: &PgConnectOptions,
    number: u16,
    who: &str,
    why: &str,
) -> anyhow::Result<String> {
    bounds::filled_text("--who", who).and_then(|()| bounds::filled_text("--why", why))?;
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(limits::CONNECT).connect_with(database.clone());
    let pool = pool.await.context("the database (database.migrate_url) does not answer")?;
    let mut tx = pool.begin().await?;
    let number = i32::from(number);
    let all: Vec<Generation> =
        sqlx::query_as("select number, begun_at, served_at, dropped_at from generation order by number for update")
            .fetch_all(&mut *tx)
            .await?;
    let Some(own) = all.iter().find(|generation| generation.number == number && generation.dropped_at.is_none()) else {
        let there = all.iter().filter(|generation| generation.dropped_at.is_none());
        let there: Vec<String> = there.map(|generation| generation.number.to_string()).collect();
        bail!("there is no generation {number}: there are {}", there.join(", "));
    };
    let others: Vec<Generation> = all.iter().filter(|other| other.number != number).cloned().collect();
    let Some(serving) = serving(&others) else { bail!("no other generation than {number} could serve") };
    let is_kept: bool = sqlx::query_scalar(
        "select exists(select from position where generation = $1 and as_of > clock_timestamp() - make_interval(secs => $2))",
    )
    .bind(number)
    .bind(FRESH.as_secs_f64())
    .fetch_one(&mut *tx)
    .await?;
    if is_kept {
        bail!("an instance keeps generation {number}: stop it, wait {} s, and come again", FRESH.as_secs());
    }
    let schema = schema(number);
    let gone = match number {
        1 => P::TABLES.iter().map(|table| format!("drop table if exists {schema}.{table}; ")).collect(),
        _ => format!("drop schema if exists {schema} cascade"),
    };
    sqlx::raw_sql(AssertSqlSafe(gone)).execute(&mut *tx).await?;
    sqlx::query("delete from position where generation = $1").bind(number).execute(&mut *tx).await?;
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
    let forget = match own.served_at {
        Some(_) => "update generation set dropped_at = clock_timestamp() where number = $1",
        None => "delete from generation where number = $1",
    };
    sqlx::query(forget).bind(number).execute(&mut *tx).await?;
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
