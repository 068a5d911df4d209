//! `quadrille orders`: every order with its state, told by topics alone, and what the open ones wait for.
//!
//! All is told as of one moment, so that no order is shown to wait for what its own later facts disprove.

use std::collections::{BTreeMap, BTreeSet};

use quadrille_cli::{
    Settings,
    output::{self, Paint, Table},
    render,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    timeline::{self, Fact},
    waits::{self, Said, Wait},
};

/// Where an order stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for, not answered yet.
    #[default]
    Requested,
    /// Accepted.
    Pending,
    /// Paid for.
    Confirmed,
    /// With the carrier.
    Shipped,
    /// To be brought back.
    Recalling,
    /// Never came to be.
    Rejected,
    /// With the customer.
    Delivered,
    /// Undone.
    Cancelled,
    /// Asked for, and given up as a dead letter: nobody answers any more.
    Discarded,
}

impl State {
    /// Whether nothing more will come.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Rejected | Self::Delivered | Self::Cancelled | Self::Discarded)
    }

    /// The state as people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Shipped => "shipped",
            Self::Recalling => "recalling",
            Self::Rejected => "rejected",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// The state after a record of this type, as the reaction table says.
    pub fn after(self, name: &str) -> Self {
        match (self, name) {
            (Self::Requested, "OrderCreated") => Self::Pending,
            (Self::Requested, "OrderRejected") => Self::Rejected,
            (state, _) if state.is_end() => state,
            (_, "OrderConfirmed") => Self::Confirmed,
            (Self::Recalling, "OrderShipped") => Self::Recalling,
            (_, "OrderShipped") => Self::Shipped,
            (_, "OrderRecallRequested") => Self::Recalling,
            (_, "OrderDelivered") => Self::Delivered,
            (_, "OrderCancelled") => Self::Cancelled,
            (state, _) => state,
        }
    }
}

/// An order, folded from its records.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Order {
    /// Its id.
    pub order: String,
    /// Where it stands.
    pub state: State,
    /// Why, where the record says.
    pub reason: String,
    /// The total with currency.
    pub total: String,
    /// `captured`, `declined`, `refunded`, `refund failed`.
    pub payment: &'static str,
    /// `reserved`, `rejected`, `committed`, `released`.
    pub stock: &'static str,
    /// `dispatched`, `delivered`, `aborted`, `recalled`.
    pub parcel: &'static str,
    /// The first record's time.
    pub since: String,
    /// The last record's time.
    pub last: String,
    /// What it waits for; of an order that has ended: what is still to be undone.
    pub waits: Vec<Wait>,
    /// What was stated of it.
    #[serde(skip)]
    said: BTreeMap<&'static str, Said>,
    /// What was stated of it since the moment that is told.
    #[serde(skip)]
    later: BTreeSet<&'static str>,
    #[serde(skip)]
    ordered: bool,
    #[serde(skip)]
    first_ms: i64,
    #[serde(skip)]
    last_ms: i64,
}

impl Order {
    fn hear(&mut self, fact: &Fact) {
        let ms = fact.record.timestamp_ms;
        self.first_ms = if self.first_ms == 0 { ms } else { self.first_ms.min(ms) };
        self.last_ms = self.last_ms.max(ms);
        let name = fact.name();
        if let Some(place) = fact.place() {
            let said = self.said.entry(name).or_insert(Said { ms, place });
            *said = Said { ms: ms.min(said.ms), place };
        }
        self.ordered |= fact.is_its_order();
        match name {
            "PaymentCaptured" => self.payment = "captured",
            "PaymentDeclined" => self.payment = "declined",
            "PaymentRefunded" => self.payment = "refunded",
            "RefundFailed" => self.payment = "refund failed",
            "StockReserved" => self.stock = "reserved",
            "ReservationRejected" => self.stock = "rejected",
            "ReservationCommitted" => self.stock = "committed",
            "ReservationReleased" => self.stock = "released",
            "ShipmentDispatched" => self.parcel = "dispatched",
            "ShipmentDelivered" => self.parcel = "delivered",
            "ShipmentAborted" => self.parcel = "aborted",
            "ShipmentRecalled" => self.parcel = "recalled",
            _ => {}
        }
        let state = self.state.after(name);
        if state != self.state {
            self.state = state;
            let value = fact.value();
            self.reason = text(&value["reason"]);
            if self.total.is_empty() && value["details"].is_object() {
                self.total = format!("{} {}", text(&value["details"]["total"]), text(&value["details"]["currency"]));
            }
        }
    }
}

