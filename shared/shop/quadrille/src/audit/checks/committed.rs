//! Rules 7 and 8: causes exist, and state and facts are one.

use std::collections::{HashMap, HashSet};

use quadrille_core::ids;
use uuid::Uuid;

use super::Checks;
use crate::{
    CATALOGUE,
    audit::{
        books::{Entry, Saga},
        databases::{Database, Requested},
        report::Rule,
    },
    orders::State,
};

impl<'a> Checks<'a> {
    pub(super) fn causes(&mut self) {
        let unknown = self.books.caused.iter().filter(|(cause, _)| !self.books.knows(cause));
        let mut unknown: Vec<_> =
            unknown.flat_map(|(cause, facts)| facts.iter().map(move |fact| (fact, cause))).collect();
        unknown.sort_by_key(|(fact, _)| fact.place);
        let beyond = if self.books.truncated { std::mem::take(&mut unknown).len() } else { 0 };
        for (fact, cause) in unknown {
            let what = format!("{} was caused by {cause}, which no record is", fact.name);
            self.missing(Rule::Causes, fact.place, fact.ms, None, what);
        }
        let mut counted = format!("{} causes of {} facts", self.books.caused.len(), self.books.facts);
        if beyond > 0 {
            counted += &format!("; {beyond} facts' causes are older than topics keep");
        }
        self.report.finding(Rule::Causes).counted = counted;
    }

    pub(super) fn committed(&mut self) {
        let mut waiting = 0;
        for (service, database) in &self.databases.services {
            waiting += database.outbox;
            if database.outbox > 0 {
                let what = format!("{} facts are committed and not published", database.outbox);
                let oldest = database.oldest_ms.unwrap_or_default();
                self.missing_at(format!("{service}'s outbox"), Rule::Committed, oldest, None, what);
            }
        }
        let mut counted = format!("{} outboxes with {waiting} facts", self.databases.services.len());
        let stated = self.stated_requests();
        if stated > 0 {
            counted += &format!("; {stated} requests of services were looked for on their topics");
        }
        if let Some(rows) = &self.databases.orders {
            self.states(rows);
            counted += &format!("; {} orders' states were compared with their facts", rows.len());
        }
        self.report.finding(Rule::Committed).counted = counted;
    }

    /// Each request that a service has committed is on its topic for as long as that keeps it; that it is there once, the books say. Tells
    /// how many were looked for.
    fn stated_requests(&mut self) -> usize {
        let published: HashSet<Uuid> = self.books.requests.iter().filter_map(|request| request.ids[0]).collect();
        let kept = |stated: &Requested| {
            let retention = CATALOGUE.topic(&stated.topic).and_then(|topic| topic.retention);
            retention.is_none_or(|kept| i128::from(self.now_ms - stated.ms) < kept.as_millis() as i128)
        };
        let of = |(service, database): (&'a String, &'a Database)| {
            database
                .requests
                .iter()
                .filter(|stated| kept(stated))
                .map(move |stated| (service, stated))
                .collect::<Vec<_>>()
        };
        let stated: Vec<_> = self.databases.services.iter().flat_map(of).collect();
        for (service, Requested { r#type, topic, key, id, ms }) in &stated {
            let known = ids::request(topic, key, r#type, &format!("/quadrille/{service}"), id);
            if !published.contains(&known) {
                let what = format!("{type} {id} of {key} is committed and not on {topic}");
                self.missing_at(format!("{service}'s history"), Rule::Committed, *ms, None, what);
            }
        }
        stated.len()
    }

    pub(super) fn states(&mut self, rows: &HashMap<String, String>) {
        let none = Saga::default();
        let of_order = |entry: &&Entry| entry.place.topic == "order.events";
        let stated = self.books.sagas.iter().filter(|(_, saga)| saga.entries.iter().any(|entry| of_order(&entry)));
        let keys: HashSet<&String> = stated.map(|(key, _)| key).chain(rows.keys()).collect();
        for key in keys {
            let saga = self.books.sagas.get(key).unwrap_or(&none);
            let state =
                saga.entries.iter().filter(of_order).fold(State::default(), |state, entry| state.after(entry.name));
            let row = rows.get(key).map_or("requested", String::as_str);
            let has_gone = !rows.contains_key(key) && self.databases.gone.contains(key);
            if row == state.name() || has_gone || (self.books.truncated && saga.entries.is_empty()) {
                continue;
            }
            let last = saga.entries.iter().map(|entry| entry.ms).max();
            let what = format!("{key} is {row} in the database and {} by its facts", state.name());
            self.missing_at("order's database", Rule::Committed, last.unwrap_or(self.books.newest_ms), None, what);
        }
    }
}
