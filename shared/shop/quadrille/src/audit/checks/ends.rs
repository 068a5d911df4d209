//! Rules 3 and 4: every order ends once, and a cancelled one holds nothing.

use super::Checks;
use crate::audit::{books::Saga, report::Rule};

impl Checks<'_> {
    pub(super) fn ends(&mut self, key: &str, saga: &Saga) {
        for name in ["OrderCreated", "OrderRejected"] {
            if let Some(second) = saga.all(&[name]).nth(1) {
                self.report.offence(Rule::Ends, second.place, format!("is a second {name} of {key}"));
            }
        }
        let end = saga.all(&["OrderDelivered", "OrderCancelled"]).next();
        match (saga.first("OrderCreated"), saga.first("OrderRejected")) {
            (None, None) => {}
            (Some(created), Some(rejected)) => {
                self.report.offence(
                    Rule::Ends,
                    rejected.place,
                    format!("rejects the order that {} accepts", created.place),
                );
            }
            (None, Some(rejected)) => {
                self.report.orders.rejected += 1;
                let held = saga
                    .entries
                    .iter()
                    .find(|entry| !entry.name.starts_with("Order") && !entry.name.ends_with("Refused"));
                if let Some(held) = held {
                    let what = format!("{} for an order that was rejected ({})", held.name, rejected.place);
                    self.report.offence(Rule::Ends, held.place, what);
                }
            }
            (Some(created), None) => {
                self.report.orders.accepted += 1;
                match end.map(|end| end.name) {
                    Some("OrderDelivered") => self.report.orders.delivered += 1,
                    Some(_) => self.report.orders.cancelled += 1,
                    None => {
                        self.report.orders.open += 1;
                        let last = saga.entries.iter().max_by_key(|entry| entry.ms).unwrap_or(created);
                        let what = format!("{key} is open, and the order service holds no deadline for it");
                        self.missing(Rule::Ends, last.place, last.ms, Some(("order", key)), what);
                    }
                }
            }
        }
    }

    pub(super) fn cancelled(&mut self, saga: &Saga) {
        let (Some(cancelled), Some(delivered)) = (saga.first("OrderCancelled"), saga.first("ShipmentDelivered")) else {
            return;
        };
        let what = format!("a parcel is with the customer of an order that was cancelled ({})", cancelled.place);
        self.report.offence(Rule::Cancelled, delivered.place, what);
    }
}
