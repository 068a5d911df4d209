//! `quadrille watch`: records as they come, decoded, in their saga's colour.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use chrono::DateTime;
use quadrille_events::TOPICS;

use crate::{
    Settings,
    codec::{Decoded, Decoder},
    kafka::{Positions, Reader, Record, Start},
    output::{Paint, Progress},
    show::{self, Shown},
};

/// What to show, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Topics, with `*` for any text; none: all but heartbeats.
    pub topics: Vec<String>,
    /// Only these keys.
    pub keys: Vec<String>,
    /// Only these types, with `*` for any text.
    pub types: Vec<String>,
    /// Only these sagas, by correlation id or key.
    pub correlations: Vec<String>,
    /// Where to begin.
    pub from: Start,
    /// Until so many were shown.
    pub until: Option<u64>,
    /// For so long.
    pub time: Option<Duration>,
    /// Not beyond what is there now.
    pub to_end: bool,
    /// Objects instead of lines.
    pub json: bool,
}

/// Shows records until the wanted count, time or end; without any of them until the process is ended. Blocks.
///
/// What is there already comes sorted by time over all topics; what is new comes as it arrives.
pub fn run(settings: &Settings, options: &Options, show: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = options.time.map(|time| Instant::now() + time);
    let reader = Reader::connect(settings)?;
    let paint = if options.json { Paint::fixed(false) } else { Paint::detect() };
    let mut window = Window { options, decoder: Decoder::connect(settings)?, paint, shown: 0, show };
    let positions = window.history(&reader)?;
    if options.to_end || window.is_full() {
        return Ok(());
    }
    let follow = reader.follow(&positions)?;
    while !window.is_full() {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break;
        }
        if let Some(record) = follow.next(left.unwrap_or(PAUSE).min(PAUSE))? {
            window.take(&record)?;
        }
    }
    Ok(())
}

const PAUSE: Duration = Duration::from_millis(500);

/// What a watch shows.
struct Window<'a, F> {
    options: &'a Options,
    decoder: Decoder,
    paint: Paint,
    shown: u64,
    show: F,
}

impl<F: FnMut(&str) -> anyhow::Result<()>> Window<'_, F> {
    fn is_full(&self) -> bool {
        self.options.until.is_some_and(|until| self.shown >= until)
    }

    /// Shows what is there already, and tells where new records begin.
    fn history(&mut self, reader: &Reader) -> anyhow::Result<Positions> {
        let topics = chosen(&self.options.topics)?;
        let partitions = reader.partitions(&topics)?;
        if self.options.from == Start::End {
            return reader.positions(&partitions, Start::End);
        }
        let of: i64 = partitions.iter().map(|partition| partition.high - partition.low).sum();
        let mut progress = Progress::new("Reading what is there");
        let (mut read, mut found, mut positions) = (0, Vec::new(), Positions::new());
        for topic in topics {
            positions.extend(reader.read_to_end(topic, self.options.from, |record| {
                read += 1;
                progress.at(read, of.unsigned_abs());
                if self.wants(&record) {
                    found.push(record);
                }
                Ok(ControlFlow::Continue(()))
            })?);
        }
        drop(progress);
        found.sort_by_key(|record| record.timestamp_ms);
        for record in found {
            if self.is_full() {
                break;
            }
            self.take(&record)?;
        }
        Ok(positions)
    }

    /// What can be told without decoding.
    fn wants(&self, record: &Record) -> bool {
        let Options { keys, correlations, .. } = self.options;
        let key = record.key_text();
        let saga = show::saga(record);
        (keys.is_empty() || keys.iter().any(|wanted| matches(wanted, &key)))
            && (correlations.is_empty() || correlations.iter().any(|wanted| *wanted == saga || *wanted == key))
    }

    fn take(&mut self, record: &Record) -> anyhow::Result<()> {
        if !self.wants(record) {
            return Ok(());
        }
        let decoded = self.decoder.decode(Some(&record.topic), record.value.as_deref())?;
        if !self.wants_type(&decoded) {
            return Ok(());
        }
        self.shown += 1;
        let text = if self.options.json {
            serde_json::to_string(&Shown::of(record, &decoded))?
        } else {
            show::line(self.paint, record, &decoded)
        };
        (self.show)(&text)
    }

    fn wants_type(&self, decoded: &Decoded) -> bool {
        let wanted = &self.options.types;
        let is = |full: &str| {
            let short = full.rsplit('.').next().unwrap_or(full);
            wanted.iter().any(|pattern| matches(pattern, full) || matches(pattern, short))
        };
        wanted.is_empty()
            || match decoded {
                Decoded::Record { info, .. } => is(info.record.name),
                Decoded::Unknown { name } => is(name),
                Decoded::Null | Decoded::Bad(_) => false,
            }
    }
}

