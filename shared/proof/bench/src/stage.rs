//! Where a run takes place: a stage with the six services, and what they use measured.

use std::{
    collections::BTreeMap,
    fs,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::sys::signal::Signal;
use quadrille_roster::SERVICES;
use quadrille_show::{binaries, outside::Outside, process::Process};
use serde::{Deserialize, Serialize};

use crate::{
    at_once,
    usage::{self, Groups, Meter},
};

/// How effects are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In process and at once: the choreography alone.
    Alone,
    /// By payment provider, carrier and mail server, over HTTP and SMTP.
    Whole,
}

/// A world with six services, one instance of each.
pub struct Stage {
    // In the order in which they end.
    stage: quadrille_show::Stage,
    outside: Option<Outside>,
    programs: PathBuf,
    mode: Mode,
    peaks: BTreeMap<String, f64>,
}

impl Deref for Stage {
    type Target = quadrille_show::Stage;

    fn deref(&self) -> &quadrille_show::Stage {
        &self.stage
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut quadrille_show::Stage {
        &mut self.stage
    }
}

impl Stage {
    /// Opens a stage whose services are those in the folder `programs`, all ready.
    pub async fn open(mode: Mode, programs: &Path) -> anyhow::Result<Self> {
        Self::open_with(mode, programs, &SERVICES).await
    }

    /// The same with some of the services only.
    pub async fn open_with(mode: Mode, programs: &Path, services: &[&'static str]) -> anyhow::Result<Self> {
        let folder =
            binaries::run_folder().join("bench").join(format!("{mode:?}-{}", std::process::id()).to_lowercase());
        fs::create_dir_all(&folder)?;
        let outside = match mode {
            Mode::Alone => None,
            Mode::Whole => Some(Outside::start(&folder).await?),
        };
        let stage = quadrille_show::Stage::open(folder, outside.as_ref(), &[]).await?;
        let mut stage = Self { stage, outside, programs: programs.to_owned(), mode, peaks: BTreeMap::new() };
        for service in services {
            stage.migrate(service, programs.join(format!("quadrille-{service}"))).await?;
            stage.start(service).await?;
        }
        stage.ready().await?;
        Ok(stage)
    }

    /// What the outside did, where there is one.
    pub fn outside(&self) -> Option<&Outside> {
        self.outside.as_ref()
    }

    /// Starts a service that does not run.
    pub async fn start(&mut self, service: &'static str) -> anyhow::Result<()> {
        let (program, arguments) = match self.mode == Mode::Alone && at_once::has_outside(service) {
            true => ("quadrille-bench".to_owned(), vec!["serve".to_owned(), service.to_owned()]),
            false => (format!("quadrille-{service}"), vec![]),
        };
        let program = self.programs.join(program);
        self.stage.start_as(service, &program, &arguments).await?;
        Ok(())
    }

    /// Kills a service at once, as a power cut would.
    pub async fn kill(&mut self, service: &str) -> anyhow::Result<()> {
        self.note_peaks()?;
        self.stage.kill(service).await
    }

    /// Suspends all services.
    pub fn suspend(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets them go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.instances.iter().try_for_each(|instance| instance.process.signal(signal))
    }

    /// Begins to measure what all processes use.
    pub fn meter(&self) -> anyhow::Result<Meter> {
        let mut groups = Groups::new();
        for instance in &self.instances {
            groups.insert(instance.service.to_owned(), pids([&instance.process]));
        }
        groups.insert("bench".into(), vec![i32::try_from(std::process::id())?]);
        for server in ["postgres", "kafka"] {
            let pid = fs::read_to_string(binaries::run_folder().join(format!("pid/{server}.pid")));
            let pid = pid.with_context(|| format!("{server} does not run: `make infra` starts it"))?;
            groups.insert(server.into(), vec![pid.trim().parse()?]);
        }
        if let Some(outside) = &self.outside {
            groups.insert("stand-ins".into(), pids(outside.processes()));
        }
        Meter::start(groups, &self.folder)
    }

    /// The largest resident set that each service has had, in MiB.
    pub fn peaks(&mut self) -> anyhow::Result<BTreeMap<String, f64>> {
        self.note_peaks()?;
        Ok(self.peaks.clone())
    }

    fn note_peaks(&mut self) -> anyhow::Result<()> {
        for instance in &self.stage.instances {
            for pid in pids([&instance.process]) {
                let peak = self.peaks.entry(instance.service.to_owned()).or_default();
                *peak = peak.max(usage::peak_mib(pid)?);
            }
        }
        Ok(())
    }
}

fn pids<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Vec<i32> {
    processes.into_iter().filter_map(|process| i32::try_from(process.pid()?).ok()).collect()
}
