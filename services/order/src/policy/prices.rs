//! The order service's own price list, folded from `product.events`.

use std::collections::BTreeMap;

use quadrille_core::Envelope;
use quadrille_events::Money;

use super::Orders;

/// What one of a SKU costs, as of a version of its product.
///
/// The rows are shared by all orders, so they are not locked: an order takes the price that its batch reads, which was the list's
/// price a moment ago, and a price that races with an order may come before or after it anyway. Two writers of one row are told
/// apart by the version: an older one never overwrites a newer one, neither here nor in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    /// `ce_aggregateversion` of the product's fact that said so.
    pub version: i64,
    /// The price of one.
    pub price: Money,
    /// The price's currency.
    pub currency: String,
}

impl Price {
    /// Folds a product's fact; one that is not newer than what is known changes nothing, nor does one without a version.
    pub(super) fn fold(prices: &mut BTreeMap<String, Self>, input: &Envelope<Orders>, price: Money, currency: &str) {
        let known = prices.get(&input.key).map_or(0, |price| price.version);
        if input.version > known {
            let price = Self { version: input.version, price, currency: currency.to_owned() };
            prices.insert(input.key.clone(), price);
        }
    }
}
