//! One relay owner per service at a time.
//!
//! The owner holds an advisory lock on the connection that it does all its work on, and writes a beat on the database's clock. A lock
//! alone would stay with a stopped process: whoever waits and sees the beat grow old ends the owner's backend, and with it the lock.
//! A stopped owner that comes back finds its connection gone; what it had sent it can only have repeated.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tracing::{info, warn};

/// How old the owner's beat may be.
const TTL: Duration = Duration::from_secs(2);
/// How often the owner writes it.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// How often the others look.
const POLL: Duration = Duration::from_millis(50);
/// The advisory lock's number: "quad" in ASCII. Each service has a database of its own.
const LOCK: i64 = 0x7175_6164;

/// The ownership, and the connection that it lives on.
pub(crate) struct Lease {
    pub connection: PgConnection,
    owner: String,
}

impl Lease {
    /// Waits until the lease is ours; `waiting` is told at each look that the database answers.
    pub async fn take(options: &PgConnectOptions, owner: &str, waiting: impl Fn()) -> sqlx::Result<Self> {
        let mut connection = options.connect().await?;
        while !try_lock(&mut connection).await? {
            waiting();
            end_silent_owner(&mut connection).await?;
            tokio::time::sleep(POLL).await;
        }
        sqlx::query(
            "insert into lease (name, owner, pid, beat) values ('relay', $1, pg_backend_pid(), clock_timestamp())
             on conflict (name) do update set owner = excluded.owner, pid = excluded.pid, beat = excluded.beat",
        )
        .bind(owner)
        .execute(&mut connection)
        .await?;
        info!(owner, "The relay is ours");
        Ok(Self { connection, owner: owner.to_owned() })
    }

    /// Says that the owner lives. An error means that the lease is lost.
    pub async fn beat(&mut self) -> sqlx::Result<()> {
        let beaten = sqlx::query("update lease set beat = clock_timestamp() where name = 'relay' and owner = $1")
            .bind(&self.owner)
            .execute(&mut self.connection)
            .await?;
        match beaten.rows_affected() {
            1 => Ok(()),
            _ => Err(sqlx::Error::Protocol("the relay's lease has another owner".into())),
        }
    }

    /// Gives the lease back at once.
    pub async fn release(self) {
        let _ = self.connection.close().await;
    }
}

async fn try_lock(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select pg_try_advisory_lock($1)").bind(LOCK).fetch_one(connection).await
}

async fn end_silent_owner(connection: &mut PgConnection) -> sqlx::Result<()> {
    // Ended in the select list: conditions are evaluated in any order, and a living owner must not be ended.
    let ended: Option<Option<i32>> = sqlx::query_scalar(
        "select case when pg_terminate_backend(pid) then pid end from lease
         where name = 'relay' and beat < clock_timestamp() - interval '1 millisecond' * $1 and pid in (
             select pid from pg_locks where locktype = 'advisory' and granted and objid::bigint = $2
                 and database = (select oid from pg_database where datname = current_database()))",
    )
    .bind(TTL.as_millis() as i64)
    .bind(LOCK)
    .fetch_optional(connection)
    .await?;
    if let Some(pid) = ended.flatten() {
        warn!(pid, "The relay's owner has not been heard of for {TTL:?}; its connection was ended");
    }
    Ok(())
}
