//! Whether a database's tables are this build's: neither older nor newer, and made of the same text.

use anyhow::bail;
use sqlx::{AssertSqlSafe, PgExecutor, migrate::Migration};

/// A migration that a database says it has had.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Applied {
    pub version: i64,
    pub description: String,
    pub success: bool,
    pub checksum: Vec<u8>,
}

/// Migrations that one schema has, or is to have.
pub(crate) struct Migrated {
    /// The schema; that of the address where there is but one.
    pub schema: Option<String>,
    pub migrations: Vec<Migration>,
    /// Beside the runtime's stand those of another generation's tables, which this build need not know.
    pub beside_others: bool,
}

/// The runtime's migrations are numbered from 1, those of services by date.
const FIRST_BY_DATE: i64 = 1_000_000;

impl Migrated {
    /// What the schema has had, as sqlx has written it down.
    pub async fn applied(&self, database: impl PgExecutor<'_>) -> sqlx::Result<Vec<Applied>> {
        let table = match &self.schema {
            None => "_sqlx_migrations".to_owned(),
            Some(schema) => format!("{schema}._sqlx_migrations"),
        };
        let below = if self.beside_others { FIRST_BY_DATE } else { i64::MAX };
        let applied =
            format!("select version, description, success, checksum from {table} where version < $1 order by version");
        sqlx::query_as(AssertSqlSafe(applied)).bind(below).fetch_all(database).await
    }
}

/// Whether a table that was asked for is not there.
pub(crate) fn is_missing(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01"))
}

/// What is still to be applied, if anything is; an error where the database is not of this build, which nothing fixes while we wait.
pub(crate) fn compare(ours: &[Migration], applied: &[Applied]) -> anyhow::Result<Option<String>> {
    for Applied { version, description, checksum, .. } in applied {
        match ours.iter().find(|migration| migration.version == *version) {
            None => bail!(
                "the database has migration {version} ({description}), which this build does not know: a newer build has migrated it, \
                 and that one is to be started"
            ),
            Some(migration) if *migration.checksum != **checksum => bail!(
                "migration {version} ({description}) was applied with another text than this build's: start the build that applied it, \
                 or restore the file that it had"
            ),
            Some(_) => {}
        }
    }
    let is_there =
        |migration: &Migration| applied.iter().any(|there| there.version == migration.version && there.success);
    let missing = ours.iter().filter(|migration| !is_there(migration)).min_by_key(|migration| migration.version);
    Ok(missing.map(|Migration { version, description, .. }| {
        format!("the database lacks migration {version} ({description}): run this service's `migrate`")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(version: i64, text: &'static str) -> Migration {
        let kind = sqlx::migrate::MigrationType::Simple;
        Migration::new(version, format!("step {version}").into(), kind, sqlx::SqlStr::from_static(text), false)
    }

    fn applied_of(migrations: &[Migration]) -> Vec<Applied> {
        let applied = |migration: &Migration| Applied {
            version: migration.version,
            description: migration.description.to_string(),
            success: true,
            checksum: migration.checksum.to_vec(),
        };
        migrations.iter().map(applied).collect()
    }

    #[test]
    fn a_database_is_of_this_build_or_named_with_what_it_lacks_or_has() {
        let ours = [migration(1, "a"), migration(3, "c"), migration(2, "b")];
        let told = |applied: &[Applied]| compare(&ours, applied).map_err(|error| error.to_string());
        assert_eq!(told(&applied_of(&ours)), Ok(None));

        let missing = told(&applied_of(&ours[..1])).expect("it is waited for").expect("two are missing");
        assert!(missing.contains("lacks migration 2 (step 2): run this service's `migrate`"), "{missing}");

        let mut broken_off = applied_of(&ours);
        broken_off[1].success = false;
        let missing = told(&broken_off).expect("it is waited for").expect("one did not end");
        assert!(missing.contains("lacks migration 3"), "{missing}");

        let newer = applied_of(&[migration(1, "a"), migration(4, "d")]);
        let refused = told(&newer).expect_err("newer is refused, whatever is missing");
        assert!(refused.contains("has migration 4 (step 4), which this build does not know"), "{refused}");

        let refused = told(&applied_of(&[migration(1, "another")])).expect_err("another text");
        assert!(refused.contains("migration 1 (step 1) was applied with another text"), "{refused}");
    }
}
