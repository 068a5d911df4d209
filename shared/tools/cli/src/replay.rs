//! `quadrille history export` and `quadrille replay`: recorded decisions, taken out of the databases and made again by this build.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use quadrille_replay::{Build, Report};
use sqlx::{Connection, PgConnection};

use crate::{Settings, databases, input, output};

/// Writes the histories of all services, or of `service` alone, to a file, and returns how many decisions that is.
///
/// # Errors
///
/// A database cannot be read, a history does not reach back to its service's first input, or there is none at all.
pub async fn export(settings: &Settings, out: &Path, service: Option<&str>) -> anyhow::Result<usize> {
    let services = settings.catalogue.databases();
    if let Some(service) = service {
        ensure!(services.contains(&service), "there is no service '{service}': {}", services.join(", "));
    }
    // Half a history would be replayed as if it were one: the file has its name only once it is whole.
    let unfinished = out.with_added_extension("unfinished");
    let named = || format!("the file {}", unfinished.display());
    let mut file = BufWriter::new(File::create(&unfinished).with_context(named)?);
    let written = write(settings, &mut file, service, services).await;
    let written = written.and_then(|decisions| file.flush().with_context(named).map(|()| decisions));
    if written.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    let decisions = written?;
    std::fs::rename(&unfinished, out).with_context(|| format!("the file {}", out.display()))?;
    Ok(decisions)
}

async fn write(
    settings: &Settings,
    file: &mut impl Write,
    service: Option<&str>,
    services: Vec<&'static str>,
) -> anyhow::Result<usize> {
    let mut decisions = 0;
    for name in services.into_iter().filter(|name| service.is_none_or(|service| service == *name)) {
        decisions += one(settings, name, file).await?;
    }
    ensure!(
        decisions > 0,
        "there is no history: start the services with history.keep = true (QUADRILLE__HISTORY__KEEP=true) before their first input"
    );
    Ok(decisions)
}

/// Writes one service's history, and returns how many decisions it has.
async fn one(settings: &Settings, service: &str, file: &mut impl Write) -> anyhow::Result<usize> {
    let database = settings.database(service);
    let unread = || {
        format!("the database {database} could not be read; its service's `migrate` makes the tables of the history")
    };
    let mut connection = databases::connect(settings, service).await.with_context(unread)?;
    // The headers are at least those of the decisions: both are read as of one moment.
    let mut tx = connection.begin_with("begin isolation level repeatable read read only").await.with_context(unread)?;
    from_the_beginning(&mut tx, service).await?;
    let headers: Vec<String> = sqlx::query_scalar("select header::text from history_header order by since, id")
        .fetch_all(&mut *tx)
        .await
        .with_context(unread)?;
    for header in headers {
        writeln!(file, "{{\"header\":{header}}}")?;
    }
    let mut decisions = 0;
    // A decision that is still to be committed may have a lower number than one that is read here: then the two share no row.
    let mut rows =
        sqlx::query_scalar::<_, Option<String>>("select decided::text from history order by number").fetch(&mut *tx);
    while let Some(decided) = rows.try_next().await.with_context(unread)? {
        let is_decision = decided.is_some();
        match decided {
            Some(decided) => writeln!(file, "{{\"decided\":{decided}}}")?,
            None => writeln!(file, "{{\"gap\":{{\"service\":\"{service}\"}}}}")?,
        }
        decisions += usize::from(is_decision);
    }
    Ok(decisions)
}

/// Refuses a history that was begun after its service's first input: the state that it begins with would be unknown.
///
/// # Errors
///
/// That, or the database cannot be read.
pub async fn from_the_beginning(connection: &mut PgConnection, service: &str) -> anyhow::Result<()> {
    let before: i64 = sqlx::query_scalar(
        "select count(*) from inbox
         where current_id is null -- a former spelling of an input's id is no input
             and at < (select (decided->>'now')::timestamptz from history order by number limit 1)
             and id not in (select (decided->>'id')::uuid from history where decided is not null)",
    )
    .fetch_one(connection)
    .await
    .with_context(|| format!("the history of {service}"))?;
    ensure!(
        before == 0,
        "the {service} history begins in the middle: {before} inputs were taken before its first decision, so the state that it began \
         with is unknown. Set history.keep before a service takes its first input, with an empty database"
    );
    Ok(())
}

/// Decides these histories again by the policies of `build`.
///
/// # Errors
///
/// A file is no history that can be replayed.
pub fn decide_again(build: &Build, files: &[PathBuf]) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for path in files {
        let name = path.display().to_string();
        let file = input::open(Some(path)).with_context(|| format!("the file {name}"))?;
        report.add(build.replay(file, &name)?);
    }
    Ok(report)
}

/// Decides these histories again by the policies of `build` and prints what differs; the figures on the last line. Returns whether nothing does.
///
/// # Errors
///
/// A file is no history that can be replayed.
pub fn run(build: &Build, files: &[PathBuf]) -> anyhow::Result<bool> {
    let report = decide_again(build, files)?;
    output::line(&report.to_string())?;
    Ok(report.is_same())
}
