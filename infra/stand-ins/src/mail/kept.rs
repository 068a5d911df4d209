//! The mails that were taken: the newest whole, of all of them how often each Message-ID came.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
};

use mail_parser::{Message, MessageParser};
use serde::{Deserialize, Serialize};

use crate::{journal::Journal, server::now_ms};

/// The mails that are kept whole weigh at most so much.
const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// So many Message-IDs and recipients are counted apart.
const COUNTED: usize = 500_000;

/// A mail as it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// 1, 2, 3 ...
    pub number: u64,
    /// When it came, in milliseconds since 1970.
    pub at_ms: i64,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Its Message-ID, with angle brackets; empty where it has none.
    pub message_id: String,
    /// Its subject, decoded.
    pub subject: String,
    /// Its text, decoded.
    pub text: String,
    /// All of it as it came, dots unstuffed; what is no UTF-8 is replaced.
    pub raw: String,
}

impl Mail {
    fn parse(number: u64, from: String, to: Vec<String>, raw: &[u8]) -> Self {
        let parsed = MessageParser::default().parse(raw);
        // A mail without a single header is none to the parser, but it came all the same.
        let part = |of: fn(&Message<'_>) -> Option<String>| parsed.as_ref().and_then(of).unwrap_or_default();
        Self {
            number,
            at_ms: now_ms(),
            from,
            to,
            message_id: part(|mail| Some(format!("<{}>", mail.message_id()?))),
            subject: part(|mail| mail.subject().map(str::to_owned)),
            text: part(|mail| mail.body_text(0).map(|text| text.into_owned())),
            raw: String::from_utf8_lossy(raw).into_owned(),
        }
    }

    fn bytes(&self) -> usize {
        self.raw.len() + self.text.len() + self.subject.len()
    }
}

/// How much came.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    /// Mails taken, copies included.
    received: u64,
    /// Message-IDs among them.
    message_ids: u64,
    /// Copies beyond the first of a Message-ID.
    repeats: u64,
    /// Recipients and mails refused for good.
    pub rejected: u64,
    /// Recipients put off.
    pub deferred: u64,
    /// Connections cut.
    pub cut: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { received, message_ids, repeats, rejected, deferred, cut } = self;
        write!(
            f,
            "{received} taken: {message_ids} Message-IDs and {repeats} repeats. {rejected} rejected, {deferred} put off, {cut} cut."
        )
    }
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A mail that was taken.
    Taken(Mail),
    /// A Message-ID whose mails are no longer kept whole, and its copies.
    Counted(String, u64),
}

#[derive(Default)]
pub(super) struct Kept {
    keep: usize,
    mails: VecDeque<Mail>,
    bytes: usize,
    last: u64,
    copies: HashMap<String, u64>,
    deferrals: HashMap<String, u32>,
    counts: Counts,
    /// Lines in the journal.
    lines: usize,
    journal: Journal,
}

impl Kept {
    pub fn open(path: Option<&Path>, keep: usize) -> io::Result<Self> {
        let mut kept = Self { keep: keep.max(1), ..Self::default() };
        let journal = Journal::open(path, |entry| kept.fold(entry))?;
        Ok(Self { journal, ..kept })
    }

    fn fold(&mut self, entry: Entry) {
        self.lines += 1;
        match entry {
            Entry::Counted(message_id, copies) => self.count(message_id, copies),
            Entry::Taken(mail) => {
                self.count(mail.message_id.clone(), 1);
                self.last = self.last.max(mail.number);
                self.bytes += mail.bytes();
                self.mails.push_back(mail);
                while self.mails.len() > self.keep || self.bytes > KEPT_BYTES {
                    let Some(oldest) = self.mails.pop_front() else { break };
                    self.bytes -= oldest.bytes();
                }
            }
        }
    }

