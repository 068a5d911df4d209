//! Rule 9: every question is answered once.

use quadrille_cli::Place;

use super::Checks;
use crate::audit::{
    books::{Entry, Request, Saga},
    report::Rule,
};
use crate::waits::{COMPENSATIONS, QUESTIONS};

impl Checks<'_> {
    pub(super) fn answers(&mut self, key: &str, saga: &Saga) {
        for question in QUESTIONS.iter() {
            let given: Vec<&Entry> = saga.all(&question.answers).collect();
            let holder = question.by_effect.then_some(question.by);
            self.one(key, question.asked, saga.first(question.asked), &given, holder);
        }
        let cancelled = saga.first("OrderCancelled");
        for compensation in COMPENSATIONS.iter() {
            let given: Vec<&Entry> = saga.all(&compensation.answers).collect();
            let holder = compensation.by_effect.then_some(compensation.by);
            // What is held is undone only for a cancelled order; what was never held is not undone.
            let asked = cancelled.filter(|_| saga.has(compensation.asked));
            let refused = compensation.refused.is_some_and(|(fact, _)| saga.has(fact));
            if asked.is_some() && given.is_empty() && refused {
                // A person's business, and shown as such.
                self.report.finding(Rule::Answers).waiting += 1;
                continue;
            }
            self.one(key, "OrderCancelled", asked, &given, holder);
        }
    }

    pub(super) fn one(
        &mut self,
        key: &str,
        question: &str,
        asked: Option<&Entry>,
        given: &[&Entry],
        holder: Option<&str>,
    ) {
        match (asked, given) {
            (Some(asked), []) => {
                let what = format!("{question} of {key} has no answer");
                self.missing(Rule::Answers, asked.place, asked.ms, holder.map(|service| (service, key)), what);
            }
            (None, [answer, ..]) if !self.books.truncated => {
                let what = format!("{} of {key} answers no {question}", answer.name);
                // The question's topic is read at another moment than the answer's.
                self.missing(Rule::Answers, answer.place, answer.ms, None, what);
            }
            (_, [first, second, ..]) => {
                let what = format!(
                    "{} of {key} answers {question} again, after {} at {}",
                    second.name, first.name, first.place
                );
                self.report.offence(Rule::Answers, second.place, what);
            }
            _ => {}
        }
    }

    pub(super) fn requests(&mut self) {
        for request in &self.books.requests {
            let caused = self.caused(request);
            let answer = |names: &[&str]| caused.iter().filter(|caused| names.contains(&caused.0)).count();
            let saga = self.books.sagas.get(&request.key);
            let answered = |names: &[&'static str]| {
                names.iter().any(|name| self.books.answered.contains(&(*name, request.key.clone())))
            };
            // Each a count of answers; a repeat with the same content has none of its own, the first one's stands.
            let count = match request.name {
                "OrderRequested" => saga.map_or(0, |saga| saga.all(&["OrderCreated", "OrderRejected"]).count().min(1)),
                "OrderCancellationRequested" => {
                    answer(&["OrderCancelled", "OrderRecallRequested", "OrderCancellationRefused"])
                }
                "UserRegistrationRequested" => usize::from(
                    answered(&["UserRegistered", "UserRegistrationRejected"]) || answer(&["UserRequestRefused"]) > 0,
                ),
                "UserProfileUpdateRequested" => answer(&["UserProfileUpdated", "UserRequestRefused"]),
                "UserDeactivationRequested" => answer(&["UserDeactivated", "UserRequestRefused"]),
                "ProductListingRequested" => {
                    usize::from(answered(&["ProductListed"]) || answer(&["StockRequestRefused"]) > 0)
                }
                "StockReplenishmentRequested" => usize::from(
                    self.books.replenishments.contains_key(&request.replenishment)
                        || answer(&["StockRequestRefused"]) > 0,
                ),
                "RefundRetryRequested" => answer(&["PaymentRefunded", "RefundFailed", "PaymentRequestRefused"]),
                // Operators' requests are answered in the service's database.
                _ => 1,
            };
            match count {
                1 => {}
                0 => {
                    let holder = (request.name == "RefundRetryRequested").then_some(("payment", request.key.as_str()));
                    let what = format!("{} of {} has no answer", request.name, request.key);
                    self.missing(Rule::Answers, request.place, request.ms, holder, what);
                }
                _ => {
                    let what = format!("{} of {} has {count} answers", request.name, request.key);
                    self.report.offence(Rule::Answers, request.place, what);
                }
            }
        }
    }

    pub(super) fn caused(&self, request: &Request) -> Vec<(&'static str, Place)> {
        let caused = request.ids.iter().flatten().filter_map(|id| self.books.caused.get(id)).flatten();
        caused.map(|caused| (caused.name, caused.place)).collect()
    }
}
