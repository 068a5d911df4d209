//! The contract's bounds on what clients may say, each checked in one place.
//!
//! A [`Fault`] names the field and the mend, and never repeats the value: it may be a secret, or a megabyte.

use std::{fmt::Display, ops::RangeInclusive};

/// How many characters a text may have.
pub const TEXT: usize = 500;
/// How many pieces a line or a delivery of goods may have.
pub const QUANTITY: RangeInclusive<i32> = 1..=1_000_000;

/// Why a value is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// The field at fault, e.g. `lines[2].quantity`.
    pub field: String,
    /// The fault as a sentence for people, with the mend.
    pub detail: String,
}

impl Fault {
    /// The fault of `field`: it `must` (be so and so).
    pub fn new(field: impl Display, must: impl Display) -> Self {
        Self { field: field.to_string(), detail: format!("{field} must {must}") }
    }
}

/// A text of at most [`TEXT`] characters, none of them a control character (line breaks are; U+0000 is one no database stores).
pub fn text(field: impl Display, text: &str) -> Result<(), Fault> {
    if text.chars().nth(TEXT).is_some() {
        Err(Fault::new(field, format_args!("have at most {TEXT} characters")))
    } else if text.chars().any(char::is_control) {
        Err(Fault::new(field, "have no control characters, line breaks included"))
    } else {
        Ok(())
    }
}

/// A [`text`] that says something: more than blanks.
pub fn filled_text(field: impl Display, filled: &str) -> Result<(), Fault> {
    if filled.trim().is_empty() { Err(Fault::new(field, "not be empty")) } else { text(field, filled) }
}

/// A stranger's words made fit to be stated: control characters become blanks, and what is too long is cut.
///
/// For what has to be told on whatever it says, such as a provider's reason; what a client asks for is refused instead.
pub fn fitted(text: &str) -> String {
    let fit = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().take(TEXT).map(fit).collect()
}

/// A quantity within [`QUANTITY`].
pub fn quantity(field: impl Display, quantity: i32) -> Result<(), Fault> {
    if QUANTITY.contains(&quantity) { Ok(()) } else { Err(Fault::new(field, "be from 1 to 1000000")) }
}

/// A currency by ISO 4217's form. Which currencies exist is not ours to know.
pub fn currency(field: impl Display, currency: &str) -> Result<(), Fault> {
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(())
    } else {
        Err(Fault::new(field, "be three upper-case letters by ISO 4217, e.g. EUR"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_in_characters_not_in_bytes() {
        assert_eq!(text("name", &"é".repeat(500)), Ok(()));
        assert_eq!(text("name", &"é".repeat(501)), Err(Fault::new("name", "have at most 500 characters")));
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for control in ["\0", "a\r\nBcc: b@example.com", "\u{7f}", "\u{85}"] {
            assert!(text("name", control).is_err(), "{control:?}");
        }
    }

    #[test]
    fn blanks_alone_fill_nothing() {
        assert!(filled_text("user_name", " \u{3000}\u{a0}").is_err());
        assert_eq!(filled_text("user_name", " ann "), Ok(()));
    }

    #[test]
    fn what_was_fitted_is_within_bounds() {
        for said in ["", "card\0declined", "a\r\nb", &"é".repeat(501)] {
            assert_eq!(text("reason", &fitted(said)), Ok(()));
        }
        assert_eq!(fitted("no\r\nfunds"), "no  funds");
    }

    #[test]
    fn quantities_and_currencies() {
        for refused in [0, -1, i32::MIN, 1_000_001, i32::MAX] {
            assert!(quantity("quantity", refused).is_err(), "{refused}");
        }
        assert_eq!(quantity("quantity", 1).and(quantity("quantity", 1_000_000)), Ok(()));
        for refused in ["", "eur", "EU", "EURO", "E R", "ÉU"] {
            assert!(currency("currency", refused).is_err(), "{refused:?}");
        }
        assert_eq!(currency("currency", "EUR"), Ok(()));
    }
}
