//! The end of a generation that no instance keeps any more.

use anyhow::{Context as _, bail};
use quadrille_core::Policy;
use quadrille_kafka::Connection as Kafka;
use rdkafka::{
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaResult,
};
use sqlx::{
    AssertSqlSafe, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::{ALL, Generation, Watermarks, are_fresh, positions, schema, serving, watermarks};
use crate::{dead_letters, heard, limits, operators::By, outbox, platform_events, resources};

/// Drops a generation that no instance keeps, with its rows, positions and open dead letters. Another one that is kept has to serve. Its number is
/// not given again: an instance that is suspended meanwhile would go on into what is made under it, and its closed letters would hide the new ones.
pub(crate) async fn drop<P: Policy>(
    database: &PgConnectOptions,
    kafka: &Kafka,
    number: u16,
    by: &By,
) -> anyhow::Result<String> {
    by.check()?;
    // Nothing is locked while the broker is asked.
    let keep = instances(kafka, P::SERVICE, number).await?;
    if keep > 0 {
        bail!("{keep} running instances keep generation {number}: stop them, and come again");
    }
    let heard = watermarks(kafka, P::SERVICE, heard::topics::<P>()).await?;
    let database = resources::bounded_locks(database.clone());
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(limits::CONNECT).connect_with(database);
    let pool = pool.await.context("the database (database.migrate_url) does not answer")?;
    let mut tx = pool.begin().await?;
    let number = i32::from(number);
    let serving = serving_beside(&mut tx, number, &heard).await?;
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
    .bind(&by.who)
    .bind(&by.why)
    .fetch_all(&mut *tx)
    .await?;
    // No instance of this build may ever have run.
    outbox::enter_schemas::<P>(&mut *tx).await?;
    let events = dead_letters::number_closed(&mut tx, P::SERVICE, &letters).await?;
    platform_events::insert(&mut tx, P::SERVICE, &events).await?;
    sqlx::query("update generation set dropped_at = clock_timestamp() where number = $1")
        .bind(number)
        .execute(&mut *tx)
        .await?;
    let detail = format!(
        "generation {number} is dropped, with {} open dead letters; generation {serving} serves",
        letters.len()
    );
    by.keep(&mut tx, "drop", &detail).await?;
    tx.commit().await?;
    pool.close().await;
    Ok(detail)
}

/// How many instances are in a generation's group. That none of its partitions was read to its end just now does not tell that nobody keeps it. One
/// that was killed or is suspended is in it for another `kafka.session_timeout_ms`.
async fn instances(kafka: &Kafka, service: &'static str, number: u16) -> anyhow::Result<usize> {
    let group = kafka.group(&quadrille_core::group(service, number));
    let client = kafka.client(&format!("quadrille-{service}-drop"));
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer = client.create()?;
        let found = client.fetch_group_list(Some(&group), limits::BROKER)?;
        let ours = found.groups().iter().filter(|found| found.name() == group);
        KafkaResult::Ok(ours.map(|group| group.members().len()).sum::<usize>())
    });
    asked.await?.with_context(|| format!("whether instances keep generation {number} is not told (kafka.brokers)"))
}

/// Locks all generations, and returns the one that serves beside this one.
async fn serving_beside(tx: &mut PgConnection, number: i32, heard: &[Watermarks]) -> anyhow::Result<i32> {
    let all = sqlx::query_as(AssertSqlSafe(format!("{ALL} for update"))).fetch_all(&mut *tx).await;
    let all: Vec<Generation> =
        all.context("a generation that takes over now, or another drop, is in the way: come again")?;
    if !all.iter().any(|generation| generation.number == number && generation.dropped_at.is_none()) {
        let there = all.iter().filter(|generation| generation.dropped_at.is_none());
        let there: Vec<String> = there.map(|generation| generation.number.to_string()).collect();
        bail!("there is no generation {number}: there are {}", there.join(", "));
    }
    let others: Vec<Generation> = all.into_iter().filter(|other| other.number != number).collect();
    let Some(Generation { number: serving, .. }) = serving(&others) else {
        bail!("no other generation than {number} could serve");
    };
    if !are_fresh(&positions(&mut *tx, *serving).await?, heard) {
        bail!(
            "generation {serving}, which would serve, is not kept up to date: start instances of its build, and come again once they have caught up"
        );
    }
    Ok(*serving)
}
