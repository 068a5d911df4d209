//! Facts: somebody states what is heard, somebody hears what is stated, and what can be undone is undone.

use crate::{Cause, Choreography, Compensation, Kind, Problem, Service, graph::facts_after};

pub(super) fn without_speaker(choreography: &Choreography) -> Vec<Problem> {
    let mut found = vec![];
    for service in &choreography.services {
        for record in &service.hears {
            if choreography.speakers(record).next().is_some() || choreography.is_request(record) {
                continue;
            }
            let what = format!("{} hears it, and nobody states it", service.name);
            let fix = "have a service state it, or hear it no longer";
            found.push(Problem::new(Kind::NoSpeaker, &service.file, record, what, fix));
        }
    }
    found
}

pub(super) fn without_listener(choreography: &Choreography) -> Vec<Problem> {
    let mut found = vec![];
    for service in &choreography.services {
        for request in service.requests.iter().filter(|request| choreography.listeners(request).next().is_none()) {
            let what = format!("{} requests it, and nobody hears it", service.name);
            let fix = "have a service hear and answer it, or request it no longer";
            found.push(Problem::new(Kind::NoListener, &service.file, request, what, fix));
        }
        for fact in service.states.iter().filter(|fact| !service.public.contains(fact)) {
            if choreography.listeners(fact).next().is_none() {
                let what = format!("{} states it, and nobody hears it", service.name);
                let fix = "have a service hear it, list it under `public`, or state it no longer";
                found.push(Problem::new(Kind::NoListener, &service.file, fact, what, fix));
            }
        }
    }
    found
}

pub(super) fn uncompensated(choreography: &Choreography) -> Vec<Problem> {
    let faults = |service: &Service| -> Vec<Problem> {
        service.compensations.iter().filter_map(|compensation| fault(service, compensation)).collect()
    };
    choreography.services.iter().flat_map(faults).collect()
}

/// What keeps a service from compensating its fact.
fn fault(service: &Service, compensation: &Compensation) -> Option<Problem> {
    let problem = |what: String, fix: String| {
        Some(Problem::new(Kind::Uncompensated, &service.file, &compensation.fact, what, fix))
    };
    if compensation.by.is_empty() {
        let fix = "name under `by` what is stated once it is undone";
        return problem("can be undone, and nothing undoes it".into(), fix.into());
    }
    if let Some(fact) = compensation.by.iter().find(|fact| !service.states.contains(fact)) {
        let what = format!("is undone by {fact}, which {} does not state", service.name);
        return problem(what, format!("have {} state {fact}", service.name));
    }
    if let Some(on) = compensation.on.iter().find(|on| !service.hears.contains(on)) {
        let what = format!("is undone on {on}, which {} does not hear", service.name);
        return problem(what, format!("have {} hear {on}", service.name));
    }
    let undone = |on: &&String| {
        let facts = facts_after(service, Cause::Heard((*on).clone()));
        compensation.by.iter().any(|fact| facts.contains(fact))
    };
    if let Some(on) = compensation.on.iter().find(|on| !undone(on)) {
        let what = format!("is undone on {on}, of which {} never comes", compensation.by.join(" or "));
        return problem(what, format!("have the reaction on {on} state it, or want the effect that brings it"));
    }
    let refused = compensation.refused.as_ref()?;
    if !service.states.contains(&refused.fact) || !service.hears.contains(&refused.retry) {
        let what = format!("may be refused to be undone, and {} or {} is missing", refused.fact, refused.retry);
        return problem(what, "state the refusal, and hear the person's request".into());
    }
    None
}
