//! What is measured of whole sagas, phase by phase.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Context;
use quadrille_program::say;
use serde::{Deserialize, Serialize};

use crate::{
    check::{self, Checked},
    ear::{Ear, Ends, ends},
    load::{Load, Sent},
    quantiles::Quantiles,
    stage::Stage,
    usage::{Usage, rest},
};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Orders a second, and for how many seconds.
    pub rates: Vec<(u32, u32)>,
    /// How many orders wait in a drain.
    pub drain: u64,
    /// How often.
    pub drains: usize,
    /// At so many orders per second, for so many seconds, a service is killed in the middle.
    pub kill: Option<(u32, u32)>,
}

/// Sagas at a steady rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Steady {
    pub rate: u32,
    pub orders: u64,
    /// From when the request was due until OrderConfirmed was seen.
    pub confirmed_ms: Quantiles,
    /// From when the request was due until OrderDelivered was seen.
    pub delivered_ms: Quantiles,
    /// From the time that OrderDelivered bears, which is within its transaction, until it was seen.
    pub decided_to_seen_ms: Quantiles,
    /// How long after the last request was due the last order was delivered: at a rate that holds, no longer than one saga takes.
    pub behind_ms: f64,
    pub usage: Usage,
}

/// Orders that waited, all at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    pub orders: u64,
    pub seconds: f64,
    pub sagas_per_second: f64,
    pub usage: Usage,
}

/// A service killed under load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Killed {
    pub service: String,
    pub rate: u32,
    pub orders: u64,
    /// Records of this phase that came again.
    pub repeats: u64,
}

/// All phases of one mode.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sagas {
    pub steady: Vec<Steady>,
    pub drains: Vec<Drain>,
    pub killed: Option<Killed>,
    /// The largest resident set of each service over all phases, in MiB.
    pub peak_mib: BTreeMap<String, f64>,
    pub checked: Checked,
}

/// Measures, phase by phase, and checks that everything came out right.
pub async fn run(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Sagas> {
    let mut load = Load::connect(&stage.world)?;
    load.stock(stage).await?;
    let ear = ends(&stage.world.settings, load.numbers())?;
    // Connections, statements, plans, and the write-ahead log's first segments.
    let warm_up = load.send(&mut stage.world, (plan.drain / 10).max(20), Some(200)).await?;
    delivered(&ear, &warm_up).await?;

    let mut sagas = Sagas::default();
    for (rate, seconds) in &plan.rates {
        rest().await;
        let steady = steady(stage, &mut load, &ear, *rate, *seconds).await?;
        say!(
            "{rate:>5}/s: delivered p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms; behind {:.0} ms; noise {:.0} %",
            steady.delivered_ms.p50,
            steady.delivered_ms.p99,
            steady.delivered_ms.max,
            steady.behind_ms,
            steady.usage.noise_percent
        );
        sagas.steady.push(steady);
    }
    for _ in 0..plan.drains {
        rest().await;
        let drain = drain(stage, &mut load, &ear, plan.drain).await?;
        let noise = drain.usage.noise_percent;
        say!("{:>5} orders drained: {:.0} sagas/s; noise {noise:.0} %", drain.orders, drain.sagas_per_second);
        sagas.drains.push(drain);
    }
    if let Some((rate, seconds)) = plan.kill {
        rest().await;
        sagas.killed = Some(killed(stage, &mut load, &ear, rate, seconds).await?);
    }
    sagas.peak_mib = stage.peaks()?;
    drop(ear);
    sagas.checked = check::all(stage, &load).await?;
    if let Some(killed) = &mut sagas.killed {
        // Nothing else gives cause for a repeat.
        killed.repeats = sagas.checked.repeats;
        say!("{} killed at {}/s: {} records repeated", killed.service, killed.rate, killed.repeats);
    }
    let checked = &sagas.checked;
    say!("{} orders checked: {} lost, {} doubled", checked.orders, checked.lost, checked.doubled);
    Ok(sagas)
}

async fn steady(
    stage: &mut Stage,
    load: &mut Load,
    ear: &Ear<Ends>,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<Steady> {
    let orders = u64::from(rate) * u64::from(seconds);
    let meter = stage.meter()?;
    let sent = load.send(&mut stage.world, orders, Some(rate)).await?;
    delivered(ear, &sent).await?;
    let usage = meter.stop()?;
    let heard = ear.heard();
    let since = |when: &BTreeMap<u64, Instant>| {
        let due = sent.orders.clone().zip(&sent.due);
        Quantiles::of(due.filter_map(|(order, due)| Some(*when.get(&order)? - *due)))
    };
    let last = sent.orders.clone().filter_map(|order| heard.delivered.get(&order)).max().context("no end")?;
    let decided = sent.orders.clone().filter_map(|order| heard.decided_to_seen.get(&order).copied());
    Ok(Steady {
        rate,
        orders,
        confirmed_ms: since(&heard.confirmed),
        delivered_ms: since(&heard.delivered),
        decided_to_seen_ms: Quantiles::of(decided),
        behind_ms: last.saturating_duration_since(*sent.due.last().context("no request")?).as_secs_f64() * 1000.0,
        usage,
    })
}

/// The requests are put while all services are suspended; the time counts from when they go on.
async fn drain(stage: &mut Stage, load: &mut Load, ear: &Ear<Ends>, orders: u64) -> anyhow::Result<Drain> {
    stage.suspend()?;
    let sent = load.send(&mut stage.world, orders, None).await;
    let meter = stage.meter()?;
    let began = Instant::now();
    stage.resume()?;
    delivered(ear, &sent?).await?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Drain { orders, seconds, sagas_per_second: orders as f64 / seconds, usage: meter.stop()? })
}

/// The order service publishes the most, so it is the one to be killed.
async fn killed(
    stage: &mut Stage,
    load: &mut Load,
    ear: &Ear<Ends>,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<Killed> {
    let service = "order";
    let half = u64::from(rate) * u64::from(seconds) / 2;
    let before = load.send(&mut stage.world, half, Some(rate)).await?;
    stage.kill(service).await?;
    stage.start(service).await?;
    let after = load.send(&mut stage.world, half, Some(rate)).await?;
    delivered(ear, &before).await?;
    delivered(ear, &after).await?;
    Ok(Killed { service: service.into(), rate, orders: half * 2, repeats: 0 })
}

async fn delivered(ear: &Ear<Ends>, sent: &Sent) -> anyhow::Result<()> {
    let all = sent.orders.end - sent.orders.start;
    let count = |ends: &Ends| ends.delivered.range(sent.orders.clone()).count() as u64;
    ear.until(|ends| count(ends) == all, |ends| format!("{} of {all} orders are delivered", count(ends))).await
}
