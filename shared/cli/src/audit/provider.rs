//! What the payment provider says was done.

use std::collections::HashMap;

use anyhow::Context;
use serde::Deserialize;

use crate::{Settings, http};

/// What an order came to at the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Sums {
    pub charges: u64,
    pub refunds: u64,
    pub captured: String,
    pub refunded: String,
    pub net: String,
}

/// The provider's ledger by order.
pub type Ledger = HashMap<String, Sums>;

/// Reads the ledger.
pub async fn read(settings: &Settings) -> anyhow::Result<Ledger> {
    #[derive(Deserialize)]
    struct Told {
        orders: Ledger,
    }
    let url = format!("{}/ledger", settings.provider.url);
    let response = http::client()?.get(&url).send().await;
    let response = response.ok().with_context(|| format!("no payment provider answers at {url}"))?;
    let told: Told = response.error_for_status()?.json().await.with_context(|| format!("{url} tells no ledger"))?;
    Ok(told.orders)
}
