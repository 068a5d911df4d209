//! The switch to a generation that stands where the topics stand.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use chrono::{DateTime, Utc};
use quadrille_core::TopicType;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ALL, Generation, of_topics, positions, was_dropped};
use crate::{health::Health, resources::Resources, routes::unavailable};

/// How often it is looked whether one can serve.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

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
            return unavailable(
                "this instance's generation is being filled: one of the generation that serves answers",
            );
        }
        next.run(request).await
    }
    routes.layer(middleware::from_fn_with_state(health, refuse))
}
