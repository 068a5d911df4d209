//! Effects: what the outside is asked to do, performed by workers over a table, each under one idempotency key however often it is tried.
//!
//! A claim and a withdrawal contend for the effect's row: a transaction that reacts to an input locks the effects of its keys, a worker
//! claims one only if it gets that lock. Once claimed, only an outcome ends an effect.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use metrics::counter;
use quadrille_core::{Claims, EffectRow, Input, Named, Policy, bounds, ids};
use quadrille_platform::EffectParked;
use sqlx::{PgConnection, types::Json};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    causality::Causality,
    config,
    database::Database,
    outside::{Answer, Effect, Limit, Outcome, Outside, Then},
    platform_events,
    work::{Work, WorkItem},
};

/// The longest sleep between two polls, for lost wake-ups and other instances' effects.
const FALLBACK_POLL: Duration = Duration::from_secs(1);

pub(crate) async fn insert<P: Policy>(tx: &mut PgConnection, effects: &[EffectRow<P>]) -> sqlx::Result<()> {
    if effects.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate)
         select id, key, kind, name, effect, causation_id, traceparent, tracestate
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::uuid[], $7::text[], $8::text[])
             with ordinality as new(id, key, kind, name, effect, causation_id, traceparent, tracestate, n)
         order by n",
    )
    .bind(effects.iter().map(|effect| effect.id).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.key.as_str()).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.effect.kind()).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.effect.name()).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| Json(&effect.effect)).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.cause).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.trace.parent.as_str()).collect::<Vec<_>>())
    .bind(effects.iter().map(|effect| effect.trace.state.as_str()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Withdraws effects by key and name. Their rows are locked, and the policy was told that they are not claimed.
pub(crate) async fn withdraw(tx: &mut PgConnection, withdrawn: &[(String, String)]) -> sqlx::Result<()> {
    if withdrawn.is_empty() {
        return Ok(());
    }
    let (keys, names): (Vec<&str>, Vec<&str>) = withdrawn.iter().map(|(k, n)| (k.as_str(), n.as_str())).unzip();
    sqlx::query("delete from effect where tries = 0 and (key, name) in (select * from unnest($1::text[], $2::text[]))")
        .bind(keys)
        .bind(names)
        .execute(tx)
        .await?;
    Ok(())
}

pub(crate) async fn remove(tx: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    if !ids.is_empty() {
        sqlx::query("delete from effect where id = any($1)").bind(ids).execute(tx).await?;
    }
    Ok(())
}

/// The open effects of some keys.
#[derive(Default)]
pub(crate) struct Open {
    pub ids: BTreeSet<Uuid>,
    /// Those that wait for a person, each with the number of events of it.
    pub parked: BTreeMap<Uuid, i64>,
    pub claimed: Claims,
    /// Those of which a try is under way, and until when at the latest.
    pub under_way: BTreeMap<Uuid, DateTime<Utc>>,
}

/// Locks the open effects of `keys`.
pub(crate) async fn lock<'a>(tx: &mut PgConnection, keys: impl Iterator<Item = &'a str>) -> sqlx::Result<Open> {
    let keys: BTreeSet<&str> = keys.collect();
    /// Id, key, name, whether it is claimed, until when a try is under way, and of a parked one the number of its events.
    type Row = (Uuid, String, String, bool, Option<DateTime<Utc>>, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "select id, key, name, tries > 0, case when claimed_until > clock_timestamp() then claimed_until end,
             case when parked_at is not null then told end
         from effect where key = any($1) order by key, kind, seq for update",
    )
    .bind(keys.into_iter().collect::<Vec<_>>())
    .fetch_all(tx)
    .await?;
    let ids = rows.iter().map(|(id, ..)| *id).collect();
    let under_way = rows.iter().filter_map(|(id, .., until, _)| Some((*id, (*until)?))).collect();
    let parked = rows.iter().filter_map(|(id, .., told)| Some((*id, (*told)?))).collect();
    let claimed =
        rows.into_iter().filter(|(.., claimed, _, _)| *claimed).map(|(_, key, name, ..)| (key, name)).collect();
    Ok(Open { ids, parked, claimed, under_way })
}

/// One try of an effect: its number is that of the claim. Whoever comes back from a try whose claim ran out has nothing more to say of the
/// effect's row: another instance has taken it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Try {
    effect: Uuid,
    number: i32,
}

