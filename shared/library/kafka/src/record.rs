//! A record as it came from a topic, with the headers that we know.

use std::sync::Arc;

use rdkafka::message::{BorrowedMessage, Message};

use crate::{CloudEvent, headers};

/// A Kafka record, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic, without the prefix of an isolated world.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, in milliseconds.
    pub timestamp_ms: i64,
    /// The key as it came.
    pub key: Option<Vec<u8>>,
    /// The value as it came.
    pub value: Option<Vec<u8>>,
    /// The headers as they came; none where a name is not UTF-8.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    pub(crate) fn of(topic: Arc<str>, message: &BorrowedMessage) -> Self {
        let headers = headers(message, |headers| {
            headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    /// Where it lies: `order.events/3@42`.
    pub fn place(&self) -> String {
        format!("{}/{}@{}", self.topic, self.partition, self.offset)
    }

    /// A known header's text. Null, empty and what is not UTF-8 count as absent; of several, the first one that says something.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().filter(|(header, _)| header == name);
        let mut texts = named.filter_map(|(_, value)| std::str::from_utf8(value.as_deref()?).ok());
        texts.find(|text| !text.is_empty())
    }

    /// What its headers say.
    pub fn event(&self) -> CloudEvent<'_> {
        CloudEvent::read(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())))
    }

    /// The key as text; what is not UTF-8 is shown by replacement characters.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }
}
