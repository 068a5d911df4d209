//! `effects`: charges and refunds of which the provider never tells, or too late. Each is parked, and then redriven or answered by a
//! person, killed services and refused answers included: by the provider's own ledger each is done once.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use quadrille_cli::{
    effects::{self, Effect},
    operate::{self, OperatorResult, Person},
};
use quadrille_program::say;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Kind, Placed, Shop, accounts, http, report::Report};
use quadrille_roster::SERVICES;

const TIMEOUT: Duration = Duration::from_secs(120);
/// Tables cannot call us: they are looked at again after this time.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The payment service gives up at its second try, when its limit has passed.
const LIMITS: [(&str, &str); 3] = [
    ("QUADRILLE__OUTSIDE__TIMEOUT_MS", "2000"),
    ("QUADRILLE__OUTSIDE__PARK_AFTER_MS", "1500"),
    ("QUADRILLE__EFFECTS__FIRST_BACKOFF_MS", "2000"),
];
const PAYMENT: &str = "payment";

/// What became of the orders: in this order they are placed.
const KINDS: [Kind; 11] = [
    Kind::ChargeNeverTold,
    Kind::ChargeNeverTold,
    Kind::ChargeForgotten,
    Kind::ChargeUnknown,
    Kind::RefundNeverTold,
    Kind::RefundNeverTold,
    Kind::RefundUnknown,
    Kind::RefundRefused,
    Kind::ParcelLost,
    Kind::Good,
    Kind::Declined,
];

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open("effects", 0).await?;
    for (variable, value) in LIMITS {
        shop.set(PAYMENT, variable, value);
    }
    for service in SERVICES {
        shop.start(service).await?;
    }
    shop.ready().await?;
    let goods = shop.stock().await?;
    say!("six services are ready; payment parks what is unknown for 1.5 s; logs in {}", shop.logs());
    let mut report = Report::default();
    let placed = shop.place(&goods, KINDS).await?;
    let mut desk = Desk::default();

    let [told, killed, forgotten, unknown, refund_told, refund_killed, refund_unknown, ..] = placed[..] else {
        anyhow::bail!("an order is missing");
    };
    let charge = desk.parked(&shop, &told, "charge").await?;
    let captured = outcome_at_provider(&shop, &told, "charges").await?;
    desk.refused(&shop, charge, r#"{"outcome":"refunded","refund_id":"re_1"}"#, "is no answer to").await?;
    desk.refused(&shop, charge, "it was charged", "this is none of").await?;
    desk.answer(&shop, charge, &captured).await?;
    desk.refused(&shop, charge, &captured, "there is no open effect").await?;

    let charge = desk.parked(&shop, &killed, "charge").await?;
    let captured = outcome_at_provider(&shop, &killed, "charges").await?;
    desk.answer_and_kill(&mut shop, charge, &captured).await?;

    // The provider knows nothing of it and may have forgotten: asking again does not help, and nothing is charged again.
    let charge = desk.parked(&shop, &forgotten, "charge").await?;
    desk.redrive(&shop, charge).await?;
    ensure!(desk.parked(&shop, &forgotten, "charge").await? == charge, "another charge of {}", forgotten.id);
    desk.answer(&shop, charge, r#"{"outcome":"declined","reason":"declined"}"#).await?;

    let charge = desk.parked(&shop, &unknown, "charge").await?;
    desk.redrive(&shop, charge).await?;

    let refund = desk.parked(&shop, &refund_told, "refund").await?;
    let refunded = outcome_at_provider(&shop, &refund_told, "refunds").await?;
    desk.answer(&shop, refund, &refunded).await?;
    let refund = desk.parked(&shop, &refund_killed, "refund").await?;
    let refunded = outcome_at_provider(&shop, &refund_killed, "refunds").await?;
    desk.answer_and_kill(&mut shop, refund, &refunded).await?;
    let refund = desk.parked(&shop, &refund_unknown, "refund").await?;
    desk.redrive(&shop, refund).await?;

    shop.settled(&placed, TIMEOUT).await?;
    accounts::check(&shop, &placed, &mut report).await?;
    check_money(&shop, &placed, &mut report).await?;
    report.figure(format!(
        "{} times parked, {} redriven, {} answered, {} answers refused, {} services killed between an answer and its commit",
        desk.parked, desk.redriven, desk.answered, desk.refused, desk.killed
    ));
    Ok(report)
}

/// The person at the desk, and what was done there.
#[derive(Default)]
struct Desk {
    parked: usize,
    redriven: usize,
    answered: usize,
    refused: usize,
    killed: usize,
}

impl Desk {
    /// Waits until an order's effect is parked.
    async fn parked(&mut self, shop: &Shop, order: &Placed, kind: &str) -> anyhow::Result<Uuid> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let (open, unread) = effects::open(&shop.settings, Some(PAYMENT)).await?;
            ensure!(unread.is_empty(), "{}", unread.join(" "));
            let meant =
                |effect: &&Effect| effect.key == order.key() && effect.kind == kind && effect.parked_at.is_some();
            if let Some(effect) = open.iter().find(meant) {
                self.parked += 1;
                let last = effect.last_answer.as_deref().unwrap_or_default();
                say!("{} ({}): the {kind} is parked after {} tries: {last}", order.id, order.kind.name(), effect.tries);
                return Ok(effect.id);
            }
            ensure!(Instant::now() < deadline, "no {kind} of {} is parked after {TIMEOUT:?}", order.id);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn redrive(&mut self, shop: &Shop, effect: Uuid) -> anyhow::Result<()> {
        let fields = json!({"effect_id": effect});
        let came = operate::ask(&shop.settings, "RedriveRequested", PAYMENT, &person(), fields).await?;
        ensure!(came.result == "done", "the redrive of {effect} was {}: {}", came.result, came.detail);
        say!("  redriven: {}", came.detail);
        self.redriven += 1;
        Ok(())
    }

    async fn answer(&mut self, shop: &Shop, effect: Uuid, outcome: &str) -> anyhow::Result<()> {
        let came = answered(shop.settings.clone(), effect, outcome.to_owned()).await?;
        self.accepted(effect, &came)
    }

    fn accepted(&mut self, effect: Uuid, came: &OperatorResult) -> anyhow::Result<()> {
        ensure!(came.result == "done", "the answer to {effect} was {}: {}", came.result, came.detail);
        say!("  answered: {}", came.detail);
        self.answered += 1;
        Ok(())
    }

    /// Answers what must not be taken.
    async fn refused(&mut self, shop: &Shop, effect: Uuid, outcome: &str, why: &str) -> anyhow::Result<()> {
        let came = answered(shop.settings.clone(), effect, outcome.to_owned()).await?;
        let OperatorResult { result, detail } = &came;
        ensure!(result == "refused" && detail.contains(why), "{outcome} was {result}: {detail}, not '{why}'");
        say!("  refused: {detail}");
        self.refused += 1;
        Ok(())
    }

    /// Answers, and kills the service when it has the answer in hand and has not committed it: whoever is next takes it.
    async fn answer_and_kill(&mut self, shop: &mut Shop, effect: Uuid, outcome: &str) -> anyhow::Result<()> {
        let pool = shop.database(PAYMENT)?.pool.clone();
        let mut held = pool.begin().await?;
        sqlx::query("select from effect where id = $1 for update").bind(effect).execute(&mut *held).await?;
        let answer = tokio::spawn(answered(shop.settings.clone(), effect, outcome.to_owned()));
        let deadline = Instant::now() + TIMEOUT;
        const WAITS: &str = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like '%from effect where key%'";
        while sqlx::query_scalar::<_, i64>(WAITS).fetch_one(&pool).await? == 0 {
            ensure!(Instant::now() < deadline, "nobody has the answer to {effect} in hand after {TIMEOUT:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let at = shop.instances.iter().position(|instance| instance.service == PAYMENT).context("no payment runs")?;
        shop.instances.remove(at).process.kill().await?;
        held.rollback().await?;
        let open: i64 = sqlx::query_scalar("select count(*) from effect where id = $1 and parked_at is not null")
            .bind(effect)
            .fetch_one(&pool)
            .await?;
        ensure!(open == 1, "the answer to {effect} was committed by a service that was killed before");
        say!("  killed: payment had the answer in hand, and nothing of it has happened");
        self.killed += 1;
        shop.start(PAYMENT).await?;
        shop.ready().await?;
        self.accepted(effect, &answer.await??)
    }
}

fn person() -> Person {
    Person { who: "ann@example.com".to_owned(), why: "The provider says so on the telephone.".to_owned() }
}

async fn answered(settings: quadrille_cli::Settings, effect: Uuid, outcome: String) -> anyhow::Result<OperatorResult> {
    let fields = json!({"effect_id": effect, "outcome": outcome});
    operate::ask(&settings, "EffectAnswered", PAYMENT, &person(), fields).await
}

/// What the provider did for an order, as a person reads it in the provider's ledger.
async fn outcome_at_provider(shop: &Shop, order: &Placed, what: &str) -> anyhow::Result<String> {
    let ledger = http::json(&format!("{}/ledger?order_id={}", shop.outside.payment, order.id)).await?;
    let done = ledger[what].as_array().filter(|done| done.len() == 1).map(|done| done[0]["id"].clone());
    let id = done.with_context(|| format!("the provider's ledger has not one of {what} of {}: {ledger}", order.id))?;
    ensure!(matches!(&id, Value::String(_)), "the provider's ledger names no id in {what}: {ledger}");
    Ok(match what {
        "charges" => json!({"outcome": "captured", "charge_id": id}),
        _ => json!({"outcome": "refunded", "refund_id": id}),
    }
    .to_string())
}

/// Holds the provider's ledger against what was asked for, order by order; and nothing waits for a person any more.
async fn check_money(shop: &Shop, placed: &[Placed], report: &mut Report) -> anyhow::Result<()> {
    let ledger = shop.outside.ledger().await?;
    let (mut charges, mut refunds, mut wrong) = (0, 0, vec![]);
    for order in placed {
        let account = ledger.orders.get(&order.key()).copied().unwrap_or_default();
        charges += account.charges;
        refunds += account.refunds;
        let (is, asked) = ((account.charges, account.refunds), order.kind.plan().money);
        if is != asked {
            wrong.push(format!("{} ({}): {is:?} instead of {asked:?}", order.id, order.kind.name()));
        }
    }
    report.must_be_none("charges and refunds at the provider", &wrong);
    report.figure(format!("{charges} charges and {refunds} refunds at the provider, none twice"));
    let (open, _) = effects::open(&shop.settings, Some(PAYMENT)).await?;
    report.must(open.is_empty(), || format!("{} effects of payment are still open", open.len()));
    Ok(())
}