/// When the outside last told what became of an effect, by this instance's clock.
#[derive(Default)]
pub(crate) struct LastAnswer(Mutex<Option<DateTime<Utc>>>);

impl LastAnswer {
    pub fn at(&self) -> Option<DateTime<Utc>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Utc::now());
    }
}

/// An outcome whose handling failed: the effect stays, is asked for again later, and shows why.
pub(crate) async fn back_off(pool: &Database, of: Try, failure: &str) -> sqlx::Result<()> {
    postpone(pool, of, failure, Duration::from_secs(60)).await
}

/// Gives a claim back: its try has ended.
async fn postpone(pool: &Database, of: Try, answer: &str, wait: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "update effect set last_answer = $3, due = clock_timestamp() + $4, claimed_until = null where id = $1 and tries = $2",
    )
    .bind(of.effect)
    .bind(of.number)
    .bind(bounds::fitted(answer))
    .bind(wait)
    .execute(pool)
    .await?;
    Ok(())
}

/// Has a claim run out soon whose try was cut off: it may be at work outside still.
async fn cut_off(pool: &Database, of: Try) -> sqlx::Result<()> {
    sqlx::query(
        "update effect set last_answer = 'its instance was stopped during a try', due = soon.at, claimed_until = soon.at
         from (select clock_timestamp() + interval '1 millisecond' * $3 as at) soon where id = $1 and tries = $2",
    )
    .bind(of.effect)
    .bind(of.number)
    .bind(CUT_OFF.as_millis() as i64)
    .execute(pool)
    .await?;
    Ok(())
}

/// A claimed effect.
#[derive(sqlx::FromRow)]
struct Claimed {
    id: Uuid,
    key: String,
    kind: String,
    effect: serde_json::Value,
    #[sqlx(flatten)]
    causality: Causality,
    tries: i32,
    first_tried_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

impl Claimed {
    fn this_try(&self) -> Try {
        Try { effect: self.id, number: self.tries }
    }

    fn tried_for(&self) -> Duration {
        (self.now - self.first_tried_at).to_std().unwrap_or_default()
    }
}

/// So long an effect that this build cannot bring to an end is left to another one; then a person sees it.
const LEFT_FOR: Duration = Duration::from_secs(20 * 3600);
/// How long a stop waits for the tries that are under way.
const FINISH: Duration = Duration::from_millis(1_500);
/// A try that a stop has cut off may still be at work outside; then whoever comes next asks.
const CUT_OFF: Duration = Duration::from_secs(1);

/// Performs effects as they become due.
pub(crate) struct Performer<O: Outside> {
    pub pool: Database,
    pub outside: O,
    pub config: config::Effects,
    pub worker: mpsc::Sender<WorkItem<O::Policy>>,
    pub wake: Arc<Notify>,
    pub last_answer: Arc<LastAnswer>,
}

impl<O: Outside> Performer<O> {
    /// Runs until `stop`; then waits a moment for the tries that are under way, and gives back the claims of those that are not done.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let slots = Arc::new(Semaphore::new(this.config.concurrency));
        let mut under_way: HashMap<Try, AbortOnDropHandle<()>> = HashMap::new();
        while !stop.is_cancelled() {
            under_way.retain(|_, trying| !trying.is_finished());
            let free = slots.available_permits();
            // A claim runs from here at the latest, however late the database's answer comes.
            let asked = Instant::now();
            let wait = match this.claim(free).await {
                Ok(claimed) => {
                    let again = claimed.len() == free && free > 0;
                    for effect in claimed {
                        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                            return;
                        };
                        let (this_try, this, slots) = (effect.this_try(), Arc::clone(&this), Arc::clone(&slots));
                        let trying = AbortOnDropHandle::new(tokio::spawn(async move {
                            this.try_once(effect, asked).await;
                            // While all slots were taken, others that are due may have been left.
                            let full = slots.available_permits() == 0;
                            drop(slot);
                            if full {
                                this.wake.notify_one();
                            }
                        }));
                        under_way.insert(this_try, trying);
                    }
                    if again { Duration::ZERO } else { this.next_due().await.unwrap_or(FALLBACK_POLL) }
                }
                Err(error) => {
                    warn!(%error, "Due effects could not be claimed");
                    FALLBACK_POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = this.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        let _ = tokio::time::timeout(FINISH, join_all(under_way.values_mut())).await;
        under_way.retain(|_, trying| !trying.is_finished());
        for (cut, trying) in under_way {
            trying.abort();
            if let Err(error) = cut_off(&this.pool, cut).await {
                warn!(%error, effect.id = %cut.effect, "The claim was not given back; it runs out");
            }
        }
    }

    /// Claims due effects; of one key and kind only the one that was wanted first. The claim is committed before the outside is called.
    ///
    /// Written so that a plan finds rows by key and kind even where statistics call the table empty, which it mostly is: as a join
    /// with itself it read the whole table for each row.
    async fn claim(&self, most: usize) -> sqlx::Result<Vec<Claimed>> {
        if most == 0 {
            return Ok(vec![]);
        }
        sqlx::query_as(
            "update effect set tries = tries + 1, first_tried_at = coalesce(first_tried_at, clock_timestamp()),
                 due = ends.at, claimed_until = ends.at
             from (select clock_timestamp() + $2 as at) ends
             where id = any(array(
                 select id from effect e where parked_at is null and due <= now() and seq = (
                     select first.seq from effect first where first.key = e.key and first.kind = e.kind
                     order by first.key, first.kind, first.seq limit 1)
                 order by due limit $1 for update skip locked))
             returning id, key, kind, effect, causation_id, traceparent, tracestate, tries, first_tried_at,
                 clock_timestamp() as now",
        )
        .bind(most as i64)
        .bind(Duration::from_millis(self.config.claim_ms))
        .fetch_all(&self.pool)
        .await
    }

    /// How long nothing can be claimed. What waits behind another of its key and kind does not count: it is not to be had.
    async fn next_due(&self) -> sqlx::Result<Duration> {
        let next: Option<(DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
            "select due, clock_timestamp() from effect e where parked_at is null and seq = (
                 select first.seq from effect first where first.key = e.key and first.kind = e.kind
                 order by first.key, first.kind, first.seq limit 1)
             order by due limit 1",
        )
        .fetch_optional(&self.pool)
        .await?;
        // One that is due and locked by an input's transaction is looked for again soon, without spinning.
        Ok(next.map_or(FALLBACK_POLL, |(due, now)| {
            (due - now).to_std().unwrap_or_default().clamp(Duration::from_millis(20), FALLBACK_POLL)
        }))
    }

