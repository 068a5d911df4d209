//! The service's database, as all parts but the relay reach it: nothing on it is waited for without a bound, and no connection outlives a
//! fault that its session may share.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Connection, Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use crate::limits;

/// A pool of connections. Single statements run on `&Database` as they would on a pool; several have a transaction.
#[derive(Clone)]
pub(crate) struct Database {
    pool: PgPool,
    /// What was connected before this moment is not used again.
    fault: Arc<Mutex<Option<Instant>>>,
}

/// A connection of one's own. It is closed, not given back, unless [`Session::done`] says that all went well: one that was cut off in the
/// middle of a statement may be silent, and giving it back would wait for its answer.
struct Session {
    connection: PoolConnection<Postgres>,
    done: bool,
}

impl Database {
    /// Prepares a pool; nothing is connected yet.
    pub fn new(options: PgConnectOptions, connections: u32) -> Self {
        let fault = Arc::<Mutex<Option<Instant>>>::default();
        let known = Arc::clone(&fault);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(limits::CONNECT)
            .test_before_acquire(false)
            .before_acquire(move |_, connection| {
                let fault = *known.lock().unwrap_or_else(PoisonError::into_inner);
                let is_older = fault.is_some_and(|fault| connection.age >= fault.elapsed());
                async move { Ok(!is_older) }.boxed()
            })
            .connect_lazy_with(options);
        Self { pool, fault }
    }

    async fn session(&self) -> sqlx::Result<Session> {
        Ok(Session { connection: self.pool.acquire().await?, done: false })
    }

    /// `work` on this database, given up after [`limits::DATABASE`].
    async fn bounded<T, E: From<sqlx::Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match tokio::time::timeout(limits::DATABASE, work).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.renew();
                let silence = format!("the database has been silent for {:?}", limits::DATABASE);
                Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, silence)).into())
            }
        }
    }

    /// `work` in a transaction, which is committed where that succeeds; given up after [`limits::DATABASE`].
    pub async fn transaction<T, E: From<sqlx::Error>>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.bounded(async {
            let mut session = self.session().await?;
            let mut tx = session.begin().await?;
            let done = work(&mut tx).await?;
            tx.commit().await?;
            session.done();
            Ok(done)
        })
        .await
    }

    /// A session may have a state that outlives a fault: silent, read-only since a failover, with an old plan. None that is older than now is
    /// used again.
    pub fn renew(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn statement<T>(&self, work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>) -> sqlx::Result<T> {
        let result = self
            .bounded(async {
                let mut session = self.session().await?;
                let result = work(&mut session).await?;
                session.done();
                Ok(result)
            })
            .await;
        result.inspect_err(|_| self.renew())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl<'c> Executor<'c> for &'c Database {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        // Whole, so that the bound is on the statement and not on each row; what is read here is bounded by its query.
        let all = self.statement(async move |c: &mut PgConnection| c.fetch_many(query).try_collect::<Vec<_>>().await);
        all.map_ok(|all| stream::iter(all.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.statement(async move |c: &mut PgConnection| c.fetch_optional(query).await).boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, types: &'e [PgTypeInfo]) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        self.statement(async move |c: &mut PgConnection| c.prepare_with(sql, types).await).boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        self.statement(async move |c: &mut PgConnection| c.describe(sql).await).boxed()
    }
}

impl Session {
    /// All went well: the connection is given back.
    fn done(mut self) {
        self.done = true;
    }
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.done {
            self.connection.close_on_drop();
        }
    }
}
