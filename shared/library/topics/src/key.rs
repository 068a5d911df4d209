//! Record keys: the aggregate's id as UTF-8 text, in one normal form however a client spells it.

use std::{borrow::Cow, fmt};

use uuid::Uuid;

/// What a topic's keys are. Declared per topic, checked on every record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A UUID; its normal form is lower case with hyphens.
    Uuid,
    /// Any text that is not empty, as it is.
    Text,
    /// A text of a form that the schemas folder declares.
    Pattern(KeyPattern),
}

/// A form of keys, as `topics.toml` declares it under `[keys.<name>]`: one of `first`, then any number of `rest`, at most `longest` in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPattern {
    /// What such a key is called, e.g. `sku`.
    pub name: Cow<'static, str>,
    /// The ASCII characters that it may begin with, as in a regular expression's brackets: `A-Z0-9`.
    pub first: Cow<'static, str>,
    /// The ASCII characters that may follow, written likewise; a hyphen of its own stands last.
    pub rest: Cow<'static, str>,
    /// How many characters it may have.
    pub longest: usize,
    /// The case of its normal form.
    pub case: KeyCase,
}

/// In which case a key is written, however a client spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyCase {
    /// As it came: two spellings are two keys.
    AsIs,
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
}

/// Why a record key is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The record has no key, or an empty one.
    #[error("the record has no key: produce it with the aggregate's id as its key")]
    Missing,
    /// The key is not UTF-8.
    #[error("the key is not UTF-8 text")]
    NotText,
    /// The topic's keys are UUIDs, this is none.
    #[error("the key '{0}' is not a UUID")]
    NotUuid(String),
    /// The topic's keys have a declared form, this has not.
    #[error("the key '{key}' is no {form}")]
    OtherForm {
        /// The key, shortened.
        key: String,
        /// The form's name, and what it looks like.
        form: String,
    },
}

impl KeyKind {
    /// The key's normal form.
    pub fn normalize(&self, key: Option<&[u8]>) -> Result<String, KeyError> {
        let key = key.filter(|key| !key.is_empty()).ok_or(KeyError::Missing)?;
        let text = std::str::from_utf8(key).map_err(|_| KeyError::NotText)?;
        match self {
            Self::Uuid => match Uuid::try_parse(text) {
                Ok(id) => Ok(id.to_string()),
                Err(_) => Err(KeyError::NotUuid(shortened(text))),
            },
            Self::Text => Ok(text.to_owned()),
            Self::Pattern(pattern) => pattern.normal_form(text).ok_or_else(|| KeyError::OtherForm {
                key: shortened(text),
                form: format!("{}: {pattern}", pattern.name),
            }),
        }
    }

    /// The kind as `topics.toml` names it.
    pub fn name(&self) -> &str {
        match self {
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Pattern(pattern) => &pattern.name,
        }
    }
}

impl KeyPattern {
    /// The normal form of a key, or `None` where `text` is none of this form.
    pub fn normal_form(&self, text: &str) -> Option<String> {
        let key = self.case.of(text);
        let mut bytes = key.bytes();
        let first = bytes.next()?;
        let sound =
            key.len() <= self.longest && within(&self.first, first) && bytes.all(|byte| within(&self.rest, byte));
        sound.then_some(key)
    }
}

impl KeyCase {
    /// A text in this case. Of other letters than ASCII's there are none in a key.
    pub fn of(self, text: &str) -> String {
        match self {
            Self::AsIs => text.to_owned(),
            Self::Lower => text.to_ascii_lowercase(),
            Self::Upper => text.to_ascii_uppercase(),
        }
    }
}

/// The form as a regular expression, and its case.
impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}][{}]{{0,{}}}", self.first, self.rest, self.longest.saturating_sub(1))?;
        f.write_str(match self.case {
            KeyCase::AsIs => "",
            KeyCase::Lower => " in lower case",
            KeyCase::Upper => " in upper case",
        })
    }
}

/// Whether a set such as `A-Z0-9-` has this character. A hyphen between two characters makes a range of them.
fn within(set: &str, byte: u8) -> bool {
    let mut set = set.as_bytes();
    loop {
        set = match set {
            [] => return false,
            [low, b'-', high, ..] if (*low..=*high).contains(&byte) => return true,
            [_, b'-', _, rest @ ..] => rest,
            [one, ..] if *one == byte => return true,
            [_, rest @ ..] => rest,
        };
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKU: KeyPattern = KeyPattern {
        name: Cow::Borrowed("sku"),
        first: Cow::Borrowed("A-Z0-9"),
        rest: Cow::Borrowed("A-Z0-9-"),
        longest: 40,
        case: KeyCase::Upper,
    };

    #[test]
    fn every_spelling_of_a_uuid_is_one_key() {
        let normal = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for text in [
            normal,
            "67E55044-10B1-426F-9247-BB680E5FE0C8",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
            "67e5504410b1426f9247bb680e5fe0c8",
            "urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8",
        ] {
            assert_eq!(KeyKind::Uuid.normalize(Some(text.as_bytes())).as_deref(), Ok(normal));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_cause() {
        let sku = KeyKind::Pattern(SKU);
        assert_eq!(KeyKind::Uuid.normalize(None), Err(KeyError::Missing));
        assert_eq!(sku.normalize(Some(b"")), Err(KeyError::Missing));
        assert_eq!(KeyKind::Text.normalize(Some(&[0xff])), Err(KeyError::NotText));
        assert_eq!(KeyKind::Uuid.normalize(Some(b"TEA-1")), Err(KeyError::NotUuid("TEA-1".into())));
        for (key, told) in [("-TEA", "-TEA"), ("THÉ", "TH\\u{c9}")] {
            assert_eq!(
                sku.normalize(Some(key.as_bytes())).map_err(|error| error.to_string()),
                Err(format!("the key '{told}' is no sku: [A-Z0-9][A-Z0-9-]{{0,39}} in upper case"))
            );
        }
    }

    #[test]
    fn a_declared_form_is_folded_to_its_case_and_bounded() {
        assert_eq!(SKU.normal_form("tea-1").as_deref(), Some("TEA-1"));
        assert_eq!(SKU.normal_form(&"A".repeat(40)), Some("A".repeat(40)));
        for other in ["", "A B", "-A", "A_", &"A".repeat(41)] {
            assert_eq!(SKU.normal_form(other), None, "{other}");
        }
        let lower = KeyPattern { case: KeyCase::Lower, first: "a-z".into(), rest: "-a-z0".into(), longest: 3, ..SKU };
        assert_eq!(lower.normal_form("A-0").as_deref(), Some("a-0"));
        assert_eq!(lower.normal_form("a-9"), None);
        let as_is = KeyPattern { case: KeyCase::AsIs, ..SKU };
        assert_eq!((as_is.normal_form("tea"), as_is.normal_form("TEA")), (None, Some("TEA".into())));
    }
}
