//! Whether a client still knows whom to ask.

use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::Statistics;

/// Whether a client knows where any broker is.
///
/// librdkafka forgets all of them, its bootstrap list included, at a metadata answer without brokers, which a broker gives that has just
/// started; and it never goes back (confluentinc/librdkafka#5301, open as of 2.12). Such a client has to be made anew. One whose brokers are
/// away only still knows them.
#[derive(Default)]
pub struct Brokers {
    /// For so many statistics in a row it has known none. Not a time: a process that was suspended has waited for nothing.
    unknown: AtomicU32,
}

impl Brokers {
    /// Takes a client's statistics.
    pub fn note(&self, statistics: &Statistics) {
        let is_known =
            statistics.brokers.values().any(|broker| matches!(broker.source.as_str(), "configured" | "learned"));
        self.unknown.store(if is_known { 0 } else { self.unknown.load(Ordering::Relaxed) + 1 }, Ordering::Relaxed);
    }

    /// Whether it has forgotten all of them. Not by one look: between two lists it may know none for a moment.
    pub fn are_forgotten(&self) -> bool {
        self.unknown.load(Ordering::Relaxed) >= 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_any_broker_has_forgotten_them_and_one_whose_broker_is_away_has_not() {
        let statistics = |sources: &[&str]| {
            let broker = |source: &&str| {
                let broker = rdkafka::statistics::Broker {
                    source: (*source).to_owned(),
                    state: "DOWN".into(),
                    ..Default::default()
                };
                ((*source).to_owned(), broker)
            };
            Statistics { brokers: sources.iter().map(broker).collect(), ..Statistics::default() }
        };
        let own = ["internal", "logical"];
        let brokers = Brokers::default();
        for (source, are_forgotten) in [
            ("", false),
            ("", false),
            ("configured", false),
            ("", false),
            ("", false),
            ("", true),
            ("", true),
            ("learned", false),
        ] {
            brokers.note(&statistics(&[own[0], own[1], source]));
            assert_eq!(brokers.are_forgotten(), are_forgotten, "{source}");
        }
    }
}
