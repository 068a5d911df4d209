//! One relay owner per service at a time.
//!
//! The owner holds an advisory lock on the connection that it does all its work on, and writes a beat on the database's clock. A lock
//! alone would stay with a stopped process: whoever waits and sees the beat grow old ends the owner's backend, and with it the lock.
//! A stopped owner that comes back finds its connection gone; what it had sent it can only have repeated.
//!
//! A connection may also go silent: nobody ends it, and nobody answers on it. So nothing is asked of the database without a bound; what is
//! past it counts as a lost connection, and the lease is taken anew on another one.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::limits;

/// How old the owner's beat may be.
const TTL: Duration = Duration::from_secs(2);
/// How often the owner writes it.
const BEAT: Duration = Duration::from_millis(500);
/// How often the others look.
const POLL: Duration = Duration::from_millis(50);
/// How long it may take for a goodbye: a stop waits for it.
const GOODBYE: Duration = Duration::from_millis(200);
/// The advisory lock's number: "quad" in ASCII. Each service has a database of its own.
const LOCK: i64 = 0x7175_6164;

/// The ownership, and the connection that it lives on.
pub(crate) struct Lease {
    pub connection: PgConnection,
    /// Whether all that was published from this database is noted. An owner of an older build noted nothing.
    pub noted: bool,
    owner: String,
    beaten: Instant,
}

impl Lease {
    /// Waits until the lease is ours; `waiting` is told at each look that the database answers.
    pub async fn take(options: &PgConnectOptions, owner: &str, waiting: impl Fn()) -> sqlx::Result<Self> {
        let mut connection = answered(options.connect()).await?;
        while !try_lock(&mut connection).await? {
            waiting();
            end_silent_owner(&mut connection).await?;
            tokio::time::sleep(POLL).await;
        }
        let take = sqlx::query_scalar(
            "insert into lease (name, owner, pid, beat, noted_by) values ('relay', $1, pg_backend_pid(), clock_timestamp(), $1)
             on conflict (name) do update set owner = excluded.owner, pid = excluded.pid, beat = excluded.beat,
                 noted_by = case when lease.noted_by = lease.owner then excluded.owner else lease.noted_by end
             returning noted_by is not distinct from owner",
        )
        .bind(owner);
        let noted = answered(take.fetch_one(&mut connection)).await?;
        info!(owner, "The relay is ours");
        Ok(Self { connection, noted, owner: owner.to_owned(), beaten: Instant::now() })
    }

    /// Awaits something else than the database, and says meanwhile that the owner lives. An error means that the lease is lost.
    pub async fn while_beating<T>(&mut self, other: impl Future<Output = T>) -> sqlx::Result<T> {
        tokio::pin!(other);
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.beaten + BEAT) => self.beat().await?,
                done = &mut other => return Ok(done),
            }
        }
    }

    async fn beat(&mut self) -> sqlx::Result<()> {
        let beat = sqlx::query("update lease set beat = clock_timestamp() where name = 'relay' and owner = $1");
        let beaten = answered(beat.bind(&self.owner).execute(&mut self.connection)).await?;
        self.beaten = Instant::now();
        match beaten.rows_affected() {
            1 => Ok(()),
            _ => Err(sqlx::Error::Protocol("the relay's lease has another owner".into())),
        }
    }

    /// Gives the lease back at once.
    pub async fn release(self) {
        let _ = tokio::time::timeout(GOODBYE, self.connection.close()).await;
    }
}

/// What the database answers, or that it has not: then the connection is not to be used any more.
pub(crate) async fn answered<T>(asked: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let silent = || {
        std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("the database has said nothing for {:?}", limits::DATABASE),
        )
    };
    tokio::time::timeout(limits::DATABASE, asked).await.unwrap_or_else(|_| Err(silent().into()))
}

async fn try_lock(connection: &mut PgConnection) -> sqlx::Result<bool> {
    answered(sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(connection)).await
}

/// An owner whose connection fell silent before it wrote its first beat is known by its last statement. One whose statement is at work lives,
/// however long that takes: only one that waits for its client may have none any more.
async fn end_silent_owner(connection: &mut PgConnection) -> sqlx::Result<()> {
    // Ended in the select list: conditions are evaluated in any order, and a living owner must not be ended.
    let end = sqlx::query_scalar(
        "select case when pg_terminate_backend(held.pid) then held.pid end
         from pg_locks held join pg_stat_activity activity on activity.pid = held.pid
             left join lease on lease.name = 'relay' and lease.pid = held.pid
         where held.locktype = 'advisory' and held.granted and held.objid::bigint = $2
             and held.database = (select oid from pg_database where datname = current_database())
             and greatest(lease.beat, activity.state_change) < clock_timestamp() - interval '1 millisecond' * $1
             and (activity.state <> 'active' or activity.wait_event_type = 'Client')",
    )
    .bind(TTL.as_millis() as i64)
    .bind(LOCK);
    let ended: Option<Option<i32>> = answered(end.fetch_optional(connection)).await?;
    if let Some(pid) = ended.flatten() {
        warn!(pid, "The relay's owner has not been heard of for {TTL:?}; its connection was ended");
    }
    Ok(())
}
