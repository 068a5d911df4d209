//! What a person asks of a service: sent on `platform.requests`, and what came of it read in the service's database.

use std::time::{Duration, Instant};

use anyhow::bail;
use quadrille_core::ids;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{Settings, audit::databases, output, produce};

/// How long a running service may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A row is looked at again after this time: nothing tells a command line of it.
const LOOK: Duration = Duration::from_millis(100);

/// Who asks, and why: both are kept with what is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Person {
    /// Who asks: a name or an address
    #[arg(long)]
    pub who: String,
    /// Why, in your own words
    #[arg(long)]
    pub why: String,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Came {
    /// `done` or `refused`.
    pub result: String,
    /// As a sentence.
    pub detail: String,
}

/// Asks `service` for what the fields of a record type of `platform.requests` say, and waits for what comes of it.
pub async fn ask(
    settings: &Settings,
    name: &str,
    service: &str,
    person: &Person,
    mut fields: Value,
) -> anyhow::Result<Came> {
    fields["service"] = json!(service);
    fields["who"] = json!(person.who);
    fields["why"] = json!(person.why);
    let id = produce::one(settings, name, &fields.to_string()).await?;
    let id = ids::request("platform.requests", service, &format!("quadrille.platform.{name}"), produce::SOURCE, &id);
    let mut connection = databases::connect(settings, service).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let came: Option<Came> = sqlx::query_as("select result, detail from operator_action where id = $1")
            .bind(id)
            .fetch_optional(&mut connection)
            .await?;
        match came {
            Some(came) => return Ok(came),
            None if Instant::now() > deadline => bail!(
                "no instance of {service} has taken the request within {PATIENCE:?} (`quadrille status` shows who runs); it is done once one does"
            ),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Tells what came of a request; whether it was done.
pub fn tell(came: &Came, json: bool) -> anyhow::Result<bool> {
    match json {
        true => output::json(came)?,
        false => output::line(&format!("{}: {}", came.result, came.detail))?,
    }
    Ok(came.result == "done")
}
