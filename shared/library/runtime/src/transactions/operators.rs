//! What a person asks of a service on `platform.requests`: an answer to an effect whose outcome is not known, or that an effect or a dead
//! letter is tried again or given up. Each request is carried out once, and what came of it is a row: a refusal too.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use quadrille_core::{Envelope, Input, Named, Policy, RecordType, Records, bounds, ids, records};
use quadrille_platform::{
    DiscardRequested, EffectAnswered, EffectResumed, OffsetSkipRequested, OperatorRequestCarriedOut, RedriveRequested,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{causality::Causality, heard, platform_events::PlatformEvent};

records! {
    /// What operators ask, beside what the service's policy hears.
    pub(crate) enum Request { RedriveRequested, DiscardRequested, EffectAnswered, OffsetSkipRequested }
}

/// Heard by every service; each acts on those of its own key.
pub(crate) const TYPES: &[RecordType] = Request::TYPES;

/// An operator's request with its input id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperatorRequest {
    pub id: Uuid,
    /// The id that earlier builds gave it.
    pub former: Option<Uuid>,
    pub request: Request,
}

/// The requests of a batch, on their way through its transaction.
#[derive(Default)]
pub(crate) struct Requests {
    actions: Vec<Action>,
    /// Each accepted answer's effect and outcome, as input id, by the request's id.
    answers: BTreeMap<Uuid, (Uuid, Uuid)>,
    /// Effects that are to be tried again, by the request's id, and their keys.
    redrives: BTreeMap<Uuid, Uuid>,
    keys: BTreeSet<String>,
    /// Dead letters that are given up.
    discarded: BTreeSet<Uuid>,
}

/// What a transaction found of the effects that were answered, once it had locked them.
#[derive(Default)]
pub(crate) struct Settled {
    /// Those that have ended, each with its outcome's id.
    pub ended: BTreeMap<Uuid, Uuid>,
    /// Those of which a try is under way, until then at the latest.
    pub under_way: BTreeMap<Uuid, DateTime<Utc>>,
}

/// Who acts by a service's own program, and why: both are kept with what is done, as those of a request are.
#[derive(Clone, Debug, clap::Args)]
pub struct By {
    /// Who does it: a name or an address
    #[arg(long)]
    pub who: String,
    /// Why, in your own words
    #[arg(long)]
    pub why: String,
}

impl By {
    /// As the program's flags have it.
    pub fn new(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self { who: who.into(), why: why.into() }
    }

    /// Refuses an empty one, or what cannot be kept.
    pub(crate) fn check(&self) -> Result<(), bounds::Fault> {
        bounds::filled_text("--who", &self.who).and_then(|()| bounds::filled_text("--why", &self.why))
    }

    /// Keeps what was done, in the transaction that does it.
    pub(crate) async fn keep(&self, tx: &mut PgConnection, what: &'static str, detail: &str) -> sqlx::Result<()> {
        sqlx::query(
            "insert into operator_action (id, what, who, why, result, detail) values ($1, $2, $3, $4, 'done', $5)",
        )
        .bind(Uuid::now_v7())
        .bind(what)
        .bind(&self.who)
        .bind(&self.why)
        .bind(bounds::fitted(detail))
        .execute(tx)
        .await?;
        Ok(())
    }
}

struct Action {
    id: Uuid,
    what: &'static str,
    who: String,
    why: String,
    result: Result<String, String>,
}

