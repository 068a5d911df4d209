//! Declarations: each agrees with itself, and names what the schemas folder has.

use std::collections::BTreeSet;

use crate::{Cause, Choreography, Kind, Problem, Service, graph::facts_after};

pub(super) fn disagreeing(choreography: &Choreography) -> Vec<Problem> {
    let services = choreography.services.iter();
    let mut found: Vec<Problem> = services.flat_map(|service| Findings::of(choreography, service)).collect();
    found.extend(unused(choreography));
    found
}

/// What is found in one service's declaration.
struct Findings<'a> {
    service: &'a Service,
    found: Vec<Problem>,
}

impl<'a> Findings<'a> {
    fn of(choreography: &'a Choreography, service: &'a Service) -> Vec<Problem> {
        let mut findings = Self { service, found: vec![] };
        findings.names(choreography);
        findings.records();
        findings.reactions();
        findings.answers();
        findings.found
    }

    fn problem(&mut self, event: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.found.push(Problem::new(Kind::Declaration, &self.service.file, event, what, fix));
    }

    /// What is named is there.
    fn names(&mut self, choreography: &Choreography) {
        let service = self.service;
        for record in service.hears.iter().chain(service.says()).chain(&service.promised) {
            if choreography.record(record).is_none() {
                self.problem(record, "has no schema", "add schemas/<topic>/<Record>.avsc, or fix the name");
            }
        }
        for topic in &service.saga_topics {
            if choreography.topic(topic).is_none() {
                self.problem(topic, "is no topic", "declare it in schemas/topics.toml, or fix the name");
            }
        }
    }

    /// What is said of facts is said of the service's own.
    fn records(&mut self) {
        let service = self.service;
        let undone = service.compensations.iter().map(|compensation| &compensation.fact);
        for fact in service.asks.iter().chain(&service.public).chain(undone) {
            if !service.states.contains(fact) {
                let what = format!("is spoken of, and {} does not state it", service.name);
                self.problem(fact, what, "add it to `Stated`, or speak of it no longer");
            }
        }
        if let Some(fact) = service.promised.iter().find(|fact| service.states.contains(fact)) {
            self.problem(fact, "is promised, and stated already", "take it from `promised`");
        }
    }

    /// Every input has a reaction, and every reaction is on an input and of what is declared.
    fn reactions(&mut self) {
        let service = self.service;
        let heard = service.hears.iter().cloned().map(Cause::Heard);
        let outcomes = service.effects.iter().flat_map(|effect| effect.outcomes.iter().cloned().map(Cause::Outcome));
        let timers = service.reactions.iter().flat_map(|reaction| reaction.sets.iter().cloned().map(Cause::Timer));
        let inputs: BTreeSet<Cause> = heard.chain(outcomes).chain(timers).collect();
        for input in inputs.iter().filter(|input| service.reaction(input).is_none()) {
            let what = format!("comes in ({}), and no reaction is declared", input.describe());
            self.problem(input.name(), what, "add it to `reactions`, even where nothing comes of it");
        }
        for reaction in &service.reactions {
            // Which commands it takes is said by its reactions alone.
            if !matches!(reaction.on, Cause::Command(_)) && !inputs.contains(&reaction.on) {
                let what = format!("has a reaction ({}), and never comes in", reaction.on.describe());
                self.problem(reaction.on.name(), what, "hear it, or remove the reaction");
            }
            for fact in reaction.states.iter().filter(|fact| !service.says().any(|said| said == *fact)) {
                let what = format!("is stated on {}, and is not in `Stated`", reaction.on.describe());
                self.problem(fact, what, "add it there, or state it no longer");
            }
            for effect in reaction.wants.iter().filter(|kind| service.effect(kind).is_none()) {
                let what = format!("is wanted on {}, and no such effect is declared", reaction.on.describe());
                self.problem(effect, what, "add it to `effects`");
            }
        }
        let never = |what: fn(&crate::Reaction) -> &Vec<String>, name: &String| {
            !service.reactions.iter().any(|reaction| what(reaction).contains(name))
        };
        for fact in service.says().filter(|fact| never(|reaction| &reaction.states, fact)) {
            self.problem(fact, "is in `Stated`, and no reaction states it", "add it to a reaction, or remove it");
        }
        for effect in service.effects.iter().filter(|effect| never(|reaction| &reaction.wants, &effect.kind)) {
            self.problem(&effect.kind, "is an effect that no reaction wants", "add it to a reaction, or remove it");
        }
    }

    /// Every answer is to what is heard, and comes of it.
    fn answers(&mut self) {
        let service = self.service;
        for answer in &service.answers {
            if !service.hears.contains(&answer.question) {
                let what = format!("is answered by {}, which does not hear it", service.name);
                self.problem(&answer.question, what, "hear it, or answer it no longer");
                continue;
            }
            let after = facts_after(service, Cause::Heard(answer.question.clone()));
            for fact in answer.facts.iter().filter(|fact| !after.contains(*fact)) {
                let what = format!("answers {}, and never comes of it", answer.question);
                self.problem(fact, what, format!("have the reaction on {} state it", answer.question));
            }
        }
    }
}

/// Record types on the services' topics that nobody states, hears or promises.
fn unused(choreography: &Choreography) -> Vec<Problem> {
    let services = &choreography.services;
    let used = |name: &String| {
        services.iter().any(|service| {
            let mut spoken_of = service.hears.iter().chain(service.says()).chain(&service.promised);
            spoken_of.any(|record| record == name)
        })
    };
    let platform = |record: &crate::Record| choreography.topics_of(&record.name).all(crate::Topic::is_platform);
    let unused = choreography.records.iter().filter(|record| !platform(record) && !used(&record.name));
    let problem = |record: &crate::Record| {
        let fix = "have a service state or hear it, list it under `promised`, or remove the schema";
        Problem::new(Kind::Declaration, &record.file, &record.name, "has a schema, and no service speaks of it", fix)
    };
    unused.map(problem).collect()
}
