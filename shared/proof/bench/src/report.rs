//! What a run came to: a JSON file of its own, the table in docs/bench/README.md, and one line of figures against the aims.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use quadrille_program::say;
use quadrille_roster::SERVICES;
use quadrille_show::binaries;
use serde::{Deserialize, Serialize};

use crate::{
    machine::{self, Machine},
    phases::{Drain, Sagas, Steady},
    quantiles::median,
    relay::Relayed,
};

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub date: String,
    pub commit: String,
    /// Files differed from the commit.
    pub dirty: bool,
    pub machine: Machine,
    /// Effects answered in process.
    pub choreography: Sagas,
    /// With provider, carrier and mail server.
    pub whole: Option<Sagas>,
    pub relay: Relayed,
}

/// A figure that is aimed at.
struct Aim {
    what: &'static str,
    unit: &'static str,
    aim: f64,
    more_is_better: bool,
    found: f64,
}

impl Aim {
    fn met(&self) -> bool {
        if self.more_is_better { self.found >= self.aim } else { self.found <= self.aim }
    }

    fn text(&self) -> String {
        let digits = if self.found < 10.0 { 2 } else { 0 };
        format!("{:.digits$} {}", self.found, self.unit)
    }
}

impl Report {
    /// Keeps the run in `folder`, and says where.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}-{}.json", self.date[..10].replace(':', ""), self.commit));
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }

    /// The commit, the date and the machine of a run that has just been made.
    pub fn place(&mut self, machine: Machine) {
        (self.commit, self.dirty) = machine::commit(&binaries::root());
        self.date = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        self.machine = machine;
    }

    fn aims(&self) -> Vec<Aim> {
        let alone = &self.choreography;
        let at = |rate: u32| alone.steady.iter().find(|steady| steady.rate == rate).cloned().unwrap_or_default();
        let fastest = alone.steady.iter().max_by_key(|steady| steady.rate).cloned().unwrap_or_default();
        // A rate holds if its last order was no later than a second.
        let held = fastest.orders as f64
            / (f64::from(fastest.orders as u32) / f64::from(fastest.rate.max(1))
                + (fastest.behind_ms / 1000.0 - 1.0).max(0.0));
        let rows = self.relay.drains.iter().map(|drain| drain.rows_per_second).collect();
        let lone = self.relay.commits.first().cloned().unwrap_or_default().commit_to_consumer_ms;
        let largest = alone.peak_mib.values().copied().fold(0.0, f64::max);
        let aim = |what, found, unit, aim, more_is_better| Aim { what, unit, aim, more_is_better, found };
        vec![
            aim("drain of 20,000 orders", drained(&alone.drains), "sagas/s", 3_000.0, true),
            aim("sustained for 10 s", held, "sagas/s", 1_000.0, true),
            aim("to delivered at 100/s, p50", at(100).delivered_ms.p50, "ms", 40.0, false),
            aim("to delivered at 100/s, p99", at(100).delivered_ms.p99, "ms", 150.0, false),
            aim("commit to consumer, p50", lone.p50, "ms", 1.0, false),
            aim("relay of 100,000 rows", median(rows), "rows/s", 150_000.0, true),
            aim("largest service, peak", largest, "MiB", 30.0, false),
        ]
    }

    /// What is wrong: not a speed, but something lost, doubled or inconsistent.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.choreography.checked.wrong.clone();
        wrong.extend(self.whole.iter().flat_map(|whole| whole.checked.wrong.clone()));
        if self.relay.lost + self.relay.repeats > 0 {
            wrong.push(format!("the relay: {} rows lost, {} repeated", self.relay.lost, self.relay.repeats));
        }
        wrong
    }

    /// Tells the aims that were missed, and all figures on one line.
    pub fn print(&self) {
        let aims = self.aims();
        for aim in aims.iter().filter(|aim| !aim.met()) {
            say!("aim missed: {}: {}, aimed at {} {}", aim.what, aim.text(), aim.aim, aim.unit);
        }
        let figures: Vec<String> =
            aims.iter().map(|aim| format!("{} {} ({})", aim.what, aim.text(), aim.aim)).collect();
        say!("bench, choreography alone (aims in brackets): {}", figures.join("; "));
    }

    /// Puts the tables of this run between the marks of `readme`.
    pub fn write_into(&self, readme: &Path, json: &Path) -> anyhow::Result<()> {
        let text = fs::read_to_string(readme).with_context(|| readme.display().to_string())?;
        let (before, rest) =
            text.split_once(BEGIN).with_context(|| format!("{} has no '{BEGIN}'", readme.display()))?;
        let (_, after) = rest.split_once(END).with_context(|| format!("{} has no '{END}'", readme.display()))?;
        let name = json.file_name().unwrap_or_default().to_string_lossy();
        fs::write(readme, format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.tables(&name)?))?;
        Ok(())
    }

    fn tables(&self, json: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        let Machine { cpu, cores, memory_gib, kernel, kafka, postgresql } = &self.machine;
        let dirty = if self.dirty { ", with changes" } else { "" };
        writeln!(
            text,
            "[{json}]({json}): {}, commit {}{dirty}; {cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, Kafka {kafka}, PostgreSQL {postgresql}.\n",
            self.date, self.commit
        )?;
        writeln!(text, "| choreography alone | measured | aim | |\n| --- | --- | --- | --- |")?;
        for aim in self.aims() {
            let verdict = if aim.met() { "met" } else { "missed" };
            writeln!(text, "| {} | {} | {} {} | {verdict} |", aim.what, aim.text(), aim.aim, aim.unit)?;
        }
        let modes = [("choreography alone", Some(&self.choreography)), ("whole", self.whole.as_ref())];
        writeln!(
            text,
            "\n| sagas at a steady rate | orders/s | confirmed p50 / p99 ms | delivered p50 / p99 / max ms | decided to seen p50 / p99 ms | last one behind by ms | noise % | fdatasync p50 / p99 ms |"
        )?;
        writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for (mode, sagas) in modes {
            for steady in sagas.iter().flat_map(|sagas| &sagas.steady) {
                let Steady { rate, confirmed_ms: c, delivered_ms: d, decided_to_seen_ms: s, behind_ms, usage, .. } =
                    steady;
                writeln!(
                    text,
                    "| {mode} | {rate} | {:.1} / {:.1} | {:.1} / {:.1} / {:.0} | {:.1} / {:.1} | {behind_ms:.0} | {:.0} | {:.2} / {:.2} |",
                    c.p50,
                    c.p99,
                    d.p50,
                    d.p99,
                    d.max,
                    s.p50,
                    s.p99,
                    usage.noise_percent,
                    usage.sync_ms.p50,
                    usage.sync_ms.p99
                )?;
            }
        }
        writeln!(
            text,
            "\n| drain | orders | sagas/s | noise % | fdatasync p50 / p99 ms |\n| --- | --- | --- | --- | --- |"
        )?;
        for (mode, sagas) in modes {
            for Drain { orders, sagas_per_second, usage, .. } in sagas.iter().flat_map(|sagas| &sagas.drains) {
                writeln!(
                    text,
                    "| {mode} | {orders} | {sagas_per_second:.0} | {:.0} | {:.2} / {:.2} |",
                    usage.noise_percent, usage.sync_ms.p50, usage.sync_ms.p99
                )?;
            }
        }
        for (mode, sagas) in modes {
            let Some(sagas) = sagas else { continue };
            text.push_str(&cpu_a_saga(mode, sagas)?);
        }
        writeln!(
            text,
            "\n| largest resident set, MiB | {} |\n| --- |{}",
            SERVICES.join(" | "),
            " --- |".repeat(SERVICES.len())
        )?;
        for (mode, sagas) in modes {
            let Some(sagas) = sagas else { continue };
            let peaks =
                SERVICES.map(|service| format!("{:.1}", sagas.peak_mib.get(service).copied().unwrap_or_default()));
            writeln!(text, "| {mode} | {} |", peaks.join(" | "))?;
        }
        writeln!(
            text,
            "\n| relay | p50 / p99 / max ms, or rows/s | noise % | CPU ms: service / PostgreSQL / Kafka |\n| --- | --- | --- | --- |"
        )?;
        let spent = |cpu: &BTreeMap<String, f64>| {
            ["user", "postgres", "kafka"]
                .map(|name| format!("{:.0}", cpu.get(name).copied().unwrap_or_default()))
                .join(" / ")
        };
        for commits in &self.relay.commits {
            let q = commits.commit_to_consumer_ms;
            let (noise, cpu) = (commits.usage.noise_percent, spent(&commits.usage.cpu_ms));
            writeln!(
                text,
                "| commit to consumer at {}/s | {:.2} / {:.2} / {:.1} | {noise:.0} | {cpu} |",
                commits.rate, q.p50, q.p99, q.max
            )?;
        }
        for drain in &self.relay.drains {
            let (noise, cpu) = (drain.usage.noise_percent, spent(&drain.usage.cpu_ms));
            writeln!(text, "| {} rows at once | {:.0} | {noise:.0} | {cpu} |", drain.rows, drain.rows_per_second)?;
        }
        writeln!(text)?;
        for (mode, sagas) in modes {
            let Some(sagas) = sagas else { continue };
            let checked = &sagas.checked;
            let killed = sagas.killed.clone().unwrap_or_default();
            writeln!(
                text,
                "- {mode}: {} orders, {} facts, {} lost, {} doubled; kill -9 of {} at {}/s: {} records repeated.",
                checked.orders,
                checked.facts,
                checked.lost,
                checked.doubled,
                killed.service,
                killed.rate,
                killed.repeats
            )?;
        }
        Ok(text)
    }
}

