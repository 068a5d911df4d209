//! Effects and timers: workers over tables, several instances, an outside that may answer or not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{Instance, Shop, assert_order, distinct, tables};
use chrono::TimeDelta;
use quadrille_cli::kafka::Record;
use quadrille_core::{
    Decision, Envelope, Fact, Input, Moment, Named, Nothing, Policy, Record as _, Row, bounds, records,
};
use quadrille_events::{StockReplenished, StockReplenishmentRequested, StockRequestRefused};
use quadrille_platform::{
    EffectAnswered, EffectParked, EffectResumed, InstanceHeartbeat, OperatorRequestCarriedOut, RedriveRequested,
};
use quadrille_runtime::{Answer, Limit, Mapped, Outside, Service, Store, Then, config::NoSettings, table};
use quadrille_testkit::decoded;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio::sync::Notify;
use uuid::Uuid;

records! { pub enum Heard { StockReplenishmentRequested } }
records! { pub enum Stated { StockReplenished, StockRequestRefused } }

/// The warehouse is asked to take in what comes: the request's quantity says how it answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct TakeIn {
    asked: Uuid,
    quantity: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Outcome {
    TakenIn { asked: Uuid, quantity: i32 },
    GivenUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Reminder {
    asked: Uuid,
}

impl Named for TakeIn {
    fn kind(&self) -> &'static str {
        "take_in"
    }
    fn name(&self) -> String {
        format!("take_in/{}", self.asked)
    }
}
impl Named for Outcome {
    fn kind(&self) -> &'static str {
        match self {
            Self::TakenIn { .. } => "taken_in",
            Self::GivenUp => "given_up",
        }
    }
}
impl Named for Reminder {
    fn kind(&self) -> &'static str {
        "reminder"
    }
    fn name(&self) -> String {
        format!("reminder/{}", self.asked)
    }
}

/// What a policy and an outside that were not thought to their ends panic over: what may be answered, and how long it is tried.
const ODD: i32 = 11;
/// Above this a request sets a timer of as many milliseconds more, instead of wanting an effect.
const TIMER: i32 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Warehouse;
type State = BTreeMap<String, (i64, i64)>;

