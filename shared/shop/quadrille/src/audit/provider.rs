//! What the payment provider says was done.

use std::collections::HashMap;

use anyhow::Context;
use quadrille_cli::{Settings, http};
use quadrille_program::hide_secrets;
use serde::Deserialize;

/// What an order came to at the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Sums {
    pub charges: u64,
    pub refunds: u64,
    pub captured: String,
    pub refunded: String,
    pub net: String,
    #[serde(skip)]
    pub charge_ids: Vec<String>,
    #[serde(skip)]
    pub refund_ids: Vec<String>,
}

/// The provider's ledger by order.
pub type Ledger = HashMap<String, Sums>;

/// Where the provider is: the setting `tools.provider_url`.
pub fn provider_url(settings: &Settings) -> &str {
    settings.tools.get("provider_url").map_or("", |url| url.trim_end_matches('/'))
}

/// Reads the ledger.
pub async fn read(settings: &Settings) -> anyhow::Result<Ledger> {
    #[derive(Deserialize)]
    struct Told {
        orders: Ledger,
        charges: Vec<Done>,
        refunds: Vec<Done>,
    }
    #[derive(Deserialize)]
    struct Done {
        id: String,
        order_id: String,
        accepted: bool,
    }
    let url = format!("{}/ledger", provider_url(settings));
    let response = http::client()?.get(&url).send().await;
    let shown = hide_secrets(&url);
    let response = response.ok().with_context(|| format!("no payment provider answers at {shown}"))?;
    let told = response.error_for_status().map_err(reqwest::Error::without_url)?;
    let mut told: Told = told.json().await.ok().with_context(|| format!("{shown} tells no ledger"))?;
    for done in told.charges.into_iter().filter(|done| done.accepted) {
        told.orders.entry(done.order_id).or_default().charge_ids.push(done.id);
    }
    for done in told.refunds.into_iter().filter(|done| done.accepted) {
        told.orders.entry(done.order_id).or_default().refund_ids.push(done.id);
    }
    Ok(told.orders)
}
