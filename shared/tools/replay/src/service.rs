//! One service's decisions, made again.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
};

use anyhow::{Context, bail};
use quadrille_core::{Claims, Envelope, Input, Moment, Policy, Records, Row, Tombstone, Trace, process};
use quadrille_history::{Datum, Decided, Header, RecordedDecision, Taken};
use quadrille_schemas::wire::RecordInfo;
use uuid::Uuid;

use crate::{
    MEND, describe,
    report::{Difference, Report},
    types::Types,
};

/// A service, whatever its policy.
pub(crate) trait Decide {
    /// Makes the records of this header's decisions readable.
    fn header(&mut self, header: &Header) -> anyhow::Result<()>;

    /// Decides again what was recorded on this line, and tells the report what came of it.
    fn decide(&mut self, line: usize, decided: Decided, report: &mut Report) -> anyhow::Result<()>;
}

/// A service in the state that its history has brought it to.
pub(crate) struct Replaying<P: Policy> {
    /// Every record type of this build, by which facts are shown as JSON.
    records: &'static [RecordInfo],
    state: P::State,
    headers: HashMap<Uuid, Recorded<P>>,
    /// The last recorded version, by topic and key.
    versions: HashMap<(String, String), i64>,
    /// Rows that a differing decision had in hand, with that decision's line: the state may no longer be what it was then.
    drifted: BTreeMap<Row, usize>,
}

/// The types that one header's decisions were recorded in.
struct Recorded<P: Policy> {
    heard: Types<P::Heard>,
    stated: Types<P::Stated>,
}

impl<P: Policy> Replaying<P> {
    /// The service with nothing decided yet.
    pub fn new(records: &'static [RecordInfo]) -> Self {
        Self {
            records,
            state: P::State::default(),
            headers: HashMap::new(),
            versions: HashMap::new(),
            drifted: BTreeMap::new(),
        }
    }
}

impl<P: Policy> Decide for Replaying<P> {
    fn header(&mut self, header: &Header) -> anyhow::Result<()> {
        let recorded = Recorded { heard: Types::new(&header.schemas)?, stated: Types::new(&header.schemas)? };
        self.headers.insert(header.id, recorded);
        Ok(())
    }

    fn decide(&mut self, line: usize, decided: Decided, report: &mut Report) -> anyhow::Result<()> {
        self.goes_on(&decided)?;
        let then = self.in_own_schemas(&decided)?;
        let (now, rows) = match self.envelope(&decided)? {
            Some(input) => {
                let rows = locked::<P>(&self.state, &input);
                (self.process(&decided, &input)?, rows)
            }
            // A build that does not hear a record passes over it.
            None => (Ok(RecordedDecision::default()), vec![]),
        };
        report.decisions += 1;
        report.facts += then.facts.len();
        if now.as_ref() == Ok(&then) {
            return Ok(());
        }
        let follows = rows.iter().filter_map(|row| self.drifted.get(row)).min().copied();
        let (then, now) = describe::difference(self.records, &then, now.as_ref());
        for row in rows {
            self.drifted.entry(row).or_insert(line);
        }
        report.differences.push(Difference {
            service: P::SERVICE,
            line,
            time: decided.now,
            key: decided.key,
            input: describe::input(&decided.input),
            id: decided.id,
            then,
            now,
            follows,
        });
        Ok(())
    }
}

impl<P: Policy> Replaying<P> {
    /// Refuses a history with a gap: versions of a key go on one by one from 1.
    fn goes_on(&mut self, decided: &Decided) -> anyhow::Result<()> {
        for fact in &decided.came_to.facts {
            let Some(version) = fact.version else { continue };
            let last = self.versions.entry((fact.topic.clone(), fact.key.clone())).or_default();
            let missing = *last + 1..version;
            if !missing.is_empty() {
                bail!(
                    "the {} history {}: version {} of {} on {} stands here, and {} of it {} not in the history. {MEND}",
                    P::SERVICE,
                    if *last == 0 { "begins in the middle" } else { "has a gap" },
                    version,
                    fact.key,
                    fact.topic,
                    match (missing.start, missing.end - 1) {
                        (first, last) if first == last => format!("version {first}"),
                        (first, last) => format!("versions {first} to {last}"),
                    },
                    if missing.end - missing.start == 1 { "is" } else { "are" },
                );
            }
            *last = version;
        }
        Ok(())
    }

    fn recorded(&self, decided: &Decided) -> anyhow::Result<&Recorded<P>> {
        self.headers.get(&decided.header).context("its header is not there")
    }

    /// What was recorded, with facts in this build's schemas: a field that only this build has is compared as its default.
    fn in_own_schemas(&self, decided: &Decided) -> anyhow::Result<RecordedDecision> {
        let stated = &self.recorded(decided)?.stated;
        let mut came_to = decided.came_to.clone();
        for fact in &mut came_to.facts {
            if let Some((_, datum)) = stated.resolve(&fact.r#type, &fact.datum)? {
                fact.datum = Datum(datum.into_owned());
            }
        }
        Ok(came_to)
    }

    /// The input as the policy gets it; nothing if this build does not hear it.
    fn envelope(&self, decided: &Decided) -> anyhow::Result<Option<Envelope<P>>> {
        let unreadable = || format!("this build cannot read the {}", describe::input(&decided.input));
        let input = match &decided.input {
            Taken::Record { r#type, datum } => match self.recorded(decided)?.heard.record(r#type, datum)? {
                Some(record) => Input::Record(record),
                None => return Ok(None),
            },
            Taken::Gone { topic } => {
                let mut topics = P::Heard::TYPES.iter().map(|heard| &*heard.topic.name);
                match topics.find(|heard| heard == topic).and_then(<P::Heard as Records>::Gone::on) {
                    Some(gone) => Input::Gone(gone),
                    None => return Ok(None),
                }
            }
            Taken::Timer(timer) => Input::Timer(serde_json::from_value(timer.clone()).with_context(unreadable)?),
            Taken::Command(command) => {
                Input::Command(serde_json::from_value(command.clone()).with_context(unreadable)?)
            }
            Taken::Outcome { effect, outcome } => {
                let outcome = serde_json::from_value(outcome.clone()).with_context(unreadable)?;
                Input::Outcome { effect: *effect, outcome }
            }
        };
        Ok(Some(Envelope {
            id: decided.id,
            cause: decided.cause,
            key: decided.key.clone(),
            version: decided.version,
            trace: Trace { parent: decided.traceparent.clone(), state: String::new() },
            input,
        }))
    }

    /// What this build makes of the input; a panic is a decision that differs, as its text.
    fn process(&mut self, decided: &Decided, input: &Envelope<P>) -> anyhow::Result<Result<RecordedDecision, String>> {
        if let Some(read) = &decided.unlocked {
            P::restore_unlocked(&mut self.state, input, read.clone()).context("what was read without a lock")?;
        }
        let claims: Claims = decided.claims.iter().map(|name| (decided.key.clone(), name.clone())).collect();
        let moment = Moment { now: decided.now, claims };
        let processed = catch_unwind(AssertUnwindSafe(|| process(&mut self.state, &moment, input)));
        Ok(match processed {
            Ok(processed) => Ok(RecordedDecision::new(&processed)?),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
            }
        })
    }
}

/// The rows that the input locks. Those that are read without a lock are no part of the state that drifts: the history tells them.
fn locked<P: Policy>(state: &P::State, input: &Envelope<P>) -> Vec<Row> {
    P::rows(state, input).into_iter().filter(|row| !P::UNLOCKED.contains(&row.table)).collect()
}