impl Requests {
    /// Carries out what is asked, and returns the answers to effects as the outcomes that they are: inputs like any other.
    pub async fn carry_out<P: Policy>(
        tx: &mut PgConnection,
        requests: &[&OperatorRequest],
    ) -> sqlx::Result<(Self, Vec<Envelope<P>>)> {
        let (mut carried_out, mut outcomes) = (Self::default(), vec![]);
        if requests.is_empty() {
            return Ok((carried_out, outcomes));
        }
        let ids: Vec<Uuid> = requests.iter().flat_map(|request| [Some(request.id), request.former]).flatten().collect();
        let known: Vec<Uuid> = sqlx::query_scalar("select id from operator_action where id = any($1)")
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await?;
        let mut known: BTreeSet<Uuid> = known.into_iter().collect();
        for OperatorRequest { id, former, request } in requests {
            if !known.insert(*id) || former.is_some_and(|former| known.contains(&former)) {
                continue;
            }
            let (what, who, why) = match request {
                Request::RedriveRequested(r) => ("redrive", &r.who, &r.why),
                Request::DiscardRequested(r) => ("discard", &r.who, &r.why),
                Request::EffectAnswered(r) => ("answer", &r.who, &r.why),
                Request::OffsetSkipRequested(r) => ("skip", &r.who, &r.why),
            };
            // Both are kept with what is done.
            let bounded = bounds::filled_text("who", who).and_then(|()| bounds::filled_text("why", why));
            let result = match (bounded, request) {
                (Err(fault), _) => Err(fault.to_string()),
                (Ok(()), Request::RedriveRequested(RedriveRequested { effect_id: Some(effect), .. })) => {
                    // Not locked here: a transaction locks its rows first and effects after them. What is found here counts for nothing then.
                    let key: Option<String> = sqlx::query_scalar("select key from effect where id = $1")
                        .bind(effect)
                        .fetch_optional(&mut *tx)
                        .await?;
                    carried_out.keys.extend(key);
                    carried_out.redrives.insert(*id, *effect);
                    Ok(String::new())
                }
                (Ok(()), Request::RedriveRequested(redrive)) => redriven(tx, redrive).await?,
                (Ok(()), Request::DiscardRequested(discard)) => {
                    let discarded = discarded(tx, discard).await?;
                    carried_out.discarded.extend(discarded.is_ok().then_some(discard.dead_letter_id));
                    discarded
                }
                (Ok(()), Request::OffsetSkipRequested(skip)) => skipped::<P>(tx, skip).await?,
                (Ok(()), Request::EffectAnswered(answer)) => match answered::<P>(tx, answer).await? {
                    Ok(outcome) => {
                        carried_out.answers.insert(*id, (answer.effect_id, outcome.id));
                        outcomes.push(outcome);
                        Ok(String::new())
                    }
                    Err(refusal) => Err(refusal),
                },
            };
            let (who, why) = (bounds::fitted(who), bounds::fitted(why));
            carried_out.actions.push(Action { id: *id, what, who, why, result });
        }
        Ok((carried_out, outcomes))
    }

    /// Whether dead letters have become due: redriven ones, those that waited behind one that was given up, or an offset to pass over.
    pub fn are_letters_due(&self) -> bool {
        let is_about_effect =
            |action: &Action| self.answers.contains_key(&action.id) || self.redrives.contains_key(&action.id);
        self.actions.iter().any(|action| action.result.is_ok() && !is_about_effect(action))
    }

    /// The keys of effects that are to be tried again: to be locked with those of the inputs.
    pub fn effect_keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// The dead letters that are given up.
    pub fn discarded(&self) -> impl Iterator<Item = &Uuid> {
        self.discarded.iter()
    }

