//! Recorded histories, decided again by this build's policies.
//!
//! [`Build`] names this build's policies and record types; whoever has them makes it.
//!
//! A service that runs with `history.keep` records each input and what it came to; `quadrille history export` writes that to a file.
//! [`Build::replay`] folds each service's inputs from an empty state through [`process`](quadrille_core::process) and compares every decision
//! with the recorded one, byte for byte: facts with their ids, versions, causes, times and data, effects and timers. The same build must
//! come to the same; where another build does not, each decision that differs is told.
//!
//! Needs no broker, no database and no registry.

mod describe;
mod report;
mod service;
mod types;

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, Read},
};

use anyhow::{Context, bail};
use quadrille_core::Policy;
use quadrille_history::{FORMAT, Header, Line};
use quadrille_schemas::wire::RecordInfo;
use uuid::Uuid;

pub use report::{Difference, Report};
use service::{Decide, Replaying};

/// A service whose decisions can be made again: its name, and its policy behind it.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    name: &'static str,
    replaying: fn(&'static [RecordInfo]) -> Box<dyn Decide>,
}

impl Service {
    /// The service with this policy.
    pub fn of<P: Policy>() -> Self {
        Self { name: P::SERVICE, replaying: |records| Box::new(Replaying::<P>::new(records)) }
    }
}

/// What a build can decide again.
#[derive(Clone, Debug)]
pub struct Build {
    /// Its services.
    pub services: Vec<Service>,
    /// Its record types, by which facts are shown as JSON.
    pub records: &'static [RecordInfo],
}

impl Build {
    /// Decides all of `file` again; `name` is what the file is called in errors and in the report.
    ///
    /// # Errors
    ///
    /// The file is no history, or not one from the beginning, or cannot be read by this build.
    pub fn replay(&self, mut file: impl BufRead, name: &str) -> anyhow::Result<Report> {
        let (mut history, mut line) = (History::of(self), String::new());
        for number in 1.. {
            line.clear();
            let read = file.by_ref().take(LONGEST_LINE + 1).read_line(&mut line);
            match read.with_context(|| format!("{name}, line {number}, cannot be read"))? {
                0 => break,
                read if read as u64 > LONGEST_LINE => bail!("{name}, line {number}, is longer than any decision"),
                _ => history.line(number, line.trim_end()).with_context(|| format!("{name}, line {number}"))?,
            }
        }
        if history.services.is_empty() {
            bail!(
                "{name} holds no history: `quadrille history export --out FILE` writes one, of services that ran with history.keep = true"
            );
        }
        Ok(history.report)
    }

    /// A service of this build, with nothing decided yet.
    fn service(&self, name: &str) -> anyhow::Result<Box<dyn Decide>> {
        let found = self.services.iter().find(|service| service.name == name);
        let service =
            found.with_context(|| format!("this build has no service '{name}': replay it with a build that has"))?;
        Ok((service.replaying)(self.records))
    }
}

/// What has no line ends is no history: it is refused before it fills the memory.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// What to do about a history that is not whole.
const MEND: &str = "A history can be replayed only where all of it was recorded: set history.keep on every instance before the service \
                    takes its first input, with an empty database, and leave it set";

/// A history on its way through the policies.
struct History<'b> {
    build: &'b Build,
    /// Which service a header is of.
    headers: HashMap<Uuid, String>,
    services: BTreeMap<String, Box<dyn Decide>>,
    /// The lines of the services' first gaps.
    gaps: HashMap<String, usize>,
    report: Report,
}

impl<'b> History<'b> {
    fn of(build: &'b Build) -> Self {
        let (headers, services, gaps) = (HashMap::new(), BTreeMap::new(), HashMap::new());
        Self { build, headers, services, gaps, report: Report::default() }
    }

    fn line(&mut self, number: usize, line: &str) -> anyhow::Result<()> {
        match serde_json::from_str(line).context("this is no line of a history that this build can read")? {
            Line::Header(header) => self.header(header),
            Line::Gap { service } => {
                self.gaps.entry(service).or_insert(number);
                Ok(())
            }
            Line::Decided(decided) => {
                let name = self.headers.get(&decided.header);
                if let Some((service, gap)) = name.and_then(|name| self.gaps.get_key_value(name)) {
                    bail!(
                        "the {service} history has a gap on line {gap}: an instance ran there with history.keep = false, so decisions \
                         are missing. {MEND}"
                    );
                }
                let service = name.and_then(|name| self.services.get_mut(name));
                let Some(service) = service else {
                    bail!(
                        "the header {} that this names does not stand before it: export the history again",
                        decided.header
                    );
                };
                service.decide(number, decided, &mut self.report)
            }
        }
    }

    fn header(&mut self, header: Header) -> anyhow::Result<()> {
        if header.format != FORMAT {
            bail!(
                "the history has format {}, and this build reads {FORMAT}: replay it with a build of its time",
                header.format
            );
        }
        let service = match self.services.entry(header.service.clone()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new.insert(self.build.service(&header.service)?),
        };
        service.header(&header)?;
        self.headers.insert(header.id, header.service);
        Ok(())
    }
}
