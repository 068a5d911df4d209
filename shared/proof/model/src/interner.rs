//! Values kept once and spoken of by number, so that a state of the world is a handful of numbers.

use std::hash::Hash;

use dashmap::DashMap;

/// Values that are never removed. Equal values have one number; numbers say nothing else and differ from run to run.
pub struct Interner<T> {
    numbers: DashMap<T, u32>,
    values: boxcar::Vec<T>,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// The number of `value`.
    pub fn intern(&self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        // The entry is held while the value is pushed: two threads that come with one value get one number.
        *self.numbers.entry(value.clone()).or_insert_with(|| self.values.push(value) as u32)
    }

    /// The value of that number, which [`Self::intern`] gave.
    pub fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

impl<T: Eq + Hash> Default for Interner<T> {
    fn default() -> Self {
        Self { numbers: DashMap::new(), values: boxcar::Vec::new() }
    }
}