    /// Keeps what came of each request, and has parked effects tried again: whether any is. Adds to `events` what it comes to.
    pub async fn keep(
        &mut self,
        tx: &mut PgConnection,
        service: &'static str,
        settled: &Settled,
        events: &mut Vec<(i64, PlatformEvent)>,
    ) -> sqlx::Result<bool> {
        let parked = redriven_effects(tx, self.redrives.values().copied().collect()).await?;
        for action in &mut self.actions {
            if let Some((effect, outcome)) = self.answers.get(&action.id) {
                action.result = match (settled.ended.get(effect), settled.under_way.get(effect)) {
                    (Some(ended), _) if ended == outcome => Ok(format!("effect {effect} has this outcome")),
                    (None, Some(until)) => Err(format!(
                        "effect_id: {effect} is being tried just now, and its outcome may come: if it has none then, answer after {}",
                        until.to_rfc3339_opts(SecondsFormat::Millis, true)
                    )),
                    _ => Err(format!("effect_id: the outcome of {effect} came from elsewhere just now")),
                };
            }
            if let Some(effect) = self.redrives.get(&action.id) {
                action.result = match parked.get(effect) {
                    Some(Some(_)) => Ok(format!("the outside is asked about {effect} again")),
                    Some(None) => Err(format!("effect_id: {effect} is not parked: it is tried by itself")),
                    None => Err(no_such(*effect)),
                };
            }
            let (result, detail) = match &action.result {
                Ok(detail) => ("done", detail),
                Err(detail) => ("refused", detail),
            };
            tracing::warn!(
                operator.who = action.who,
                operator.why = action.why,
                "An operator's {} is {result}: {detail}",
                action.what
            );
            let kept = sqlx::query(
                "insert into operator_action (id, what, who, why, result, detail) values ($1, $2, $3, $4, $5, $6)
                 on conflict (id) do nothing",
            )
            .bind(action.id)
            .bind(action.what)
            .bind(&action.who)
            .bind(&action.why)
            .bind(result)
            .bind(bounds::fitted(detail))
            .execute(&mut *tx)
            .await?;
            if kept.rows_affected() == 0 {
                // Another instance has carried it out just now, and told of it.
                continue;
            }
            let event = OperatorRequestCarriedOut {
                request_id: action.id,
                service: service.to_owned(),
                what: action.what.to_owned(),
                who: action.who.clone(),
                why: action.why.clone(),
                result: result.to_owned(),
                detail: bounds::fitted(detail),
            };
            events.push((1, event.into()));
        }
        let resumed = parked.iter().filter_map(|(effect, version)| Some((*effect, (*version)?)));
        let resumed: Vec<_> =
            resumed.map(|(effect, version)| (version, resumed_effect(service, effect, "redriven"))).collect();
        let is_any = !resumed.is_empty();
        events.extend(resumed);
        Ok(is_any)
    }
}

fn no_such(effect: Uuid) -> String {
    format!("effect_id: there is no open effect {effect}: it has had its outcome, or is another service's")
}

/// An effect that waits for a person no longer.
pub(crate) fn resumed_effect(service: &str, effect_id: Uuid, how: &str) -> PlatformEvent {
    EffectResumed { effect_id, service: service.to_owned(), how: how.to_owned() }.into()
}

/// Has those of these effects tried again that are parked, and tells of each that is there, if it was, the version of the event of it.
async fn redriven_effects(tx: &mut PgConnection, effects: Vec<Uuid>) -> sqlx::Result<BTreeMap<Uuid, Option<i64>>> {
    if effects.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found: Vec<(Uuid, Option<i64>)> = sqlx::query_as(
        "with open as (
             select id, case when parked_at is not null then told + 1 end as version
             from effect where id = any($1) order by key, kind, seq for update),
         due as (
             update effect set parked_at = null, due = clock_timestamp(), told = open.version
             from open where effect.id = open.id and open.version is not null)
         select id, version from open",
    )
    .bind(effects)
    .fetch_all(tx)
    .await?;
    Ok(found.into_iter().collect())
}

async fn redriven(tx: &mut PgConnection, asked: &RedriveRequested) -> sqlx::Result<Result<String, String>> {
    if asked.dead_letter_id.is_none() && asked.topic.is_empty() && asked.key.is_empty() {
        return Ok(Err("name dead_letter_id, effect_id, topic or key".to_owned()));
    }
    let redriven = sqlx::query(
        "update dead_letter set next_try = clock_timestamp(), redriven_by = $4, redriven_why = $5
         where closed_at is null and reason not in ('unreadable', 'unreadable_headers', 'too_large') and ($1 is null or id = $1) and ($2 = '' or topic = $2) and ($3 = '' or key = convert_to($3, 'UTF8'))",
    )
    .bind(asked.dead_letter_id)
    .bind(&asked.topic)
    .bind(&asked.key)
    .bind(&asked.who)
    .bind(&asked.why)
    .execute(tx)
    .await?
    .rows_affected();
    if redriven == 0 {
        return Ok(Err("no open dead letter of this service matches whose original was kept whole".to_owned()));
    }
    Ok(Ok(format!(
        "{redriven} dead letters go to the service again; `quadrille dead-letters list` shows what fails again"
    )))
}

