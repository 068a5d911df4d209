//! The services' databases. They are read as they are, by a role that can write nothing.

use std::{io, time::Duration};

use sqlx::{Connection, PgConnection};

use crate::{Catalogue, Settings};

/// How long a database may take to let us in.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What to do about a database that does not answer.
const FIX: &str =
    "Where none answers, `make up` brings PostgreSQL up here; QUADRILLE__DATABASE__BASE_URL names another server";

/// What was found is not all there is where a database could not be read.
pub fn all_read(unread: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(unread.is_empty(), told(unread));
    Ok(())
}

/// Which databases could not be read, one a line, and what to do about it; nothing where all were.
pub fn told(unread: &[String]) -> String {
    if unread.is_empty() { String::new() } else { format!("{}\n{FIX}", unread.join("\n")) }
}

/// What is to be said behind figures of every service's database, or of that of `service`: nothing where all were read, and how many where
/// some were. `None` where none was: then there are no figures.
pub fn answered(catalogue: &Catalogue, service: Option<&str>, unread: &[String]) -> Option<String> {
    let asked = service.map_or(catalogue.databases().len(), |_| 1);
    match asked - unread.len() {
        _ if unread.is_empty() => Some(String::new()),
        0 => None,
        read => Some(format!(" in the {read} of {asked} databases that answered")),
    }
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

/// Connects to a service's database. An error says what to do where nothing answers.
pub async fn connect(settings: &Settings, service: &str) -> sqlx::Result<PgConnection> {
    try_connect(settings, service).await.map_err(|error| match error {
        sqlx::Error::Io(cause) => sqlx::Error::Io(io::Error::new(cause.kind(), format!("{cause}. {FIX}"))),
        error => error,
    })
}

/// The same with the cause alone: for who asks several databases, and says once what to do.
pub(crate) async fn try_connect(settings: &Settings, service: &str) -> sqlx::Result<PgConnection> {
    let connecting = PgConnection::connect(&settings.database_url(service));
    match tokio::time::timeout(TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it did not answer within {} s", TIMEOUT.as_secs()),
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

    #[test]
    fn what_was_not_read_is_not_counted_and_is_told_line_by_line_with_the_fix() {
        let databases = CATALOGUE.databases();
        let unread = |count: usize| -> Vec<String> { databases[..count].iter().map(|name| (*name).into()).collect() };
        let (of, all) = (|count: usize| answered(&CATALOGUE, None, &unread(count)), databases.len());
        assert_eq!((of(0).as_deref(), of(all)), (Some(""), None));
        assert_eq!(of(1).unwrap(), format!(" in the {} of {all} databases that answered", all - 1));
        assert_eq!(answered(&CATALOGUE, Some("order"), &unread(1)), None);
        assert_eq!(told(&[]), "");
        let told = told(&unread(2));
        assert!(told.lines().count() == 3 && told.contains("make up"), "{told}");
    }
}
