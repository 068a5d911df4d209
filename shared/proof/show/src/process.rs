//! Processes that a show starts: each with a log of its own, known by its pid, and ended with the show whatever happens to it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// How long a process may take until it listens, or is ready.
pub const START: Duration = Duration::from_secs(60);
/// What a process that listens is looked at again after: it has no way to tell us.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// A running process. It is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with nothing of this process's own settings but what `environment` says; its output goes to `log`.
    pub fn start(
        name: impl Into<String>,
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        ensure!(program.is_file(), "{} is not there: `make build` builds it", program.display());
        let out = File::create(&log).with_context(|| format!("the log {}", log.display()))?;
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            // Services refuse keys that they do not know, and a shell may be set up for tools or for another world.
            if variable.to_string_lossy().starts_with("QUADRILLE") {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .env("NO_COLOR", "1")
            // As the local world starts them: what a large batch took is given back.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // Of its own group: Ctrl-C reaches the show alone, which then ends what it started.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid, unless it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid().with_context(|| format!("{} has ended already; its log: {}", self.name, self.log()))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Kills it at once, as a power cut would, and waits until it is gone.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("{} cannot be killed", self.name))
    }

    /// Asks it to end, and says how long that took and what it ended with.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<(Duration, ExitStatus)> {
        let began = Instant::now();
        self.signal(Signal::SIGTERM)?;
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(status) => Ok((began.elapsed(), status?)),
            Err(_elapsed) => bail!("{} did not end within {patience:?} of SIGTERM; its log: {}", self.name, self.log()),
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// How it ended, if it did.
    pub fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Where its log is, for people.
    pub fn log(&self) -> String {
        self.log.display().to_string()
    }

    /// The word behind `mark` in its log, once it is there: a process that chose its own port says so.
    pub async fn says(&mut self, mark: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + START;
        loop {
            let log = std::fs::read_to_string(&self.log)?;
            let behind = log.split_once(mark).map(|(_, rest)| rest);
            // The line must be whole: the word may be written in two halves.
            if let Some(line) = behind.and_then(|rest| rest.split_once('\n')).map(|(line, _)| line) {
                return Ok(line.split_whitespace().next().unwrap_or_default().to_owned());
            }
            if let Some(status) = self.status()? {
                bail!("{} ended with {status} while it was starting:\n{}", self.name, tail(&log));
            }
            ensure!(
                Instant::now() < deadline,
                "{} did not say '{mark}' in {START:?}; its log: {}",
                self.name,
                self.log()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let pid = self.pid().with_context(|| format!("{} has ended; its log: {}", self.name, self.log()))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.context("/proc tells no VmRSS")? * 1024)
    }
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
