//! Moments that do not come by themselves: a fact that a service has committed and nobody hears yet.

use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;
use tokio::task::JoinHandle;

use crate::Placed;

const TIMEOUT: Duration = Duration::from_secs(180);

/// Waits until a fact of an order is committed and not published.
pub async fn waits_in_outbox(pool: &PgPool, order: &Placed, name: &str) -> anyhow::Result<()> {
    let query = "select exists (select from outbox where key = $1 and type like '%.' || $2)";
    until(format!("{name} of {} in the outbox", order.id), || async {
        sqlx::query_scalar(query).bind(order.key()).bind(name).fetch_one(pool).await
    })
    .await
}

/// A database tells nobody of its changes: it is asked again.
pub async fn until<F: Future<Output = sqlx::Result<bool>>>(what: String, holds: impl Fn() -> F) -> anyhow::Result<()> {
    let asked = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(TIMEOUT, asked).await.with_context(|| format!("no {what} in {TIMEOUT:?}"))?
}

/// A service's relay that does not publish: somebody else owns its lease, by a lock and a beat as an instance of it would.
pub struct Held(JoinHandle<sqlx::Result<()>>);

impl Held {
    /// Takes the lease of the service whose database this is.
    pub async fn relay_of(pool: &PgPool) -> anyhow::Result<Self> {
        let mut connection = pool.acquire().await?.detach();
        // The owner sees another one at its next beat and lets go of the lock; whoever asks for it most often has it.
        let take = "with taken as (update lease set owner = 'nobody', pid = pg_backend_pid(), beat = clock_timestamp())
                    select pg_try_advisory_lock(x'71756164'::int)";
        while !sqlx::query_scalar::<_, bool>(take).fetch_one(&mut connection).await? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self(tokio::spawn(async move {
            loop {
                sqlx::query("update lease set beat = clock_timestamp()").execute(&mut connection).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })))
    }

    /// Lets the service publish.
    pub async fn release(self) {
        self.0.abort();
        // Its connection is gone with it, and the lock with that.
        let _ = self.0.await;
    }
}