    async fn try_once(&self, claimed: Claimed, asked: Instant) {
        let effect: Effect<O> = match serde_json::from_value(claimed.effect.clone()) {
            Ok(effect) => effect,
            // Not what is in it: that may be secret.
            Err(error) => {
                let why = format!("the row cannot be read: {:?} error", error.classify());
                return self.leave(&claimed, &why).await;
            }
        };
        let within = Duration::from_millis(self.config.within_ms());
        if asked.elapsed() >= within {
            return warn!(effect.id = %claimed.id, "Its claim came too late to be used; it runs out");
        }
        let answer = AssertUnwindSafe(self.answer(&claimed, &effect)).catch_unwind();
        let answer = match tokio::time::timeout_at(asked + within, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => Answer::Unknown("the outside's answer made its reader panic: see the log".to_owned()),
            Err(_elapsed) => Answer::Unknown(format!("no answer within {within:?}")),
        };
        if !matches!(answer, Answer::Unknown(_)) {
            self.last_answer.came();
        }
        let result = match &answer {
            Answer::Known(_) => "known",
            Answer::Nothing => "nothing",
            Answer::Unknown(_) => "unknown",
        };
        counter!("quadrille_effect_tries_total", "kind" => claimed.kind.clone(), "answer" => result).increment(1);
        match answer {
            Answer::Known(outcome) => self.conclude(claimed, outcome).await,
            Answer::Nothing => self.postpone(&claimed, "the outside knows nothing of it").await,
            Answer::Unknown(reason) => match catch_unwind(AssertUnwindSafe(|| self.outside.limit(&effect))) {
                Ok(limit) if claimed.tried_for() < limit.after => self.postpone(&claimed, &reason).await,
                Ok(Limit { then: Then::Conclude(outcome), .. }) => self.conclude(claimed, outcome).await,
                Ok(Limit { then: Then::Park, .. }) => self.park(&claimed, &reason).await,
                Err(_panic) => self.leave(&claimed, "the outside's limit panicked: see the log").await,
            },
        }
    }

