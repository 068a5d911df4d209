//! What is wrong with a choreography: kind, file, event, fault, fix.

use std::fmt;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Heard, and stated by nobody.
    NoSpeaker,
    /// Stated, and neither heard nor declared for the public.
    NoListener,
    /// A fact that can be undone, without what undoes it.
    Uncompensated,
    /// A question without its one answer.
    NoAnswer,
    /// A wait without deadline or person.
    NoEnd,
    /// A cycle that no state ends.
    Endless,
    /// A topic with two writers.
    TwoWriters,
    /// A saga topic that is not keyed as the saga's others are.
    SagaKey,
    /// Unequal partition counts of saga topics.
    Partitions,
    /// A money, id or time field of the wrong logical type.
    FieldType,
    /// A schema that breaks a rule or FULL_TRANSITIVE: see `quadrille_schemas`.
    Schema,
    /// A declaration that does not agree with itself or with the schemas.
    Declaration,
    /// A generated file that is not what the declarations make of it.
    Generated,
}

/// One fault, as a sentence that says where, of what, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind it is of.
    pub kind: Kind,
    /// The file, relative to the checkout.
    pub file: String,
    /// The event, or the topic, at fault.
    pub event: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A fault of this kind.
    pub fn new(
        kind: Kind,
        file: impl Into<String>,
        event: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { kind, file: file.into(), event: event.into(), what: what.into(), fix: fix.into() }
    }
}

impl From<quadrille_schemas::Problem> for Problem {
    fn from(problem: quadrille_schemas::Problem) -> Self {
        // A record's file is named after it, its versions' files after it and their number; a field of topics.toml after its topic.
        let name = problem.file.rsplit('/').next().unwrap_or_default();
        let event = match name.strip_suffix(".avsc") {
            Some(stem) => stem.split('.').next().unwrap_or_default(),
            None => problem.field.rsplit_once('.').map_or(&*problem.field, |(topic, _)| topic),
        };
        let event = event.to_owned();
        let what =
            if problem.field.is_empty() { problem.what } else { format!("field `{}` {}", problem.field, problem.what) };
        Self::new(Kind::Schema, format!("schemas/{}", problem.file), event, what, problem.fix)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if !self.event.is_empty() {
            write!(f, "{}: ", self.event)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}