impl Policy for Warehouse {
    const SERVICE: &'static str = "tally";
    const TABLES: &'static [&'static str] = &["tally"];
    type Heard = Heard;
    type Stated = Stated;
    type Effect = TakeIn;
    type Outcome = Outcome;
    type Timer = Reminder;
    type Command = Nothing;
    type State = State;

    fn rows(_: &State, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(_: &State, moment: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        let refused = |why: &str, asked| {
            Decision::fact(StockRequestRefused {
                sku: input.key.clone(),
                request: String::new(),
                replenishment_id: Some(asked),
                reason: why.into(),
                field: String::new(),
                detail: moment.now.to_rfc3339(),
            })
        };
        match &input.input {
            Input::Record(Heard::StockReplenishmentRequested(asked)) => {
                let StockReplenishmentRequested { replenishment_id, quantity, .. } = *asked;
                if quantity > TIMER {
                    let due = moment.now + TimeDelta::milliseconds((quantity - TIMER).into());
                    return refused(&format!("due {}", due.timestamp_micros()), replenishment_id).set(
                        &input.key,
                        Reminder { asked: replenishment_id },
                        due,
                    );
                }
                Decision::nothing().perform(&input.key, TakeIn { asked: replenishment_id, quantity })
            }
            Input::Gone(never) | Input::Command(never) => match *never {},
            Input::Timer(Reminder { asked }) => refused(&format!("now {}", moment.now.timestamp_micros()), *asked),
            Input::Outcome { outcome: Outcome::TakenIn { asked, quantity }, .. } => {
                Decision::fact(StockReplenished::new(input.key.clone(), *asked, *quantity))
            }
            Input::Outcome { outcome: Outcome::GivenUp, .. } => refused("given_up", Uuid::nil()),
        }
    }

    fn answers(effect: &TakeIn, outcome: &Outcome) -> bool {
        assert!(effect.quantity != ODD, "no answer is known");
        match outcome {
            Outcome::TakenIn { asked, .. } => *asked == effect.asked,
            Outcome::GivenUp => true,
        }
    }

    fn is_deadline(Reminder { asked }: &Reminder) -> bool {
        assert!(!asked.is_nil(), "no deadline is known");
        false
    }

    fn evolve(_: &mut State, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(state: &'a mut State, fact: &Stated) -> &'a mut i64 {
        let (Stated::StockReplenished(StockReplenished { sku, .. })
        | Stated::StockRequestRefused(StockRequestRefused { sku, .. })) = fact;
        &mut state.entry(sku.clone()).or_default().1
    }
}

table! {
    struct WarehouseRow in "tally" {
        key sku: String,
        pieces: i64,
        version: i64,
    }
}

impl Mapped for WarehouseRow {
    type Value = (i64, i64);

    fn from_value(sku: String, &(pieces, version): &(i64, i64)) -> Self {
        Self { sku, pieces, version }
    }

    fn into_value(self) -> sqlx::Result<(i64, i64)> {
        assert!(self.pieces >= 0, "no such row is known");
        Ok((self.pieces, self.version))
    }
}

struct Table;

impl Store for Table {
    type Policy = Warehouse;

    async fn load(&self, tx: &mut PgConnection, _: &str, skus: &[String], state: &mut State) -> sqlx::Result<()> {
        WarehouseRow::load(tx, skus, state).await
    }

    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, _: &[Fact<Warehouse>]) -> sqlx::Result<()> {
        WarehouseRow::save(tx, old, new).await
    }
}

/// What the outside did, by idempotency key: how often it was told to act, and how often it was asked.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<Uuid, (u32, u32)>>, Notify, AtomicBool, tokio::sync::Mutex<()>);

impl Ledger {
    fn count(&self, id: Uuid, acts: u32, asks: u32) -> (u32, u32) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = keys.entry(id).or_default();
        counts.0 += acts;
        counts.1 += asks;
        self.1.notify_one();
        *counts
    }

    fn all(&self) -> Vec<(u32, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

/// Quantities 1 answer at once; 2 act and lose the answer; 3 lose the request; 4 never answer; 5 act, and then nothing comes; 6 are
/// not answered until the warehouse is back (the ledger's third part); 7 are answered once the gate is opened (its fourth); 8 panic at the
/// first try; of 9 nothing is known once the gate is opened; what is said of 10 no database takes as it is.
struct Gate(Arc<Ledger>);

fn garbled() -> String {
    format!("busy\0\n{}", "!".repeat(1_000))
}

impl Gate {
    async fn nothing_known(&self) -> Answer<Outcome> {
        drop(self.0.3.lock().await);
        Answer::Unknown("nobody knows".into())
    }
}

impl Outside for Gate {
    type Policy = Warehouse;

    async fn perform(&self, id: Uuid, effect: &TakeIn) -> Answer<Outcome> {
        let (acts, _) = self.0.count(id, 1, 0);
        match effect.quantity {
            2 | 4 | 6 | ODD => Answer::Unknown("the answer was lost".into()),
            3 if acts == 1 => Answer::Unknown("the request was lost".into()),
            5 => std::future::pending().await,
            7 => {
                drop(self.0.3.lock().await);
                Answer::Known(Outcome::TakenIn { asked: effect.asked, quantity: 7 })
            }
            8 => panic!("the answer cannot be read"),
            9 => self.nothing_known().await,
            10 => Answer::Unknown(garbled()),
            _ => Answer::Known(Outcome::TakenIn { asked: effect.asked, quantity: effect.quantity }),
        }
    }

    async fn ask(&self, id: Uuid, effect: &TakeIn) -> Answer<Outcome> {
        self.0.count(id, 0, 1);
        match effect.quantity {
            3 => Answer::Nothing,
            4 | ODD => Answer::Unknown("nobody answers".into()),
            9 => self.nothing_known().await,
            10 => Answer::Unknown(garbled()),
            6 if !self.0.2.load(Ordering::SeqCst) => Answer::Unknown("the warehouse is away".into()),
            _ => Answer::Known(Outcome::TakenIn { asked: effect.asked, quantity: effect.quantity }),
        }
    }

    fn limit(&self, effect: &TakeIn) -> Limit<Outcome> {
        assert!(effect.quantity != ODD, "no limit is known");
        let then = if effect.quantity == 4 { Then::Conclude(Outcome::GivenUp) } else { Then::Park };
        Limit { after: Duration::from_secs(2), then }
    }
}

fn start(shop: &Shop, ledger: &Arc<Ledger>) -> Instance {
    let mut config = shop.config();
    config.effects.first_backoff_ms = 50;
    let ledger = Arc::clone(ledger);
    Instance::start(Service::new(Table).migrations(&tables()).outside(move |_: NoSettings| Ok(Gate(ledger))), config)
}

/// Of an instance that cannot start no part is left in its process: nobody takes the relay's lease, or says that it is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_outside_that_cannot_be_made_leaves_nothing_behind() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let connect = |_: NoSettings| -> anyhow::Result<Gate> { anyhow::bail!("the warehouse has no address") };
    let service = Service::new(Table).migrations(&tables()).outside(connect);
    let refused = service.run_until(shop.config(), std::future::pending()).await.expect_err("it has no outside");
    assert_eq!(format!("{refused:#}"), "the outside: the warehouse has no address");
    // Both are the first that an instance does.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(shop.is("select count(*) = 0 from lease").await?, "a relay is at work");
    assert!(
        shop.world.read(&InstanceHeartbeat::TYPE.topic.name).await?.is_empty(),
        "an instance says that it is there"
    );
    Ok(())
}

/// Two instances claim from one table: each effect is performed once, whoever has it.
#[tokio::test(flavor = "multi_thread")]
async fn several_instances_perform_each_effect_once() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instances = [start(&shop, &ledger), start(&shop, &ledger)];
    for n in 0..300 {
        shop.ask_for(&format!("SKU-{n}"), 1, Some(n % 6)).await?;
    }
    let stated = shop.stated(300).await?;
    assert_order(&stated);
    assert_eq!(ledger.all(), vec![(1, 0); 300]);
    for instance in instances {
        instance.stop().await?;
    }
    let open: i64 = sqlx::query_scalar("select count(*) from effect").fetch_one(&shop.database.pool).await?;
    assert_eq!(open, 0, "an effect's row goes with its outcome");
    Ok(())
}

