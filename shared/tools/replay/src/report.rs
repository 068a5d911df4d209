//! What a replay comes to.

use std::fmt;

use quadrille_core::Timestamp;
use uuid::Uuid;

/// The figures of a replay, and each decision that differs.
#[derive(Debug, Default)]
pub struct Report {
    /// Decisions that were made again.
    pub decisions: usize,
    /// The facts that were recorded of them.
    pub facts: usize,
    /// In the order of the file.
    pub differences: Vec<Difference>,
}

/// A decision that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The service that decides.
    pub service: &'static str,
    /// The line of the history's file.
    pub line: usize,
    /// When it was decided.
    pub time: Timestamp,
    /// The input's key: of a saga its order.
    pub key: String,
    /// The input, in a few words.
    pub input: String,
    /// The input's id.
    pub id: Uuid,
    /// What was decided then, as far as it differs.
    pub then: Vec<String>,
    /// What is decided now, as far as it differs.
    pub now: Vec<String>,
    /// The line of an earlier difference on a row that this decision reads too: from there on the state is another one, so this
    /// difference may be nothing but its consequence.
    pub follows: Option<usize>,
}

impl Report {
    /// The differing decision that was made first of all.
    pub fn first(&self) -> Option<&Difference> {
        self.differences
            .iter()
            .filter(|difference| difference.follows.is_none())
            .min_by_key(|difference| difference.time)
    }

    /// Whether every decision is the same.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }

    /// Adds another history's.
    pub fn add(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.facts += other.facts;
        self.differences.extend(other.differences);
    }
}

/// Every difference on a line, then the first one in full, then the figures on the last line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        if let Some(first) = self.first() {
            writeln!(f, "\nThe first decision that differs: {first}")?;
            write_decided(f, "decided then", &first.then)?;
            write_decided(f, "decides now", &first.now)?;
            writeln!(f)?;
        }
        let following = self.differences.iter().filter(|difference| difference.follows.is_some()).count();
        write!(f, "{} decisions with {} facts, ", self.decisions, self.facts)?;
        match (self.differences.len(), following) {
            (0, _) => write!(f, "all the same, byte for byte"),
            (all, 0) => write!(f, "{all} differ"),
            (all, following) => write!(f, "{all} differ, {following} of them may follow from others"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, line, key, input, id, .. } = self;
        write!(f, "{service}, {key}: {input} ({id}, line {line})")?;
        match self.follows {
            Some(earlier) => write!(f, "; may follow from line {earlier}"),
            None => Ok(()),
        }
    }
}

fn write_decided(f: &mut fmt::Formatter<'_>, when: &str, decided: &[String]) -> fmt::Result {
    if decided.is_empty() {
        return writeln!(f, "  {when}: nothing of this");
    }
    decided.iter().try_for_each(|line| writeln!(f, "  {when}: {line}"))
}
