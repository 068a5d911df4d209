//! Commands as a newcomer types them: through bash, with this build's `quadrille` on the PATH.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use quadrille_cli::Settings;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::binaries;

/// A shell in one world.
pub struct Shell {
    path: OsString,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
}

impl Shell {
    /// A shell whose `quadrille` works in the world of `settings`, in a folder of its own.
    pub fn new(settings: &Settings, folder: PathBuf) -> anyhow::Result<Self> {
        let programs = binaries::find("quadrille")?;
        let programs = programs.parent().context("a folder of programs")?.display().to_string();
        let mut path = OsString::from(format!("{programs}:"));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut environment = vec![
            ("QUADRILLE__KAFKA__BROKERS", settings.kafka.brokers.clone()),
            ("QUADRILLE__KAFKA__TOPIC_PREFIX", settings.kafka.topic_prefix.clone()),
            ("QUADRILLE__KAFKA__GROUP_PREFIX", settings.kafka.group_prefix.clone()),
            ("QUADRILLE__REGISTRY__URL", settings.registry.url.clone()),
            ("QUADRILLE__DATABASE__BASE_URL", settings.database.base_url.clone()),
            ("QUADRILLE__DATABASE__PREFIX", settings.database.prefix.clone()),
        ];
        // A foreign workspace has none.
        environment
            .extend(settings.tools.get("provider_url").map(|url| ("QUADRILLE__TOOLS__PROVIDER_URL", url.clone())));
        Ok(Self { path, environment, folder })
    }

    /// Puts a file where the shell works.
    pub fn file(&self, name: &str, content: &str) -> anyhow::Result<()> {
        std::fs::write(self.folder.join(name), content).with_context(|| format!("the file {name}"))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        command
            // Neither options nor functions nor a start-up file of the caller's shell.
            .args(["-p", "-o", "pipefail", "-c", line])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("KCAT_CONFIG", "/dev/null")
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Runs a command line to its end, and returns what it wrote.
    pub async fn run(&self, line: &str) -> anyhow::Result<String> {
        let output = tokio::time::timeout(Duration::from_secs(60), self.command(line).output()).await;
        let output = output.with_context(|| format!("this took too long: {line}"))??;
        ensure!(
            output.status.success(),
            "this ended with {}: {line}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command line that may fail: whether it went well, and the last line that it wrote.
    pub async fn last_line(&self, line: &str) -> anyhow::Result<(bool, String)> {
        let output = tokio::time::timeout(Duration::from_secs(60), self.command(line).output()).await;
        let output = output.with_context(|| format!("this took too long: {line}"))??;
        let told = String::from_utf8_lossy(&output.stdout);
        let last = told.lines().last().with_context(|| {
            format!("this said nothing: {line}\n{}", String::from_utf8_lossy(&output.stderr).trim())
        })?;
        Ok((output.status.success(), last.to_owned()))
    }

    /// Where a file of the shell is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a command line that goes on by itself, to be read line by line.
    pub fn start(&self, line: &str) -> anyhow::Result<Running> {
        let mut child = self.command(line).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Running { child, lines, line: line.to_owned() })
    }
}

/// A command line at work. It is killed with all that belongs to it when this is dropped.
pub struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    line: String,
}

impl Running {
    /// Reads until a line for which `wanted` holds, and returns it.
    pub async fn until(&mut self, patience: Duration, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.lines.next_line()).await {
                Ok(Ok(Some(line))) if wanted(&line) => return Ok(line),
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => bail!("this ended before it said what was waited for: {}", self.line),
                Ok(Err(error)) => return Err(error.into()),
                Err(_elapsed) => bail!("this did not say in {patience:?} what was waited for: {}", self.line),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A pipeline is several processes: all are of the shell's group.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
