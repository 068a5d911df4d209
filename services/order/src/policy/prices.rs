//! The order service's own price list, folded from `product.events`.

use std::collections::BTreeMap;

use quadrille_core::Envelope;
use quadrille_events::Money;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Orders;

/// What one of a SKU costs, as of a version of its product.
///
/// The rows are shared by all orders, so they are not locked: an order takes the price that its batch reads, which was the list's
/// price a moment ago, and a price that races with an order may come before or after it anyway. Two writers of one row are told
/// apart by the version: an older one never overwrites a newer one, neither here nor in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// The prices of some SKUs as a decision reads them, for a recorded history; null for a SKU that is not on the list.
pub(super) fn record_read(prices: &BTreeMap<String, Price>, skus: impl Iterator<Item = String>) -> Option<Value> {
    let read: BTreeMap<String, Option<&Price>> = skus
        .map(|sku| {
            let price = prices.get(&sku);
            (sku, price)
        })
        .collect();
    // Prices are texts and numbers: they always have a JSON form.
    (!read.is_empty()).then(|| serde_json::to_value(read).unwrap_or_default())
}

/// Makes the list say what [`told`] said of it.
pub(super) fn restore_read(prices: &mut BTreeMap<String, Price>, read: Value) -> Result<(), serde_json::Error> {
    for (sku, price) in serde_json::from_value::<BTreeMap<String, Option<Price>>>(read)? {
        match price {
            Some(price) => prices.insert(sku, price),
            None => prices.remove(&sku),
        };
    }
    Ok(())
}
