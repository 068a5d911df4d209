//! A record as it came, in bounded memory.

use quadrille_core::{TopicKind, TopicType};
use quadrille_kafka::{CloudEvent, HEADERS};
use sha2::{Digest, Sha256};

/// A record as it was on its topic: kept until it is handled, for the dead letter that it may become.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    pub topic: &'static TopicType,
    pub partition: i32,
    pub offset: i64,
    /// The assignment under which it was read: an offset is stored under the same one only.
    pub epoch: u64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Of a value that is larger than any record may be: what was let go of behind the beginning that is kept.
    pub cut: Option<Cut>,
    pub headers: RawHeaders,
    /// Why its headers cannot be read, where that is so.
    pub header_fault: Option<HeaderFault>,
}

/// A value that was not kept whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Its size in bytes.
    pub size: usize,
    /// Its SHA-256 in hex.
    pub digest: String,
}

/// No record may have more: what a broker takes by default, and more than any that we state.
pub(crate) const MOST_VALUE_BYTES: usize = 1024 * 1024;
/// A dead letter keeps so much of a value.
pub(crate) const MOST_KEPT_BYTES: usize = 512 * 1024;

/// A value in bounded memory: what it unpacks to may be a thousand times what the broker took.
pub(crate) fn admit_value(value: &[u8]) -> (Vec<u8>, Option<Cut>) {
    match value.len() {
        ..=MOST_VALUE_BYTES => (value.to_vec(), None),
        size => (value[..MOST_KEPT_BYTES].to_vec(), Some(Cut { size, digest: digest(value) })),
    }
}

/// A value's SHA-256 in hex.
pub(crate) fn digest(value: &[u8]) -> String {
    hex::encode(Sha256::digest(value))
}

/// What is wrong with a record's headers as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// A name is not UTF-8: then none can be read.
    NotText,
    /// Those that the contract knows take more than [`RawHeaders::MOST_BYTES`]: the first that did not fit.
    TooLarge(&'static str),
}

impl RawRecord {
    /// Its topic's name, without the world's prefix, and its partition.
    pub fn topic_partition(&self) -> (&'static str, i32) {
        (&self.topic.name, self.partition)
    }

    /// Whether its order among the records of its key counts.
    pub fn is_event(&self) -> bool {
        self.topic.kind == TopicKind::Events
    }

    /// What it takes while it waits.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + self.headers.bytes()
    }

    /// What its headers say.
    pub fn event(&self) -> CloudEvent<'_> {
        CloudEvent::read(self.headers.iter())
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
    /// What a record's headers may take, names and values: thirty times what the contract's twelve do.
    pub const MOST_BYTES: usize = 16 * 1024;

    /// The headers of a record as far as they matter, in bounded memory, and whether they can be read.
    ///
    /// This is the one place where a stranger's headers come in. Unknown ones never matter: they are kept for people while there is room,
    /// and let go of where there is none. A trace that is too long for any hop counts as absent. Of the others more than fit is a fault.
    pub fn admit<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> (Self, Option<HeaderFault>) {
        let (mut admitted, mut unknown, mut fault) = (Self::empty(), vec![], None);
        for (name, value) in headers {
            let size = size_of_header(name, value);
            let known = HEADERS.into_iter().find(|known| *known == name);
            match known {
                None if unknown.len() < HEADERS.len() && size <= Self::MOST_BYTES => unknown.push((name, value)),
                Some("traceparent" | "tracestate") if size > MOST_TRACE_BYTES => {}
                Some(_) if admitted.bytes() + size <= Self::MOST_BYTES => admitted.push(name, value),
                Some(known) => fault = fault.or(Some(HeaderFault::TooLarge(known))),
                None => {}
            }
        }
        for (name, value) in unknown {
            if admitted.bytes() + size_of_header(name, value) <= Self::MOST_BYTES {
                admitted.push(name, value);
            }
        }
        (admitted, fault)
    }

    /// With room for what the contract's twelve take.
    fn empty() -> Self {
        Self { text: String::with_capacity(160), values: Vec::with_capacity(448), ends: Vec::with_capacity(12) }
    }

    fn push(&mut self, name: &str, value: Option<&[u8]>) {
        self.text.push_str(name);
        self.values.extend_from_slice(value.unwrap_or_default());
        self.ends.push((self.text.len(), value.map(|_| self.values.len())));
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.values.len() + self.ends.len() * size_of::<(usize, Option<usize>)>()
    }

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

