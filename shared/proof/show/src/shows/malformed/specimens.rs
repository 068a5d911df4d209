//! What goes wrong with records, each kind with the verdict that the contract has for it.

use anyhow::Context;
use quadrille_cli::{example, render::key_field};
use quadrille_core::{KeyKind, TopicKind};
use quadrille_events::{RecordInfo, frame};
use uuid::Uuid;

use crate::raw::RawRecord;

/// Ids that no registry has given yet.
const UNKNOWN_SCHEMA: u32 = 0x7fff_fff0;
/// More than a request may have.
const TOO_LARGE: usize = 256 * 1024 + 1;

/// A malformed record.
pub struct Specimen {
    /// What is wrong with it.
    pub what: &'static str,
    /// The record.
    pub record: RawRecord,
    /// What is to become of it.
    pub verdict: Verdict,
}

/// What is to become of a record, for each service that hears its topic.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// A dead letter for this reason, whoever hears the topic.
    Letter(&'static str),
    /// Its type can be told: a dead letter for this reason of who hears the type. Who does not skips it among events, and has a
    /// dead letter of an `unknown_type` among requests.
    OfType(&'static str, &'static str),
}

impl Verdict {
    /// The reason of the dead letter of a service that hears these types of the topic; nothing where it skips the record.
    pub fn reason(self, is_request: bool, hears: &[&str]) -> Option<&'static str> {
        match self {
            Self::Letter(reason) => Some(reason),
            Self::OfType(name, reason) if hears.contains(&name) => Some(reason),
            Self::OfType(..) if is_request => Some("unknown_type"),
            Self::OfType(..) => None,
        }
    }
}

