//! What cannot be handled is a dead letter, and some dead letters let nobody rest.

use super::Checks;
use crate::audit::report::Rule;

/// Topics that some service hears: what cannot be handled there must be a dead letter.
const HEARD: [&str; 12] = [
    "user.requests",
    "user.events",
    "verification.events",
    "stock.requests",
    "product.events",
    "order.requests",
    "order.events",
    "reservation.events",
    "payment.requests",
    "payment.events",
    "shipment.events",
    "platform.requests",
];

impl Checks<'_> {
    pub(super) fn dead_letters(&mut self) {
        let mut skipped = 0;
        for (place, ms, why) in &self.books.malformed {
            if !HEARD.contains(&place.topic) {
                skipped += 1;
            } else if !self.is_letter(place) {
                let what = format!("was neither handled nor made a dead letter: {why}");
                self.missing_at(place, Rule::DeadLetters, *ms, None, what);
            }
        }
        let letters = || self.databases.services.values().flat_map(|database| &database.dead_letters);
        let all = if self.databases.services.is_empty() { self.books.letters.len() } else { letters().count() };
        let open = letters().filter(|letter| letter.open).count();
        // An order's end, or what it holds, hangs on these: nothing but a person mends them.
        let grave = self.databases.services.iter().flat_map(|(service, database)| {
            let is_grave = move |name: &str| match service.as_str() {
                "order" => matches!(name, "ShipmentDelivered" | "ShipmentAborted" | "ShipmentRecalled"),
                "inventory" | "payment" => name == "OrderCancelled",
                "shipping" => name == "OrderRecallRequested",
                _ => false,
            };
            let short = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
            database.dead_letters.iter().filter(move |letter| letter.open && is_grave(&short(&letter.record_type)))
        });
        let grave: Vec<(String, String)> = grave
            .map(|letter| {
                let place = format!("{}/{}@{}", letter.topic, letter.partition, letter.offset);
                (
                    place,
                    format!(
                        "{} is an open dead letter ({}): its saga stands still until a person redrives it",
                        letter.record_type, letter.reason
                    ),
                )
            })
            .collect();
        for (place, what) in grave {
            self.report.offence(Rule::DeadLetters, place, what);
        }
        let parked: i64 = self.databases.services.values().map(|database| database.parked).sum();
        self.report.finding(Rule::DeadLetters).counted = format!(
            "{} records that cannot be handled ({skipped} where nobody listens), {} of unknown types; {all} dead letters, {open} of them open; {parked} effects parked",
            self.books.malformed.len(),
            self.books.unknown_types
        );
    }
}
