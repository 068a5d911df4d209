//! A batch of work, sorted once by what its transaction does with it.

use std::{borrow::Cow, collections::BTreeSet};

use quadrille_core::{Envelope, Policy};
use uuid::Uuid;

use crate::{
    dead_letters,
    operators::OperatorRequest,
    position::Reached,
    record::RawRecord,
    work::{Message, Rejection, Work, WorkItem},
};

/// A batch's work.
pub(crate) struct Batch<'a, P: Policy> {
    pub redeliveries: Vec<(Uuid, &'a Message<P>)>,
    pub requests: Vec<&'a OperatorRequest>,
    pub inputs: Vec<BatchInput<'a, P>>,
    pub rejected: Vec<(&'a RawRecord, Rejection)>,
    /// Of a projection: where reading has come to behind what is here.
    pub reached: Vec<Reached>,
}

/// An input, with what its transaction finds out about it.
pub(crate) struct BatchInput<'a, P: Policy> {
    pub envelope: Cow<'a, Envelope<P>>,
    /// The id that earlier builds gave a request that names itself.
    pub former: Option<Uuid>,
    pub origin: Origin<'a>,
    pub verdict: Verdict,
}

/// Where an input came from.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    Record(&'a RawRecord),
    DeadLetter(Uuid),
    /// A timer's row, or an effect's worker.
    Runtime,
    /// An operator's answer to an effect.
    Operator,
    /// A route of the service's own, which is told what came of it.
    Route,
}

/// Whether an input is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Fresh,
    /// It was before, or there is nothing left of the timer or effect that it is of: nothing comes of it.
    Seen,
    /// An event behind a dead letter of its key: a dead letter too, until that one is closed.
    Waits,
    /// A record or command of a key whose rows have gone long after their end: a dead letter, or refused.
    TooOld,
    /// An operator's answer to an effect of which a try is under way: refused.
    TooEarly,
}

impl<'a, P: Policy> Batch<'a, P> {
    pub fn sort(items: &'a [WorkItem<P>]) -> Self {
        let mut batch =
            Self { redeliveries: vec![], requests: vec![], inputs: vec![], rejected: vec![], reached: vec![] };
        for item in items {
            match &item.work {
                Work::Record(record, message) => batch.push(Origin::Record(record), message),
                Work::Rejected(record, rejection) => batch.rejected.push((record, rejection.clone())),
                Work::Redrive(letter, message) => batch.redeliveries.push((*letter, message)),
                Work::Reached(reached) => batch.reached.extend(reached),
                Work::Timer(envelope) | Work::Outcome(_, envelope) => {
                    batch.inputs.push(BatchInput::new(Origin::Runtime, Cow::Borrowed(envelope), None));
                }
                Work::Command(pending) => {
                    batch.inputs.push(BatchInput::new(Origin::Route, Cow::Borrowed(&pending.envelope), None));
                }
            }
        }
        batch
    }

    fn push(&mut self, origin: Origin<'a>, message: &'a Message<P>) {
        match message {
            Message::Input(envelope, former) => {
                self.inputs.push(BatchInput::new(origin, Cow::Borrowed(envelope), *former));
            }
            Message::Operator(request) => self.requests.push(request),
        }
    }

    /// Puts the letters that are still open before everything else: what has come of their keys meanwhile is later than they are.
    pub fn redeliver(&mut self, mut open: BTreeSet<Uuid>) {
        let (inputs, requests) = (std::mem::take(&mut self.inputs), std::mem::take(&mut self.requests));
        for (letter, message) in std::mem::take(&mut self.redeliveries) {
            // Removed: a claim that ran out may have brought one twice.
            if open.remove(&letter) {
                self.push(Origin::DeadLetter(letter), message);
            }
        }
        self.inputs.extend(inputs);
        self.requests.extend(requests);
    }
}

impl<'a, P: Policy> BatchInput<'a, P> {
    pub fn new(origin: Origin<'a>, envelope: Cow<'a, Envelope<P>>, former: Option<Uuid>) -> Self {
        Self { envelope, former, origin, verdict: Verdict::Fresh }
    }

    pub fn is_fresh(&self) -> bool {
        self.verdict == Verdict::Fresh
    }

    /// Topic and key of an event that has just come from its topic.
    pub fn event(&self) -> Option<(&'a str, &str)> {
        match self.origin {
            Origin::Record(record) if record.is_event() => Some((&record.topic.name, &self.envelope.key)),
            _ => None,
        }
    }

    /// Why it is held back as a dead letter, if it is.
    pub fn rejection(&self) -> Option<Rejection> {
        match self.verdict {
            Verdict::Waits => Some(dead_letters::waits(&self.envelope)),
            Verdict::TooOld => Some(dead_letters::too_old(&self.envelope)),
            Verdict::Fresh | Verdict::Seen | Verdict::TooEarly => None,
        }
    }

    /// Whether its id must leave the inbox again, since the same id is to take effect when it comes later.
    pub fn leaves_inbox(&self) -> bool {
        matches!(self.verdict, Verdict::Waits | Verdict::TooOld | Verdict::TooEarly)
    }
}
