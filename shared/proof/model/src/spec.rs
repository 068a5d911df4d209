//! What may happen in a world: its bounds.

use crate::{
    outside::{Parcel, Said},
    record::Record,
    world::Left,
};

/// A world's bounds.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Its name, for people and the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// How many orders there may be.
    pub orders: usize,
    /// Which goods there are.
    pub skus: &'static [&'static str],
    /// What is asked and handled before the world begins.
    pub setup: Vec<Record>,
    /// What clients may ask, each once at any moment.
    pub requests: Vec<Record>,
    /// How many faults may happen.
    pub left: Left,
    /// What the outside never says.
    pub never: &'static [Said],
    /// Where parcels never go.
    pub nowhere: &'static [Parcel],
    /// What inboxes forget.
    pub forgets: Forgets,
    /// Whether it is about mails, and the notification service plays alone.
    pub mails: bool,
    /// What must be seen to happen in it, so that no claim holds because nothing happens: `OrderCancelled/expired`.
    pub sometimes: Vec<&'static str>,
    /// How many faults may happen while the notification service plays.
    pub left_for_mails: Left,
    /// How many mails may be due at an end for the notification service to play over it.
    pub mails_at_most: u8,
    /// How many states it has; 0 where nobody has written it down.
    pub states: usize,
}

/// What inboxes forget, at once: as if each record came back after the inbox's retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Forgets {
    #[default]
    Nothing,
    Events,
    All,
}