/// What is not known is not stated: it is asked for before it is done again, under one key, and concluded once.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_asked_for_before_it_is_done_again() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    shop.ask_for("LOST-ANSWER", 2, None).await?;
    shop.ask_for("LOST-REQUEST", 3, None).await?;
    shop.ask_for("SILENT", 4, None).await?;
    let stated = shop.stated(3).await?;
    assert_eq!(distinct(&stated), 3);
    let of = |sku: &str| stated.iter().find(|record| record.key_text() == sku).expect("each SKU has its answer");
    assert_eq!(decoded::<StockReplenished>(of("LOST-ANSWER"))?.quantity, 2);
    assert_eq!(decoded::<StockReplenished>(of("LOST-REQUEST"))?.quantity, 3);
    assert_eq!(decoded::<StockRequestRefused>(of("SILENT"))?.reason, "given_up");
    let counts = ledger.all();
    assert!(counts.contains(&(1, 1)), "done once, then asked: {counts:?}");
    assert!(counts.contains(&(2, 1)), "asked before it was done again: {counts:?}");
    let silent = counts.iter().find(|(_, asks)| *asks > 1).expect("the silent one is asked again and again");
    assert_eq!(silent.0, 1, "and done once: {counts:?}");
    instance.stop().await
}

/// Claiming and withdrawing contend for the row: a claim outlives its instance, and the next one asks first.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_dead_instance_is_taken_over_by_asking() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let effect = TakeIn { asked: Uuid::from_u128(7), quantity: 1 };
    let id = Uuid::from_u128(42);
    sqlx::query(
        "insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate, tries, first_tried_at, due)
         values ($1, 'TEA', 'take_in', $2, $3, $1, '', '', 1, clock_timestamp(), clock_timestamp())",
    )
    .bind(id)
    .bind(effect.name())
    .bind(sqlx::types::Json(&effect))
    .execute(&shop.database.pool)
    .await?;
    let instance = start(&shop, &ledger);
    shop.stated(1).await?;
    assert_eq!(ledger.all(), [(0, 1)], "it was asked for, and not done again");
    instance.stop().await
}

/// A try whose claim ran out says nothing more of an effect that another instance has taken up since: it is neither put off nor parked by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_try_changes_nothing_of_a_later_ones_claim() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let gate = ledger.3.lock().await;
    // One that would be tried again, and one whose time has passed.
    for (key, tries, hours) in [("YOUNG", 0, 0), ("OLD", 1, 1)] {
        let effect = TakeIn { asked: Uuid::new_v4(), quantity: 9 };
        sqlx::query(
            "insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate, tries, first_tried_at)
             values ($1, $2, 'take_in', $3, $4, $1, '', '', $5, clock_timestamp() - make_interval(hours => $6))",
        )
        .bind(effect.asked)
        .bind(key)
        .bind(effect.name())
        .bind(Json(&effect))
        .bind(tries)
        .bind(hours)
        .execute(&shop.database.pool)
        .await?;
    }
    let instance = start(&shop, &ledger);
    const UNDER_WAY: &str = "select count(*) from effect where claimed_until > clock_timestamp() having count(*) = 2";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(UNDER_WAY).fetch_optional(pool)).await?;
    sqlx::query(
        "update effect set tries = tries + 1, last_answer = 'another instance asks', due = soon.at, claimed_until = soon.at
         from (select clock_timestamp() + interval '1 hour' as at) soon",
    )
    .execute(&shop.database.pool)
    .await?;
    drop(gate);
    // A stop waits for the tries that are under way.
    instance.stop().await?;
    const KEPT: &str =
        "select key, last_answer, parked_at is null, claimed_until > clock_timestamp() from effect order by key";
    let kept: Vec<(String, String, bool, bool)> = sqlx::query_as(KEPT).fetch_all(&shop.database.pool).await?;
    let untouched = |key: &str| (key.to_owned(), "another instance asks".to_owned(), true, true);
    assert_eq!(kept, [untouched("OLD"), untouched("YOUNG")]);
    assert!(shop.world.read("platform.events").await?.is_empty(), "nobody is told of a parked effect");
    Ok(())
}

