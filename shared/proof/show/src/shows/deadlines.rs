//! `deadlines`: both deadlines of an order, as they pass before anybody answers, while the answer waits in another service's outbox, and
//! while the order service is down and the answer lies on the topic. Each order ends once; what lay on the topic counts.

use std::time::Duration;

use anyhow::Context;
use quadrille_core::Named as _;
use quadrille_program::say;
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    Kind, Placed, Shop, accounts,
    held::{Held, until, waits_in_outbox},
    report::Report,
};

const TIMEOUT: Duration = Duration::from_secs(180);
const STOP: Duration = Duration::from_secs(10);
/// What others have to say comes at once here: nobody is slow after a broker's return.
const AFTER_RETURN: (&str, &str) = ("QUADRILLE__TIMERS__AFTER_RETURN_MS", "2000");

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open_with("deadlines", 1, &[AFTER_RETURN]).await?;
    let goods = shop.stock().await?;
    say!("six services are ready; logs in {}", shop.logs());
    let mut report = Report::default();

    let unanswered = [Kind::ExpiresUnconfirmed, Kind::ExpiresOnTheWay].map(Placed::new);
    shop.place_these(&goods, &unanswered).await?;
    let mut placed = unanswered.to_vec();
    say!("two orders that nobody answers in time: a charge of which nothing is known, a parcel that does not arrive");

    for (kind, service, answer, end) in [
        (Kind::ExpiresAsCaptured, "payment", "PaymentCaptured", "OrderCancelled"),
        (Kind::ExpiresAsDelivered, "shipping", "ShipmentDelivered", "OrderRecallRequested"),
    ] {
        let order = Placed::new(kind);
        let pool = shop.database(service)?.pool.clone();
        let held = Held::relay_of(&pool).await?;
        shop.place_these(&goods, &[order]).await?;
        waits_in_outbox(&pool, &order, answer).await?;
        shop.heard(&order.key(), end).await?;
        let early = shop.follower.tally().is(&order.key(), |story| story.has(answer));
        report.must(!early, || format!("{answer} of {} was heard before the deadline passed", order.id));
        held.release().await;
        say!("{end}, while {answer} waited in the outbox of {service}");
        placed.push(order);
    }

    let answered = [Kind::CapturedInTime, Kind::DeliveredInTime].map(Placed::new);
    shop.place_these(&goods, &answered).await?;
    let [captured, delivered] = answered;
    shop.heard(&captured.key(), "OrderCreated").await?;
    shop.heard(&delivered.key(), "OrderConfirmed").await?;
    let at = shop.instances.iter().position(|instance| instance.service == "order").context("no order service")?;
    let mut order_service = shop.instances.remove(at);
    let (took, status) = order_service.process.stop(STOP * 2).await?;
    report
        .must(status.success() && took < STOP, || format!("the order service ended {took:?} after SIGTERM: {status}"));
    shop.heard(&captured.key(), "PaymentCaptured").await?;
    shop.heard(&delivered.key(), "ShipmentDelivered").await?;
    let pool = shop.database("order")?.pool.clone();
    for order in &answered {
        // Its timer is still there: the answer has not been read.
        passed(&pool, order).await?;
    }
    say!("the order service was down past two deadlines, with PaymentCaptured and ShipmentDelivered on their topics");
    shop.start("order").await?;
    shop.ready().await?;
    placed.extend(answered);
    shop.settled(&placed, TIMEOUT).await?;

    late(&pool, &captured).await?;
    say!("a timer of an order that had ended has fired");
    let left: i64 = sqlx::query_scalar("select count(*) from timer").fetch_one(&pool).await?;
    report.must(left == 0, || format!("{left} timers are left though all orders have ended"));

    accounts::check(&shop, &placed, &mut report).await?;
    let strays: Vec<String> = {
        let tally = shop.follower.tally();
        let strays = |order: &Placed| (order.id, order.strays(&tally.story(&order.key())));
        let strays = placed.iter().map(strays).filter(|(_, strays)| !strays.is_empty());
        strays.map(|(id, strays)| format!("{id}: {}", strays.join(", "))).collect()
    };
    report.must_be_none("what was stated off the path", &strays);
    report.figure("4 deadlines decided, 2 came after their answers, 1 of an ended order did nothing");
    Ok(report)
}

/// Waits until an order's deadline has passed and not fired.
async fn passed(pool: &PgPool, order: &Placed) -> anyhow::Result<()> {
    let query = "select exists (select from timer where key = $1 and due < clock_timestamp())";
    until(format!("deadline of {} that has passed", order.id), || async {
        sqlx::query_scalar(query).bind(order.key()).fetch_one(pool).await
    })
    .await
}

/// Sets a deadline of an order that has ended, due now, and waits until it has fired.
async fn late(pool: &PgPool, order: &Placed) -> anyhow::Result<()> {
    let timer = quadrille_order::Timer::EndBy;
    let id = Uuid::new_v4();
    sqlx::query(
        "insert into timer (id, key, name, timer, causation_id, traceparent, tracestate, due, next_try, deadline)
         select $1, $2, $3, $4, $1, '', '', now, now, true from clock_timestamp() as now",
    )
    .bind(id)
    .bind(order.key())
    .bind(timer.name())
    .bind(serde_json::to_value(timer)?)
    .execute(pool)
    .await?;
    until(format!("timer of {} that has fired", order.id), || async {
        sqlx::query_scalar("select not exists (select from timer where id = $1)").bind(id).fetch_one(pool).await
    })
    .await
}