    /// Leaves to another build what this one cannot bring to an end, while one may be rolled out; then a person sees it.
    async fn leave(&self, claimed: &Claimed, why: &str) {
        match claimed.tried_for() < LEFT_FOR {
            true => self.postpone(claimed, why).await,
            false => self.park(claimed, why).await,
        }
    }

    /// Asks before it acts again; acts again only where the outside knows nothing and still would know.
    async fn answer(&self, claimed: &Claimed, effect: &Effect<O>) -> Answer<Outcome<O>> {
        if claimed.tries > 1 {
            match self.outside.ask(claimed.id, effect).await {
                Answer::Nothing if claimed.tried_for() < self.outside.limit(effect).after => {}
                Answer::Nothing => {
                    return Answer::Unknown("the outside knows nothing of it, and may have forgotten".into());
                }
                known_or_unknown => return known_or_unknown,
            }
        }
        self.outside.perform(claimed.id, effect).await
    }

    async fn conclude(&self, claimed: Claimed, outcome: Outcome<O>) {
        let name = outcome.name();
        info!(effect.id = %claimed.id, key = claimed.key, tries = claimed.tries, "{} came out as {name}", claimed.kind);
        let input = Input::Outcome { effect: claimed.id, outcome };
        let this_try = claimed.this_try();
        let envelope = claimed.causality.envelope(ids::outcome(claimed.id, &name), claimed.key, input);
        if self.worker.send(Work::Outcome(this_try, envelope).into()).await.is_err()
            && let Err(error) = postpone(&self.pool, this_try, &name, Duration::ZERO).boxed().await
        {
            // This instance is stopping. The claim runs out, and the next one asks the outside and hears the same.
            warn!(%error, effect.id = %claimed.id, "The claim was not given back");
        }
    }

    // What is seldom is boxed: a try's future is copied into a task of its own, and would be several times as large.
    fn postpone<'a>(&'a self, claimed: &'a Claimed, answer: &'a str) -> BoxFuture<'a, ()> {
        self.keep_postponed(claimed, answer).boxed()
    }

    async fn keep_postponed(&self, claimed: &Claimed, answer: &str) {
        let wait_ms = self.config.backoff_ms(claimed.tries);
        warn!(effect.id = %claimed.id, key = claimed.key, tries = claimed.tries, wait_ms, "{} is unknown: {answer}", claimed.kind);
        if let Err(error) = postpone(&self.pool, claimed.this_try(), answer, Duration::from_millis(wait_ms)).await {
            warn!(%error, effect.id = %claimed.id, "The answer was not kept; the claim runs out and it is asked again");
        }
        // It may be due sooner than the next look.
        self.wake.notify_one();
    }

    fn park<'a>(&'a self, claimed: &'a Claimed, reason: &'a str) -> BoxFuture<'a, ()> {
        self.give_up(claimed, reason).boxed()
    }

    async fn give_up(&self, claimed: &Claimed, reason: &str) {
        error!(effect.id = %claimed.id, key = claimed.key, tries = claimed.tries, "{} is parked for a person: {reason}", claimed.kind);
        counter!("quadrille_effects_parked_total", "kind" => claimed.kind.clone()).increment(1);
        if let Err(error) = self.pool.transaction(async |tx| keep_parked::<O>(tx, claimed, reason).await).await {
            warn!(%error, effect.id = %claimed.id, "It was not parked; the claim runs out and it is asked again");
        }
    }
}

async fn keep_parked<O: Outside>(tx: &mut PgConnection, claimed: &Claimed, reason: &str) -> sqlx::Result<()> {
    let reason = bounds::fitted(reason);
    let parked: Option<i64> = sqlx::query_scalar(
        "update effect set parked_at = clock_timestamp(), claimed_until = null, last_answer = $2, told = told + 1
             where id = $1 and tries = $3 and parked_at is null returning told",
    )
    .bind(claimed.id)
    .bind(&reason)
    .bind(claimed.tries)
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(version) = parked {
        let event = EffectParked {
            effect_id: claimed.id,
            service: O::Policy::SERVICE.to_owned(),
            aggregate: claimed.key.clone(),
            kind: claimed.kind.clone(),
            tries: claimed.tries,
            reason,
        };
        platform_events::insert(tx, O::Policy::SERVICE, &[(version, event.into())]).await?;
    }
    Ok(())
}
