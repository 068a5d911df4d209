//! What must be there before an instance works: tables before it decides anything, topics before it reads and publishes. What is missing is
//! waited for, named in log and health, with its fix.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use quadrille_core::{Policy, RecordType, is_projection};
use quadrille_kafka::{Connection, Registry};
use tracing::warn;
use uuid::Uuid;

use crate::{
    database::Database,
    generation,
    health::Health,
    history,
    kafka::{self, Topics},
    migrations::{self, Migrated, is_missing},
    outbox,
    resources::Resources,
    skips::Skips,
};

/// The sleep between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What was found in the tables.
pub(crate) struct Found {
    /// The header of this build's history, if one is kept.
    pub history: Option<Uuid>,
    /// The offsets that are to be passed over: known before the first is read.
    pub skips: Arc<Skips>,
}

/// Waits for the tables, and for what is in them: with these a service decides and commits.
pub(crate) async fn tables_ready<P: Policy>(
    resources: &Resources,
    migrations: &[Migrated],
    keep_history: bool,
) -> anyhow::Result<Found> {
    let health = &resources.health;
    wait_for(health, "database", || tables(resources, migrations)).await?;
    wait_for(health, "database", || same_kind::<P>(&resources.pool)).await?;
    wait_for(health, "database", || schemas::<P>(&resources.pool)).await?;
    // A history begins with an empty state; that of the first generation is not this one's to end.
    let history = match resources.generation {
        generation::FIRST => wait_for(health, "database", || history::<P>(&resources.pool, keep_history)).await?,
        _ => None,
    };
    let skips = wait_for(health, "database", || skips(&resources.pool)).await?;
    Ok(Found { history, skips })
}

/// Waits for the topics of `types`: without them nothing is read or published. A topic of another shape than declared ends the instance.
pub(crate) async fn topics_ready(resources: &Resources, types: &[RecordType]) -> anyhow::Result<()> {
    wait_for(&resources.health, "kafka", || topics(&resources.kafka, resources.service, types)).await
}

/// Waits for the schemas of `types`: a registry that has lost its data is told of before the first record is in want of it.
pub(crate) async fn registry_ready(resources: &Resources, types: &[RecordType]) -> anyhow::Result<()> {
    wait_for(&resources.health, "registry", || registered(&resources.registry, types)).await
}

/// Looks again and again until what a start needs is there. What is missing is a sentence; an error ends the start.
pub(crate) async fn wait_for<T, F>(health: &Health, part: &'static str, look: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Result<T, String>>>,
{
    loop {
        match look().await? {
            Ok(found) => {
                health.ok(part);
                return Ok(found);
            }
            Err(missing) => {
                warn!("Waiting: {missing}");
                health.error(part, &missing);
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn topics(kafka: &Connection, service: &'static str, types: &[RecordType]) -> anyhow::Result<Result<(), String>> {
    let (kafka, types) = (kafka.clone(), types.to_vec());
    match tokio::task::spawn_blocking(move || kafka::check_topics(&kafka, service, &types)).await? {
        Topics::Ready => Ok(Ok(())),
        Topics::Refused(cause) => bail!(cause),
        Topics::Waiting(cause) => Ok(Err(cause)),
    }
}

async fn tables(resources: &Resources, migrations: &[Migrated]) -> anyhow::Result<Result<(), String>> {
    for migrated in migrations {
        if let Err(missing) = tables_of(resources, migrated).await? {
            return Ok(Err(missing));
        }
    }
    Ok(Ok(()))
}

async fn tables_of(resources: &Resources, migrated: &Migrated) -> anyhow::Result<Result<(), String>> {
    Ok(match migrated.applied(&resources.pool).await {
        Ok(applied) => migrations::compare(&migrated.migrations, &applied)?.map_or(Ok(()), Err),
        Err(error) if is_missing(&error) => {
            Err("the database has no tables yet: run this service's `migrate`".to_owned())
        }
        Err(error) => {
            let server = &resources.database;
            let (name, host, port) = (server.get_database().unwrap_or_default(), server.get_host(), server.get_port());
            Err(format!(
                "database {name} at {host}:{port} does not answer, or does not let us in (database.url): {error}"
            ))
        }
    })
}

/// A projection knows what it has taken by its generations' positions, another service by its inbox: with the other's tables either would take everything
/// again.
async fn same_kind<P: Policy>(pool: &Database) -> anyhow::Result<Result<(), String>> {
    let other = match is_projection::<P>() {
        true => "select exists(select from inbox) and not exists(select from generation)",
        false => "select exists(select from generation)",
    };
    match sqlx::query_scalar(other).fetch_one(pool).await {
        Ok(false) => Ok(Ok(())),
        Ok(true) => bail!(
            "this database was kept by a build that {}, as {} {}: give this build an empty one, which it fills from its topics",
            if is_projection::<P>() { "did not only listen" } else { "only listened" },
            P::SERVICE,
            if is_projection::<P>() { "does now" } else { "does no longer" },
        ),
        Err(error) => Ok(Err(format!("the database (database.url) does not tell what it was kept by: {error}"))),
    }
}

async fn registered(registry: &Registry, types: &[RecordType]) -> anyhow::Result<Result<(), String>> {
    Ok(match registry.ids_of(types).await {
        Ok(Ok(_ids)) => Ok(()),
        Ok(Err(subject)) => Err(registry.lost(&subject).to_string()),
        Err(away) => Err(away.to_string()),
    })
}

async fn schemas<P: Policy>(pool: &Database) -> anyhow::Result<Result<(), String>> {
    let entered = outbox::enter_schemas::<P>(pool).await;
    Ok(entered
        .map_err(|error| format!("the database (database.url) does not take the schemas of what is stated: {error}")))
}

/// Enters the header of this build's history and returns its id; where none is kept, ends the one that there may be.
async fn history<P: Policy>(pool: &Database, keep: bool) -> anyhow::Result<Result<Option<Uuid>, String>> {
    let found = match keep {
        true => history::begin::<P>(pool).await.map(Some),
        false => history::end(pool).await.map(|()| None),
    };
    Ok(match found {
        Ok(header) => Ok(header),
        // No table, no history.
        Err(error) if is_missing(&error) && !keep => Ok(None),
        Err(error) if is_missing(&error) => {
            Err("history.keep is set, and its tables are missing: run this service's `migrate`".to_owned())
        }
        Err(error) => Err(format!("the database (database.url) does not take the history: {error}")),
    })
}

async fn skips(pool: &Database) -> anyhow::Result<Result<Arc<Skips>, String>> {
    let skips = Arc::<Skips>::default();
    let loaded = skips.load(pool).await;
    Ok(loaded
        .map(|()| skips)
        .map_err(|error| format!("the database (database.url) does not tell which offsets to pass over: {error}")))
}