/// Longer than any `traceparent` or `tracestate` that is carried on.
const MOST_TRACE_BYTES: usize = 600;

fn size_of_header(name: &str, value: Option<&[u8]>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + size_of::<(usize, Option<usize>)>()
}

#[cfg(test)]
mod tests {
    use quadrille_core::Record;

    use super::*;

    fn admitted<'a>(all: &[(&'a str, Option<&'a [u8]>)]) -> (RawHeaders, Option<HeaderFault>) {
        RawHeaders::admit(all.iter().copied())
    }

    #[test]
    fn known_headers_are_read_as_they_came_and_others_behind_them() {
        let all: [(&str, Option<&[u8]>); 6] = [
            ("ce_id", Some(b"1")),
            ("null", None),
            ("empty", Some(b"")),
            ("", Some(b"nameless")),
            ("ce_id", Some(b"2")),
            ("ce_source", None),
        ];
        let (headers, fault) = admitted(&all);
        let expected = [all[0], all[4], all[5], all[1], all[2], all[3]];
        assert_eq!((headers.iter().collect::<Vec<_>>(), fault), (expected.to_vec(), None));
        assert_eq!(admitted(&[]).0.iter().count(), 0);
    }

    #[test]
    fn what_headers_take_is_bounded_whatever_their_size_and_number() {
        let large = vec![b'x'; 1_000_000];
        let mut unknown: Vec<(&str, Option<&[u8]>)> = vec![("x", Some(b"")); 300_000];
        unknown.extend([("large", Some(large.as_slice())), ("ce_id", Some(b"1")), ("tracestate", Some(&large))]);
        let (headers, fault) = admitted(&unknown);
        assert!(headers.bytes() <= RawHeaders::MOST_BYTES, "{}", headers.bytes());
        assert_eq!((headers.iter().next(), fault), (Some(("ce_id", Some(b"1".as_slice()))), None));

        let known: Vec<(&str, Option<&[u8]>)> = vec![("ce_source", Some(b"/x")); 300_000];
        let (headers, fault) = admitted(&known);
        assert!(headers.bytes() <= RawHeaders::MOST_BYTES, "{}", headers.bytes());
        assert_eq!(fault, Some(HeaderFault::TooLarge("ce_source")));
    }

    #[test]
    fn of_a_value_beyond_all_bounds_only_the_beginning_is_kept() {
        let most = vec![7; MOST_VALUE_BYTES];
        assert_eq!(admit_value(&most), (most.clone(), None));
        let large = vec![7; MOST_VALUE_BYTES + 1];
        let (kept, cut) = admit_value(&large);
        assert_eq!((kept.len(), cut.as_ref().map(|cut| cut.size)), (MOST_KEPT_BYTES, Some(MOST_VALUE_BYTES + 1)));
        assert_eq!(cut.map(|cut| cut.digest), Some(digest(&large)));
    }

    #[test]
    fn a_record_is_as_large_as_all_that_is_kept_of_it() {
        let (headers, header_fault) = admitted(&[("ce_id", Some(b"0123456789"))]);
        let (key, value) = (Some(vec![0; 100]), Some(vec![0; 1_000]));
        let record = RawRecord {
            topic: quadrille_events::StockReplenished::TYPE.topic,
            partition: 0,
            offset: 0,
            epoch: 0,
            timestamp_ms: 0,
            key,
            value,
            cut: None,
            headers,
            header_fault,
        };
        assert!(record.bytes() > 1_115, "{}", record.bytes());
    }
}
