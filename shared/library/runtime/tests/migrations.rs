//! A database that is older or newer than the build that starts.

use crate::support::{Logged, Shop, service};
use quadrille_testkit::Database;
use sqlx::migrate::Migrator;

/// Ends the start of a service with its refusal.
async fn refused(shop: &Shop) -> String {
    let started = service().run_until(shop.config(), std::future::pending());
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), started).await.expect("it does not wait");
    ended.expect_err("it does not start").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_newer_build_has_migrated_is_refused_by_name() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (20991231000000, 'of tomorrow', true, '', 0)",
    )
    .execute(&shop.database.pool)
    .await?;
    let told = "has migration 20991231000000 (of tomorrow), which this build does not know";
    let start = refused(&shop).await;
    assert!(start.contains(told), "{start}");
    let migrated = service().migrate(&shop.database.url()).await.expect_err("nor is there anything to migrate");
    assert!(migrated.to_string().contains(told), "{migrated}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_another_text_is_refused_by_name() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    sqlx::query("update _sqlx_migrations set checksum = sha512('') where version = 3")
        .execute(&shop.database.pool)
        .await?;
    let start = refused(&shop).await;
    assert!(start.contains("migration 3 (deadlines) was applied with another text"), "{start}");
    Ok(())
}

/// It waits as for all that is missing, says so in log and health, and works once it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_migration_is_waited_for_and_named() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ours = sqlx::migrate!();
    let older: Vec<_> = ours.iter().filter(|migration| migration.version < 4).cloned().collect();
    shop.database = Database::fresh([Migrator::with_migrations(older)]).await;

    let mut instance = Logged::start(&shop)?;
    let http = instance.says("Health and metrics on ").await?;
    let http = http.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned();
    let told = "the database lacks migration 4 (history): run this service's `migrate`";
    let said = instance.says("Waiting").await?;
    assert!(said.contains(told), "{said}");
    let ready = reqwest::get(format!("{http}/health/ready")).await?;
    assert_eq!(ready.status(), reqwest::StatusCode::SERVICE_UNAVAILABLE);
    let health: serde_json::Value = reqwest::get(format!("{http}/health")).await?.json().await?;
    assert_eq!(health["checks"]["database"], format!("error: {told}"));

    service().migrate(&shop.database.url()).await?;
    shop.ask("TEA", 0).await?;
    shop.stated(1).await?;
    instance.kill().await
}
