//! What is wrong with a schema: file, field, fault, fix.

use std::{fmt, path::Path};

/// One fault in a schemas folder, as a sentence that says where, what and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, relative to the schemas folder.
    pub file: String,
    /// The field at fault, or empty.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Problem {
    /// A fault of a file as a whole.
    pub fn of_file(file: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { file: file.into(), field: String::new(), what: what.into(), fix: fix.into() }
    }

    /// A fault of one field.
    pub fn of_field(
        file: impl Into<String>,
        field: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { file: file.into(), field: field.into(), what: what.into(), fix: fix.into() }
    }

    pub(crate) fn of_io(path: &Path, error: &std::io::Error) -> Self {
        Self::of_file(path.display().to_string(), error.to_string(), "make the file readable and writable")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if !self.field.is_empty() {
            write!(f, "field `{}`: ", self.field)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// Every fault that was found, one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Problems {
    /// `Ok(value)` where nothing is wrong.
    pub(crate) fn none_or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
