//! `memory`: what each service holds in memory after 5,000 orders, and how fast they went through.

use std::time::{Duration, Instant};

use quadrille_program::say;

use crate::{Kind, Shop, accounts, report::Report, shop::KEEP_HISTORY};

const ORDERS: usize = 5_000;
const TIMEOUT: Duration = Duration::from_secs(300);
/// What a service may hold in this build (dev profile); a release build aims at 30 MiB.
const BOUND_MIB: f64 = 64.0;
const MIB: f64 = 1024.0 * 1024.0;

/// Runs the show.
pub async fn run() -> anyhow::Result<Report> {
    let mut shop = Shop::open_with("memory", 1, &[(KEEP_HISTORY, "false")]).await?;
    let goods = shop.stock().await?;
    let idle = resident(&shop)?;
    let began = Instant::now();
    // An order that is to be cancelled waits for a provider that thinks for seconds: the provider would be measured.
    let kinds = Kind::mixed(ORDERS).map(|kind| if kind == Kind::Cancelled { Kind::Good } else { kind });
    let placed = shop.place(&goods, kinds).await?;
    shop.settled(&placed, TIMEOUT).await?;
    let took = began.elapsed();

    let mut report = Report::default();
    for ((service, before), (_, after)) in idle.into_iter().zip(resident(&shop)?) {
        say!("{service:<14} {before:6.1} MiB before, {after:6.1} MiB after {ORDERS} orders");
        report.figure(format!("{service} {after:.1} MiB"));
        report.must(after <= BOUND_MIB, || format!("{service} holds {after:.1} MiB, more than {BOUND_MIB} MiB"));
    }
    accounts::check(&shop, &placed, &mut report).await?;
    report.figure(format!("{:.0} sagas/s to the last mail", ORDERS as f64 / took.as_secs_f64()));
    Ok(report)
}

fn resident(shop: &Shop) -> anyhow::Result<Vec<(&'static str, f64)>> {
    shop.instances.iter().map(|instance| Ok((instance.service, instance.process.resident()? as f64 / MIB))).collect()
}
