//! Record keys: the aggregate's id as UTF-8 text, in one normal form however a client spells it.

use uuid::Uuid;

/// What a topic's keys are. Declared per topic, checked on every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A UUID; its normal form is lower case with hyphens.
    Uuid,
    /// A stock keeping unit, `[A-Z0-9][A-Z0-9-]{0,39}`; its normal form is upper case.
    Sku,
    /// Any text that is not empty, as it is.
    Text,
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
    /// The topic's keys are SKUs, this is none.
    #[error("the key '{0}' is not a SKU: [A-Z0-9][A-Z0-9-]{{0,39}} in upper case")]
    NotSku(String),
}

impl KeyKind {
    /// The key's normal form.
    pub fn normalize(self, key: Option<&[u8]>) -> Result<String, KeyError> {
        let key = key.filter(|key| !key.is_empty()).ok_or(KeyError::Missing)?;
        let text = std::str::from_utf8(key).map_err(|_| KeyError::NotText)?;
        match self {
            Self::Uuid => match Uuid::try_parse(text) {
                Ok(id) => Ok(id.to_string()),
                Err(_) => Err(KeyError::NotUuid(shortened(text))),
            },
            Self::Sku => fold_sku(text).ok_or_else(|| KeyError::NotSku(shortened(text))),
            Self::Text => Ok(text.to_owned()),
        }
    }
}

/// A SKU's normal form (upper case), or `None` where `text` is no SKU.
pub fn fold_sku(text: &str) -> Option<String> {
    let sku = text.to_ascii_uppercase();
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
    let sound = (1..=40).contains(&sku.len()) && sku.bytes().all(allowed) && !sku.starts_with('-');
    sound.then_some(sku)
}

fn shortened(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(KeyKind::Uuid.normalize(None), Err(KeyError::Missing));
        assert_eq!(KeyKind::Sku.normalize(Some(b"")), Err(KeyError::Missing));
        assert_eq!(KeyKind::Text.normalize(Some(&[0xff])), Err(KeyError::NotText));
        assert_eq!(KeyKind::Uuid.normalize(Some(b"TEA-1")), Err(KeyError::NotUuid("TEA-1".into())));
        assert_eq!(KeyKind::Sku.normalize(Some(b"-TEA")), Err(KeyError::NotSku("-TEA".into())));
        assert_eq!(KeyKind::Sku.normalize(Some("THÉ".as_bytes())), Err(KeyError::NotSku("TH\\u{c9}".into())));
    }

    #[test]
    fn a_sku_is_folded_to_upper_case_and_bounded() {
        assert_eq!(fold_sku("tea-1").as_deref(), Some("TEA-1"));
        assert_eq!(fold_sku(&"A".repeat(40)), Some("A".repeat(40)));
        assert_eq!(fold_sku(&"A".repeat(41)), None);
        assert_eq!(fold_sku("A B"), None);
    }
}
