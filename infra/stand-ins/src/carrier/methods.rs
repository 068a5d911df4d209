//! Ways of delivery, and what they make of a parcel.

use serde::{Deserialize, Serialize};

use crate::behaviour::{Behaviour, number};

/// What a method makes of the hand-over, of the way and of a recall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Method {
    /// How the hand-over goes.
    pub hand_over: Behaviour,
    /// How a recall goes.
    pub recall: Behaviour,
    /// How long the parcel is under way; `None` is the carrier's standard.
    pub way_ms: Option<i64>,
    /// How the way ends.
    pub end: End,
    /// What a recall brings about.
    pub recalled: Recalled,
}

/// How a parcel's way ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// With the customer.
    #[default]
    Delivered,
    /// Back at the sender.
    Returned,
    /// Nowhere: nothing is known of it.
    Lost,
}

/// What a recall brings about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Recalled {
    /// It comes back after so many milliseconds; after 0 the recall's answer says so itself.
    BackAfter(i64),
    /// It comes back at once.
    #[default]
    Back,
    /// The recall comes too late: it has just been delivered.
    TooLate,
}

/// A year: such a parcel ends by a recall only.
const NEVER_MS: i64 = 365 * 24 * 3600 * 1000;

/// What `name` makes of a parcel. What is not known is refused.
pub(super) fn method(name: &str) -> Method {
    let mut method = Method::default();
    match name {
        "" | "standard" => {}
        "express" => method.way_ms = Some(0),
        "refuse" => method.hand_over = Behaviour::refusing("no_service"),
        "lose" => method.end = End::Lost,
        "return" => method.end = End::Returned,
        "keep" => method.way_ms = Some(NEVER_MS),
        "recall_too_late" => {
            method.way_ms = Some(NEVER_MS);
            method.recalled = Recalled::TooLate;
        }
        "timeout_before_accept" => method.hand_over.silent_before = true,
        "timeout_after_accept" => method.hand_over.silent_after = true,
        _ => {
            if let Some(ms) = number(name, "slow_") {
                method.way_ms = Some(ms.into());
            } else if let Some(ms) = number(name, "return_slow_") {
                (method.way_ms, method.end) = (Some(ms.into()), End::Returned);
            } else if let Some(ms) = number(name, "recall_slow_") {
                (method.way_ms, method.recalled) = (Some(NEVER_MS), Recalled::BackAfter(ms.into()));
            } else if let Some(recall) = name.strip_prefix("recall_").and_then(Behaviour::common) {
                (method.way_ms, method.recall) = (Some(NEVER_MS), recall);
            } else if let Some(hand_over) = name.strip_prefix("accept_").and_then(Behaviour::common) {
                method.hand_over = hand_over;
            } else if let Some(hand_over) = name.strip_prefix("keep_accept_").and_then(Behaviour::common) {
                (method.way_ms, method.hand_over) = (Some(NEVER_MS), hand_over);
            } else {
                method.hand_over = Behaviour::refusing("unknown_method");
            }
        }
    }
    method
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_speaks_of_the_hand_over_the_way_or_the_recall() {
        assert_eq!(method(""), method("standard"));
        assert_eq!(method("slow_250").way_ms, Some(250));
        assert_eq!(method("return").end, End::Returned);
        assert_eq!(method("recall_slow_40").recalled, Recalled::BackAfter(40));
        assert!(method("recall_timeout_after").recall.silent_after);
        assert_eq!(method("accept_fail_twice").hand_over.fails, 2);
        let kept = method("keep_accept_slow_40");
        assert_eq!((kept.hand_over.slow_ms, kept.way_ms), (40, method("keep").way_ms));
        assert_eq!(method("pigeon").hand_over, Behaviour::refusing("unknown_method"));
    }
}
