//! What a token makes of a request: the words that the payment provider and the carrier share.

/// How requests under one key are treated, and what comes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// So many requests are answered 503, and nothing is done.
    pub fails: u32,
    /// The first request is not answered, and nothing is done.
    pub silent_before: bool,
    /// The first request is not answered, but it is done.
    pub silent_after: bool,
    /// It is done, but so many questions and requests are answered 503.
    pub hides: u32,
    /// It is done at once, but said only so many milliseconds later.
    pub slow_ms: u64,
    /// So many are refused before one is accepted.
    pub refuses: u32,
    /// Why they are refused.
    pub reason: String,
}

impl Behaviour {
    /// Refuses, always and for this reason.
    pub fn refusing(reason: &str) -> Self {
        Self::refusing_first(u32::MAX, reason)
    }

    /// Refuses so many, then accepts.
    pub fn refusing_first(refuses: u32, reason: &str) -> Self {
        Self { refuses, reason: reason.to_owned(), ..Self::default() }
    }

    /// The words that mean the same everywhere.
    pub fn common(word: &str) -> Option<Self> {
        let mut behaviour = Self::default();
        match word {
            "fail_twice" => behaviour.fails = 2,
            "timeout_before" => behaviour.silent_before = true,
            "timeout_after" => behaviour.silent_after = true,
            "unknown" => behaviour.hides = u32::MAX,
            _ => {
                if let Some(hides) = number(word, "unknown_") {
                    behaviour.hides = hides;
                } else {
                    behaviour.slow_ms = number(word, "slow_")?.into();
                }
            }
        }
        Some(behaviour)
    }
}

/// The number behind `prefix`: milliseconds, or how many times.
pub(crate) fn number(word: &str, prefix: &str) -> Option<u32> {
    word.strip_prefix(prefix)?.parse().ok()
}
