//! Where a run takes place: topics, databases and the six services as processes, all of its own, and all gone with this value.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use quadrille_events::TOPICS;
use quadrille_roster::SERVICES;
use quadrille_show::{
    binaries, http,
    outside::Outside,
    process::{Process, START},
};
use quadrille_testkit::{Database, World};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

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

/// A world with six services.
pub struct Stage {
    // In the order in which they end.
    services: BTreeMap<&'static str, Running>,
    outside: Option<Outside>,
    /// Its topics.
    pub world: World,
    databases: BTreeMap<&'static str, Database>,
    /// Where its logs are.
    pub folder: PathBuf,
    programs: PathBuf,
    mode: Mode,
    peaks: BTreeMap<String, f64>,
    started: usize,
}

struct Running {
    process: Process,
    http: String,
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
        let world = World::new(TOPICS, &SERVICES).await?;
        let prefix = format!("quadrille_test_{}_", world.prefix().trim_end_matches('.'));
        let mut databases = BTreeMap::new();
        for service in SERVICES {
            databases.insert(service, Database::named(format!("{prefix}{service}")).await);
        }
        let outside = match mode {
            Mode::Alone => None,
            Mode::Whole => Some(Outside::start(&folder).await?),
        };
        let mut stage = Self {
            services: BTreeMap::new(),
            outside,
            world,
            databases,
            folder,
            programs: programs.to_owned(),
            mode,
            peaks: BTreeMap::new(),
            started: 0,
        };
        for service in services {
            stage.migrate(service).await?;
            stage.start(service).await?;
        }
        for service in services {
            stage.ready(service).await?;
        }
        Ok(stage)
    }

    /// A service's database.
    pub fn database(&self, service: &str) -> anyhow::Result<&PgPool> {
        Ok(&self.databases.get(service).with_context(|| format!("there is no service {service}"))?.pool)
    }

    /// What the outside did, where there is one.
    pub fn outside(&self) -> Option<&Outside> {
        self.outside.as_ref()
    }

    async fn migrate(&self, service: &'static str) -> anyhow::Result<()> {
        let program = self.programs.join(format!("quadrille-{service}"));
        let log = self.folder.join(format!("{service}.migrate.log"));
        let arguments = ["migrate".to_owned()];
        let mut process =
            Process::start(format!("{service} migrate"), &program, &arguments, &self.environment(service)?, log)?;
        let status = process.ended().await?;
        ensure!(status.success(), "{service} migrate ended with {status}; its log: {}", process.log());
        Ok(())
    }

    fn environment(&self, service: &'static str) -> anyhow::Result<Vec<(String, String)>> {
        let database = self.databases.get(service).context("a database")?;
        let mut environment = self.world.environment(&database.url());
        if let Some(outside) = &self.outside {
            let url = match service {
                "payment" => outside.payment.clone(),
                "shipping" => outside.carrier.clone(),
                "notification" => format!("smtp://{}", outside.smtp),
                _ => return Ok(environment),
            };
            environment.push(("QUADRILLE__OUTSIDE__URL".to_owned(), url));
        }
        Ok(environment)
    }

    /// Starts a service that does not run.
    pub async fn start(&mut self, service: &'static str) -> anyhow::Result<()> {
        self.started += 1;
        let name = format!("{service}-{}", self.started);
        let answered_here = self.mode == Mode::Alone && at_once::has_outside(service);
        let (program, arguments) = match answered_here {
            true => ("quadrille-bench".to_owned(), vec!["serve".to_owned(), service.to_owned()]),
            false => (format!("quadrille-{service}"), vec![]),
        };
        let log = self.folder.join(format!("{name}.log"));
        let program = self.programs.join(program);
        let mut process = Process::start(name, &program, &arguments, &self.environment(service)?, log)?;
        let http = process.says("Health and metrics on ").await?;
        self.services.insert(service, Running { process, http });
        Ok(())
    }

    /// Waits until a service is ready.
    pub async fn ready(&mut self, service: &'static str) -> anyhow::Result<()> {
        let running = self.services.get_mut(service).with_context(|| format!("{service} does not run"))?;
        let deadline = Instant::now() + START;
        while !http::is_ok(&format!("{}/health/ready", running.http)).await {
            if let Some(status) = running.process.status()? {
                anyhow::bail!(
                    "{service} ended with {status} while it was starting; its log: {}",
                    running.process.log()
                );
            }
            ensure!(Instant::now() < deadline, "{service} is not ready; its log: {}", running.process.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills a service at once, as a power cut would.
    pub async fn kill(&mut self, service: &'static str) -> anyhow::Result<()> {
        self.note_peaks()?;
        let mut running = self.services.remove(service).with_context(|| format!("{service} does not run"))?;
        running.process.kill().await
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
        self.services.values().try_for_each(|running| running.process.signal(signal))
    }

    /// Begins to measure what all processes use.
    pub fn meter(&self) -> anyhow::Result<Meter> {
        let mut groups = Groups::new();
        for (service, running) in &self.services {
            groups.insert((*service).to_owned(), pids([&running.process]));
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
        for (service, running) in &self.services {
            for pid in pids([&running.process]) {
                let peak = self.peaks.entry((*service).to_owned()).or_default();
                *peak = peak.max(usage::peak_mib(pid)?);
            }
        }
        Ok(())
    }
}

fn pids<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Vec<i32> {
    processes.into_iter().filter_map(|process| i32::try_from(process.pid()?).ok()).collect()
}
