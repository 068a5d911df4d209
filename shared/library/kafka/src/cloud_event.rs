//! What a record's headers say: the CloudEvents 1.0 Kafka binding, binary mode, with our extensions and W3C trace context.

use rdkafka::message::{Header, OwnedHeaders};

/// The names of all headers that the contract knows, in the order in which they are written.
pub const HEADERS: [&str; 12] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "content-type",
    "ce_correlationid",
    "ce_causationid",
    "ce_aggregateversion",
    "traceparent",
    "tracestate",
];

/// What is said of a record beside its key and value. An empty text is a header that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloudEvent<'a> {
    /// `ce_id`: with the source what identifies the record.
    pub id: &'a str,
    /// `ce_source`: who states it.
    pub source: &'a str,
    /// `ce_type`: the record type's full name.
    pub record_type: &'a str,
    /// `ce_subject`: the key.
    pub subject: &'a str,
    /// `ce_time`: when it was stated, as RFC 3339 has it.
    pub time: &'a str,
    /// `ce_correlationid`: what the whole story is about.
    pub correlation: &'a str,
    /// `ce_causationid`: the id of what it comes of.
    pub causation: &'a str,
    /// `ce_aggregateversion`: its number among the records of its key.
    pub version: &'a str,
    /// `traceparent`.
    pub traceparent: &'a str,
    /// `tracestate`.
    pub tracestate: &'a str,
}

impl<'a> CloudEvent<'a> {
    /// The headers that are there, by name and value.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        let values = [
            "1.0",
            self.id,
            self.source,
            self.record_type,
            self.subject,
            self.time,
            "application/avro",
            self.correlation,
            self.causation,
            self.version,
            self.traceparent,
            self.tracestate,
        ];
        HEADERS.into_iter().zip(values).filter(|(_, value)| !value.is_empty())
    }

    /// The headers as a producer takes them.
    pub fn headers(&self) -> OwnedHeaders {
        self.pairs().fold(OwnedHeaders::new_with_capacity(HEADERS.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
    }

    /// What the headers say of which `header` gives the text.
    pub fn read(header: impl Fn(&str) -> Option<&'a str>) -> Self {
        let text = |name| header(name).unwrap_or_default();
        Self {
            id: text("ce_id"),
            source: text("ce_source"),
            record_type: text("ce_type"),
            subject: text("ce_subject"),
            time: text("ce_time"),
            correlation: text("ce_correlationid"),
            causation: text("ce_causationid"),
            version: text("ce_aggregateversion"),
            traceparent: text("traceparent"),
            tracestate: text("tracestate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_empty_is_not_there() {
        let event = CloudEvent {
            id: "1",
            source: "2",
            record_type: "3",
            subject: "4",
            time: "5",
            correlation: "6",
            causation: "7",
            version: "8",
            traceparent: "9",
            tracestate: "10",
        };
        let pairs: Vec<_> = event.pairs().collect();
        assert_eq!(pairs.len(), HEADERS.len());
        let read = CloudEvent::read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value));
        assert_eq!(read, event);
        let request = CloudEvent { id: "1", ..CloudEvent::default() };
        let names: Vec<_> = request.pairs().map(|(name, _)| name).collect();
        assert_eq!(names, ["ce_specversion", "ce_id", "content-type"]);
    }
}
