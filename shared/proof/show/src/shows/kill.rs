//! `kill`: kill -9 of all six services, again and again, in the middle of 500 orders. Nothing is lost, nothing is doubled.

use std::time::Duration;

use quadrille_program::say;
use rand::RngExt;

use crate::{Kind, Placed, Shop, Story, Tally, accounts, report::Report};
use quadrille_roster::SERVICES;

const ORDERS: usize = 500;
const ROUNDS: usize = 5;
/// A killed member holds its partitions until its group has waited long enough for it; the rest is work.
const TIMEOUT: Duration = Duration::from_secs(180);
/// About how many events come of an order: enough to aim at a moment in the middle.
const EVENTS_EACH: u64 = 8;

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open("kill", 1).await?;
    let goods = shop.stock().await?;
    say!("six services are ready; logs in {}", shop.logs());
    let mut report = Report::default();
    let mut kinds = Kind::mixed(ORDERS);
    let mut placed: Vec<Placed> = vec![];
    let mut hit = 0;
    for round in 1..=ROUNDS {
        let share = ORDERS / ROUNDS;
        let before = shop.follower.tally().events;
        placed.extend(shop.place(&goods, kinds.by_ref().take(share)).await?);
        // A random moment: the first of what these orders bring is there, the last is not.
        let target = before + rand::rng().random_range(1..share as u64 * EVENTS_EACH * 3 / 4);
        let missing = |tally: &Tally| format!("{} events, waiting for {target}", tally.events);
        shop.follower.until(TIMEOUT, |tally| tally.events >= target, missing).await?;
        shop.kill_all().await?;
        let open = placed.iter().filter(|order| !shop.follower.tally().is(&order.key(), Story::is_settled)).count();
        say!("round {round}: kill -9 of all six with {open} of {} orders under way", placed.len());
        report.must(open > 0, || format!("round {round}: no order was under way any more"));
        hit += open;
        for service in SERVICES {
            shop.start(service).await?;
        }
    }
    shop.settled(&placed, TIMEOUT).await?;
    accounts::check(&shop, &placed, &mut report).await?;
    report.figure(format!("{ROUNDS} times kill -9 of all six services, {hit} sagas hit"));
    Ok(report)
}
