//! What must be there before an instance takes anything. What is missing is waited for, named in log and health, with its mend.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use quadrille_core::{Policy, RecordType, Records};
use sqlx::migrate::Migration;
use tracing::warn;
use uuid::Uuid;

use crate::{
    config,
    database::Database,
    ground::Ground,
    health::Health,
    history,
    kafka::{self, Topics},
    migrations::{self, is_missing},
    operators,
    outbox::SchemaIds,
    registry::Registry,
    skips::Skips,
};

/// The sleep between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Waits for topics, tables and schemas; returns the schema ids of what is stated.
pub(crate) async fn ready<P: Policy>(
    ground: &Ground,
    types: &[RecordType],
    migrations: &[Migration],
) -> anyhow::Result<SchemaIds> {
    topics(&ground.kafka, types, &ground.health).await?;
    tables(&ground.pool, migrations, &ground.health).await?;
    Ok(schemas::<P>(&ground.registry, &ground.health).await)
}

/// Enters the header of this build's history and returns its id; where none is kept, ends the one that there may be.
pub(crate) async fn history<P: Policy>(ground: &Ground, keep: bool) -> Option<Uuid> {
    let begin_or_end = async || match keep {
        true => history::begin::<P>(&ground.pool).await.map(Some),
        false => history::end(&ground.pool).await.map(|()| None),
    };
    loop {
        let error = match begin_or_end().await {
            Ok(header) => {
                ground.health.ok("database");
                return header;
            }
            Err(error) => error,
        };
        let cause = match (is_missing(&error), keep) {
            // No table, no history.
            (true, false) => return None,
            (true, true) => "history.keep is set, and its tables are missing: run this service's `migrate`".to_owned(),
            (false, _) => format!("the database (database.url) does not take the history: {error}"),
        };
        warn!("Waiting: {cause}");
        ground.health.error("database", &cause);
        tokio::time::sleep(LOOK).await;
    }
}

/// The offsets that are to be passed over: known before the first is read.
pub(crate) async fn skips(ground: &Ground) -> Arc<Skips> {
    let skips = Arc::<Skips>::default();
    while let Err(error) = skips.load(&ground.pool).await {
        let cause = format!("the database (database.url) does not tell which offsets to pass over: {error}");
        warn!("Waiting: {cause}");
        ground.health.error("database", &cause);
        tokio::time::sleep(LOOK).await;
    }
    skips
}

async fn topics(kafka: &config::Kafka, types: &[RecordType], health: &Health) -> anyhow::Result<()> {
    loop {
        let (kafka, types) = (kafka.clone(), types.to_vec());
        match tokio::task::spawn_blocking(move || kafka::check_topics(&kafka, &types)).await? {
            Topics::Ready => {
                health.ok("kafka");
                return Ok(());
            }
            Topics::Refused(cause) => bail!(cause),
            Topics::Waiting(cause) => {
                warn!("Waiting: {cause}");
                health.error("kafka", &cause);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn tables(pool: &Database, migrations: &[Migration], health: &Health) -> anyhow::Result<()> {
    loop {
        let cause = match migrations::applied(pool).await {
            Ok(applied) => match migrations::compare(migrations, &applied)? {
                None => break,
                Some(missing) => missing,
            },
            Err(error) if is_missing(&error) => {
                "the database has no tables yet: run this service's `migrate`".to_owned()
            }
            Err(error) => format!("the database (database.url) does not answer: {error}"),
        };
        warn!("Waiting: {cause}");
        health.error("database", &cause);
        tokio::time::sleep(LOOK).await;
    }
    health.ok("database");
    Ok(())
}

/// The schema ids of what the service states. What it hears must be registered too: else the registry has lost its data.
async fn schemas<P: Policy>(registry: &Registry, health: &Health) -> SchemaIds {
    loop {
        let found = async {
            let types: Vec<RecordType> = P::Heard::TYPES.iter().chain(operators::TYPES).copied().collect();
            let heard = registry.ids_of(&types).await?;
            heard.map_err(|subject| registry.lost(&subject))?;
            let stated = registry.ids_of(P::Stated::TYPES).await?;
            stated.map_err(|subject| registry.lost(&subject))
        };
        match found.await {
            Ok(ids) => {
                health.ok("registry");
                return SchemaIds::new(P::Stated::TYPES, ids);
            }
            Err(error) => {
                warn!("Waiting: {error}");
                health.error("registry", &error.to_string());
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