const BEGIN: &str = "<!-- figures: written by make bench -->";
const END: &str = "<!-- end of figures -->";

/// The median rate of several drains.
pub fn drained(drains: &[Drain]) -> f64 {
    median(drains.iter().map(|drain| drain.sagas_per_second).collect())
}

/// CPU a saga by process, for each phase.
fn cpu_a_saga(mode: &str, sagas: &Sagas) -> anyhow::Result<String> {
    let phases = sagas.steady.iter().map(|s| (format!("{}/s", s.rate), s.orders, &s.usage));
    let phases: Vec<_> =
        phases.chain(sagas.drains.iter().map(|drain| ("drain".to_owned(), drain.orders, &drain.usage))).collect();
    let Some((.., usage)) = phases.first() else { return Ok(String::new()) };
    let names: Vec<&str> = usage.cpu_ms.keys().map(String::as_str).collect();
    let mut text = String::new();
    writeln!(
        text,
        "\n| CPU ms a saga, {mode} | {} | all |\n| --- |{}",
        names.join(" | "),
        " --- |".repeat(names.len() + 1)
    )?;
    for (phase, orders, usage) in phases {
        let each = |name: &str| usage.cpu_ms.get(name).copied().unwrap_or_default() / orders as f64;
        let all: f64 = names.iter().map(|name| each(name)).sum();
        let columns: Vec<String> = names.iter().map(|name| format!("{:.3}", each(name))).collect();
        writeln!(text, "| {phase} | {} | {all:.3} |", columns.join(" | "))?;
    }
    Ok(text)
}
