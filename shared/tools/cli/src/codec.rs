//! Records from and to the JSON of a command line.

use anyhow::Context;
use quadrille_kafka::Codec;
pub use quadrille_kafka::Decoded;
use quadrille_schemas::wire::{RecordInfo, frame};
use tokio::runtime::Handle;

use crate::Settings;

/// Decodes values for those who read topics, and block.
pub struct Decoder {
    codec: Codec,
    handle: Handle,
}

impl Decoder {
    /// A decoder within the current runtime. Its calls block, so they are for threads that may.
    pub fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let handle = Handle::try_current().context("a decoder needs a tokio runtime")?;
        Ok(Self { codec: Codec::new(settings.registry()?, settings.catalogue.records), handle })
    }

    /// [`Codec::decode`]. Only a registry that is away is an error.
    pub fn decode(&self, topic: Option<&str>, value: Option<&[u8]>) -> anyhow::Result<Decoded> {
        Ok(self.handle.block_on(self.codec.decode(topic, value))?)
    }
}

/// Encodes JSON of one record type.
pub struct Encoder {
    info: &'static RecordInfo,
    id: u32,
}

/// A record ready for Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The key that the value names.
    pub key: String,
    /// Frame and datum.
    pub value: Vec<u8>,
}

impl Encoder {
    /// Looks the type's schema id up, unless it is given.
    pub async fn connect(settings: &Settings, info: &'static RecordInfo, id: Option<u32>) -> anyhow::Result<Self> {
        let id = match id {
            Some(id) => id,
            None => Codec::new(settings.registry()?, settings.catalogue.records).id_of(&info.record).await?,
        };
        Ok(Self { info, id })
    }

    /// The record type.
    pub fn info(&self) -> &'static RecordInfo {
        self.info
    }

    /// Encodes one JSON document; an error names the field.
    pub fn encode(&self, json: &str) -> anyhow::Result<Framed> {
        let encoded = self.info.from_json(json).map_err(|error| {
            let name = self.info.short_name();
            anyhow::anyhow!("This is no {name}: {error} (`quadrille example {name}` shows a valid one)")
        })?;
        Ok(Framed { key: encoded.key, value: frame(self.id, &encoded.datum) })
    }
}

/// The documents of a text that holds one or several, each exactly as it is written: numbers keep their digits. A byte order mark
/// before any of them is none of it.
pub fn documents(text: &str) -> anyhow::Result<Vec<&str>> {
    let begun = |rest: &str| rest.trim_start_matches(|char: char| char.is_whitespace() || char == '\u{feff}').len();
    let mut documents = Vec::new();
    let mut rest = &text[text.len() - begun(text)..];
    while !rest.is_empty() {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        stream.next().transpose().with_context(|| match documents.len() {
            0 => "The input is not JSON".to_owned(),
            before => format!("Behind {before} documents the input is not JSON; lines are counted from there"),
        })?;
        let (document, behind) = rest.split_at(stream.byte_offset());
        documents.push(document.trim());
        rest = &behind[behind.len() - begun(behind)..];
    }
    anyhow::ensure!(!documents.is_empty(), "The input holds no JSON document");
    if documents.iter().any(|document| document.starts_with('[')) {
        anyhow::bail!("The input is a JSON array: give its documents one after another (jq -c '.[]' does that)");
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_taken_apart_as_they_are_written() {
        let text = "{\"a\": 19.9900000000000000001}\n\n {\"b\":\"}{\"}{\"c\":1}";
        let expected = ["{\"a\": 19.9900000000000000001}", "{\"b\":\"}{\"}", "{\"c\":1}"];
        assert_eq!(documents(text).expect("three"), expected);
        let marked = format!("\u{feff}{}\u{feff}\n{}", expected[0], expected[2]);
        assert_eq!(documents(&marked).expect("two"), [expected[0], expected[2]]);
        assert!(documents("  ").is_err());
        assert!(documents("{\"a\":1} x").is_err());
        assert!(documents("[{}]").expect_err("an array").to_string().contains("jq"));
    }
}