/// What this build cannot read another one may; in the end a person sees it.
#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_cannot_be_read_waits_for_another_build_and_then_for_a_person() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = start(&shop, &Arc::new(Ledger::default()));
    sqlx::query(
        "insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate, tries, first_tried_at)
         select id, key, 'take_in', key, '{\"from\": \"tomorrow\"}', id, '', '', 1, clock_timestamp() - interval '1 hour' * hours
         from (values ($1, 'NEW', 1), ($2, 'OLD', 21)) as new(id, key, hours)",
    )
    .bind(Uuid::from_u128(1))
    .bind(Uuid::from_u128(2))
    .execute(&shop.database.pool)
    .await?;
    const TRIED: &str =
        "select parked_at is not null from effect where key = $1 and last_answer like 'the row cannot be read%'";
    for (key, parked) in [("NEW", false), ("OLD", true)] {
        let is: bool = shop.row(|pool| sqlx::query_scalar(TRIED).bind(key).fetch_optional(pool)).await?;
        assert_eq!(is, parked, "{key}");
    }
    instance.stop().await
}

/// The same of one whose limit nobody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn an_effect_whose_limit_panics_waits_for_another_build_and_then_for_a_person() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = start(&shop, &Arc::new(Ledger::default()));
    sqlx::query(
        "insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate, tries, first_tried_at)
         select id, key, 'take_in', key, $3, id, '', '', 1, clock_timestamp() - interval '1 hour' * hours
         from (values ($1, 'NEW', 1), ($2, 'OLD', 21)) as new(id, key, hours)",
    )
    .bind(Uuid::from_u128(1))
    .bind(Uuid::from_u128(2))
    .bind(Json(TakeIn { asked: Uuid::from_u128(3), quantity: ODD }))
    .execute(&shop.database.pool)
    .await?;
    const TRIED: &str =
        "select parked_at is not null from effect where key = $1 and last_answer like 'the outside''s limit panicked%'";
    for (key, parked) in [("NEW", false), ("OLD", true)] {
        let is: bool = shop.row(|pool| sqlx::query_scalar(TRIED).bind(key).fetch_optional(pool)).await?;
        assert_eq!(is, parked, "{key}");
    }
    instance.stop().await
}

/// Whatever of a service's own code panics over an input, that input alone stops. Cases: its store, over a row; its policy, asked whether a timer is a
/// deadline, and whether what a person says can be an effect's outcome.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_anywhere_in_a_transaction_stops_one_input_alone() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    sqlx::query("insert into tally (sku, pieces) values ('BROKEN', -1)").execute(&shop.database.pool).await?;
    let instance = start(&shop, &Arc::new(Ledger::default()));
    shop.ask_for("BROKEN", 1, None).await?;
    shop.world.send(&StockReplenishmentRequested::new("TEA".into(), Uuid::nil(), TIMER + 1)).await?;
    shop.ask_for("ODD", ODD, None).await?;
    const TRIED: &str = "select id from effect where tries > 0";
    let id: Uuid = shop.row(|pool| sqlx::query_scalar(TRIED).fetch_optional(pool)).await?;
    shop.world.send(&given_up(id)).await?;
    const LETTERS: &str =
        "select array_agg(detail) from dead_letter where reason = 'handling_failed' having count(*) = 3";
    let details: Vec<String> = shop.row(|pool| sqlx::query_scalar(LETTERS).fetch_optional(pool)).await?;
    for cause in ["no such row is known", "no deadline is known", "no answer is known"] {
        assert!(details.iter().any(|detail| detail.contains(cause)), "{cause}: {details:?}");
    }
    shop.ask_for("TEA", 1, None).await?;
    assert_eq!(decoded::<StockReplenished>(&shop.stated(1).await?[0])?.quantity, 1);
    instance.stop().await
}

const PARKED: &str = "select id, effect from effect where parked_at is not null";

