//! Questions: each is answered by one service, and no wait for an answer is without end.

use crate::{Choreography, Kind, Problem, Service, document::End};

/// Each question with the service that asks it, or that hears it where a client does.
fn questions(choreography: &Choreography) -> impl Iterator<Item = (&Service, &String)> {
    choreography.services.iter().flat_map(|service| {
        let requests = service.hears.iter().filter(|record| choreography.is_request(record));
        service.asks.iter().chain(requests).map(move |question| (service, question))
    })
}

pub(super) fn without_answer(choreography: &Choreography) -> Vec<Problem> {
    let fault = |(service, question): (&Service, &String)| {
        let answers = |service: &&Service| {
            service.answers.iter().any(|answer| answer.question == *question && !answer.facts.is_empty())
        };
        let answering: Vec<&str> = choreography.services.iter().filter(answers).map(|service| &*service.name).collect();
        let (what, fix) = match answering.as_slice() {
            [_] => return None,
            [] => {
                let fix = format!(
                    "name under `answers` of a service that hears {question} the facts of which one answers it"
                );
                ("is a question, and nobody answers it".to_owned(), fix)
            }
            several => {
                let what = format!("is answered by {}", several.join(" and by "));
                (what, "let one of them answer, and the others only listen".to_owned())
            }
        };
        Some(Problem::new(Kind::NoAnswer, &service.file, question, what, fix))
    };
    questions(choreography).filter_map(fault).collect()
}

pub(super) fn without_end(choreography: &Choreography) -> Vec<Problem> {
    let mut found = vec![];
    for service in &choreography.services {
        for wait in &service.waits {
            let event = wait.questions.first().unwrap_or(&wait.state);
            found.extend(fault(service, event, &format!("the wait `{}`", wait.state), &wait.end, true));
        }
        for effect in &service.effects {
            found.extend(fault(service, &effect.kind, "the wait for this effect's outcome", &effect.end, false));
        }
        for question in &service.asks {
            let waits = |service: &Service| service.waits.iter().any(|wait| wait.questions.contains(question));
            if !choreography.services.iter().any(waits) {
                let what = "is a question, and nobody waits for its answer with a deadline or a person";
                let fix = "name it under `questions` of the wait that ends with it";
                found.push(Problem::new(Kind::NoEnd, &service.file, question, what, fix));
            }
        }
    }
    found
}

/// What is wrong with the end of a wait: it is none, or its timer is never set or never fires.
fn fault(service: &Service, event: &str, wait: &str, end: &End, by_timer: bool) -> Option<Problem> {
    let problem = |what: String, fix: &str| Some(Problem::new(Kind::NoEnd, &service.file, event, what, fix));
    let Some(deadline) = &end.deadline else {
        return match &end.person {
            Some(_) => None,
            None => problem(
                format!("{wait} has neither deadline nor person"),
                "give it a deadline, or say what a person does who sees it",
            ),
        };
    };
    let timer = &deadline.timer;
    let set = service.reactions.iter().any(|reaction| reaction.sets.contains(timer));
    if by_timer && !set {
        return problem(
            format!("{wait} ends by the timer {timer}, which nothing sets"),
            "set it where the wait begins",
        );
    }
    None
}
