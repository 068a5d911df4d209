//! What a figure was measured on, and what was measured.

use std::{fs, path::Path, process::Command};

use quadrille_show::binaries;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

/// The machine and the versions of what ran on it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub kafka: String,
    pub postgresql: String,
}

impl Machine {
    /// This one.
    pub async fn look(database: &PgPool) -> anyhow::Result<Self> {
        let after = |path: &str, name: &str| -> Option<String> {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = after("/proc/meminfo", "MemTotal").and_then(|total| total.split(' ').next()?.parse::<f64>().ok());
        let versions = fs::read_to_string(binaries::root().join("infra/local/versions.sh")).unwrap_or_default();
        let kafka = versions.lines().find_map(|line| line.strip_prefix("KAFKA_VERSION="));
        Ok(Self {
            cpu: after("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (kib.unwrap_or_default() / 1024.0 / 102.4).round() / 10.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            kafka: kafka.unwrap_or_default().to_owned(),
            postgresql: sqlx::query_scalar("show server_version").fetch_one(database).await?,
        })
    }
}

/// The short commit that is checked out in `root`, and whether files differ from it.
pub fn commit(root: &Path) -> (String, bool) {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    // What the bench itself writes is no change of what it measures.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]);
    (git(&["rev-parse", "--short", "HEAD"]), !changed.is_empty())
}
