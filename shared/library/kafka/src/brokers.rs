//! Whether a client still knows whom to ask.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rdkafka::{ClientContext, Statistics, consumer::ConsumerContext};

/// For so many statistics in a row a client has known no broker: then it has forgotten them for good. One look is not enough: between two lists
/// it may know none for a moment. Not a time: a process that was suspended has waited for nothing.
const FORGOTTEN: u32 = 3;

/// Whether a client knows where any broker is: its context, or a part of it. Clones are of one client.
///
/// librdkafka forgets all of them, its bootstrap list included, at a metadata answer without brokers, which a broker gives that has just
/// started; and it does not always go back (confluentinc/librdkafka#5301, open as of 2.12). Such a client has to be made anew. One whose brokers
/// are away only still knows them.
#[derive(Clone, Debug, Default)]
pub struct Brokers(Arc<AtomicU32>);

impl Brokers {
    /// Takes a client's statistics.
    pub fn note(&self, statistics: &Statistics) {
        let is_known =
            statistics.brokers.values().any(|broker| matches!(broker.source.as_str(), "configured" | "learned"));
        let unknown = self.0.load(Ordering::Relaxed);
        // What was once said stays: whoever looks twice must not find two answers.
        if unknown < FORGOTTEN {
            self.0.store(if is_known { 0 } else { unknown + 1 }, Ordering::Relaxed);
        }
    }

    /// Whether it has forgotten all of them, which stays so.
    pub fn are_forgotten(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FORGOTTEN
    }
}

impl ClientContext for Brokers {
    fn stats(&self, statistics: Statistics) {
        self.note(&statistics);
    }
}

impl ConsumerContext for Brokers {}

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
            // It stays so.
            ("learned", true),
        ] {
            brokers.note(&statistics(&[own[0], own[1], source]));
            assert_eq!(brokers.are_forgotten(), are_forgotten, "{source}");
        }
    }
}
