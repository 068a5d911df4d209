//! A topic's records of one key, in order, with what claims want to know of them.
//!
//! A partition holds many keys, and a consumer reads them in one order; here each key has a log of its own. That allows every order
//! of handling that partitions allow, and more.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    interner::Interner,
    record::{Kind, Records},
};

/// The records, and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The records by their numbers, repeats included.
    pub records: Vec<u32>,
    /// How often each type was stated; a repeat counts once.
    stated: [u8; Kind::COUNT],
    /// Whether first occurrences have versions 1, 2, 3 ..., and repeats are exact.
    pub in_order: bool,
    /// Whether each id stands for one type only.
    pub ids_name_types: bool,
    /// The first record that carries the baton, and whether all others carry the same.
    pub baton: Option<u32>,
    /// See [`Self::baton`].
    pub one_baton: bool,
    /// Whether nothing but refusals follows the first record that ends an order.
    pub ends_once: bool,
}

/// All logs of a world.
pub type Logs = Interner<Log>;

impl Log {
    /// The log of these records.
    pub fn of(all: &Records, records: Vec<u32>) -> Self {
        let stated = [0; Kind::COUNT];
        let mut log = Self {
            records,
            stated,
            in_order: true,
            ids_name_types: true,
            baton: None,
            one_baton: true,
            ends_once: true,
        };
        let mut known = BTreeMap::<Uuid, u32>::new();
        let mut ended = false;
        for number in &log.records {
            let record = all.get(*number);
            if let Some(first) = known.get(&record.id) {
                log.in_order &= first == number;
                log.ids_name_types &= all.get(*first).kind == record.kind;
                continue;
            }
            known.insert(record.id, *number);
            log.in_order &= record.version == known.len() as i64;
            log.stated[record.kind as usize] += 1;
            if record.baton.is_some() {
                let first = *log.baton.get_or_insert(*number);
                log.one_baton &= all.get(first).baton == record.baton;
            }
            log.ends_once &=
                !ended || matches!(record.kind, Kind::OrderRequestRefused | Kind::OrderCancellationRefused);
            ended |= matches!(record.kind, Kind::OrderDelivered | Kind::OrderCancelled | Kind::OrderRejected);
        }
        log
    }

    /// How often a type was stated; a repeat counts once.
    pub fn stated(&self, kind: Kind) -> u8 {
        self.stated[kind as usize]
    }
}