    fn count(&mut self, message_id: String, copies: u64) {
        self.counts.received += copies;
        if self.copies.len() >= COUNTED && !self.copies.contains_key(&message_id) {
            return;
        }
        let before = self.copies.entry(message_id).or_default();
        self.counts.repeats += if *before == 0 { copies - 1 } else { copies };
        *before += copies;
        self.counts.message_ids = self.copies.len() as u64;
    }

    /// Takes a mail.
    pub fn take(&mut self, from: String, to: Vec<String>, raw: &[u8]) -> io::Result<()> {
        let entry = Entry::Taken(Mail::parse(self.last + 1, from, to, raw));
        self.journal.append(&entry)?;
        self.fold(entry);
        // The file is written anew before it has grown to twice what is kept.
        if self.lines > 2 * (self.keep + self.copies.len()) {
            self.compact()?;
        }
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        let mut gone = self.copies.clone();
        for mail in &self.mails {
            gone.entry(mail.message_id.clone()).and_modify(|copies| *copies -= 1);
        }
        let gone = gone.into_iter().filter(|(_, copies)| *copies > 0);
        let gone = gone.map(|(message_id, copies)| Entry::Counted(message_id, copies));
        self.lines = self.copies.len() + self.mails.len();
        self.journal.rewrite(gone.chain(self.mails.iter().cloned().map(Entry::Taken)))
    }

    /// How often `recipient` has been put off before; counts this time too.
    pub fn deferrals(&mut self, recipient: &str) -> u32 {
        if self.deferrals.len() >= COUNTED {
            self.deferrals.clear();
        }
        let times = self.deferrals.entry(recipient.to_owned()).or_default();
        *times = times.saturating_add(1);
        *times - 1
    }

    pub fn newest(&self) -> impl Iterator<Item = &Mail> {
        self.mails.iter().rev()
    }

    /// How often mails of this Message-ID came.
    pub fn copies(&self, message_id: &str) -> u64 {
        self.copies.get(message_id).copied().unwrap_or_default()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Forgets all.
    pub fn forget(&mut self) -> io::Result<()> {
        self.journal.rewrite(std::iter::empty::<Entry>())?;
        let journal = std::mem::take(&mut self.journal);
        *self = Self { keep: self.keep, journal, ..Self::default() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(message_id: &str) -> String {
        format!("Message-ID: <{message_id}>\r\nSubject: Hello\r\n\r\nText\r\n")
    }

    #[test]
    fn the_newest_are_kept_and_all_are_counted_across_a_restart() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("quadrille-kept-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut kept = Kept::open(Some(&path), 2)?;
        for round in 0..20 {
            for id in ["a@x", "b@x", "c@x"] {
                kept.take("s@x".into(), vec!["r@x".into()], mail(id).as_bytes())?;
            }
            assert!(kept.lines <= 2 * (2 + 3), "round {round}: {} lines", kept.lines);
        }
        let told = |kept: &Kept| (kept.counts.received, kept.counts.message_ids, kept.counts.repeats);
        assert_eq!(told(&kept), (60, 3, 57));
        drop(kept);

        let mut kept = Kept::open(Some(&path), 2)?;
        assert_eq!(told(&kept), (60, 3, 57));
        assert_eq!(kept.copies("<a@x>"), 20);
        assert_eq!(kept.newest().map(|mail| mail.number).collect::<Vec<_>>(), [60, 59]);
        kept.forget()?;
        drop(kept);
        assert_eq!(told(&Kept::open(Some(&path), 2)?), (0, 0, 0));
        std::fs::remove_file(&path)
    }

    #[test]
    fn garbage_is_a_mail_like_any_other() -> io::Result<()> {
        let mut kept = Kept::open(None, 10)?;
        for raw in [
            &b""[..],
            b"\0\xff\xfe",
            b"Subject: =?utf-8?b?////?=\r\n\r\n",
            b"Content-Type: multipart/mixed; boundary=\r\n\r\n--",
        ] {
            kept.take(String::new(), vec![], raw)?;
        }
        assert_eq!(kept.counts.received, 4);
        Ok(())
    }
}
