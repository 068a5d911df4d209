//! What cannot be handled is a dead letter, and some dead letters let nobody rest.

use quadrille_choreography::DECLARATIONS;

use super::Checks;
use crate::audit::{databases::DeadLetter, report::Rule};

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
        let grave =
            DECLARATIONS.iter().filter_map(|service| Some((service, self.databases.services.get(service.service)?)));
        let grave = grave.flat_map(|(service, database)| {
            let is_grave =
                move |letter: &&DeadLetter| letter.open && service.alarms_at(&letter.topic, &letter.record_type);
            database.dead_letters.iter().filter(is_grave)
        });
        let grave: Vec<(String, String)> = grave
            .map(|letter| {
                let place = format!("{}/{}@{}", letter.topic, letter.partition, letter.offset);
                let what = match letter.record_type.as_str() {
                    "" => "What cannot be read",
                    name => name,
                };
                let why = "its saga stands still until a person redrives it";
                (place, format!("{what} is an open dead letter ({}): {why}", letter.reason))
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
