//! What cannot be handled is a dead letter, and some dead letters let nobody rest.

use quadrille_cli::kafka::Unreadable;
use quadrille_core::{Declaration, TopicKind};
use quadrille_roster::DECLARATIONS;

use super::Checks;
use crate::{
    CATALOGUE,
    audit::{databases::DeadLetter, report::Rule},
};

/// Whether some service hears a topic: what cannot be handled there must be a dead letter.
fn is_heard(topic: &str) -> bool {
    let hears = |service: &Declaration| service.hears.iter().any(|heard| heard.topic.name == topic);
    // The operators' requests are heard by the runtime of each.
    topic == "platform.requests" || DECLARATIONS.iter().any(hears)
}

/// How long dead letters are kept on their topics: of what is older there may be none any more.
fn kept_ms() -> i64 {
    let kept = CATALOGUE
        .topics
        .iter()
        .filter(|topic| topic.kind == TopicKind::DeadLetters)
        .filter_map(|topic| topic.retention)
        .min();
    kept.and_then(|kept| i64::try_from(kept.as_millis()).ok()).unwrap_or(i64::MAX)
}

impl Checks<'_> {
    pub(super) fn dead_letters(&mut self) {
        let mut skipped = 0;
        let oldest = self.now_ms.saturating_sub(kept_ms());
        for (place, ms, why) in &self.books.malformed {
            if !is_heard(place.topic) || *ms < oldest {
                skipped += 1;
            } else if !self.is_letter(place) {
                let what = format!("was neither handled nor made a dead letter: {why}");
                self.missing_at(place, Rule::DeadLetters, *ms, None, what);
            }
        }
        for unreadable in &self.books.unreadable {
            let Unreadable { topic, partition, from, to } = unreadable;
            let is_of_it = |letter: &&(&str, i32, i64)| {
                letter.0 == &**topic && letter.1 == *partition && (*from..*to).contains(&letter.2)
            };
            if is_heard(topic) && !self.letters.iter().any(|letter| is_of_it(&letter)) {
                let what = "cannot be read, and is no dead letter: whoever hears it stands still there";
                self.report.offence(Rule::DeadLetters, format!("{topic}/{partition}@{from}"), what);
            }
        }
        let letters = || self.databases.services.values().flat_map(|database| &database.dead_letters);
        let all = if self.databases.services.is_empty() { self.books.letters.len() } else { letters().count() };
        let open = letters().filter(|letter| letter.open).count();
        // An order's end, or what it holds, hangs on these: nothing but a person fixes them.
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
            "{} records that cannot be handled ({skipped} where nobody listens, or older than dead letters are kept), {} of unknown types, {} places that cannot be read; {all} dead letters, {open} of them open; {parked} effects parked",
            self.books.malformed.len(),
            self.books.unknown_types,
            self.books.unreadable.len()
        );
    }
}
