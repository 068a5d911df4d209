//! What plain kcat and this program say to each other.
//!
//! kcat knows no Avro, and its own ways to take and give records are made for text:
//!
//! - **In**: from standard input it cuts at byte 0x0A, which Avro data contain (the number 5 is written so). A pipe that is named as a
//!   file (`/dev/stdin`, `<(...)`) it skips without a word, since a pipe has no size. What is safe is a delimiter that does not
//!   occur, and `quadrille encode` makes sure of that: it refuses to write a record that contains [`DELIMITER`].
//! - **Out**: [`FORMAT`] gives lengths first, so that [`records`] takes keys and values apart exactly, whatever bytes they hold.

use std::io::{BufRead, Read};

use anyhow::{Context, bail};

/// What stands between records for `kcat -P -D`.
pub const DELIMITER: &str = ":end-of-record:";

/// What stands between key and record for `kcat -P -K`. No key of ours contains it.
pub const KEY_DELIMITER: &str = " ";

/// The format for `kcat -C -f`: a line of lengths, then key and value as they are.
pub const FORMAT: &str = r"%t %p %o %T %K %S\n%k%s\n";

/// More than any record may have: a length beyond it is no length.
const MAX_LENGTH: i64 = 64 * 1024 * 1024;

/// A record in [`FORMAT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KcatRecord {
    /// The topic's physical name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The value, if there is one.
    pub value: Option<Vec<u8>>,
}

/// Reads the next record in [`FORMAT`], or `None` at the end.
pub fn next(input: &mut impl BufRead) -> anyhow::Result<Option<KcatRecord>> {
    let mut line = Vec::new();
    // A line of lengths is short: more is another format.
    input.by_ref().take(1_000).read_until(b'\n', &mut line).context("The input cannot be read")?;
    if line.is_empty() {
        return Ok(None);
    }
    let Some(mut record) = head(&line) else {
        bail!(
            "The input is neither one framed record nor what kcat writes with our format: use kcat -C -f \"$(quadrille decode --kcat-format)\""
        );
    };
    let (key, value) = (record.1, record.2);
    record.0.key = bytes(input, key)?;
    record.0.value = bytes(input, value)?;
    let mut end = [0];
    input.read_exact(&mut end).context("The input ends within a record")?;
    if end != *b"\n" {
        bail!(
            "The record at {}/{}@{} does not end where its lengths say",
            record.0.topic,
            record.0.partition,
            record.0.offset
        );
    }
    Ok(Some(record.0))
}

/// The line of lengths: everything but key and value, then their lengths.
fn head(line: &[u8]) -> Option<(KcatRecord, i64, i64)> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let [topic, partition, offset, timestamp, key, value] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let length = |text: &str| text.parse().ok().filter(|length| (-1..=MAX_LENGTH).contains(length));
    let record = KcatRecord {
        topic: topic.to_owned(),
        partition: partition.parse().ok()?,
        offset: offset.parse().ok()?,
        timestamp_ms: timestamp.parse().ok()?,
        key: None,
        value: None,
    };
    Some((record, length(key)?, length(value)?))
}

fn bytes(input: &mut impl BufRead, length: i64) -> anyhow::Result<Option<Vec<u8>>> {
    let Ok(length) = u64::try_from(length) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = input.by_ref().take(length).read_to_end(&mut bytes).context("The input cannot be read")?;
    if (read as u64) < length {
        bail!("The input ends within a record");
    }
    Ok(Some(bytes))
}

/// `record` for `kcat -P -D`, or the reason why not.
pub fn delimited<'a>(record: &'a [u8], delimiter: &str) -> anyhow::Result<&'a [u8]> {
    let contains =
        !delimiter.is_empty() && record.windows(delimiter.len()).any(|window| window == delimiter.as_bytes());
    // A record that ends with the delimiter's beginning is no danger: kcat looks for the first whole one.
    if contains {
        bail!(
            "A record contains the delimiter '{delimiter}', at which kcat would cut it: choose another one for `encode --delimiter` and for kcat's -D, or use `quadrille produce`"
        );
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> anyhow::Result<Vec<KcatRecord>> {
        let mut records = vec![];
        while let Some(record) = next(&mut input)? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn keys_and_values_are_taken_apart_whatever_they_hold() {
        let input = b"order.events 3 42 1700000000000 2 5\nk\n\0\0\n\0\n\nt 0 0 0 -1 -1\n\nt 0 1 0 0 0\n\n";
        let records = all(input).expect("sound input");
        assert_eq!(records.len(), 3);
        assert_eq!(records[0].key.as_deref(), Some(&b"k\n"[..]));
        assert_eq!(records[0].value.as_deref(), Some(&b"\0\0\n\0\n"[..]));
        assert_eq!((records[1].key.as_ref(), records[1].value.as_ref()), (None, None));
        assert_eq!(records[2].value.as_deref(), Some(&b""[..]));
    }

    #[test]
    fn what_is_no_such_input_is_refused() {
        for input in [
            &b"hello\n"[..],
            b"t 0 0 0 1 1\nk",
            b"t 0 0 0 1 1\nkvX",
            b"t 0 0 0 -2 1\nv\n",
            b"t 0 0 0 1 99999999999\nkv\n",
        ] {
            assert!(all(input).is_err(), "{input:?}");
        }
    }

    #[test]
    fn a_record_with_the_delimiter_in_it_is_refused() {
        assert!(delimited(b"a:end-of-record:b", DELIMITER).is_err());
        assert_eq!(delimited(b"a:end-of-record", DELIMITER).expect("not whole"), b"a:end-of-record");
    }
}
