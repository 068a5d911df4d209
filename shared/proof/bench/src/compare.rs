//! Two builds in turns, A B B A, on the same servers, each time in a world of its own: single runs on one machine differ by a tenth and
//! more, and a ratio of runs that lie side by side by much less. Neither is always the one that finds the servers as the other left them;
//! the first run of all, on servers that have just been started, is slow by a third and more: three rounds and their median pass over it.

use std::{collections::BTreeMap, path::Path};

use quadrille_program::say;

use crate::{
    phases::{self, Sagas},
    quantiles::median,
    relay::{self, Relayed},
    stage::{Mode, Stage},
};

/// Compares the programs in `ours` with those in `base`.
pub async fn run(
    ours: &Path,
    base: &Path,
    rounds: usize,
    plan: &phases::Plan,
    relay: &relay::Plan,
) -> anyhow::Result<()> {
    let mut found: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    for round in 1..=rounds {
        let mut sides = [(0, ours), (1, base)];
        if round % 2 == 0 {
            sides.reverse();
        }
        for (side, programs) in sides {
            say!("round {round}: {}", programs.display());
            let mut stage = Stage::open(Mode::Alone, programs).await?;
            let sagas = phases::run(&mut stage, plan).await?;
            drop(stage);
            anyhow::ensure!(sagas.checked.is_good(), "{}", sagas.checked.wrong.join("; "));
            let relayed = relay::run(programs, relay).await?;
            for (what, figure) in figures(&sagas, &relayed) {
                found.entry(what).or_default()[side].push(figure);
            }
        }
    }
    say!("\n{:<44} {:>12} {:>12} {:>8}", "median", "this", "base", "ratio");
    for (what, [ours, base]) in found {
        let (ours, base) = (median(ours), median(base));
        say!("{what:<44} {ours:>12.3} {base:>12.3} {:>8.3}", ours / base);
    }
    Ok(())
}

fn figures(sagas: &Sagas, relayed: &Relayed) -> Vec<(String, f64)> {
    let mut figures = vec![];
    for steady in &sagas.steady {
        let rate = steady.rate;
        figures.push((format!("{rate}/s: delivered p50, ms"), steady.delivered_ms.p50));
        figures.push((format!("{rate}/s: delivered p99, ms"), steady.delivered_ms.p99));
        for (name, ms) in &steady.usage.cpu_ms {
            figures.push((format!("{rate}/s: CPU ms a saga, {name}"), ms / steady.orders as f64));
        }
    }
    for drain in &sagas.drains {
        figures.push(("drain: sagas/s".into(), drain.sagas_per_second));
        for (name, ms) in &drain.usage.cpu_ms {
            figures.push((format!("drain: CPU ms a saga, {name}"), ms / drain.orders as f64));
        }
    }
    for (service, peak) in &sagas.peak_mib {
        figures.push((format!("peak MiB, {service}"), *peak));
    }
    for commits in &relayed.commits {
        figures.push((
            format!("relay at {}/s: commit to consumer p50, ms", commits.rate),
            commits.commit_to_consumer_ms.p50,
        ));
    }
    figures.extend(relayed.drains.iter().map(|drain| ("relay: rows/s".to_owned(), drain.rows_per_second)));
    figures
}
