//! Another build of `quadrille-replay`: this checkout's sources with one line changed, beside them under `.run`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::{binaries, process::Process};

/// What the build of `quadrille-replay` needs of the checkout.
const SOURCES: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "schemas", "shared", "services", "infra/stand-ins"];

/// One changed line.
pub struct Change {
    /// The file, within the checkout.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub line: &'static str,
    /// What stands there instead.
    pub becomes: &'static str,
}

/// A build under way.
pub struct OtherBuild {
    cargo: Process,
    program: PathBuf,
}

impl OtherBuild {
    /// Copies the sources, changes the line and starts the build. Its log is in `logs`.
    ///
    /// The copy and its target folder stay: the first build makes all that it depends on, later ones what has changed.
    pub fn start(change: &Change, logs: PathBuf) -> anyhow::Result<Self> {
        let folder = binaries::run_folder().join("other-build");
        let (sources, target) = (folder.join("sources"), folder.join("target"));
        copy(&binaries::root(), &sources)?;
        change.apply(&sources)?;
        // At a low priority: what is shown meanwhile goes first. Without optimization: it runs once, and is waited for.
        let command = r#"cd -- "$1" && exec nice -n 10 cargo build --locked --quiet --package quadrille-roster --bin quadrille-replay \
             --config 'profile.dev.opt-level=0' --config 'profile.dev.package."*".opt-level=0' --target-dir "$2""#;
        let folders = [sources.display().to_string(), target.display().to_string()];
        let arguments = ["-c", command, "sh"].map(str::to_owned).into_iter().chain(folders).collect::<Vec<_>>();
        let cargo =
            Process::start("the other build", Path::new("/bin/sh"), &arguments, &[], logs.join("other-build.log"))?;
        Ok(Self { cargo, program: target.join("debug/quadrille-replay") })
    }

    /// Waits for the build, and returns its program.
    pub async fn built(mut self) -> anyhow::Result<String> {
        let status = self.cargo.ended().await?;
        ensure!(status.success(), "the other build ended with {status}; its log: {}", self.cargo.log());
        Ok(self.program.display().to_string())
    }
}

impl Change {
    fn apply(&self, sources: &Path) -> anyhow::Result<()> {
        let path = sources.join(self.file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let found = text.matches(self.line).count();
        ensure!(
            found == 1,
            "{} has this {found} times, and the show changes it where it stands once: {}\nName another line of the policy in the show",
            self.file,
            self.line
        );
        Ok(std::fs::write(&path, text.replacen(self.line, self.becomes, 1))?)
    }
}

/// Copies with the files' times, so that cargo builds only what has changed since the last time.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("the other build's sources");
        }
        _ => std::fs::create_dir_all(to)?,
    }
    let mut copying = Command::new("cp");
    copying.args(["--archive", "--parents"]).args(SOURCES).arg(to).current_dir(from).stdin(Stdio::null());
    let output = copying.output().context("cp")?;
    ensure!(output.status.success(), "the sources cannot be copied: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
