//! Work: what the worker takes, batch by batch, into transactions.

use quadrille_core::{Envelope, Input, Named, Policy, Records, Tombstone, bounds};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::{
    commands::Pending,
    dead_letters,
    effects::Try,
    operators::OperatorRequest,
    position::Reached,
    record::{Cut, RawRecord, digest},
};

/// One piece of work on its way to the worker.
pub(crate) struct WorkItem<P: Policy> {
    pub work: Work<P>,
    /// Its share of the memory that waiting work may take; given back when the item is dropped.
    memory: Option<OwnedSemaphorePermit>,
}

/// A piece of work by its source, and thus by what is owed to that source once its transaction is committed.
pub(crate) enum Work<P: Policy> {
    /// A record: its offset moves on.
    Record(Box<RawRecord>, Message<P>),
    /// A record that cannot be handled: it becomes a dead letter, and its offset moves on.
    Rejected(Box<RawRecord>, Rejection),
    /// A dead letter that is handled again: its row is closed.
    Redrive(Uuid, Message<P>),
    /// A due timer: its row is removed.
    Timer(Envelope<P>),
    /// Where reading has come to, of a projection: its positions move on.
    Reached(Vec<Reached>),
    /// An outcome of the effect with this id: its row is removed.
    Outcome(Try, Envelope<P>),
    /// A command: whoever waits for it is answered.
    Command(Pending<P>),
}

/// What a record says.
pub(crate) enum Message<P: Policy> {
    /// An input of the policy; of a request that names itself also the id that earlier builds gave it.
    Input(Envelope<P>, Option<Uuid>),
    /// What an operator asks of the runtime itself.
    Operator(OperatorRequest),
}

impl<P: Policy> WorkItem<P> {
    /// Work that holds a share of the memory for waiting work.
    pub fn sized(work: Work<P>, memory: Option<OwnedSemaphorePermit>) -> Self {
        Self { work, memory }
    }

    /// The record, if it has just come from its topic.
    pub fn record(&self) -> Option<&RawRecord> {
        match &self.work {
            Work::Record(record, _) | Work::Rejected(record, _) => Some(record),
            Work::Redrive(..) | Work::Timer(_) | Work::Outcome(..) | Work::Command(_) | Work::Reached(_) => None,
        }
    }

    /// What it adds to its batch's bytes: what came from outside in this very form.
    pub fn bytes(&self) -> usize {
        match &self.work {
            Work::Record(record, _) | Work::Rejected(record, _) => record.bytes(),
            Work::Command(pending) => pending.bytes,
            Work::Redrive(..) | Work::Timer(_) | Work::Outcome(..) | Work::Reached(_) => 0,
        }
    }

    /// The dead letter that a record becomes which cannot be handled. One that cannot be written either goes without what may be at fault:
    /// where it came from is kept. Gives back what is no record.
    #[expect(clippy::result_large_err, reason = "rare, and moved once")]
    pub fn into_dead_letter(self, failure: &str) -> Result<Self, Work<P>> {
        let (record, rejection) = match self.work {
            Work::Record(record, Message::Input(input, _)) => {
                let rejection = dead_letters::handling_failed(&record, &input, failure);
                (record, rejection)
            }
            Work::Record(record, Message::Operator(_)) => (record, Rejection::new("handling_failed", "", failure)),
            Work::Rejected(mut record, rejection) => {
                record.headers.clear();
                if let Some(value) = record.value.take() {
                    record.cut.get_or_insert_with(|| Cut { size: value.len(), digest: digest(&value) });
                }
                let detail = "the original could not be kept: see this service's log".to_owned();
                (record, Rejection { detail, record_type: String::new(), ..rejection })
            }
            work => return Err(work),
        };
        Ok(Self { work: Work::Rejected(record, rejection), memory: self.memory })
    }
}

impl<P: Policy> Work<P> {
    /// What it is called in logs.
    pub fn name(&self) -> String {
        match self {
            Self::Record(_, Message::Input(envelope, _)) | Self::Redrive(_, Message::Input(envelope, _)) => {
                format!("{} {}", input_name(&envelope.input), envelope.id)
            }
            Self::Record(_, Message::Operator(request)) | Self::Redrive(_, Message::Operator(request)) => {
                format!("operator's request {}", request.id)
            }
            Self::Rejected(record, _) => {
                format!("the dead letter of {}/{}@{}", record.topic.name, record.partition, record.offset)
            }
            Self::Reached(_) => "where reading has come to".to_owned(),
            Self::Timer(envelope) | Self::Outcome(_, envelope) | Self::Command(Pending { envelope, .. }) => {
                format!("{} {}", input_name(&envelope.input), envelope.id)
            }
        }
    }
}

impl<P: Policy> From<Pending<P>> for WorkItem<P> {
    fn from(pending: Pending<P>) -> Self {
        Work::Command(pending).into()
    }
}

impl<P: Policy> From<Work<P>> for WorkItem<P> {
    fn from(work: Work<P>) -> Self {
        Self { work, memory: None }
    }
}

/// What an input is called in logs and spans.
pub(crate) fn input_name<P: Policy>(input: &Input<P>) -> String {
    match input {
        Input::Record(record) => record.record_type().name.rsplit('.').next().unwrap_or_default().to_owned(),
        Input::Gone(gone) => format!("key gone from {}", gone.topic()),
        Input::Timer(timer) => timer.name(),
        Input::Outcome { outcome, .. } => outcome.name(),
        Input::Command(command) => command.name(),
    }
}

/// A dead letter keeps so many characters of its record type's name.
const MOST_NAME: usize = 256;

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// A code: `no_key`, `undecodable`, `unknown_type` ...
    pub reason: &'static str,
    /// The field or header at fault, or empty.
    pub field: String,
    /// A sentence for people, with the fix.
    pub detail: String,
    /// The input id, where it was known.
    pub input: Option<Uuid>,
    /// The record type's full name, where it was known.
    pub record_type: String,
    /// The key that waits behind this record: only where a decoded event's handling failed.
    pub holds: Option<String>,
}

impl Rejection {
    pub fn new(reason: &'static str, field: &str, detail: impl ToString) -> Self {
        Self {
            reason,
            field: field.to_owned(),
            // May quote a client: no control characters, which a database refuses, and no megabytes.
            detail: bounds::fitted(&detail.to_string()),
            input: None,
            record_type: String::new(),
            holds: None,
        }
    }

    /// Of a record that was decoded.
    pub fn of_input<P: Policy>(mut self, input: &Envelope<P>) -> Self {
        self.input = Some(input.id);
        match &input.input {
            Input::Record(record) => self.of_type(record.record_type().name),
            Input::Gone(_) | Input::Timer(_) | Input::Outcome { .. } | Input::Command(_) => self,
        }
    }

    /// The name may be a stranger's: so much of it is kept.
    pub fn of_type(mut self, record_type: &str) -> Self {
        self.record_type = record_type.chars().take(MOST_NAME).collect();
        self
    }
}
