//! `replay`: 500 orders are recorded, with kills and changes of instances among them; the same build states the same again, byte for
//! byte, and a build with one changed line is found out by the first decision that differs.

use std::time::Duration;

use anyhow::Context;

use quadrille_program::say;

use crate::{
    Kind, Placed, Shop, Tally, accounts,
    other_build::{Change, OtherBuild},
    report::Report,
    shell::Shell,
};
use quadrille_roster::SERVICES;

const ORDERS: usize = 500;
const ROUNDS: usize = 4;
/// A killed member holds its partitions until its group has waited long enough for it; the rest is work.
const TIMEOUT: Duration = Duration::from_secs(180);
/// About how many events come of an order: enough to aim at a moment in the middle.
const EVENTS_EACH: u64 = 8;

/// The other build forgets that a charge which comes after the cancellation is to be given back.
const FORGETS_THE_REFUND: Change = Change {
    file: "services/payment/src/policy.rs",
    line: "Decision::fact(captured(order_id, bill, charge_id)).perform(key, refund(order_id, bill, charge_id))",
    becomes: "Decision::fact(captured(order_id, bill, charge_id))",
};

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open("replay", 1).await?;
    // It is built while the orders go their way.
    let other = OtherBuild::start(&FORGETS_THE_REFUND, shop.logs().into())?;
    let mut report = Report::default();
    let placed = recorded(&mut shop).await?;
    accounts::check(&shop, &placed, &mut report).await?;

    let shell = Shell::new(&shop.settings, shop.logs().into())?;
    let (_, exported) = shell.last_line("quadrille history export --out recorded.jsonl").await?;
    say!("quadrille history export: {exported}");
    let (same, told) = shell.last_line("quadrille replay recorded.jsonl").await?;
    say!("quadrille replay: {told}");
    report.must(same, || format!("this very build decides otherwise: {told}"));
    report.figure(format!("replayed: {told}"));

    found_out(&other.built().await?, &shell, &placed, &mut report).await?;
    Ok(report)
}

/// Places the orders in rounds: amid one all services are killed, amid another there are two of each for a while.
async fn recorded(shop: &mut Shop) -> anyhow::Result<Vec<Placed>> {
    let goods = shop.stock().await?;
    say!("six services are ready and record their decisions; logs in {}", shop.logs());
    let mut kinds = Kind::mixed(ORDERS);
    let mut placed: Vec<Placed> = vec![];
    for round in 1..=ROUNDS {
        let share = ORDERS / ROUNDS;
        let target = shop.follower.tally().events + share as u64 * EVENTS_EACH / 2;
        placed.extend(shop.place(&goods, kinds.by_ref().take(share)).await?);
        let missing = |tally: &Tally| format!("{} events, waiting for {target}", tally.events);
        shop.follower.until(TIMEOUT, |tally| tally.events >= target, missing).await?;
        if round % 2 == 0 {
            say!("{} orders are placed: kill -9 of all services amid them", placed.len());
            shop.kill_all().await?;
        } else {
            say!("{} orders are placed: one more instance of each service takes its share of them", placed.len());
        }
        for service in SERVICES {
            shop.start(service).await?;
        }
    }
    shop.settled(&placed, TIMEOUT).await?;
    Ok(placed)
}

/// Replays the same history with the other build, which must be found out.
async fn found_out(program: &str, shell: &Shell, placed: &[Placed], report: &mut Report) -> anyhow::Result<()> {
    let (same, told) = shell
        .last_line(&format!("'{program}' recorded.jsonl > other.txt; code=$?; tail -n 1 other.txt; exit $code"))
        .await?;
    say!("another build, which forgets a refund: {told}");
    report.must(!same, || format!("a build that forgets a refund is not found out: {told}"));
    let all = std::fs::read_to_string(shell.path("other.txt")).context("what the other build told")?;
    let first: Vec<&str> =
        all.lines().skip_while(|line| !line.starts_with("The first decision that differs")).take(3).collect();
    first.iter().for_each(|line| say!("  {line}"));
    let first = first.join(" ");
    let is_of = |order: &Placed| order.kind == Kind::Cancelled && first.contains(&format!("payment, {}", order.key()));
    report.must(placed.iter().any(is_of) && first.contains("wants refund"), || {
        format!("the first difference is not payment's refund of an order that was cancelled: {first}")
    });
    report.figure(format!("one changed line of payment's policy: {told}"));
    Ok(())
}