/// What specimens of one type on one topic are made from.
pub struct Maker {
    /// The type.
    pub info: &'static RecordInfo,
    /// Its schema id.
    pub id: u32,
    /// Another topic's type, with its schema id.
    pub foreign: (&'static RecordInfo, u32),
    /// How long the topic keeps records, if not for ever.
    pub retention_ms: Option<i64>,
    /// The time.
    pub now_ms: i64,
}

impl Maker {
    /// One specimen of each kind.
    pub fn all(&self) -> anyhow::Result<Vec<Specimen>> {
        use Verdict::{Letter, OfType};
        let (name, is_request) = (self.info.record.name, self.info.record.topic.kind == TopicKind::Requests);
        let (key, value) = self.sound(self.info, self.id)?;
        let with_key =
            |key: &[u8]| RawRecord { key: Some(key.to_vec()), value: Some(value.clone()), ..RawRecord::default() };
        let with =
            |value: &[u8]| RawRecord { key: Some(key.clone()), value: Some(value.to_vec()), ..RawRecord::default() };
        let framed = |datum: &[u8]| with(&frame(self.id, datum));
        let datum = &value[5..];
        // A cut of kcat's: anywhere, if only the second half cannot pass for a frame.
        let cut = (5 + datum.len() / 2..value.len()).find(|at| value[*at] != 0).context("a place to cut at")?;
        let mut not_utf8 = datum.to_vec();
        not_utf8[1..5].fill(0xff);
        let other_kind: &[u8] = if self.info.record.topic.key == KeyKind::Uuid { b"TEA-1" } else { b"no sku at all!" };

        let mut specimens = vec![
            ("no key", RawRecord { value: Some(value.clone()), ..RawRecord::default() }, Letter("bad_key")),
            ("an empty key", with_key(b""), Letter("bad_key")),
            ("a key of another kind", with_key(other_kind), Letter("bad_key")),
            ("a key that is no UTF-8", with_key(&[0xff, 0xfe, 0x00]), Letter("bad_key")),
            ("a key that is too long", with_key(&[b'A'; 41]), Letter("bad_key")),
            ("no value", RawRecord { key: Some(key.clone()), ..RawRecord::default() }, Letter("no_value")),
            ("an empty value", with(b""), Letter("no_value")),
            ("a value of 1 byte", with(&[0]), Letter("bad_frame")),
            ("a value of 4 bytes", with(&[0, 0, 0, 0]), Letter("bad_frame")),
            ("another magic byte", with(&[&[1], &value[1..]].concat()), Letter("bad_frame")),
            ("JSON text", with(br#"{"order_id": "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30"}"#), Letter("bad_frame")),
            ("an unknown schema id", with(&frame(UNKNOWN_SCHEMA, datum)), Letter("unknown_schema")),
            ("a frame with nothing in it", framed(b""), Letter("bad_frame")),
            ("half a datum", framed(&datum[..datum.len() / 2]), OfType(name, "undecodable")),
            ("a datum without its last byte", framed(&datum[..datum.len() - 1]), OfType(name, "undecodable")),
            ("bytes behind the datum", framed(&[datum, b"more"].concat()), OfType(name, "undecodable")),
            ("a text of negative length", framed(&[&[0x03], datum].concat()), OfType(name, "undecodable")),
            ("a text of 2^60 bytes", framed(&[&[0x80; 8][..], &[0x20], datum].concat()), OfType(name, "undecodable")),
            ("a text that is no UTF-8", framed(&not_utf8), OfType(name, "undecodable")),
            ("the first half of a cut record", with(&value[..cut]), OfType(name, "undecodable")),
            ("the second half of a cut record", with(&value[cut..]), Letter("bad_frame")),
            ("a key that differs from the value's", with_key(&self.key()), OfType(name, "key_differs")),
            (
                "another topic's type",
                with(&self.sound(self.foreign.0, self.foreign.1)?.1),
                OfType(self.foreign.0.record.name, ""),
            ),
        ];
        if is_request {
            specimens.push((
                "256 KiB and a byte",
                with(&frame(self.id, &vec![b'A'; TOO_LARGE - 5])),
                Letter("too_large"),
            ));
        } else {
            // Any header may stand beside it, and none of them makes it an event of ours.
            let mut anonymous = with(&value);
            anonymous.headers = vec![("ce_id", None), ("x-anything", Some(vec![0xff, 0x00])), ("ce_id", Some(vec![]))];
            specimens.push(("an event without an id", anonymous, OfType(name, "no_id")));
            let mut misnamed = with(&value);
            misnamed.headers = vec![("ce_id", Some(b"42".to_vec()))];
            specimens.push(("an event whose id is none", misnamed, OfType(name, "no_id")));
        }
        if let Some(retention_ms) = self.retention_ms {
            let mut old = with(&value);
            old.timestamp_ms = Some(self.now_ms - retention_ms - 3_600_000);
            specimens.push(("older than its topic keeps", old, OfType(name, "too_old")));
        }
        Ok(specimens.into_iter().map(|(what, record, verdict)| Specimen { what, record, verdict }).collect())
    }

    /// A sound record of a type, under a key that nobody else uses.
    fn sound(&self, info: &'static RecordInfo, id: u32) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        let (fresh, set) = match info.record.topic.key {
            KeyKind::Uuid => (true, vec![]),
            KeyKind::Pattern(_) => (false, vec![format!("{}={}", key_field(info), sku())]),
            KeyKind::Text => (false, vec![]),
        };
        let json = example::text(info, &example::Options { fresh, set, docs: false })?;
        let encoded = info.from_json(&json).with_context(|| format!("the example of {}", info.record.name))?;
        Ok((encoded.key.into_bytes(), frame(id, &encoded.datum)))
    }

    /// A sound key that nobody uses.
    fn key(&self) -> Vec<u8> {
        if matches!(self.info.record.topic.key, KeyKind::Pattern(_)) {
            sku().into_bytes()
        } else {
            Uuid::new_v4().to_string().into_bytes()
        }
    }
}

fn sku() -> String {
    format!("BAD-{}", &Uuid::new_v4().simple().to_string().to_uppercase()[..10])
}
