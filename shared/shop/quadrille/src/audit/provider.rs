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
    /// What the provider calls the charges and refunds that it did.
    #[serde(skip)]
    pub ids: Vec<String>,
}

/// The provider's ledger by order.
pub type Ledger = HashMap<String, Sums>;

/// Where the provider is: the setting `tools.provider_url`.
pub fn root(settings: &Settings) -> &str {
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
    let url = format!("{}/ledger", root(settings));
    let response = http::client()?.get(&url).send().await;
    let shown = hide_secrets(&url);
    let response = response.ok().with_context(|| format!("no payment provider answers at {shown}"))?;
    let told = response.error_for_status().map_err(reqwest::Error::without_url)?;
    let mut told: Told = told.json().await.ok().with_context(|| format!("{shown} tells no ledger"))?;
    for done in told.charges.into_iter().chain(told.refunds).filter(|done| done.accepted) {
        if let Some(sums) = told.orders.get_mut(&done.order_id) {
            sums.ids.push(done.id);
        }
    }
    Ok(told.orders)
}
