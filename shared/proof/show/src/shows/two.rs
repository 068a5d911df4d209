//! `two`: two instances of each service share 500 orders; of each service one is stopped, one is killed, one is suspended for longer
//! than its group waits. Versions stay in order per key, nothing is lost, nothing is doubled.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use quadrille_program::say;

use crate::{Kind, Placed, Shop, accounts, report::Report};
use quadrille_roster::SERVICES;

const ORDERS: usize = 500;
const TIMEOUT: Duration = Duration::from_secs(180);
/// What a service promises: it ends within this time of SIGTERM.
const STOP: Duration = Duration::from_secs(10);
/// The least that a broker allows.
const SESSION: (&str, &str) = ("QUADRILLE__KAFKA__SESSION_TIMEOUT_MS", "6000");

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open_with("two", 2, &[SESSION]).await?;
    let goods = shop.stock().await?;
    say!("two instances of each service are ready; logs in {}", shop.logs());
    let mut report = Report::default();
    let mut kinds = Kind::mixed(ORDERS);
    let mut placed = vec![];

    placed.extend(shop.place(&goods, kinds.by_ref().take(200)).await?);
    under_way(&shop, &placed, 10).await?;
    let slowest = stop_one_of_each(&mut shop, &mut report).await?;
    say!(
        "one instance of each service was stopped, the slowest in {:.1} s; others take their place",
        slowest.as_secs_f64()
    );

    placed.extend(shop.place(&goods, kinds.by_ref().take(150)).await?);
    under_way(&shop, &placed[200..], 10).await?;
    for service in SERVICES {
        let at = position(&shop, service)?;
        shop.instances.remove(at).process.kill().await?;
    }
    say!("the other one of each service was killed; others take their place");
    for service in SERVICES {
        shop.start(service).await?;
    }
    shop.ready().await?;

    // Suspended in the middle of its work: its partitions, its lease and its claims pass on, and then it comes back.
    placed.extend(shop.place(&goods, kinds.by_ref().take(50)).await?);
    under_way(&shop, &placed[350..], 5).await?;
    for service in SERVICES {
        shop.instances[position(&shop, service)?].process.signal(Signal::SIGSTOP)?;
    }
    let suspended = Instant::now();
    let meanwhile = shop.place(&goods, kinds).await?;
    placed.extend(&meanwhile);
    shop.settled(&meanwhile, TIMEOUT).await?;
    let suspended = suspended.elapsed();
    report.must(suspended > Duration::from_secs(6), || {
        format!("suspended for {suspended:?} only: less than the session time-out")
    });
    for service in SERVICES {
        shop.instances[position(&shop, service)?].process.signal(Signal::SIGCONT)?;
    }
    say!(
        "one of each service was suspended for {:.1} s, while {} orders ended without it",
        suspended.as_secs_f64(),
        meanwhile.len()
    );

    shop.settled(&placed, TIMEOUT).await?;
    let slowest = slowest.max(stop_one_of_each(&mut shop, &mut report).await?);
    accounts::check(&shop, &placed, &mut report).await?;
    report.figure(format!(
        "of each service 2 stopped (in {:.1} s at most), 1 killed, 1 suspended",
        slowest.as_secs_f64()
    ));
    Ok(report)
}

/// The first instance of a service: the longest there.
fn position(shop: &Shop, service: &str) -> anyhow::Result<usize> {
    let at = shop.instances.iter().position(|instance| instance.service == service);
    at.ok_or_else(|| anyhow::anyhow!("no instance of {service} is left"))
}

/// Waits until so many of these orders have ended: then the others are in the middle.
async fn under_way(shop: &Shop, placed: &[Placed], ended: usize) -> anyhow::Result<()> {
    let keys: Vec<String> = placed.iter().map(Placed::key).collect();
    let count = |tally: &crate::Tally| keys.iter().filter(|key| tally.is(key, |story| story.end().is_some())).count();
    shop.follower
        .until(TIMEOUT, |tally| count(tally) >= ended, |tally| format!("{} of {ended} orders ended", count(tally)))
        .await
}

/// Stops one instance of each service and starts another one. Returns how long the slowest took.
async fn stop_one_of_each(shop: &mut Shop, report: &mut Report) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    for service in SERVICES {
        let at = position(shop, service)?;
        let mut instance = shop.instances.remove(at);
        let (took, status) = instance.process.stop(STOP * 2).await?;
        report.must(status.success() && took < STOP, || {
            format!(
                "{} ended {took:?} after SIGTERM with {status}; its log: {}",
                instance.process.name(),
                instance.process.log()
            )
        });
        slowest = slowest.max(took);
        shop.start(service).await?;
    }
    shop.ready().await?;
    Ok(slowest)
}
