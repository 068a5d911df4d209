//! What a change does to a choreography: new, gone, rewired, and who must be deployed first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{Choreography, Service};

/// The difference between two choreographies. [`fmt::Display`] writes it as Markdown, for a pull request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What was not there before, as sentences.
    pub new: Vec<String>,
    /// What is no longer there.
    pub gone: Vec<String>,
    /// What is there as before, between others or in another form.
    pub rewired: Vec<String>,
    /// What has to be done before any service is deployed.
    pub first: Vec<String>,
    /// The services to deploy, those of one entry in any order.
    pub deploy: Vec<BTreeSet<String>>,
    /// Services of which each must be deployed before the other.
    pub knot: BTreeSet<String>,
    /// What is to be done afterwards.
    pub last: Vec<String>,
}

impl Change {
    /// What makes `new` of `old`.
    pub fn between(old: &Choreography, new: &Choreography) -> Self {
        let mut change = Self::default();
        change.topics(old, new);
        change.records(old, new);
        change.services(old, new);
        change.order(old, new);
        change
    }

    /// Whether there is none.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn topics(&mut self, old: &Choreography, new: &Choreography) {
        let mut apply = false;
        for topic in &new.topics {
            let Some(before) = old.topic(&topic.name) else {
                self.new.push(format!("topic `{}`, written by {}", topic.name, topic.writer));
                apply = true;
                continue;
            };
            if before.partitions != topic.partitions {
                self.rewired.push(format!(
                    "topic `{}` has {} partitions instead of {}: a topic's count is fixed for its life, services will refuse to start",
                    topic.name, topic.partitions, before.partitions
                ));
            }
            if before.writer != topic.writer || before.key != topic.key {
                self.rewired.push(format!(
                    "topic `{}` is written by {} and keyed by {}, and not by {} and by {}",
                    topic.name, topic.writer, topic.key, before.writer, before.key
                ));
            }
            if !before.kind.is_empty() && before.kind != topic.kind {
                self.rewired.push(format!("topic `{}` has {}, and not {}", topic.name, topic.kind, before.kind));
            }
            if before.retention != topic.retention || before.cleanup != topic.cleanup {
                let form = |topic: &crate::Topic| format!("{} ({})", topic.retention, topic.cleanup);
                self.rewired.push(format!("topic `{}` is kept {}, and not {}", topic.name, form(topic), form(before)));
                apply = true;
            }
        }
        let gone = old.topics.iter().filter(|topic| new.topic(&topic.name).is_none());
        self.gone.extend(gone.map(|topic| format!("topic `{}`: what it holds is no longer read", topic.name)));
        if apply {
            self.first.push("`quadrille topics apply`".into());
        }
    }

    fn records(&mut self, old: &Choreography, new: &Choreography) {
        let mut apply = false;
        for record in &new.records {
            let Some(before) = old.record(&record.name) else {
                self.new.push(format!("record `{}` on `{}`", record.name, record.topics.join("`, `")));
                apply = true;
                continue;
            };
            if before.topics != record.topics {
                let (now, then) = (record.topics.join("`, `"), before.topics.join("`, `"));
                self.rewired.push(format!("record `{}` is on `{now}`, and not on `{then}`", record.name));
            }
            if before.fields != record.fields {
                let fields = fields(&before.fields, &record.fields);
                self.rewired.push(format!("record `{}`: {}", record.name, fields.join("; ")));
                apply = true;
            }
        }
        let gone = old.records.iter().filter(|record| new.record(&record.name).is_none());
        self.gone.extend(gone.map(|record| format!("record `{}`", record.name)));
        if apply {
            self.first.push("`quadrille schemas apply`".into());
        }
    }

    fn services(&mut self, old: &Choreography, new: &Choreography) {
        let none = Service::default();
        for name in names(old, new) {
            let [before, after] = [old, new].map(|of| of.service(name));
            match (before, after) {
                (None, Some(_)) => self.new.push(format!("service `{name}`")),
                (Some(_), None) => self.gone.push(format!("service `{name}`")),
                _ => {}
            }
            let (before, after) = (before.unwrap_or(&none), after.unwrap_or(&none));
            let added = |old: &[String], new: &[String]| -> Vec<String> {
                new.iter().filter(|record| !old.contains(record)).cloned().collect()
            };
            for record in added(&before.states, &after.states) {
                let told = format!("`{name}` states `{record}`");
                if old.facts().any(|fact| fact == record) { self.rewired.push(told) } else { self.new.push(told) }
            }
            for record in added(&before.requests, &after.requests) {
                self.new.push(format!("`{name}` requests `{record}`"));
            }
            for record in added(&after.requests, &before.requests) {
                self.gone.push(format!("`{name}` requests `{record}`"));
            }
            for record in added(&after.states, &before.states) {
                self.gone.push(format!("`{name}` states `{record}`"));
            }
            for record in added(&before.hears, &after.hears) {
                let told = format!("`{name}` hears `{record}`");
                let was_said = old.speakers(&record).next().is_some() || old.is_request(&record);
                if !was_said {
                    self.new.push(told);
                    continue;
                }
                self.rewired.push(told);
                // What was stated before it listened was skipped.
                let known = old
                    .topics_of(&record)
                    .any(|topic| old.records_of(&topic.name).any(|record| before.hears.contains(&record.name)));
                if known && before.name == name {
                    let skipped = format!("it has skipped every `{record}` so far");
                    // A read model has no inbox that would make reading again harmless.
                    self.last.push(match after.is_projection() {
                        true => format!("{name}'s next generation, built beside the one that serves: {skipped}"),
                        false => format!(
                            "`quadrille group rewind {name} --to beginning --yes`, with {name} stopped: {skipped}"
                        ),
                    });
                }
            }
            for record in added(&after.hears, &before.hears) {
                self.gone.push(format!("`{name}` hears `{record}`"));
            }
            self.parts(before, after);
        }
    }

    /// What of a service is rewired besides what it hears and states.
    fn parts(&mut self, before: &Service, after: &Service) {
        if before.name.is_empty() || after.name.is_empty() {
            return;
        }
        let name = &after.name;
        let parts = [
            ("asks", before.asks != after.asks),
            ("answers", before.answers != after.answers),
            ("undoes", before.compensations != after.compensations),
            ("waits for", before.waits != after.waits),
            ("asks of the outside", before.effects != after.effects),
            ("does on its inputs", before.reactions != after.reactions),
            ("has for the public", before.public != after.public),
        ];
        let changed: Vec<&str> = parts.iter().filter(|(_, changed)| *changed).map(|(part, _)| *part).collect();
        if !changed.is_empty() {
            self.rewired.push(format!("what `{name}` {}", changed.join(", ")));
        }
    }

    /// Listeners before speakers: what nobody listens to is skipped. Who stops stating goes before who stops hearing.
    fn order(&mut self, old: &Choreography, new: &Choreography) {
        let changed: BTreeSet<&str> = names(old, new)
            .into_iter()
            .filter(|name| new.service(name).is_some() && old.service(name) != new.service(name))
            .collect();
        let mut before: BTreeMap<&str, BTreeSet<&str>> = changed.iter().map(|name| (*name, BTreeSet::new())).collect();
        let mut first_then = |first: &'_ str, then: &'_ str| {
            let (Some(first), Some(then)) = (changed.get(first), changed.get(then)) else { return };
            if first != then
                && let Some(waits) = before.get_mut(then)
            {
                waits.insert(first);
            }
        };
        for speaker in &new.services {
            let stated: BTreeSet<&String> = old.service(&speaker.name).into_iter().flat_map(Service::says).collect();
            for fact in speaker.says().filter(|fact| !stated.contains(fact)) {
                // A service that is new itself reads every topic from its start, and skips nothing.
                let known = new.listeners(fact).filter(|listener| old.service(&listener.name).is_some());
                known.for_each(|listener| first_then(&listener.name, &speaker.name));
            }
        }
        for speaker in &old.services {
            let states: BTreeSet<&String> = new.service(&speaker.name).into_iter().flat_map(Service::says).collect();
            for fact in speaker.says().filter(|fact| !states.contains(fact)) {
                old.listeners(fact).for_each(|listener| first_then(&speaker.name, &listener.name));
            }
        }
        while !before.is_empty() {
            let ready: BTreeSet<&str> =
                before.iter().filter(|(_, waits)| waits.is_empty()).map(|(name, _)| *name).collect();
            if ready.is_empty() {
                self.knot = before.keys().map(|name| (*name).to_owned()).collect();
                return;
            }
            before.retain(|name, _| !ready.contains(name));
            before.values_mut().for_each(|waits| waits.retain(|name| !ready.contains(name)));
            self.deploy.push(ready.into_iter().map(str::to_owned).collect());
        }
    }
}

