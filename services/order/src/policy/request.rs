//! What an order must be to be accepted.

use std::{collections::BTreeMap, ops::RangeInclusive};

use quadrille_events::{
    Money,
    bounds::{self, Fault},
    keys::SKU,
    order::{OrderDetails, OrderLine, OrderRequested},
};

use super::Price;

/// How many lines an order may have.
const LINES: RangeInclusive<usize> = 1..=100;
/// How many bytes sealed personal data may have.
const SEALED: usize = 16 * 1024;

/// Why an order never came to be.
pub(super) struct Rejection {
    pub reason: &'static str,
    pub field: String,
    pub detail: String,
}

impl Rejection {
    fn new(reason: &'static str, fault: Fault) -> Self {
        Self { reason, field: fault.field, detail: fault.detail }
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::new("bounds", fault)
    }
}

/// The SKUs that a request names, in their normal form. What is no SKU has no price.
pub(super) fn skus(asked: &OrderRequested) -> impl Iterator<Item = String> {
    // More lines are refused before a price is looked up: the price list is not read for them.
    let lines = if asked.lines.len() <= *LINES.end() { &asked.lines[..] } else { &[] };
    lines.iter().filter_map(|line| SKU.normal_form(&line.sku))
}

/// The order as it is accepted, with the prices of now; or why it is not.
pub(super) fn accept(prices: &BTreeMap<String, Price>, asked: &OrderRequested) -> Result<OrderDetails, Rejection> {
    sound(asked)?;
    let lines = priced(prices, asked)?;
    let total = total(&lines)?;
    if let Some(expected) = asked.expected_total
        && expected != total
    {
        let must = format_args!("be {total}, the total by the price list, or be left out");
        return Err(Rejection::new("price_changed", Fault::new("expected_total", must)));
    }
    Ok(OrderDetails {
        customer_id: asked.customer_id,
        lines,
        total,
        currency: asked.currency.clone(),
        payment_token: asked.payment_token.clone(),
        delivery: asked.delivery.clone(),
    })
}

/// Bounds, without a look at the price list.
fn sound(asked: &OrderRequested) -> Result<(), Fault> {
    if !LINES.contains(&asked.lines.len()) {
        return Err(Fault::new("lines", "be 1 to 100 in number"));
    }
    for (index, line) in asked.lines.iter().enumerate() {
        if SKU.normal_form(&line.sku).is_none() {
            let must = "be letters A to Z, digits and hyphens, at most 40 of them, the first no hyphen";
            return Err(Fault::new(format_args!("lines[{index}].sku"), must));
        }
        bounds::quantity(format_args!("lines[{index}].quantity"), line.quantity)?;
    }
    bounds::currency("currency", &asked.currency)?;
    bounds::filled_text("payment_token", &asked.payment_token)?;
    bounds::text("delivery.method", &asked.delivery.method)?;
    let personal = &asked.delivery.personal;
    for (field, text) in [("name", &personal.name), ("address", &personal.address), ("email", &personal.email)] {
        if let Some(text) = text {
            bounds::text(format_args!("delivery.personal.{field}"), text)?;
        }
    }
    if personal.sealed.as_ref().is_some_and(|sealed| sealed.0.len() > SEALED) {
        let must = format_args!("have at most {SEALED} bytes");
        return Err(Fault::new("delivery.personal.sealed", must));
    }
    if asked.expected_total.is_some_and(|total| total < Money::cents(1)) {
        return Err(Fault::new("expected_total", "be 0.01 or more, or be left out"));
    }
    for (field, ms) in [("confirm_within_ms", asked.confirm_within_ms), ("end_within_ms", asked.end_within_ms)] {
        if ms.is_some_and(|ms| ms < 1) {
            return Err(Fault::new(field, "be 1 or more, or be left out"));
        }
    }
    Ok(())
}

/// The lines with their prices, all of one currency.
fn priced(prices: &BTreeMap<String, Price>, asked: &OrderRequested) -> Result<Vec<OrderLine>, Rejection> {
    let mut lines = Vec::with_capacity(asked.lines.len());
    for (index, line) in asked.lines.iter().enumerate() {
        let sku = SKU.normal_form(&line.sku).unwrap_or_default();
        let field = format_args!("lines[{index}].sku");
        let Some(price) = prices.get(&sku) else {
            let must = format!("be on the price list, and {sku} is not: order once its ProductListed is there");
            return Err(Rejection::new("unknown_sku", Fault::new(field, must)));
        };
        if price.currency != asked.currency {
            let must = format!(
                "be priced in the order's currency, {}, and {sku} is in {}: one currency an order",
                asked.currency, price.currency
            );
            return Err(Rejection::new("currency", Fault::new(field, must)));
        }
        lines.push(OrderLine { sku, quantity: line.quantity, unit_price: price.price });
    }
    Ok(lines)
}

/// The sum of quantity times unit price.
fn total(lines: &[OrderLine]) -> Result<Money, Rejection> {
    let sum = |total: Money, line: &OrderLine| total.checked_add(line.unit_price.checked_mul(line.quantity.into())?);
    lines.iter().try_fold(Money::cents(0), sum).ok_or_else(|| {
        let must = format_args!("come to at most {} in all", Money::MAX);
        Rejection::new("overflow", Fault::new("lines", must))
    })
}
