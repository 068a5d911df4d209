//! `rebalance`: one, three and again one instance of each service under a steady load. Partitions, leases and claims pass on
//! cooperatively: nothing is lost, nothing is doubled, and no order stands still for long.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use quadrille_program::say;
use tokio::task::JoinSet;

use crate::{Clients, Goods, Kind, Placed, Shop, Tally, accounts, report::Report};
use quadrille_roster::SERVICES;

const ORDERS: usize = 3_000;
/// Of every ten orders one each; cancellations need a client of their own and are shown elsewhere.
const KINDS: [Kind; 10] = [
    Kind::Good,
    Kind::TwoLines,
    Kind::Declined,
    Kind::Good,
    Kind::ShortOfStock,
    Kind::Good,
    Kind::UnknownCustomer,
    Kind::Good,
    Kind::TwoLines,
    Kind::Good,
];
const PER_SECOND: usize = 100;
/// Ten orders at once, ten times a second.
const TICK: Duration = Duration::from_millis(1_000 * KINDS.len() as u64 / PER_SECOND as u64);
const TIMEOUT: Duration = Duration::from_secs(180);
/// What a service promises: it ends within this time of SIGTERM.
const STOP: Duration = Duration::from_secs(10);

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open("rebalance", 1).await?;
    let goods = shop.stock().await?;
    say!("one instance of each service is ready; logs in {}", shop.logs());
    let mut report = Report::default();
    let clients = Arc::clone(&shop.clients);
    let ((placed, within), slowest) =
        tokio::try_join!(load(&clients, &goods), grow_and_shrink(&mut shop, &mut report))?;

    let orders: Vec<Placed> = placed.iter().map(|(order, _)| *order).collect();
    shop.settled(&orders, TIMEOUT).await?;
    accounts::check(&shop, &orders, &mut report).await?;

    let pause = {
        let tally = shop.follower.tally();
        let pauses = placed.iter().map(|(order, sent)| (tally.story(&order.key()).longest_pause_ms(*sent), order));
        pauses.max_by_key(|(pause_ms, _)| *pause_ms)
    };
    let rate = placed.len() as f64 / within.as_secs_f64();
    report.must(rate > PER_SECOND as f64 * 0.9, || format!("the load came at {rate:.0} orders/s only"));
    report.figure(format!("1-3-1 instances of each service under {rate:.0} orders/s"));
    report.figure(format!("12 stopped, in {:.1} s at most", slowest.as_secs_f64()));
    if let Some((pause_ms, order)) = pause {
        report.figure(format!("longest pause of a key {:.2} s ({})", pause_ms as f64 / 1_000.0, order.id));
    }
    Ok(report)
}

/// Places orders by the clock, whatever becomes of those before. Returns each with the time it was sent, and how long it all took.
async fn load(clients: &Clients, goods: &Goods) -> anyhow::Result<(Vec<(Placed, DateTime<Utc>)>, Duration)> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut placed = vec![];
    let began = Instant::now();
    while placed.len() < ORDERS {
        tick.tick().await;
        let sent = Utc::now();
        placed.extend(clients.order(goods, KINDS).await?.into_iter().map(|order| (order, sent)));
    }
    Ok((placed, began.elapsed()))
}

/// One instance of each service, then three, then the newest alone. Returns how long the slowest that was stopped took.
async fn grow_and_shrink(shop: &mut Shop, report: &mut Report) -> anyhow::Result<Duration> {
    ended(shop, ORDERS / 10).await?;
    for _ in 0..2 {
        for service in SERVICES {
            shop.start(service).await?;
        }
    }
    shop.ready().await?;
    let grown = shop.follower.tally().ended;
    say!("three instances of each service are ready, {grown} of {ORDERS} orders have ended");

    ended(shop, grown + ORDERS / 10).await?;
    let slowest = leave_one_each(shop, report).await?;
    let shrunk = shop.follower.tally().ended;
    say!("one instance of each service is left, {shrunk} of {ORDERS} orders have ended");
    report.must(shrunk < ORDERS, || "the load had ended before the last instances were stopped".to_owned());
    Ok(slowest)
}

/// Waits until so many orders have ended: then others are in the middle.
async fn ended(shop: &Shop, count: usize) -> anyhow::Result<()> {
    let missing = |tally: &Tally| format!("{} of {count} orders ended", tally.ended);
    shop.follower.until(TIMEOUT, |tally| tally.ended >= count, missing).await
}

/// Stops all but the newest instance of each service, all at once: everything that they own passes on. Returns how long the slowest took.
async fn leave_one_each(shop: &mut Shop, report: &mut Report) -> anyhow::Result<Duration> {
    let others = shop.instances.len() - SERVICES.len();
    let newest = shop.instances.split_off(others);
    let mut stopping = JoinSet::new();
    for mut instance in std::mem::replace(&mut shop.instances, newest) {
        stopping.spawn(async move {
            let (took, status) = instance.process.stop(STOP * 2).await?;
            anyhow::Ok((took, status, instance.process.name().to_owned(), instance.process.log()))
        });
    }
    let mut slowest = Duration::ZERO;
    while let Some(stopped) = stopping.join_next().await {
        let (took, status, name, log) = stopped??;
        report.must(status.success() && took < STOP, || {
            format!("{name} ended {took:?} after SIGTERM with {status}; its log: {log}")
        });
        slowest = slowest.max(took);
    }
    Ok(slowest)
}
