//! A state as rows: which part of it an input has in hand.

use std::{collections::BTreeMap, fmt::Debug, hash::Hash};

use crate::Row;

/// The rows that a policy's state is made of. The map of a single table has them as it is; for several there is [`rows!`](crate::rows).
pub trait Rows: Clone + Debug + Default + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// Puts a copy of `row` into `to`, if it is there.
    fn copy(&self, row: &Row, to: &mut Self);

    /// Removes `row`, if it is there.
    fn remove(&mut self, row: &Row);
}

impl<V: Clone + Debug + PartialEq + Eq + Hash + Send + Sync + 'static> Rows for BTreeMap<String, V> {
    fn copy(&self, row: &Row, to: &mut Self) {
        to.extend(self.get_key_value(&row.key).map(|(key, row)| (key.clone(), row.clone())));
    }

    fn remove(&mut self, row: &Row) {
        BTreeMap::remove(self, &row.key);
    }
}

/// Says which field of a state is which table.
///
/// ```ignore
/// rows! { State { orders: ORDERS, prices: PRICE } }
/// ```
#[macro_export]
macro_rules! rows {
    ($state:ty { $($field:ident: $table:expr),+ $(,)? }) => {
        impl $crate::Rows for $state {
            fn copy(&self, row: &$crate::Row, to: &mut Self) {
                $(if row.table == $table {
                    $crate::Rows::copy(&self.$field, row, &mut to.$field);
                })+
            }

            fn remove(&mut self, row: &$crate::Row) {
                $(if row.table == $table {
                    $crate::Rows::remove(&mut self.$field, row);
                })+
            }
        }
    };
}
