//! What arrives at a service's worker: inputs, and records that are none.

use quadrille_core::{Envelope, Input, Named, Policy, Records, bounds};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use crate::operators::Asked;

/// A record, timer or outcome on its way into a transaction.
pub(crate) struct Arrival<P: Policy> {
    pub origin: Origin,
    pub content: Content<P>,
    /// A record's share of the memory that waiting records may take; given back when the arrival is done with.
    #[expect(dead_code, reason = "held, and dropped with the arrival")]
    pub room: Option<OwnedSemaphorePermit>,
}

impl<P: Policy> Arrival<P> {
    /// The record that this arrival is, if it has just come from its topic.
    pub fn record(&self) -> Option<&RawRecord> {
        match &self.origin {
            Origin::Record(record) => Some(record),
            Origin::Timer | Origin::Outcome | Origin::DeadLetter(_) => None,
        }
    }

    /// The dead letter that it is, if it is one that is handled again.
    pub fn letter(&self) -> Option<Uuid> {
        match self.origin {
            Origin::DeadLetter(id) => Some(id),
            Origin::Record(_) | Origin::Timer | Origin::Outcome => None,
        }
    }
}

/// What an arrival turned out to be.
pub(crate) enum Content<P: Policy> {
    /// An input of the policy.
    Input(Envelope<P>),
    /// A record that is none, on its way into the dead letters.
    Rejected(Rejection),
    /// What an operator asks of the runtime itself.
    Asked(Asked),
}

impl<P: Policy> Content<P> {
    pub fn input(&self) -> Option<&Envelope<P>> {
        match self {
            Self::Input(envelope) => Some(envelope),
            Self::Rejected(_) | Self::Asked(_) => None,
        }
    }
}

/// What an input is called in logs and spans.
pub(crate) fn input_name<P: Policy>(input: &Input<P>) -> String {
    match input {
        Input::Record(record) => record.record_type().name.rsplit('.').next().unwrap_or_default().to_owned(),
        Input::Timer(timer) => timer.name(),
        Input::Outcome { outcome, .. } => outcome.name(),
    }
}

/// Where an arrival came from, and thus what is owed to it once its transaction is committed.
pub(crate) enum Origin {
    /// A record: its offset moves on.
    Record(Box<RawRecord>),
    /// A due timer: its row is removed.
    Timer,
    /// An effect's outcome: the effect's row is removed.
    Outcome,
    /// A dead letter that is handled again: its row is closed.
    DeadLetter(Uuid),
}

/// A record as it was on its topic: kept until it is handled, for the dead letter that it may become.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    /// Without the world's prefix.
    pub topic: &'static str,
    pub partition: i32,
    pub offset: i64,
    /// The assignment under which it was read: an offset is stored under the same one only.
    pub generation: u64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: RawHeaders,
    /// A header's name is not UTF-8: then none can be read.
    pub unreadable_headers: bool,
}

impl RawRecord {
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    /// A header's text: of several the first that says something. Null, empty and what is not UTF-8 count as absent.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().filter(|(header, _)| *header == name);
        let mut texts = named.filter_map(|(_, value)| std::str::from_utf8(value?).ok());
        texts.find(|text| !text.is_empty())
    }
}

/// A record's headers, in one piece: most records are let go of without a second look, and a piece of memory for each name and each
/// value was the most that they cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawHeaders {
    text: String,
    values: Vec<u8>,
    /// Where each name and each value ends; none for a null.
    ends: Vec<(usize, Option<usize>)>,
}

impl RawHeaders {
    /// Names and values, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let (mut name_from, mut value_from) = (0, 0);
        self.ends.iter().map(move |(name_end, value_end)| {
            let name = &self.text[name_from..*name_end];
            name_from = *name_end;
            let value = value_end.map(|end| &self.values[value_from..end]);
            value_from = value_end.unwrap_or(value_from);
            (name, value)
        })
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<'a> FromIterator<(&'a str, Option<&'a [u8]>)> for RawHeaders {
    fn from_iter<I: IntoIterator<Item = (&'a str, Option<&'a [u8]>)>>(headers: I) -> Self {
        // What the contract's twelve take.
        let mut all =
            Self { text: String::with_capacity(160), values: Vec::with_capacity(448), ends: Vec::with_capacity(12) };
        for (name, value) in headers {
            all.text.push_str(name);
            all.values.extend_from_slice(value.unwrap_or_default());
            all.ends.push((all.text.len(), value.map(|_| all.values.len())));
        }
        all
    }
}

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// A code: `no_key`, `undecodable`, `unknown_type` ...
    pub reason: &'static str,
    /// The field or header at fault, or empty.
    pub field: String,
    /// A sentence for people, with the mend.
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

    pub fn of_type(mut self, record_type: &str) -> Self {
        self.record_type = record_type.to_owned();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_came() {
        let all: [(&str, Option<&[u8]>); 5] =
            [("a", Some(b"1")), ("null", None), ("empty", Some(b"")), ("", Some(b"nameless")), ("a", Some(b"2"))];
        let headers: RawHeaders = all.into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), all);
        assert_eq!(RawHeaders::default().iter().count(), 0);
    }
}