impl Choreography {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }
}

fn names<'a>(old: &'a Choreography, new: &'a Choreography) -> BTreeSet<&'a str> {
    old.services.iter().chain(&new.services).map(|service| service.name.as_str()).collect()
}

/// What became of a record's fields.
fn fields(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let mut told = vec![];
    for (name, ty) in new {
        match old.get(name) {
            None => told.push(format!("new field `{name}` ({ty})")),
            Some(before) if before != ty => told.push(format!("field `{name}` is {ty}, and not {before}")),
            Some(_) => {}
        }
    }
    told.extend(old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("field `{name}` is gone")));
    told
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### What this change does to the choreography\n")?;
        if self.is_nothing() {
            return writeln!(f, "Nothing: services, topics and records are as before.");
        }
        for (heading, lines) in [("New", &self.new), ("Gone", &self.gone), ("Rewired", &self.rewired)] {
            if !lines.is_empty() {
                writeln!(f, "**{heading}**\n")?;
                lines.iter().try_for_each(|line| writeln!(f, "- {line}"))?;
                writeln!(f)?;
            }
        }
        let services =
            |names: &BTreeSet<String>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut steps = self.first.clone();
        steps.extend(self.deploy.iter().map(|names| format!("deploy {}", services(names))));
        if !self.knot.is_empty() {
            steps.push(format!(
                "{}: each would have to be deployed before the other; split the change, so that they hear first and state later",
                services(&self.knot)
            ));
        }
        steps.extend(self.last.iter().cloned());
        if !steps.is_empty() {
            writeln!(f, "**In this order** (listeners before speakers)\n")?;
            steps.iter().enumerate().try_for_each(|(index, step)| writeln!(f, "{}. {step}", index + 1))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Record, Topic};

    /// Services by what they hear and state; a record stands on `<first letter>.events`.
    fn choreography(services: &[(&str, &[&str], &[&str])]) -> Choreography {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let service = |(name, hears, states): &(&str, &[&str], &[&str])| Service {
            name: (*name).to_owned(),
            hears: texts(hears),
            states: texts(states),
            ..Service::default()
        };
        let services: Vec<Service> = services.iter().map(service).collect();
        let names: BTreeSet<String> = services.iter().flat_map(|s| s.hears.iter().chain(&s.states)).cloned().collect();
        let topic = |name: &str| format!("{}.events", &name[..1]);
        let record = |name: &String| Record {
            name: name.clone(),
            full_name: format!("q.{name}"),
            file: String::new(),
            topics: vec![topic(name)],
            key: "id".into(),
            versions: 1,
            doc: String::new(),
            fields: BTreeMap::from([("id".to_owned(), "uuid".to_owned())]),
        };
        let topics: BTreeSet<String> = names.iter().map(|name| topic(name)).collect();
        let topic = |name: String| Topic {
            name,
            kind: "events".into(),
            partitions: 6,
            writer: "a".into(),
            key: "uuid".into(),
            cleanup: "delete".into(),
            retention: "7 d".into(),
        };
        Choreography {
            services,
            topics: topics.into_iter().map(topic).collect(),
            records: names.iter().map(record).collect(),
        }
    }

    fn deploy(change: &Change) -> Vec<Vec<&str>> {
        change.deploy.iter().map(|names| names.iter().map(String::as_str).collect()).collect()
    }

    #[test]
    fn nothing_is_told_of_no_change() {
        let same = choreography(&[("a", &[], &["aMade"])]);
        let change = Change::between(&same, &same);
        assert!(change.is_nothing());
        assert!(change.to_string().ends_with("Nothing: services, topics and records are as before.\n"));
    }

    #[test]
    fn a_new_fact_is_heard_before_it_is_stated_and_a_gone_one_the_other_way_round() {
        let before = choreography(&[("a", &[], &["aMade"]), ("b", &["aMade"], &[])]);
        let after = choreography(&[("a", &[], &["aMade", "aLost"]), ("b", &["aMade", "aLost"], &[])]);
        let change = Change::between(&before, &after);
        assert_eq!(change.new, ["record `aLost` on `a.events`", "`a` states `aLost`", "`b` hears `aLost`"]);
        assert_eq!(deploy(&change), [["b"], ["a"]]);
        assert_eq!(
            (change.first.as_slice(), change.last.as_slice()),
            (["`quadrille schemas apply`".to_owned()].as_slice(), [].as_slice())
        );
        let back = Change::between(&after, &before);
        assert_eq!(back.gone, ["record `aLost`", "`a` states `aLost`", "`b` hears `aLost`"]);
        assert_eq!(deploy(&back), [["a"], ["b"]]);
    }

    #[test]
    fn who_hears_more_of_a_topic_that_it_has_read_is_rewound() {
        let of = |heard| {
            [("a", &[] as &[_], &["aMade", "aLost"] as &[_]), ("b", heard, &["bMade"]), ("c", &["aLost", "bMade"], &[])]
        };
        let (before, after) = (choreography(&of(&["aMade"])), choreography(&of(&["aMade", "aLost"])));
        let change = Change::between(&before, &after);
        assert_eq!(change.rewired, ["`b` hears `aLost`"]);
        assert_eq!(deploy(&change), [["b"]]);
        assert!(change.last[0].starts_with("`quadrille group rewind b --to beginning --yes`"), "{change}");
    }

    #[test]
    fn a_read_model_that_hears_more_is_built_anew_instead() {
        let before = choreography(&[("a", &[], &["aMade", "aLost"]), ("b", &["aMade"], &[]), ("c", &["aLost"], &[])]);
        let after =
            choreography(&[("a", &[], &["aMade", "aLost"]), ("b", &["aMade", "aLost"], &[]), ("c", &["aLost"], &[])]);
        let change = Change::between(&before, &after);
        assert!(change.last[0].starts_with("b's next generation"), "{change}");
    }

    #[test]
    fn services_that_each_have_to_be_first_are_told() {
        let before = choreography(&[("a", &["bMade"], &["aMade"]), ("b", &["aMade"], &["bMade"])]);
        let after = choreography(&[
            ("a", &["bMade", "bLost"], &["aMade", "aLost"]),
            ("b", &["aMade", "aLost"], &["bMade", "bLost"]),
        ]);
        let change = Change::between(&before, &after);
        assert_eq!(change.knot, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
        assert!(change.to_string().contains("split the change"));
    }

    #[test]
    fn changed_fields_and_topics_are_told() {
        let before = choreography(&[("a", &[], &["aMade"])]);
        let mut after = before.clone();
        after.records[0].fields.insert("why".into(), "string".into());
        after.topics[0].partitions = 12;
        let change = Change::between(&before, &after);
        assert_eq!(
            change.rewired,
            [
                "topic `a.events` has 12 partitions instead of 6: a topic's count is fixed for its life, services will refuse to start",
                "record `aMade`: new field `why` (string)",
            ]
        );
        assert_eq!(change.first, ["`quadrille schemas apply`"]);
    }
}