impl Order {
    /// A request that was given up as a dead letter waits for nothing.
    fn end_if_given_up(&mut self) {
        if self.state == State::Requested && self.waits.iter().any(Wait::is_given_up) {
            self.state = State::Discarded;
            self.waits.clear();
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads every order from the topics. Blocks.
fn all(settings: &Settings) -> anyhow::Result<Vec<Order>> {
    let mut orders: BTreeMap<String, Order> = BTreeMap::new();
    timeline::read(
        settings,
        &timeline::saga_topics(&settings.catalogue),
        |_| true,
        |fact, was_there| {
            // A refused request or a malformed record makes no order.
            if !fact.key.is_empty() && !fact.name().is_empty() {
                let order = orders.entry(fact.key.clone()).or_default();
                if was_there {
                    order.hear(&fact);
                } else {
                    order.later.insert(fact.name());
                }
            }
            Ok(())
        },
    )?;
    let orders = orders
        .into_iter()
        // A cancellation of what was never ordered makes no order.
        .filter(|(_, order)| order.ordered)
        .map(|(key, order)| Order {
            order: key,
            since: render::rfc3339(order.first_ms),
            last: render::rfc3339(order.last_ms),
            ..order
        });
    Ok(orders.collect())
}

/// Shows the orders: open ones first, then the latest first. Blocks.
pub fn run(settings: &Settings, open: bool, limit: Option<usize>, json: bool) -> anyhow::Result<()> {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let mut orders = all(settings)?;
    for order in &mut orders {
        order.waits = waits::open(|name| order.said.get(name).copied(), |name| order.later.contains(name), now_ms);
    }
    let handle = tokio::runtime::Handle::current();
    let mut waiting: Vec<&mut Wait> = orders.iter_mut().flat_map(|order| &mut order.waits).collect();
    handle.block_on(waits::look_up_letters(settings, &mut waiting));
    for order in &mut orders {
        order.end_if_given_up();
    }
    orders.sort_by_key(|order| (order.state.is_end(), std::cmp::Reverse(order.last_ms)));
    let mut counts: BTreeMap<State, usize> = BTreeMap::new();
    for order in &orders {
        *counts.entry(order.state).or_default() += 1;
    }
    if open {
        orders.retain(|order| !order.state.is_end());
    }
    orders.truncate(limit.unwrap_or(usize::MAX));
    let mut waiting: Vec<(String, Vec<Wait>)> =
        orders.iter_mut().map(|order| (order.order.clone(), std::mem::take(&mut order.waits))).collect();
    let unread = handle.block_on(waits::look_up(settings, &mut waiting));
    for (order, (_, waits)) in orders.iter_mut().zip(waiting) {
        order.waits = waits;
    }
    if json {
        return output::json(&orders);
    }
    let paint = Paint::detect();
    let mut table =
        Table::new(["order", "state", "why", "total", "stock", "payment", "parcel", "began", "took", "waits for"]);
    for order in orders {
        let state = match order.state {
            State::Delivered => paint.good(order.state.name()),
            State::Cancelled | State::Rejected | State::Discarded => paint.faint(order.state.name()),
            state => state.name().to_owned(),
        };
        let payment =
            if order.payment == "refund failed" { paint.bad(order.payment) } else { order.payment.to_owned() };
        table.row([
            paint.saga(&order.order, &order.order),
            state,
            order.reason,
            order.total,
            order.stock.to_owned(),
            payment,
            order.parcel.to_owned(),
            render::clock(order.first_ms),
            output::step(order.last_ms - order.first_ms).trim_start_matches('+').to_owned(),
            order.waits.iter().map(Wait::describe).collect::<Vec<_>>().join("; "),
        ]);
    }
    table.print()?;
    unread.iter().try_for_each(|sentence| output::line(sentence))?;
    let all: usize = counts.values().sum();
    let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
    output::line(&format!("{all} orders: {}.", if counts.is_empty() { "none yet".into() } else { counts.join(", ") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Made;

    #[test]
    fn an_order_is_told_by_its_records_in_any_interleaving_of_topics() {
        let key = "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30";
        let mut order = Order::default();
        for name in [
            "PaymentCaptured",
            "OrderRequested",
            "OrderCreated",
            "OrderConfirmed",
            "OrderRecallRequested",
            "OrderShipped",
        ] {
            let made = if name == "OrderRequested" { Made::request(name, key) } else { Made::event(name, key, 1) };
            order.hear(&made.fact());
        }
        assert_eq!((order.state, order.payment, order.total.as_str()), (State::Recalling, "captured", "39.98 EUR"));
        order.hear(&Made::event("OrderCancelled", key, 5).with("/reason", "shipment_recalled".into()).fact());
        order.hear(&Made::event("OrderCancellationRefused", key, 6).fact());
        assert_eq!((order.state, order.reason.as_str()), (State::Cancelled, "shipment_recalled"));
    }
}
