//! Where services run: topics, databases and instances as processes, all of its own, and all gone with this value.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use quadrille_cli::{Settings, settings::Overrides};
use quadrille_events::TOPICS;
use quadrille_roster::SERVICES;
use quadrille_shop::CATALOGUE;
use quadrille_testkit::{Database, World};

use crate::{
    http,
    outside::Outside,
    process::{Process, START},
};

/// How long a service may take to end.
const STOP: Duration = Duration::from_secs(20);

/// A world in which services run. `W` has its topics, and removes them when it is dropped.
pub struct Stage<W = World> {
    // In the order in which they end.
    /// The instances of the services.
    pub instances: Vec<Instance>,
    /// Its topics.
    pub world: W,
    /// For the command line's functions: they see this world only.
    pub settings: Settings,
    databases: BTreeMap<&'static str, Database>,
    /// Where its logs are.
    pub folder: PathBuf,
    /// What all services are told.
    environment: Vec<(String, String)>,
    /// Further settings of one service.
    of_service: Vec<(&'static str, String, String)>,
    started: usize,
}

/// One process of a service.
pub struct Instance {
    /// Which service.
    pub service: &'static str,
    /// The process.
    pub process: Process,
    /// Where its health and metrics are.
    pub http: String,
}

impl Instance {
    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while !http::is_ok(&format!("{}/health/ready", self.http)).await {
            if let Some(status) = self.process.status()? {
                anyhow::bail!(
                    "{} ended with {status} while it was starting; its log: {}",
                    self.process.name(),
                    self.process.log()
                );
            }
            ensure!(
                Instant::now() < deadline,
                "{} is not ready after {START:?}; its log: {}",
                self.process.name(),
                self.process.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Stage {
    /// Makes topics and databases for all services; none runs yet. Logs are in `folder`. Their outside is `outside`, where there is one.
    pub async fn open(folder: PathBuf, outside: Option<&Outside>, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let world = World::new(TOPICS, &SERVICES).await?;
        let mut seen = Settings::load(*CATALOGUE, Overrides::default())?;
        seen.kafka.clone_from(&world.settings.kafka);
        seen.database.prefix = format!("quadrille_test_{}_", world.prefix().trim_end_matches('.'));
        // Each service is told its own database.
        let mut environment = world.environment("");
        environment.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let mut stage = Self::over(world, &SERVICES, seen, folder, environment).await;
        if let Some(outside) = outside {
            stage.settings.tools.insert("provider_url".to_owned(), outside.payment.clone());
            stage.set("payment", "QUADRILLE__OUTSIDE__URL", &outside.payment);
            stage.set("shipping", "QUADRILLE__OUTSIDE__URL", &outside.carrier);
            stage.set("notification", "QUADRILLE__OUTSIDE__URL", &format!("smtp://{}", outside.smtp));
        }
        Ok(stage)
    }
}

impl<W> Stage<W> {
    /// Makes a database for each of these services, by the names that `settings` has for them; none runs yet. What all of them are told is
    /// `environment`, logs are in `folder`.
    pub async fn over(
        world: W,
        services: &[&'static str],
        settings: Settings,
        folder: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Self {
        let mut databases = BTreeMap::new();
        for service in services {
            databases.insert(*service, Database::named(settings.database(service)).await);
        }
        Self { instances: vec![], world, settings, databases, folder, environment, of_service: vec![], started: 0 }
    }

    /// A service's database.
    pub fn database(&self, service: &str) -> anyhow::Result<&Database> {
        self.databases.get(service).with_context(|| format!("there is no service {service}"))
    }

    /// What a process of this service is told of its world.
    pub fn environment(&self, service: &'static str) -> anyhow::Result<Vec<(String, String)>> {
        let url = self.database(service)?.url();
        let mut environment = self.environment.clone();
        environment.extend(["URL", "MIGRATE_URL"].map(|key| (format!("QUADRILLE__DATABASE__{key}"), url.clone())));
        let own = self.of_service.iter().filter(|(of, ..)| *of == service);
        environment.extend(own.map(|(_, variable, value)| (variable.clone(), value.clone())));
        Ok(environment)
    }

    /// What a variable is set to for all services, if it is.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Sets a variable for those instances of a service that start from now on.
    pub fn set(&mut self, service: &'static str, variable: &str, value: &str) {
        self.of_service.push((service, variable.to_owned(), value.to_owned()));
    }

    /// Brings a service's tables up to date with its program.
    pub async fn migrate(&self, service: &'static str, program: PathBuf) -> anyhow::Result<()> {
        let log = self.folder.join(format!("{service}.migrate.log"));
        let environment = self.environment(service)?;
        let mut process =
            Process::start(format!("{service} migrate"), &program, &["migrate".to_owned()], &environment, log)?;
        let status = process.ended().await?;
        ensure!(status.success(), "{service} migrate ended with {status}; its log: {}", process.log());
        Ok(())
    }

    /// Starts one more instance of a service. It listens when this returns; whether it is ready is another question.
    pub async fn start_as(
        &mut self,
        service: &'static str,
        program: &Path,
        arguments: &[String],
    ) -> anyhow::Result<&mut Instance> {
        self.started += 1;
        let name = format!("{service}-{}", self.started);
        let log = self.folder.join(format!("{name}.log"));
        let mut process = Process::start(name, program, arguments, &self.environment(service)?, log)?;
        let http = process.says("Health and metrics on ").await?;
        self.instances.push(Instance { service, process, http });
        self.instances.last_mut().context("it was just pushed")
    }

    /// Waits until every instance is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        for instance in &mut self.instances {
            instance.ready().await?;
        }
        Ok(())
    }

    /// Stops every instance of a service, gracefully.
    pub async fn stop(&mut self, service: &str) -> anyhow::Result<()> {
        for mut instance in self.instances.extract_if(.., |instance| instance.service == service) {
            let (_, status) = instance.process.stop(STOP).await?;
            ensure!(
                status.success(),
                "{} ended with {status}; its log: {}",
                instance.process.name(),
                instance.process.log()
            );
        }
        Ok(())
    }

    /// Kills every instance of a service at once, as a power cut would.
    pub async fn kill(&mut self, service: &str) -> anyhow::Result<()> {
        self.kill_where(|instance| instance.service == service).await
    }

    /// Kills every instance of every service at once, as a power cut would.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        self.kill_where(|_| true).await
    }

    async fn kill_where(&mut self, which: impl Fn(&Instance) -> bool) -> anyhow::Result<()> {
        // All signals first: nobody may tidy up after another one's end.
        for instance in self.instances.iter().filter(|instance| which(instance)) {
            instance.process.signal(Signal::SIGKILL)?;
        }
        for mut instance in self.instances.extract_if(.., |instance| which(instance)) {
            instance.process.kill().await?;
        }
        Ok(())
    }

    /// Where its logs are.
    pub fn logs(&self) -> String {
        self.folder.display().to_string()
    }
}
