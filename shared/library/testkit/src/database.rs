//! A fresh database per test on the real PostgreSQL.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, migrate::Migrator, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::TIMEOUT;

/// The server that tests use unless `QUADRILLE_TEST_DATABASE_URL` names another; `make up` starts it.
const SERVER: &str = "postgres://quadrille_test:quadrille@127.0.0.1:5433/postgres";

/// A database of its own, dropped with this value.
pub struct Database {
    /// Connections to it.
    pub pool: PgPool,
    name: String,
}

impl Database {
    /// Creates an empty database and applies `migrations` in the given order.
    ///
    /// # Panics
    /// Where the server cannot be reached or refuses: a test without its database has nothing to say.
    pub async fn fresh(migrations: impl IntoIterator<Item = Migrator>) -> Self {
        let database = Self::named(format!("quadrille_test_{}", Uuid::new_v4().simple())).await;
        for mut migrator in migrations {
            // Several migrators share a database (a service's own and the runtime's), each blind to the others' steps.
            migrator.set_ignore_missing(true).run(&database.pool).await.expect("migrations apply");
        }
        database
    }

    /// Creates an empty database of this name, which nobody else uses: where several belong together by their names.
    ///
    /// # Panics
    /// As [`Self::fresh`].
    pub async fn named(name: String) -> Self {
        let mut server =
            PgConnection::connect(&server()).await.expect("the tests' PostgreSQL answers (make up starts it)");
        sqlx::query(AssertSqlSafe(format!("create database {name}")))
            .execute(&mut server)
            .await
            .expect("the tests' role may create databases");
        let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(TIMEOUT);
        let pool = pool.connect(&at(&name)).await.expect("the new database answers");
        Self { pool, name }
    }

    /// Another database with what this one holds now: as if a dump of it were restored. Its connections are ended for that.
    ///
    /// # Panics
    /// As [`Self::fresh`].
    pub async fn restored(&self) -> Self {
        let mut server =
            PgConnection::connect(&server()).await.expect("the tests' PostgreSQL answers (make up starts it)");
        let name = format!("quadrille_test_{}", Uuid::new_v4().simple());
        // A template has no sessions: they are ended until none has come back in between.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and backend_type = 'client backend'")
                .bind(&self.name)
                .execute(&mut server)
                .await
                .expect("the tests' role may end its own sessions");
            let create = format!("create database {name} template {}", self.name);
            match sqlx::query(AssertSqlSafe(create)).execute(&mut server).await {
                Ok(_) => break,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
        let pool = PgPoolOptions::new().max_connections(16).acquire_timeout(TIMEOUT);
        let pool = pool.connect(&at(&name)).await.expect("the new database answers");
        Self { pool, name }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        at(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("drop database if exists {} with (force)", self.name);
        // Dropping is not async, and the test's own runtime may be ending: a thread with a runtime of its own does it.
        let dropped = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut server = PgConnection::connect(&server()).await?;
                sqlx::query(AssertSqlSafe(drop)).execute(&mut server).await?;
                Ok(())
            })
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the database {} is left behind: {error}", self.name),
            Err(_) => eprintln!("the database {} is left behind", self.name),
        }
    }
}

fn server() -> String {
    let named = std::env::var_os("QUADRILLE_TEST_DATABASE_URL");
    named.map_or(SERVER.to_owned(), |url| url.into_string().expect("QUADRILLE_TEST_DATABASE_URL is text"))
}

/// The server's URL with another database: its path replaced, its parameters kept.
fn at(name: &str) -> String {
    let server = server();
    let (base, parameters) = match server.split_once('?') {
        Some((base, parameters)) => (base, format!("?{parameters}")),
        None => (server.as_str(), String::new()),
    };
    let host = base.rsplit_once('/').map_or(base, |(host, _)| host);
    format!("{host}/{name}{parameters}")
}
