//! Rule 1: stock adds up, by topics and by inventory's own rows.

use std::collections::{BTreeMap, HashSet};

use super::Checks;
use crate::audit::{databases::Stock, report::Rule};

impl Checks<'_> {
    pub(super) fn stock(&mut self) {
        let mut told: BTreeMap<&str, Stock> = BTreeMap::new();
        for (sku, received) in &self.books.received {
            told.entry(sku).or_default().received = *received;
        }
        for saga in self.books.sagas.values().filter(|saga| !saga.has("ReservationReleased")) {
            for (sku, quantity) in &saga.goods {
                let stock = told.entry(sku).or_default();
                *if saga.has("ReservationCommitted") { &mut stock.committed } else { &mut stock.reserved } += quantity;
            }
        }
        for (sku, stock) in &mut told {
            stock.available = stock.received - stock.reserved - stock.committed;
            if stock.available < 0 && !self.books.truncated {
                let what = format!(
                    "{sku}: {} reserved and {} committed of {} received",
                    stock.reserved, stock.committed, stock.received
                );
                self.report.offence(Rule::Stock, "reservation.events", what);
            }
        }
        let sums = told.values().fold(Stock::default(), |sum, stock| Stock {
            received: sum.received + stock.received,
            available: sum.available + stock.available,
            reserved: sum.reserved + stock.reserved,
            committed: sum.committed + stock.committed,
        });
        let mut counted = format!(
            "{} SKUs: {} received = {} available + {} reserved + {} committed",
            told.len(),
            sums.received,
            sums.available,
            sums.reserved,
            sums.committed
        );
        if let Some(rows) = &self.databases.stock {
            let skus: HashSet<&str> = told.keys().copied().chain(rows.keys().map(String::as_str)).collect();
            for sku in skus {
                let topics = told.get(sku).copied().unwrap_or_default();
                let row = rows.get(sku).copied().unwrap_or_default();
                if row.received != row.available + row.reserved + row.committed
                    || row.available.min(row.reserved).min(row.committed) < 0
                {
                    self.report.offence(Rule::Stock, "inventory's database", format!("{sku} does not add up: {row:?}"));
                }
                if row != topics {
                    let what = format!("{sku}: the database says {row:?}, the topics {topics:?}");
                    self.missing_at("inventory's database", Rule::Stock, self.books.newest_ms, None, what);
                }
            }
            counted += "; inventory's database was compared";
        }
        self.report.finding(Rule::Stock).counted = counted;
    }
}
