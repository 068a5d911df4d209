//! The services' databases. They are read as they are, by a role that can write nothing.

use sqlx::{Connection, PgConnection};

use crate::Settings;

/// What was found is not all there is where a database could not be read.
pub fn all_read(unread: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(unread.is_empty(), "{} What was found elsewhere is not all there is.", unread.join(" "));
    Ok(())
}

/// Reads `rows` from the database of every service, or of `service` alone; and which databases could not be read, as sentences.
///
/// # Errors
///
/// There is no such service.
pub async fn each<T>(
    settings: &Settings,
    service: Option<&str>,
    rows: impl AsyncFn(&Settings, &'static str) -> sqlx::Result<Vec<T>>,
) -> anyhow::Result<(Vec<T>, Vec<String>)> {
    let services = settings.catalogue.databases();
    if let Some(service) = service.filter(|service| !services.contains(service)) {
        anyhow::bail!("there is no service '{service}': {}", services.join(", "));
    }
    let (mut all, mut unread) = (vec![], vec![]);
    for name in services.into_iter().filter(|name| service.is_none_or(|service| service == *name)) {
        match rows(settings, name).await {
            Ok(found) => all.extend(found),
            Err(error) => unread.push(format!("The database {} could not be read: {error}", settings.database(name))),
        }
    }
    Ok((all, unread))
}

/// Connects to a service's database.
pub async fn connect(settings: &Settings, service: &str) -> sqlx::Result<PgConnection> {
    let connecting = PgConnection::connect(&settings.database_url(service));
    match tokio::time::timeout(std::time::Duration::from_secs(5), connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
