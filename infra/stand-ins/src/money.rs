//! Money as text with two decimals, kept as cents: the same at both ends of the wire.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount in cents. As text and as JSON it is `"19.99"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cents(pub i64);

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }
}

impl From<Cents> for String {
    fn from(cents: Cents) -> Self {
        cents.to_string()
    }
}

impl TryFrom<String> for Cents {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Cents {
    type Err = String;

    /// Exactly two decimals, at most ten digits before them: nothing is ever rounded.
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("'{}' is no amount like 19.99", text.escape_default());
        let (whole, cents) = text.split_once('.').ok_or_else(problem)?;
        let digits = |part: &str, count| part.len() <= count && part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole, 10) || cents.len() != 2 || !digits(cents, 2) {
            return Err(problem());
        }
        let number = |part: &str| part.parse::<i64>().map_err(|_| problem());
        Ok(Self(number(whole)? * 100 + number(cents)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_cents_are_one() {
        for text in ["0.01", "19.99", "9999999999.99"] {
            assert_eq!(text.parse::<Cents>().map(|cents| cents.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(Cents(-5).to_string(), "-0.05");
    }

    #[test]
    fn what_would_have_to_be_rounded_or_guessed_is_refused() {
        for text in ["", "19", "19.9", "19.999", ".99", "-1.00", "1e3.00", "10000000000.00", "NaN"] {
            assert!(text.parse::<Cents>().is_err(), "{text}");
        }
    }
}
