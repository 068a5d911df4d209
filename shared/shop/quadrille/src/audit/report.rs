//! What an audit found.

use std::fmt;

use quadrille_cli::output::{self, Paint};
use serde::Serialize;

/// The rules of the contract's section 3, and what stands beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// 1: stock adds up.
    Stock,
    /// 2: money adds up.
    Money,
    /// 3: an order ends once.
    Ends,
    /// 4: a cancelled order holds nothing.
    Cancelled,
    /// 5: an input takes effect once.
    Once,
    /// 6: versions follow one another.
    Versions,
    /// 7: causes exist, a saga has one correlation id.
    Causes,
    /// 8: state and facts are one.
    Committed,
    /// 9: a question is answered once.
    Answers,
    /// Section 3: headers say what the contract says.
    Headers,
    /// What cannot be handled is a dead letter.
    DeadLetters,
}

impl Rule {
    /// Every rule, in the order in which it is told.
    pub const ALL: [Self; 11] = [
        Self::Stock,
        Self::Money,
        Self::Ends,
        Self::Cancelled,
        Self::Once,
        Self::Versions,
        Self::Causes,
        Self::Committed,
        Self::Answers,
        Self::Headers,
        Self::DeadLetters,
    ];

    /// Its number and name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Stock => "1 stock",
            Self::Money => "2 money",
            Self::Ends => "3 ends",
            Self::Cancelled => "4 cancelled",
            Self::Once => "5 once",
            Self::Versions => "6 versions",
            Self::Causes => "7 causes",
            Self::Committed => "8 committed",
            Self::Answers => "9 answers",
            Self::Headers => "  headers",
            Self::DeadLetters => "  dead letters",
        }
    }
}

/// A rule that does not hold, with where to look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// The rule.
    pub rule: Rule,
    /// topic/partition@offset, or the database.
    pub place: String,
    /// What is wrong, as a sentence.
    pub what: String,
}

/// What was found under one rule.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Finding {
    /// What was counted, as a sentence.
    pub counted: String,
    /// What is on its way: unanswered, but not for long yet, or in the hands of somebody outside.
    pub waiting: u64,
    /// How often it does not hold.
    pub offences: u64,
}

/// The whole of an audit.
#[derive(Debug, Serialize)]
pub struct Report {
    /// By rule.
    pub findings: Vec<(Rule, Finding)>,
    /// The first offences of each rule.
    pub offences: Vec<Offence>,
    /// What could not be compared, and why.
    pub not_compared: Vec<String>,
    /// Records read.
    pub records: u64,
    /// Exact repeats among them.
    pub repeats: u64,
    /// Records on event topics that no service of ours wrote.
    pub foreign: u64,
    /// Those of them of types that no service hears, the first few: nothing comes of them, and they go with their topic's retention.
    pub unheard: Vec<String>,
    /// What could not be read, and where.
    pub unreadable: Vec<String>,
    /// Orders by their state.
    pub orders: Orders,
}

/// How many orders there are, by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Orders {
    pub accepted: u64,
    pub delivered: u64,
    pub cancelled: u64,
    pub open: u64,
    pub rejected: u64,
}

/// How many offences of one rule are told in full.
pub const TOLD: usize = 5;

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self {
            findings: Rule::ALL.into_iter().map(|rule| (rule, Finding::default())).collect(),
            offences: vec![],
            not_compared: vec![],
            records: 0,
            repeats: 0,
            foreign: 0,
            unheard: vec![],
            unreadable: vec![],
            orders: Orders::default(),
        }
    }

    /// What was found under a rule.
    pub fn finding(&mut self, rule: Rule) -> &mut Finding {
        &mut self.findings[Rule::ALL.iter().position(|known| *known == rule).unwrap_or_default()].1
    }

    /// Notes an offence.
    pub fn offence(&mut self, rule: Rule, place: impl fmt::Display, what: impl Into<String>) {
        let finding = self.finding(rule);
        finding.offences += 1;
        if finding.offences <= TOLD as u64 {
            self.offences.push(Offence { rule, place: place.to_string(), what: what.into() });
        }
    }

    /// How often a rule does not hold.
    pub fn total(&self) -> u64 {
        self.findings.iter().map(|(_, finding)| finding.offences).sum()
    }

    /// How much is on its way.
    pub fn waiting(&self) -> u64 {
        self.findings.iter().map(|(_, finding)| finding.waiting).sum()
    }

    /// Tells it all; the last line has the figures.
    pub fn print(&self) -> anyhow::Result<()> {
        let paint = Paint::detect();
        for (rule, finding) in &self.findings {
            let verdict = match (finding.offences, finding.waiting) {
                (0, 0) => paint.good("ok       "),
                (0, _) => "waiting  ".to_owned(),
                _ => paint.bad("OFFENCES "),
            };
            let mut line = format!("{:<15}{verdict}{}", rule.title(), finding.counted);
            if finding.waiting > 0 {
                line += &format!("; {} on their way", finding.waiting);
            }
            if finding.offences > 0 {
                line += &format!("; {} offences", finding.offences);
            }
            output::line(&line)?;
            for offence in self.offences.iter().filter(|offence| offence.rule == *rule) {
                output::line(&format!("    {}  {}", paint.bad(&offence.place), offence.what))?;
            }
        }
        for place in &self.unreadable {
            output::line(&format!("passed over: {place}"))?;
        }
        if !self.unheard.is_empty() {
            output::line(&format!(
                "foreign: {}; no service wrote or hears such records, nothing comes of them, and they go with their topics' retention",
                self.unheard.join(", ")
            ))?;
        }
        for reason in &self.not_compared {
            output::line(&format!("not compared: {reason}"))?;
        }
        output::line(&self.summary())
    }

    /// The figures on one line.
    pub fn summary(&self) -> String {
        let Orders { accepted, delivered, cancelled, open, rejected } = self.orders;
        format!(
            "audit: {} records, {} orders ({delivered} delivered, {cancelled} cancelled, {rejected} rejected, {open} open), \
             {} exact repeats, {} foreign, {} on their way, {} offences.",
            self.records,
            accepted + rejected,
            self.repeats,
            self.foreign,
            self.waiting(),
            self.total()
        )
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}