/// An effect that nobody answers is parked; a person's word on it is checked, and then is its outcome: once.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_what_the_outside_does_not_tell() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instances = [start(&shop, &ledger), start(&shop, &ledger)];
    shop.ask_for("TEA", 6, None).await?;
    let (id, Json(effect)): (Uuid, Json<TakeIn>) = shop.row(|pool| sqlx::query_as(PARKED).fetch_optional(pool)).await?;
    let taken = |asked: Uuid| serde_json::to_string(&Outcome::TakenIn { asked, quantity: 6 }).expect("JSON");
    let answer = |id: Uuid, outcome: String| EffectAnswered {
        outcome,
        who: "ann".into(),
        why: "they said so on the phone".into(),
        ..EffectAnswered::new("tally".into(), id)
    };
    let good = answer(id, taken(effect.asked));
    for (wrong, why) in [
        (answer(id, taken(Uuid::nil())), "outcome: 'taken_in' is no answer to 'take_in'"),
        (answer(id, "yes".into()), "outcome: this is none of tally"),
        (answer(Uuid::nil(), good.outcome.clone()), "effect_id: there is no open effect"),
        (EffectAnswered { who: " ".into(), ..good.clone() }, "who"),
        (EffectAnswered { why: "\u{0}".into(), ..good.clone() }, "why"),
    ] {
        let (result, detail) = shop.operate(&wrong).await?;
        assert!(result == "refused" && detail.contains(why), "{result}: {detail}, not {why}");
    }
    let (result, detail) = shop.operate(&good).await?;
    assert_eq!(result, "done", "{detail}");
    let stated = shop.stated(1).await?;
    assert_eq!(decoded::<StockReplenished>(&stated[0])?.quantity, 6);
    let (result, detail) = shop.operate(&good).await?;
    assert!(result == "refused" && detail.contains("it has had its outcome"), "{detail}");
    assert_eq!(ledger.all()[0].0, 1, "it was done once");
    for instance in instances {
        instance.stop().await?;
    }
    let kept: (String, String, String) =
        sqlx::query_as("select what, who, why from operator_action where result = 'done'")
            .fetch_one(&shop.database.pool)
            .await?;
    assert_eq!(kept, ("answer".into(), "ann".into(), "they said so on the phone".into()));
    let told = shop.platform_events(id, 2).await?;
    let parked: EffectParked = decoded(&told[0])?;
    assert_eq!((parked.kind.as_str(), parked.aggregate.as_str(), parked.service.as_str()), ("take_in", "TEA", "tally"));
    assert_eq!(decoded::<EffectResumed>(&told[1])?.how, "answered");
    assert_eq!(shop.stated(1).await?.len(), 1);
    Ok(())
}

fn given_up(id: Uuid) -> EffectAnswered {
    EffectAnswered {
        outcome: serde_json::to_string(&Outcome::GivenUp).expect("JSON"),
        who: "ann".into(),
        why: "they said so on the phone".into(),
        ..EffectAnswered::new("tally".into(), id)
    }
}

/// While a try is under way its outcome may come, so nobody answers in its place; between two tries a person may.
#[tokio::test(flavor = "multi_thread")]
async fn a_persons_answer_is_refused_while_a_try_is_under_way() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instances = [start(&shop, &ledger), start(&shop, &ledger)];
    let gate = ledger.3.lock().await;
    shop.ask_for("TEA", 7, None).await?;
    const UNDER_WAY: &str = "select id from effect where claimed_until > clock_timestamp() + interval '1 second'";
    let id: Uuid = shop.row(|pool| sqlx::query_scalar(UNDER_WAY).fetch_optional(pool)).await?;
    // What the outside will say too is refused like anything else, and counts once the outside has said it.
    let effect: Json<TakeIn> =
        shop.row(|pool| sqlx::query_scalar("select effect from effect").fetch_optional(pool)).await?;
    let same = serde_json::to_string(&Outcome::TakenIn { asked: effect.asked, quantity: 7 })?;
    for answer in [given_up(id), EffectAnswered { outcome: same, ..given_up(id) }] {
        let (result, detail) = shop.operate(&answer).await?;
        assert!(
            result == "refused" && detail.contains("is being tried just now") && detail.contains("answer after 2"),
            "{detail}"
        );
    }
    drop(gate);
    assert_eq!(decoded::<StockReplenished>(&shop.stated(1).await?[0])?.quantity, 7);
    let (result, detail) = shop.operate(&given_up(id)).await?;
    assert!(result == "refused" && detail.contains("it has had its outcome"), "{detail}");

    // Tried, without an outcome, and nothing under way: for a minute it is not asked for again.
    shop.ask_for("COFFEE", 6, None).await?;
    const WAITS: &str = "update effect set due = clock_timestamp() + interval '1 minute' where tries > 0 and claimed_until is null returning id";
    let id: Uuid = shop.row(|pool| sqlx::query_scalar(WAITS).fetch_optional(pool)).await?;
    let (result, detail) = shop.operate(&given_up(id)).await?;
    assert_eq!(result, "done", "{detail}");
    assert_eq!(shop.stated(2).await?.len(), 2);
    for instance in instances {
        instance.stop().await?;
    }
    Ok(())
}

