//! Bounds on what clients may say, each checked in one place.
//!
//! A [`Fault`] names the field and the fix, and never repeats the value: it may be a secret, or a megabyte.

use std::fmt::Display;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};

/// How many characters a text may have.
pub const TEXT: usize = 500;

/// Why a value is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{detail}")]
pub struct Fault {
    /// The field at fault, e.g. `lines[2].quantity`.
    pub field: String,
    /// The fault as a sentence for people, with the fix.
    pub detail: String,
}

impl Fault {
    /// The fault of `field`: it `must` (be so and so).
    pub fn new(field: impl Display, must: impl Display) -> Self {
        Self { field: field.to_string(), detail: format!("{field} must {must}") }
    }
}

/// A text of at most [`TEXT`] characters, on one line, none of them a control character (U+0000 is one no database stores).
pub fn text(field: impl Display, text: &str) -> Result<(), Fault> {
    if text.chars().nth(TEXT).is_some() {
        Err(Fault::new(field, format_args!("have at most {TEXT} characters")))
    } else if text.chars().any(is_control_or_break) {
        Err(Fault::new(field, "have no control characters, line breaks included"))
    } else {
        Ok(())
    }
}

/// A [`text`] that says something: more than blanks, and more than characters that nobody sees.
pub fn filled_text(field: impl Display, filled: &str) -> Result<(), Fault> {
    if filled.trim().is_empty() {
        Err(Fault::new(field, "not be empty"))
    } else if is_blank(filled) {
        Err(Fault::new(field, "have something to see: a letter, a digit or a sign"))
    } else {
        text(field, filled)
    }
}

/// A stranger's words made fit to be stated: control characters and line breaks become blanks, and what is too long is cut.
///
/// For what has to be told on whatever it says, such as a provider's reason; what a client asks for is refused instead.
pub fn fitted(text: &str) -> String {
    let fit = |letter: char| if is_control_or_break(letter) { ' ' } else { letter };
    text.chars().take(TEXT).map(fit).collect()
}

/// Whether nobody sees anything of a text.
pub fn is_blank(text: &str) -> bool {
    !text.chars().any(is_seen)
}

/// Unicode's two line breaks are no control characters, and break a line all the same.
fn is_control_or_break(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Whether a character leaves a mark of its own where it stands: blanks, combining marks, format characters, fillers and what no
/// version of Unicode known here assigns do not.
fn is_seen(letter: char) -> bool {
    /// Letters and signs by their category, which every font draws as nothing.
    const BLANK: [char; 4] = ['\u{2800}', '\u{13441}', '\u{13442}', '\u{1d159}'];
    let category = CodePointMapData::<GeneralCategory>::new().get(letter);
    let leaves_a_mark = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::Number)
        .union(GeneralCategoryGroup::Punctuation)
        .union(GeneralCategoryGroup::Symbol)
        .union(GeneralCategoryGroup::PrivateUse);
    leaves_a_mark.contains(category)
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(letter)
        && !BLANK.contains(&letter)
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
        for control in ["\0", "a\r\nBcc: b@example.com", "\u{7f}", "\u{85}", "a\u{2028}b", "a\u{2029}b"] {
            assert!(text("name", control).is_err(), "{control:?}");
        }
    }

    #[test]
    fn blanks_alone_fill_nothing() {
        assert!(filled_text("user_name", " \u{3000}\u{a0}").is_err());
        assert_eq!(filled_text("user_name", " ann "), Ok(()));
    }

    #[test]
    fn what_nobody_sees_fills_nothing() {
        for unseen in [
            "\u{200b}\u{2060}",
            "\u{ad}",
            "\u{3164} \u{ffa0}",
            "\u{301}",
            "\u{202e}",
            "\u{2800}",
            "\u{e0061}",
            "\u{378}",
        ] {
            let refused = filled_text("who", unseen).map_err(|fault| fault.detail);
            assert_eq!(
                refused,
                Err("who must have something to see: a letter, a digit or a sign".into()),
                "{unseen:?}"
            );
        }
        for seen in ["a\u{301}", "\u{1f600}", "-", "7", "\u{e000}", "\u{200f}\u{5d0}", "\u{915}\u{200d}"] {
            assert_eq!(filled_text("who", seen), Ok(()), "{seen:?}");
        }
    }

    #[test]
    fn what_was_fitted_is_within_bounds() {
        for said in ["", "card\0declined", "a\r\nb", "a\u{2028}b\u{2029}", &"é".repeat(501)] {
            assert_eq!(text("reason", &fitted(said)), Ok(()));
        }
        assert_eq!(fitted("no\r\nfunds"), "no  funds");
    }
}
