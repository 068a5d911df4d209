//! `quadrille effects`: what services ask of the outside and has no outcome yet; parked ones wait for a person.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Settings, databases,
    operate::{self, Person},
    output::{self, Paint, Table},
};

/// An open effect.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct Effect {
    #[sqlx(default)]
    pub service: String,
    pub id: Uuid,
    pub key: String,
    pub kind: String,
    pub effect: Value,
    pub tries: i32,
    pub wanted_at: DateTime<Utc>,
    pub first_tried_at: Option<DateTime<Utc>>,
    pub due: DateTime<Utc>,
    pub parked_at: Option<DateTime<Utc>>,
    pub last_answer: Option<String>,
}

/// The open effects, parked ones first, then by age; and the databases that could not be read.
pub async fn open(settings: &Settings, service: Option<&str>) -> anyhow::Result<(Vec<Effect>, Vec<String>)> {
    let (mut effects, unread) = databases::each(settings, service, of).await?;
    effects.sort_by_key(|effect| (effect.parked_at.is_none(), effect.wanted_at));
    Ok((effects, unread))
}

async fn of(settings: &Settings, service: &str) -> sqlx::Result<Vec<Effect>> {
    let mut connection = databases::try_connect(settings, service).await?;
    let mut effects: Vec<Effect> = sqlx::query_as(
        "select id, key, kind, effect, tries, wanted_at, first_tried_at, due, parked_at, last_answer from effect",
    )
    .fetch_all(&mut connection)
    .await?;
    effects.iter_mut().for_each(|effect| service.clone_into(&mut effect.service));
    Ok(effects)
}

/// Shows open effects.
pub async fn list(settings: &Settings, service: Option<&str>, parked: bool, json: bool) -> anyhow::Result<()> {
    let (mut effects, unread) = open(settings, service).await?;
    effects.retain(|effect| !parked || effect.parked_at.is_some());
    if json {
        output::json(&effects)?;
        return databases::all_read(&unread);
    }
    let Some(answered) = databases::answered(&settings.catalogue, service, &unread) else {
        return databases::all_read(&unread);
    };
    let (paint, now) = (Paint::detect(), Utc::now());
    let mut table = Table::new(["service", "effect", "of", "id", "tries", "wanted", "state", "last answer"]);
    for effect in &effects {
        table.row([
            effect.service.clone(),
            effect.kind.clone(),
            paint.saga(&effect.key, &output::printable(&effect.key)),
            effect.id.to_string(),
            effect.tries.to_string(),
            format!("{} ago", output::span((now - effect.wanted_at).num_milliseconds())),
            if effect.parked_at.is_some() { paint.bad(&effect.state(now)) } else { effect.state(now) },
            output::printable(effect.last_answer.as_deref().unwrap_or_default()),
        ]);
    }
    table.print()?;
    let waiting = effects.iter().filter(|effect| effect.parked_at.is_some()).count();
    output::line(&format!("{}, {waiting} of them parked{answered}.", output::counted(effects.len(), "open effect")))?;
    databases::all_read(&unread)
}

/// Shows one effect, and what a person could state of it.
pub async fn show(settings: &Settings, id: Uuid, json: bool) -> anyhow::Result<()> {
    let effect = find(settings, id).await?;
    if json {
        return output::json(&effect);
    }
    let now = Utc::now();
    output::line(&output::printable(&format!(
        "{} of {}, wanted by {} at {}",
        effect.kind, effect.key, effect.service, effect.wanted_at
    )))?;
    output::line(&output::printable(&format!("what is asked   {}", effect.effect)))?;
    output::line(&format!("state           {}, tried {} times", effect.state(now), effect.tries))?;
    output::line(&format!("last answer     {}", output::printable(effect.last_answer.as_deref().unwrap_or("none"))))?;
    output::line("What a person who has asked the outside may state, such as:")?;
    let of_service = settings.catalogue.declarations().filter(|declaration| declaration.service == effect.service);
    let declared = of_service.flat_map(|declaration| declaration.effects).find(|declared| declared.kind == effect.kind);
    for example in declared.map_or(&[][..], |declared| declared.examples) {
        output::line(&format!("  quadrille effects answer {id} '{example}' --who YOU --why REASON"))?;
    }
    Ok(())
}

/// Has a parked effect tried again: the outside is asked about it first. Whether it was done.
pub async fn redrive(settings: &Settings, id: Uuid, person: &Person, json: bool) -> anyhow::Result<bool> {
    let service = find(settings, id).await?.service;
    operate::print_result(
        &operate::ask(settings, "RedriveRequested", &service, person, json!({"effect_id": id})).await?,
        json,
    )
}

/// States the outcome of an effect that the outside does not tell. Whether it was taken.
pub async fn answer(settings: &Settings, id: Uuid, outcome: &str, person: &Person, json: bool) -> anyhow::Result<bool> {
    serde_json::from_str::<Value>(outcome)
        .context("OUTCOME is not JSON: `quadrille effects show ID` has examples; quote it whole, in '...'")?;
    let service = find(settings, id).await?.service;
    let fields = json!({"effect_id": id, "outcome": outcome});
    operate::print_result(&operate::ask(settings, "EffectAnswered", &service, person, fields).await?, json)
}

async fn find(settings: &Settings, id: Uuid) -> anyhow::Result<Effect> {
    let (effects, unread) = open(settings, None).await?;
    match effects.into_iter().find(|effect| effect.id == id) {
        Some(effect) => Ok(effect),
        None if unread.is_empty() => {
            bail!("there is no open effect {id}: it has had its outcome, or never was (`quadrille effects list`)")
        }
        None => bail!("no effect {id} was found\n{}", databases::told(&unread)),
    }
}

impl Effect {
    fn state(&self, now: DateTime<Utc>) -> String {
        let since = |from: DateTime<Utc>| output::span((now - from).num_milliseconds());
        match (self.parked_at, self.tries) {
            (Some(parked), _) => format!("parked for {}", since(parked)),
            (None, 0) => "not tried yet".to_owned(),
            (None, _) => format!("again in {}", output::span((self.due - now).num_milliseconds())),
        }
    }
}
