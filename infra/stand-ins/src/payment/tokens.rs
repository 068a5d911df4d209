//! Payment tokens, and what they make of a charge and of its refund.

use crate::behaviour::{Behaviour, number};

/// What `token` makes of a charge.
pub(super) fn charge(token: &str) -> Behaviour {
    let Some(word) = token.strip_prefix("tok_") else {
        return Behaviour::refusing("unknown_token");
    };
    match word {
        "approve" => Behaviour::default(),
        "decline" => Behaviour::refusing("card_declined"),
        "decline_after_two_tries" => Behaviour { fails: 2, ..Behaviour::refusing("card_declined") },
        "timeout_after_charge" => Behaviour { silent_after: true, ..Behaviour::default() },
        _ if refund_word(word).is_some() => Behaviour::default(),
        _ => match word.strip_prefix("decline_") {
            Some(reason) => Behaviour::refusing(reason),
            None => Behaviour::common(word).unwrap_or_else(|| Behaviour::refusing("unknown_token")),
        },
    }
}

/// What the `token` of a charge makes of its refund.
pub(super) fn refund(token: &str) -> Behaviour {
    token.strip_prefix("tok_").and_then(refund_word).unwrap_or_default()
}

fn refund_word(word: &str) -> Option<Behaviour> {
    let refusing_first = |refusals| Some(Behaviour::refusing_first(refusals, "refund_refused"));
    match word {
        "refuse_refund" => refusing_first(u32::MAX),
        "refuse_refund_once" => refusing_first(1),
        _ => match number(word, "refuse_refund_") {
            Some(refusals) => refusing_first(refusals),
            None => Behaviour::common(word.strip_prefix("refund_")?),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_speaks_of_the_charge_or_of_the_refund() {
        for token in ["tok_approve", "tok_refuse_refund_once", "tok_refund_timeout_after"] {
            assert_eq!(charge(token), Behaviour::default(), "{token}");
        }
        for token in ["tok_approve", "tok_fail_twice", "tok_timeout_after_charge"] {
            assert_eq!(refund(token), Behaviour::default(), "{token}");
        }
        assert_eq!(refund("tok_refuse_refund_2").refuses, 2);
        assert_eq!(refund("tok_refund_slow_50").slow_ms, 50);
        assert_eq!(charge("tok_unknown_3").hides, 3);
    }

    #[test]
    fn what_is_not_known_is_declined_with_a_reason() {
        for token in ["", "4242424242424242", "tok_", "tok_what", "tok_slow_", "tok_slow_-1", "tok_refund_what"] {
            assert_eq!(charge(token), Behaviour::refusing("unknown_token"), "{token}");
        }
        assert_eq!(charge("tok_decline_stolen_card").reason, "stolen_card");
    }
}