/// An answer and a claim contend for the effect's row: whoever has it first. An answer that was looked at before the claim is looked at
/// again under the lock.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_and_a_claim_one_has_the_row() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    let pool = shop.database.pool.clone();
    const ID: &str = "update effect set due = clock_timestamp() + interval '1 day'
        where key = $1 and tries > 0 and claimed_until is null returning id";
    const BLOCKED: &str = "select pid from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like $1 limit 1";

    // The claim comes first: the answer's transaction has looked at the effect, and waits for its state's row.
    shop.ask_for("CLAIM-FIRST", 6, None).await?;
    let id: Uuid = shop.row(|pool| sqlx::query_scalar(ID).bind("CLAIM-FIRST").fetch_optional(pool)).await?;
    let mut held = pool.begin().await?;
    sqlx::query("select from tally where sku = 'CLAIM-FIRST' for update").execute(&mut *held).await?;
    shop.world.send(&given_up(id)).await?;
    let _: i32 = shop.row(|pool| sqlx::query_scalar(BLOCKED).bind("%from tally%").fetch_optional(pool)).await?;
    sqlx::query("update effect set claimed_until = clock_timestamp() + interval '1 minute' where id = $1")
        .bind(id)
        .execute(&pool)
        .await?;
    held.rollback().await?;
    const DETAIL: &str = "select result, detail from operator_action where detail like $1";
    let about = format!("%{id}%");
    let (result, detail): (String, String) =
        shop.row(|pool| sqlx::query_as(DETAIL).bind(&about).fetch_optional(pool)).await?;
    assert!(result == "refused" && detail.contains("is being tried just now"), "{detail}");

    // The answer comes first: its transaction has the effect's row, and waits for the outbox. The effect is due, and is not claimed.
    shop.ask_for("ANSWER-FIRST", 6, None).await?;
    let id: Uuid = shop.row(|pool| sqlx::query_scalar(ID).bind("ANSWER-FIRST").fetch_optional(pool)).await?;
    let (acts, asks) = ledger.count(id, 0, 0);
    let mut held = pool.begin().await?;
    sqlx::query("lock table outbox in share mode").execute(&mut *held).await?;
    shop.world.send(&given_up(id)).await?;
    let _: i32 = shop.row(|pool| sqlx::query_scalar(BLOCKED).bind("%into outbox%").fetch_optional(pool)).await?;
    // Made due as a claim sees it: the answer's transaction has the row, so that this waits for it.
    let due = tokio::spawn(async move {
        sqlx::query("update effect set due = clock_timestamp() where id = $1").bind(id).execute(&pool).await
    });
    let _: i32 =
        shop.row(|pool| sqlx::query_scalar(BLOCKED).bind("update effect set due%").fetch_optional(pool)).await?;
    held.rollback().await?;
    assert_eq!(due.await??.rows_affected(), 0, "its row went with the answer");
    let about = format!("%{id}%");
    let (result, detail): (String, String) =
        shop.row(|pool| sqlx::query_as(DETAIL).bind(&about).fetch_optional(pool)).await?;
    assert_eq!(result, "done", "{detail}");
    assert_eq!(ledger.count(id, 0, 0), (acts, asks), "nothing was tried since");
    instance.stop().await
}

/// A redriven effect's row is locked with those of the batch's other effects, after the state's rows: locked first, it could wait for
/// somebody who waits for those.
#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_locks_no_effect_before_its_batchs_rows() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    shop.ask_for("A", 6, None).await?;
    shop.ask_for("B", 6, None).await?;
    const BOTH: &str = "select array_agg(id order by key) from effect where parked_at is not null having count(*) = 2";
    let ids: Vec<Uuid> = shop.row(|pool| sqlx::query_scalar(BOTH).fetch_optional(pool)).await?;

    // While the worker waits for a row, what comes gathers to one batch.
    let mut held = shop.database.pool.begin().await?;
    sqlx::query("insert into tally (sku) values ('HELD')").execute(&mut *held).await?;
    shop.ask_for("HELD", 1, None).await?;
    const BLOCKED: &str = "select pid from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like $1 limit 1";
    let _: i32 = shop.row(|pool| sqlx::query_scalar(BLOCKED).bind("%into tally%").fetch_optional(pool)).await?;
    let (who, why) = ("ann".to_owned(), "the warehouse is back".to_owned());
    let redrive = RedriveRequested { effect_id: Some(ids[1]), who, why, ..RedriveRequested::new("tally".into()) };
    shop.world.send(&redrive).await?;
    shop.world.send(&given_up(ids[0])).await?;
    // Nothing tells that they lie before the worker; where they do not, the test only sees less.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut other = shop.database.pool.begin().await?;
    sqlx::query("select from tally where sku = 'A' for update").execute(&mut *other).await?;
    held.rollback().await?;
    let _: i32 = shop.row(|pool| sqlx::query_scalar(BLOCKED).bind("%from tally%").fetch_optional(pool)).await?;
    sqlx::query("select from effect where id = $1 for update nowait").bind(ids[1]).execute(&mut *other).await?;
    other.rollback().await?;
    const DONE: &str = "select count(*) from operator_action where result = 'done' having count(*) = 2";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(DONE).fetch_optional(pool)).await?;
    instance.stop().await
}

/// An outside whose answer makes its reader panic has said nothing: it is shown, and asked for like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_outside_is_no_outcome_and_ends_nothing() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    shop.ask_for("TEA", 8, None).await?;
    assert_eq!(decoded::<StockReplenished>(&shop.stated(1).await?[0])?.quantity, 8);
    assert_eq!(ledger.all(), [(1, 1)], "done once, then asked");
    instance.stop().await
}

