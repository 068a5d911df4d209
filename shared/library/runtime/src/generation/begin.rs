//! A generation's beginning: from nothing, or with what its store takes over from the one that serves.

use std::{error::Error, iter, time::Duration};

use metrics::counter;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, error::BoxDynError, postgres::PgConnectOptions};
use tracing::{error, info};

use super::{ALL, Generation, Watermarks, are_fresh, positions, schema, serving, was_dropped, watermarks};
use crate::{
    failure::Failure, heard, lease::answered, limits, resources::Resources, retention_check, startup, store::Store,
};

/// Waits until this build's generation has begun: at once for the first that there is; any other one takes over what its store takes, on
/// `database`, and reads from the first records that its topics hold. It waits while the generation that serves is not kept up to date: what that one
/// has not taken and the topics no longer hold would be in neither.
///
/// # Errors
///
/// It was dropped, a higher one has served, the store cannot take over for another reason than a passing one of the database's, or rows would vanish with
/// the switch: topics have lost records, and the store takes nothing over.
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
    Database(String),
    Kafka(anyhow::Error),
}

impl NotBegun {
    /// What a store's error means: wherever a passing one of the database's stands among its causes, it is tried again.
    fn of_store(error: BoxDynError, number: i32, old: i32) -> Self {
        let first: &(dyn Error + 'static) = &*error;
        let mut causes = iter::successors(Some(first), |error| Error::source(*error));
        let database = causes.find_map(|error| error.downcast_ref::<sqlx::Error>()).map(Failure::from);
        match database {
            Some(Failure::Transient(why)) => Self::Database(why),
            Some(Failure::Unique(_) | Failure::Poisoned(_)) | None => {
                let what = format!("generation {number} cannot take over from generation {old}");
                Self::Refused(anyhow::Error::from_boxed(error).context(what))
            }
        }
    }
}

impl From<sqlx::Error> for NotBegun {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}

async fn begin_once<S: Store>(resources: &Resources, store: &S, database: &PgConnectOptions) -> Result<(), NotBegun> {
    let number = i32::from(resources.generation);
    let mut connection = answered(database.connect()).await?;
    let Some(old) = serving_before(&mut connection, number).await? else { return Ok(()) };
    let positions = answered(positions(&mut connection, old)).await?;
    // Nothing is locked while the broker is asked.
    let partitions = watermarks(&resources.kafka, resources.service, heard::topics::<S::Policy>()).await;
    let partitions = partitions.map_err(NotBegun::Kafka)?;
    if !are_fresh(&positions, &partitions) {
        return Err(NotBegun::Waits(format!(
            "generation {old}, from which generation {number} takes over, is not kept up to date: start instances of its build beside this one"
        )));
    }
    // One moment for all that is taken over.
    let mut tx = answered(connection.begin_with("begin isolation level repeatable read")).await?;
    lock(&mut tx, number, old).await?;
    let taken = take_over(&mut tx, store, number, old).await?;
    if let (None, Some(Watermarks { topic, partition, low, .. })) = (taken, partitions.iter().find(|p| p.has_lost())) {
        return refused(format!(
            "{}/{partition} begins at {low}: rows that came of what it held before would vanish when generation {number} serves. \
             Give its store a `take_over`, which returns `Some(0)` where nothing of them is to be kept",
            topic.name
        ));
    }
    let open = match taken {
        Some(1..) => open_letters(&mut tx, old, &partitions).await?,
        _ => vec![],
    };
    note_begun(&mut tx, number, taken, &partitions).await?;
    answered(tx.commit()).await?;
    info!(
        service = resources.service,
        "Generation {number} begins with {} rows of generation {old}, which serves meanwhile",
        taken.unwrap_or_default()
    );
    report_open_letters(resources, old, open);
    // Neither in what was taken over nor to be read.
    for partition in &partitions {
        let Some(position) = positions.iter().find(|position| partition.are_of(position)) else { continue };
        let topic = resources.kafka.topic(&position.topic);
        if partition.end_before(position) {
            let (from, to) = (position.offset, partition.high);
            retention_check::report_beyond_end(resources.service, topic, position.partition, from, to);
        } else if partition.has_lost() && position.offset < partition.low {
            let (from, to) = (position.offset, partition.low);
            retention_check::report_lost(resources.service, topic, position.partition, from, to);
        }
    }
    Ok(())
}

fn refused<T>(why: String) -> Result<T, NotBegun> {
    Err(NotBegun::Refused(anyhow::Error::msg(why)))
}

/// The generation that serves and is to be taken over from; none where this one has begun, or begins here, since nothing answers that could answer
/// meanwhile.
async fn serving_before(connection: &mut PgConnection, number: i32) -> Result<Option<i32>, NotBegun> {
    let all: Vec<Generation> = answered(sqlx::query_as(ALL).fetch_all(&mut *connection)).await?;
    let own = all.iter().find(|generation| generation.number == number);
    if let Some(at) = own.and_then(|own| own.dropped_at) {
        return refused(was_dropped(number, at));
    }
    if own.is_some_and(|own| own.begun_at.is_some()) {
        return Ok(None);
    }
    if let Some(higher) = all.iter().find(|other| other.number > number && other.served_at.is_some()) {
        return refused(format!("generation {} has served: give this build a higher one than {number}", higher.number));
    }
    if let Some(serving) = serving(&all) {
        return Ok(Some(serving.number));
    }
    let begin = sqlx::query(
        "insert into generation (number, begun_at, served_at) values ($1, clock_timestamp(), clock_timestamp())
         on conflict (number) do update set begun_at = excluded.begun_at, served_at = excluded.served_at
             where generation.begun_at is null and generation.dropped_at is null",
    );
    answered(begin.bind(number).execute(connection)).await?;
    Ok(None)
}

/// Locks this generation's row, which has not begun, while the old one's is not dropped.
async fn lock(tx: &mut PgConnection, number: i32, old: i32) -> Result<(), NotBegun> {
    let ours = sqlx::query(
        "select from generation own join generation old on old.number = $2 and old.dropped_at is null
         where own.number = $1 and own.begun_at is null and own.dropped_at is null for update of own skip locked",
    );
    match answered(ours.bind(number).bind(old).fetch_optional(tx)).await? {
        Some(_) => Ok(()),
        None => {
            Err(NotBegun::Waits(format!("another instance begins generation {number}, or a generation is dropped")))
        }
    }
}

/// Has the store take over what the topics no longer hold, within [`limits::TAKE_OVER`].
async fn take_over<S: Store>(tx: &mut PgConnection, store: &S, number: i32, old: i32) -> Result<Option<u64>, NotBegun> {
    answered(statements_take(tx, limits::TAKE_OVER)).await?;
    let old_schema = schema(old);
    let taking = tokio::time::timeout(limits::TAKE_OVER, store.take_over(tx, &old_schema));
    let late = |_| Err(format!("it has taken longer than {:?}", limits::TAKE_OVER).into());
    let taken = taking.await.unwrap_or_else(late).map_err(|error| NotBegun::of_store(error, number, old))?;
    answered(statements_take(tx, limits::STATEMENT)).await?;
    Ok(taken)
}

/// How many open dead letters a generation has of each topic of these partitions.
async fn open_letters(
    tx: &mut PgConnection,
    number: i32,
    partitions: &[Watermarks],
) -> sqlx::Result<Vec<(String, i64)>> {
    let letters = sqlx::query_as(
        "select topic, count(*) from dead_letter where generation = $1 and closed_at is null and topic = any($2) group by topic",
    );
    let topics: Vec<&str> = partitions.iter().map(|partition| &*partition.topic.name).collect();
    answered(letters.bind(number).bind(topics).fetch_all(tx)).await
}

/// Says that rows were taken over that do not have what these dead letters are of. They are not waited for: a later build is often made for what an
/// earlier one could not handle, and until the earlier one is dropped all can be taken back.
fn report_open_letters(resources: &Resources, old: i32, letters: Vec<(String, i64)>) {
    if letters.is_empty() {
        return;
    }
    let mut counts = vec![];
    for (topic, count) in letters {
        counts.push(format!("{count} of {topic}"));
        counter!("quadrille_dead_letters_left_total", "topic" => topic).increment(count.unsigned_abs());
    }
    let what = format!(
        "generation {} has taken rows over from generation {old}, which has open dead letters ({}): what they are of is not in these rows, and is passed \
         over where a row has a higher version",
        resources.generation,
        counts.join(", ")
    );
    error!(service = resources.service, "{what}");
    resources.health.warn("take_over", &what);
}

async fn note_begun(
    tx: &mut PgConnection,
    number: i32,
    taken: Option<u64>,
    partitions: &[Watermarks],
) -> sqlx::Result<()> {
    // So that what retention takes before it is read is known to be lost.
    let start = sqlx::query(
        "insert into position (topic, partition, \"offset\") select * from unnest($1::text[], $2::int[], $3::bigint[]) on conflict do nothing",
    );
    let start = start
        .bind(partitions.iter().map(|partition| &*partition.topic.name).collect::<Vec<_>>())
        .bind(partitions.iter().map(|partition| partition.partition).collect::<Vec<_>>())
        .bind(partitions.iter().map(|partition| partition.low).collect::<Vec<_>>());
    answered(start.execute(&mut *tx)).await?;
    let begin = "update generation set begun_at = clock_timestamp(), taken_over = $2 where number = $1";
    let taken = taken.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
    answered(sqlx::query(begin).bind(number).bind(taken).execute(tx)).await?;
    Ok(())
}

/// From now on a statement of this transaction may take so long.
async fn statements_take(tx: &mut PgConnection, time: Duration) -> sqlx::Result<()> {
    let set = format!("set local statement_timeout = '{}ms'", time.as_millis());
    sqlx::raw_sql(AssertSqlSafe(set)).execute(tx).await?;
    Ok(())
}
