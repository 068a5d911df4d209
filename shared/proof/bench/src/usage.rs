//! What a phase used: CPU of each process, the noise of all others, and how fast the disk was just before.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::quantiles::Quantiles;

/// What a phase used.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub seconds: f64,
    /// CPU by process, in milliseconds; what PostgreSQL's and Kafka's processes used stands under one name each.
    pub cpu_ms: BTreeMap<String, f64>,
    /// CPU of all other processes, in % of one core.
    pub noise_percent: f64,
    /// What the hypervisor gave to others, in % of one core.
    pub steal_percent: f64,
    /// 8 KiB appended and synced, just before the phase.
    pub sync_ms: Quantiles,
}

/// Processes by the name that their CPU is told under. A process's children count with it.
pub type Groups = BTreeMap<String, Vec<i32>>;

/// A phase under way.
pub struct Meter {
    groups: Groups,
    began: Instant,
    before: Processes,
    steal: f64,
    sync_ms: Quantiles,
}

impl Meter {
    /// Begins to measure.
    pub fn start(groups: Groups, folder: &Path) -> anyhow::Result<Self> {
        let sync_ms = sync(&folder.join("sync"))?;
        let before = Processes::look(&groups)?;
        Ok(Self { groups, began: Instant::now(), before, steal: steal()?, sync_ms })
    }

    /// Ends it.
    pub fn stop(self) -> anyhow::Result<Usage> {
        let after = Processes::look(&self.groups)?;
        let seconds = self.began.elapsed().as_secs_f64();
        let used = |name: &str| {
            let of = |look: &Processes| look.groups.get(name).copied().unwrap_or_default();
            // A process that was killed meanwhile is missing from the second look.
            (of(&after) - of(&self.before)).max(0.0)
        };
        Ok(Usage {
            seconds,
            cpu_ms: self.groups.keys().map(|name| (name.clone(), used(name))).collect(),
            noise_percent: ((after.others - self.before.others) / seconds / 10.0).max(0.0),
            steal_percent: (steal()? - self.steal) / seconds / 10.0,
            sync_ms: self.sync_ms,
        })
    }
}

/// CPU since their start, in milliseconds, ended children included.
struct Processes {
    groups: BTreeMap<String, f64>,
    others: f64,
}

impl Processes {
    fn look(groups: &Groups) -> anyhow::Result<Self> {
        let mut look = Self { groups: BTreeMap::new(), others: 0.0 };
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // One that has just ended is counted with its parent from now on.
            let Some((parent, ms)) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|s| stat(&s)) else {
                continue;
            };
            let of = |pid: i32| groups.iter().find(|(_, pids)| pids.contains(&pid));
            match of(pid).or_else(|| of(parent)) {
                Some((name, _)) => *look.groups.entry(name.clone()).or_default() += ms,
                None => look.others += ms,
            }
        }
        Ok(look)
    }
}

/// A process's parent, and its CPU in milliseconds with that of its ended children.
fn stat(line: &str) -> Option<(i32, f64)> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    // /proc counts in USER_HZ, which is 100 on every platform of today.
    Some((fields.get(1)?.parse().ok()?, ticks * 10.0))
}

fn steal() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<f64>().ok());
    Ok(ticks.context("/proc/stat tells no steal")? * 10.0)
}

fn sync(path: &Path) -> anyhow::Result<Quantiles> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let mut times = vec![];
    for _ in 0..50 {
        let began = Instant::now();
        file.write_all(&[0; 8192])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    fs::remove_file(path)?;
    Ok(Quantiles::of(times))
}

/// The largest resident set that a process has had, in MiB.
pub fn peak_mib(pid: i32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    Ok((peak.context("/proc tells no VmHWM")? / 102.4).round() / 10.0)
}

/// Waits a moment, so that what a phase began with does not end in it.
pub async fn rest() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}
