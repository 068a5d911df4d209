use sha2::{Digest, Sha256};

/// A schema that payloads are written with: its text, and a fingerprint that stands for it in every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    pub(crate) fingerprint: i64,
    pub(crate) text: &'static str,
}

impl Schema {
    /// The schema of this text. The fingerprint is the first eight bytes of the text's SHA-256.
    pub fn new(text: &'static str) -> Self {
        let mut first = [0; 8];
        first.copy_from_slice(&Sha256::digest(text)[..8]);
        Self { fingerprint: i64::from_be_bytes(first), text }
    }
}
