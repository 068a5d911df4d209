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

    /// What a record's headers say, given by name and value. Null, empty and what is not UTF-8 count as absent; of several of one name the
    /// first one counts that says something.
    pub fn read(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let mut event = Self::default();
        for (name, value) in headers {
            let field = match name {
                "ce_id" => &mut event.id,
                "ce_source" => &mut event.source,
                "ce_type" => &mut event.record_type,
                "ce_subject" => &mut event.subject,
                "ce_time" => &mut event.time,
                "ce_correlationid" => &mut event.correlation,
                "ce_causationid" => &mut event.causation,
                "ce_aggregateversion" => &mut event.version,
                "traceparent" => &mut event.traceparent,
                "tracestate" => &mut event.tracestate,
                _ => continue,
            };
            if field.is_empty() {
                *field = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
            }
        }
        event
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
        let bytes = |(name, value): &(&'static str, &'static str)| (*name, Some(value.as_bytes()));
        assert_eq!(CloudEvent::read(pairs.iter().map(bytes)), event);
        let request = CloudEvent { id: "1", ..CloudEvent::default() };
        let names: Vec<_> = request.pairs().map(|(name, _)| name).collect();
        assert_eq!(names, ["ce_specversion", "ce_id", "content-type"]);
    }

    #[test]
    fn of_several_headers_of_one_name_the_first_counts_that_says_something() {
        let headers: [(&str, Option<&[u8]>); 7] = [
            ("ce_id", None),
            ("ce_id", Some(b"")),
            ("ce_id", Some(b"\xff")),
            ("ce_id", Some(b"1")),
            ("ce_id", Some(b"2")),
            ("CE_SOURCE", Some(b"/x")),
            ("ce_type", Some(b"\xff")),
        ];
        assert_eq!(CloudEvent::read(headers), CloudEvent { id: "1", ..CloudEvent::default() });
    }
}
