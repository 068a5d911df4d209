//! What a person asks of a service: sent on `platform.requests`, and what came of it read in the service's database.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use quadrille_core::{bounds, ids};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Settings, databases, output, produce};

/// How long a running service may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A row is looked at again after this time: nothing tells a command line of it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Who asks, and why: both are kept with what is done.
#[derive(Clone, Debug, clap::Args)]
pub struct Person {
    /// Who asks: a name or an address
    #[arg(long, value_parser = said)]
    pub who: String,
    /// Why, in your own words
    #[arg(long, value_parser = said)]
    pub why: String,
}

/// Reads an id, whole: nothing is guessed from its beginning.
pub(crate) fn id(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| "an id is a UUID, whole, as `list` shows it".to_owned())
}

/// A text that is kept: the contract's bounds, said before anything is asked.
pub(crate) fn said(text: &str) -> Result<String, String> {
    bounds::filled_text("the text", text).map_err(|fault| fault.to_string())?;
    Ok(text.to_owned())
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorResult {
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
    fields: Value,
) -> anyhow::Result<OperatorResult> {
    let came = ask_all(settings, name, service, person, vec![fields]).await?;
    came.into_iter().next().context("one request has one answer")
}

/// The same for several requests, which are sent in order; what came of each.
pub async fn ask_all(
    settings: &Settings,
    name: &str,
    service: &str,
    person: &Person,
    requests: Vec<Value>,
) -> anyhow::Result<Vec<OperatorResult>> {
    let document = |mut fields: Value| {
        fields["service"] = json!(service);
        fields["who"] = json!(person.who);
        fields["why"] = json!(person.why);
        fields.to_string()
    };
    let documents: Vec<String> = requests.into_iter().map(document).collect();
    let sent = produce::own(settings, name, &documents).await?;
    let record_type = format!("quadrille.platform.{name}");
    let computed = |id: &String| ids::request("platform.requests", service, &record_type, produce::SOURCE, id);
    let ids: Vec<Uuid> = sent.iter().map(computed).collect();
    let mut connection = databases::connect(settings, service).await?;
    let mut deadline = Instant::now() + TIMEOUT;
    let mut known = 0;
    loop {
        let rows: Vec<(Uuid, String, String)> =
            sqlx::query_as("select id, result, detail from operator_action where id = any($1)")
                .bind(&ids)
                .fetch_all(&mut connection)
                .await?;
        let mut came: HashMap<Uuid, OperatorResult> =
            rows.into_iter().map(|(id, result, detail)| (id, OperatorResult { result, detail })).collect();
        if came.len() > known {
            (known, deadline) = (came.len(), Instant::now() + TIMEOUT);
        }
        if came.len() == ids.len() {
            return Ok(ids.iter().filter_map(|id| came.remove(id)).collect());
        }
        if Instant::now() > deadline {
            let open = ids.len() - came.len();
            let what =
                if ids.len() == 1 { "the request".to_owned() } else { format!("{open} of {} requests", ids.len()) };
            bail!(
                "no instance of {service} has taken {what} within {TIMEOUT:?} (`quadrille status` shows who runs); it is done once one does"
            );
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Tells what came of a request; whether it was done.
pub fn print_result(came: &OperatorResult, json: bool) -> anyhow::Result<bool> {
    match json {
        true => output::json(came)?,
        false => output::line(&format!("{}: {}", came.result, came.detail))?,
    }
    Ok(came.is_done())
}

impl OperatorResult {
    /// Whether it was carried out.
    pub fn is_done(&self) -> bool {
        self.result == "done"
    }
}