async fn discarded(tx: &mut PgConnection, asked: &DiscardRequested) -> sqlx::Result<Result<String, String>> {
    let discarded = sqlx::query(
        "update dead_letter set closed_at = clock_timestamp(), closed_how = 'discarded', closed_by = $2, closed_why = $3
         where id = $1 and closed_at is null",
    )
    .bind(asked.dead_letter_id)
    .bind(&asked.who)
    .bind(&asked.why)
    .execute(tx)
    .await?
    .rows_affected();
    let id = asked.dead_letter_id;
    Ok(match discarded {
        0 => Err(format!("dead_letter_id: this service has no open dead letter {id}")),
        _ => Ok(format!("dead letter {id} is given up")),
    })
}

async fn skipped<P: Policy>(
    tx: &mut PgConnection,
    asked: &OffsetSkipRequested,
) -> sqlx::Result<Result<String, String>> {
    let (topic, partition, offset) = (asked.topic.as_str(), asked.partition, asked.offset);
    let Some(declared) = heard::topics::<P>().into_iter().find(|heard| heard.name == topic) else {
        return Ok(Err(format!("topic: {} hears no topic of this name", P::SERVICE)));
    };
    if !u32::try_from(partition).is_ok_and(|partition| partition < declared.partitions) {
        return Ok(Err(format!("partition: {topic} has {}, counted from 0", declared.partitions)));
    }
    if offset < 0 {
        return Ok(Err("offset: offsets are counted from 0".to_owned()));
    }
    sqlx::query(
        "insert into skipped_offset (topic, partition, \"offset\", who, why) values ($1, $2, $3, $4, $5) on conflict do nothing",
    )
    .bind(topic)
    .bind(partition)
    .bind(offset)
    .bind(&asked.who)
    .bind(&asked.why)
    .execute(tx)
    .await?;
    Ok(Ok(format!("{topic}/{partition} is read past {offset}, whose record becomes a dead letter")))
}

/// Whether every text of an outcome is within the contract's bounds: it goes into facts.
fn bounded(field: &str, value: &serde_json::Value) -> Result<(), bounds::Fault> {
    match value {
        serde_json::Value::String(text) => bounds::text(field, text),
        serde_json::Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| bounded(&format!("{field}.{name}"), value))
        }
        _ => Ok(()),
    }
}

#[derive(sqlx::FromRow)]
struct Tried {
    key: String,
    effect: serde_json::Value,
    #[sqlx(flatten)]
    causality: Causality,
    tries: i32,
}

/// The outcome that a person states, if the effect can have it.
async fn answered<P: Policy>(
    tx: &mut PgConnection,
    asked: &EffectAnswered,
) -> sqlx::Result<Result<Envelope<P>, String>> {
    let id = asked.effect_id;
    // Not locked here, as above: whether a try is under way is told under the lock.
    let tried: Option<Tried> =
        sqlx::query_as("select key, effect, causation_id, traceparent, tracestate, tries from effect where id = $1")
            .bind(id)
            .fetch_optional(tx)
            .await?;
    let Some(tried) = tried else {
        return Ok(Err(no_such(id)));
    };
    if tried.tries == 0 {
        return Ok(Err(format!("effect_id: {id} was not tried yet: the outside has not been asked")));
    }
    let outcome: P::Outcome = match serde_json::from_str(&asked.outcome) {
        Ok(outcome) => outcome,
        Err(error) => return Ok(Err(format!("outcome: this is none of {}: {error}", P::SERVICE))),
    };
    match serde_json::from_value::<P::Effect>(tried.effect) {
        Ok(effect) if P::answers(&effect, &outcome) => {
            let texts = serde_json::to_value(&outcome).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
            if let Err(fault) = bounded("outcome", &texts) {
                return Ok(Err(fault.to_string()));
            }
        }
        Ok(effect) => return Ok(Err(format!("outcome: '{}' is no answer to '{}'", outcome.name(), effect.kind()))),
        Err(error) => return Ok(Err(format!("effect_id: the row of {id} cannot be read: {error}"))),
    }
    let outcome_id = ids::outcome(id, &outcome.name());
    Ok(Ok(tried.causality.envelope(outcome_id, tried.key, Input::Outcome { effect: id, outcome })))
}