/// What the outside says is kept whatever it is, and keeps neither the next try nor a person from the effect.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_outside_says_is_kept_within_bounds() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let instance = start(&shop, &Arc::new(Ledger::default()));
    shop.ask_for("TEA", 10, None).await?;
    let kept = format!("busy  {}", "!".repeat(bounds::TEXT - 6));
    const GIVEN_BACK: &str = "select last_answer from effect where claimed_until is null and last_answer is not null";
    let said: String = shop.row(|pool| sqlx::query_scalar(GIVEN_BACK).fetch_optional(pool)).await?;
    assert_eq!(said, kept);
    const LAST: &str = "select id, last_answer from effect where parked_at is not null";
    let (id, said): (Uuid, String) = shop.row(|pool| sqlx::query_as(LAST).fetch_optional(pool)).await?;
    assert_eq!(said, kept);
    assert_eq!(decoded::<EffectParked>(&shop.platform_events(id, 1).await?[0])?.reason, kept);
    instance.stop().await
}

/// The same answer twice in one batch, as two people give it or a person and the outside: one input, which takes effect.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_answer_twice_in_one_batch_takes_effect_once() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    let gate = ledger.3.lock().await;
    shop.ask_for("TEA", 7, None).await?;
    const UNDER_WAY: &str = "select id, effect from effect where tries > 0";
    let (id, Json(effect)): (Uuid, Json<TakeIn>) =
        shop.row(|pool| sqlx::query_as(UNDER_WAY).fetch_optional(pool)).await?;

    // While the worker waits for a row, what comes gathers to one batch.
    let mut held = shop.database.pool.begin().await?;
    sqlx::query("insert into tally (sku) values ('HELD')").execute(&mut *held).await?;
    shop.ask_for("HELD", 1, None).await?;
    const WAITS: &str = "select pid from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like '%into tally%' limit 1";
    let _: i32 = shop.row(|pool| sqlx::query_scalar(WAITS).fetch_optional(pool)).await?;
    let same = EffectAnswered {
        outcome: serde_json::to_string(&Outcome::TakenIn { asked: effect.asked, quantity: 7 })?,
        who: "ann".into(),
        why: "they said so on the phone".into(),
        ..EffectAnswered::new("tally".into(), id)
    };
    shop.world.send(&same).await?;
    shop.world.send(&same).await?;
    drop(gate);
    // Nothing tells that they lie before the worker; where they do not, the test only sees less.
    tokio::time::sleep(Duration::from_millis(500)).await;
    held.rollback().await?;

    let stated = shop.stated(2).await?;
    assert_eq!(distinct(&stated), 2, "its outcome is stated, and what was asked meanwhile");
    const ALL: &str = "select array_agg(result) from operator_action having count(*) = 2";
    let _: Vec<String> = shop.row(|pool| sqlx::query_scalar(ALL).fetch_optional(pool)).await?;
    instance.stop().await?;
    assert_eq!(shop.world.read("stock.events").await?.len(), 2);
    Ok(())
}

/// A parked effect that is redriven is asked about, not done again.
#[tokio::test(flavor = "multi_thread")]
async fn a_redriven_effect_is_asked_about_first() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    shop.ask_for("TEA", 6, None).await?;
    let (id, _): (Uuid, Json<TakeIn>) = shop.row(|pool| sqlx::query_as(PARKED).fetch_optional(pool)).await?;
    ledger.2.store(true, Ordering::SeqCst);
    let (who, why) = ("ann".to_owned(), "the warehouse is back".to_owned());
    let redrive = RedriveRequested { effect_id: Some(id), who, why, ..RedriveRequested::new("tally".into()) };
    let (result, detail) = shop.operate(&redrive).await?;
    assert_eq!(result, "done", "{detail}");
    shop.stated(1).await?;
    assert_eq!(ledger.all()[0].0, 1, "done once, and then asked about");
    let told = shop.platform_events(id, 2).await?;
    assert_eq!(decoded::<EffectResumed>(&told[1])?.how, "redriven");
    let asked: Uuid = sqlx::query_scalar("select id from operator_action").fetch_one(&shop.database.pool).await?;
    let act: OperatorRequestCarriedOut = decoded(&shop.platform_events(asked, 1).await?[0])?;
    assert_eq!((act.what.as_str(), act.who.as_str(), act.result.as_str()), ("redrive", "ann", "done"));
    let (result, detail) = shop.operate(&redrive).await?;
    assert!(result == "refused", "{detail}");
    instance.stop().await
}

