//! Latencies, summed up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds below which so many of all lie.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Quantiles {
    /// Of these times.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut ms: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = ((ms.len() as f64 * share).ceil() as usize).clamp(1, ms.len().max(1)) - 1;
            ms.get(index).map_or(0.0, |ms| (ms * 1000.0).round() / 1000.0)
        };
        Self { count: ms.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// The middle one.
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let of = Quantiles::of((1..=200).rev().map(Duration::from_millis));
        assert_eq!((of.count, of.p50, of.p99, of.max), (200, 100.0, 198.0, 200.0));
        let none = Quantiles::of([]);
        assert_eq!((none.count, none.p50, none.max), (0, 0.0, 0.0));
    }
}
