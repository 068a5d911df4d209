//! Mail addresses, and what they make of a mail: the first word of the local part decides, as in `reject550.ann@example.com`.

use std::time::Duration;

use crate::behaviour::number;

/// What an address makes of a mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Address {
    /// It is taken.
    #[default]
    Takes,
    /// The recipient is refused for good.
    Rejects550,
    /// The mail is refused for good once its text has come.
    RejectsData554,
    /// The recipient is put off the first so many times that it is named.
    Defers451(u32),
    /// The connection is cut when the text is announced; the first time for each recipient.
    CutsBeforeDataOnce,
    /// The mail is kept, but the connection is cut instead of saying so; the first copy of each mail.
    CutsAfterDataOnce,
    /// The mail is kept, and that is said so much later.
    Slow(Duration),
}

pub(super) fn address(recipient: &str) -> Address {
    let word = recipient.split(['.', '+', '@']).next().unwrap_or_default();
    match word {
        "reject550" => Address::Rejects550,
        "reject554-data" => Address::RejectsData554,
        "defer451" => Address::Defers451(u32::MAX),
        "defer451-once" => Address::Defers451(1),
        "defer451-twice" => Address::Defers451(2),
        "cut-before-data-once" => Address::CutsBeforeDataOnce,
        "cut-after-data-once" => Address::CutsAfterDataOnce,
        _ => match number(word, "slow-") {
            Some(ms) => Address::Slow(Duration::from_millis(ms.min(600_000).into())),
            None => Address::Takes,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        assert_eq!(address("reject550@example.com"), Address::Rejects550);
        assert_eq!(address("defer451-once.ann+1@example.com"), Address::Defers451(1));
        assert_eq!(address("slow-250@example.com"), Address::Slow(Duration::from_millis(250)));
        for taken in ["ann@example.com", "ann.reject550@example.com", "slow-@example.com", "@", ""] {
            assert_eq!(address(taken), Address::Takes, "{taken}");
        }
    }
}