/// A heartbeat tells what is the instance's, how far it has come, and when the outside last answered; it says who sent it. Cases: before the first
/// effect, after it, and the record that takes it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_tells_how_an_instance_gets_on() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instance = start(&shop, &ledger);
    let topic = &*InstanceHeartbeat::TYPE.topic.name;
    let last = |records: &[Record]| {
        records.last().filter(|last| last.value.is_some()).and_then(|last| decoded::<InstanceHeartbeat>(last).ok())
    };
    // Six partitions of the requests, and one of the operators'.
    let has_all = |beat: &InstanceHeartbeat| beat.assigned.iter().map(|of| of.partitions.len()).sum::<usize>() == 7;
    let settled = move |records: &[Record]| last(records).is_some_and(|beat| has_all(&beat) && beat.lag == Some(0));
    let beats = shop.world.read_until(topic, settled).await?;
    let beat = last(&beats).expect("it was waited for");
    assert_eq!(beat.assigned[1].topic, "stock.requests");
    assert_eq!((&*beat.assigned[1].partitions, beat.assigned[1].lag), (&[0, 1, 2, 3, 4, 5][..], Some(0)));
    assert_eq!((beat.outbox_rows, beat.outbox_age_seconds, beat.outside_answered_at), (Some(0), Some(0), None));
    assert_eq!(beat.advertised.as_deref(), Some(&*beat.http));
    let record = beats.last().expect("it was waited for");
    let says = |name| record.header(name).unwrap_or_default().to_owned();
    assert!(
        record.header("ce_id").and_then(|id| Uuid::try_parse(id).ok()).is_some_and(|id| id.get_version_num() == 7),
        "{:?}",
        record.headers
    );
    assert_eq!(
        (says("ce_specversion"), says("ce_source"), says("ce_type"), says("content-type")),
        ("1.0".into(), "/quadrille/tally".into(), InstanceHeartbeat::TYPE.name.into(), "application/avro".into())
    );
    assert_eq!((says("ce_subject"), says("ce_correlationid")), (beat.instance.clone(), beat.instance.clone()));
    assert_eq!(says("ce_time").parse::<chrono::DateTime<chrono::Utc>>()?, beat.sent_at);

    // While the outbox cannot be emptied its rows are counted.
    let before = chrono::Utc::now();
    let mut held = shop.database.pool.begin().await?;
    sqlx::query("lock table published in access exclusive mode").execute(&mut *held).await?;
    shop.ask_for("TEA", 1, None).await?;
    let waits = move |records: &[Record]| last(records).is_some_and(|beat| beat.outbox_rows == Some(1));
    let beat = last(&shop.world.read_until(topic, waits).await?).expect("it was waited for");
    assert!(beat.outside_answered_at.is_some_and(|at| at >= before), "{beat:?}");
    held.rollback().await?;

    instance.stop().await?;
    let gone = shop.world.read_until(topic, |records| records.last().is_some_and(|last| last.value.is_none())).await?;
    assert!(gone.last().is_some_and(|last| last.headers.is_empty()));
    Ok(())
}

/// A stopped instance gives back what it has under way: the next one asks at once, not when the claim has run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_gives_back_what_it_has_under_way() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let first = start(&shop, &ledger);
    shop.ask_for("TEA", 5, None).await?;
    ledger.1.notified().await;
    first.stop().await?;
    let due: f64 = sqlx::query_scalar("select extract(epoch from due - clock_timestamp())::float8 from effect")
        .fetch_one(&shop.database.pool)
        .await?;
    assert!(due <= 1.0, "its claim would have run for 20 s, and has {due} s left");
    let next = start(&shop, &ledger);
    shop.stated(1).await?;
    assert_eq!(ledger.all(), [(1, 1)], "it was asked for, and not done again");
    next.stop().await
}

/// A timer may fire late, never early, and once, however many instances look.
#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_once_and_never_early() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let ledger = Arc::new(Ledger::default());
    let instances = [start(&shop, &ledger), start(&shop, &ledger)];
    for n in 0..60 {
        shop.ask_for(&format!("SKU-{n}"), TIMER + 1 + 20 * n, Some(n % 6)).await?;
    }
    let stated = shop.stated(120).await?;
    assert_order(&stated);
    let mut times: BTreeMap<Uuid, (i64, i64)> = BTreeMap::new();
    for record in &stated {
        let refused: StockRequestRefused = decoded(record)?;
        let (which, micros) = refused.reason.split_once(' ').expect("the test's own text");
        let time = times.entry(refused.replenishment_id.expect("the test's own id")).or_default();
        match which {
            "due" => time.0 = micros.parse()?,
            _ => time.1 = micros.parse()?,
        }
    }
    assert_eq!(times.len(), 60);
    for (due, fired) in times.values() {
        assert!(fired >= due, "fired {} µs early", due - fired);
    }
    for instance in instances {
        instance.stop().await?;
    }
    let left: i64 = sqlx::query_scalar("select count(*) from timer").fetch_one(&shop.database.pool).await?;
    assert_eq!(left, 0, "a timer's row goes with its reaction");
    Ok(())
}