/// The declared topics that the patterns name; without patterns all but the heartbeats, which drown everything else.
pub fn chosen(patterns: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let names = || TOPICS.iter().map(|topic| &*topic.name);
    if patterns.is_empty() {
        return Ok(names().filter(|name| *name != "platform.instances").collect());
    }
    for pattern in patterns {
        if !names().any(|name| matches(pattern, name)) {
            bail!("No topic is named '{pattern}'; there are {}", names().collect::<Vec<_>>().join(", "));
        }
    }
    Ok(names().filter(|name| patterns.iter().any(|pattern| matches(pattern, name))).collect())
}

/// Whether a text fits a pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Reads `beginning`, `end`, an offset, an RFC 3339 time, or how long ago (`10m`).
pub fn start(text: &str) -> anyhow::Result<Start> {
    match text {
        "beginning" => return Ok(Start::Beginning),
        "end" => return Ok(Start::End),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Start::Offset(offset));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Start::Time(time.timestamp_millis()));
    }
    let ago = seconds(text).with_context(|| {
        format!("'{text}' is no start: use beginning, end, an offset, a time like 2026-01-31T12:00:00Z, or 10m for ten minutes ago")
    })?;
    Ok(Start::Time(chrono::Utc::now().timestamp_millis() - i64::try_from(ago.as_millis())?))
}

/// Reads a span: `90`, `90s`, `10m`, `2h`, `1d`.
pub fn seconds(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = match text.find(|char: char| !char.is_ascii_digit() && char != '.') {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let size = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => bail!("'{text}' is no time: use a number with s, m, h or d"),
    };
    let number: f64 = number.parse().with_context(|| format!("'{text}' is no time: use a number with s, m, h or d"))?;
    Ok(Duration::try_from_secs_f64(number * size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_people_expect() {
        for (pattern, text, fits) in [
            ("order.*", "order.events", true),
            ("order.*", "reorder.events", false),
            ("*.requests", "order.requests", true),
            ("o*r.*s", "order.events", true),
            ("order.events", "order.events", true),
            ("order", "order.events", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
        assert_eq!(
            chosen(&["order.*".into()]).expect("some"),
            ["order.requests", "order.events", "order.dead-letters"]
        );
        assert!(chosen(&[]).expect("all").iter().all(|name| *name != "platform.instances"));
        assert!(chosen(&["orders".into()]).expect_err("none").to_string().contains("order.events"));
    }

    #[test]
    fn starts_and_spans_are_read() {
        assert_eq!(start("beginning").expect("sound"), Start::Beginning);
        assert_eq!(start("42").expect("sound"), Start::Offset(42));
        assert_eq!(start("1970-01-01T00:00:01Z").expect("sound"), Start::Time(1_000));
        assert!(matches!(start("10m").expect("sound"), Start::Time(_)));
        assert!(start("yesterday").is_err());
        assert_eq!(seconds("1.5m").expect("sound"), Duration::from_secs(90));
        assert!(seconds("-1s").is_err());
    }
}
