//! `quadrille watch`: records as they come, decoded, in their saga's colour.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use chrono::DateTime;
use quadrille_core::KeyKind;
use wildmatch::WildMatchPattern;

use crate::{
    Catalogue, Settings,
    codec::{Decoded, Decoder},
    kafka::{Positions, Reader, Record, Start},
    output::{self, Paint, Progress},
    render::{self, Shown},
    types,
};

/// What to show, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Topics, with `*` for any text; none: all but heartbeats.
    pub topics: Vec<String>,
    /// Only these keys, in any spelling, with `*` for any text.
    pub keys: Vec<String>,
    /// Only these types, with `*` for any text.
    pub types: Vec<String>,
    /// Only these sagas, by correlation id or key, in any spelling.
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

/// Shows records until the wanted count, time or end; without any of them until the process is ended. Whether as many were seen as were
/// wanted. Blocks.
///
/// What is there already comes sorted by time over all topics; what is new comes as it arrives.
pub fn run(
    settings: &Settings,
    options: &Options,
    show: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let deadline = options.time.and_then(|time| Instant::now().checked_add(time));
    let catalogue = &settings.catalogue;
    let topics = chosen(catalogue, &options.topics)?;
    known(catalogue, &options.types)?;
    vain(catalogue, options, &topics).iter().for_each(|word| output::note(word));
    let reader = Reader::connect(&settings.kafka)?;
    let paint = if options.json { Paint::fixed(false) } else { Paint::detect() };
    let mut window = Window { catalogue, options, decoder: Decoder::connect(settings)?, paint, shown: 0, show };
    let positions = window.history(&reader, &topics)?;
    output::unreadable(&reader.unreadable());
    if !options.to_end && !window.is_full() {
        let follow = reader.follow(&positions)?;
        while !window.is_full() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let record = follow.next(left.unwrap_or(PAUSE).min(PAUSE))?;
            output::unreadable(&reader.unreadable());
            if let Some(record) = record {
                window.take(&record)?;
            }
        }
    }
    match options.until {
        Some(until) if window.shown < until => {
            output::note(&format!("watch: {} of {until} records came before the end.", window.shown));
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// Refuses a type that no topic is declared to have. A pattern may mean one that is not.
fn known(catalogue: &Catalogue, types: &[String]) -> anyhow::Result<()> {
    let is_known = |wanted: &String| catalogue.records.iter().any(|info| fits_type(wanted, info.record.name));
    match types.iter().find(|wanted| !wanted.contains('*') && !is_known(wanted)) {
        Some(unknown) => Err(types::unknown(catalogue, unknown)),
        None => Ok(()),
    }
}

/// What can never be seen, though it is asked for: a word on each.
fn vain(catalogue: &Catalogue, options: &Options, topics: &[&str]) -> Vec<String> {
    let fits_a_topic =
        |wanted: &str| topics.iter().any(|topic| catalogue.key_kind(topic).normalize(Some(wanted.as_bytes())).is_ok());
    let mut kinds: Vec<String> = topics.iter().map(|topic| told_kind(catalogue.key_kind(topic))).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let no_key = |wanted: &&String| !wanted.contains('*') && !fits_a_topic(wanted);
    let keys = options.keys.iter().chain(&options.correlations).filter(no_key).map(|wanted| {
        format!(
            "watch: '{wanted}' is no key of these topics, whose keys are {}: no service takes such a record",
            kinds.join(" or ")
        )
    });
    let no_type = |wanted: &&String| {
        !catalogue
            .records
            .iter()
            .any(|info| fits_type(wanted, info.record.name) && topics.contains(&&*info.record.topic.name))
    };
    let types = options.types.iter().filter(no_type);
    let types = types.map(|wanted| {
        format!("watch: none of these topics is declared to have a type '{wanted}' (`quadrille example` lists all)")
    });
    keys.chain(types).collect()
}

/// What keys of a kind are, in words.
pub(crate) fn told_kind(kind: &KeyKind) -> String {
    match kind {
        KeyKind::Uuid => "UUIDs".to_owned(),
        KeyKind::Text => "texts".to_owned(),
        KeyKind::Pattern(form) => format!("of the form {} ({form})", form.name),
    }
}

const PAUSE: Duration = Duration::from_millis(500);

/// What a watch shows.
struct Window<'a, F> {
    catalogue: &'a Catalogue,
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
    fn history(&mut self, reader: &Reader, topics: &[&str]) -> anyhow::Result<Positions> {
        let partitions = reader.partitions(topics)?;
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
        let kind = self.catalogue.key_kind(&record.topic);
        let (key, saga) = (record.key_text(), render::saga(record));
        (keys.is_empty() || keys.iter().any(|wanted| fits_key(kind, wanted, &key)))
            && (correlations.is_empty()
                || correlations.iter().any(|wanted| fits_key(kind, wanted, &saga) || fits_key(kind, wanted, &key)))
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
            render::line(self.paint, record, &decoded)
        };
        (self.show)(&text)
    }

    fn wants_type(&self, decoded: &Decoded) -> bool {
        let wanted = &self.options.types;
        let is = |name: &str| wanted.iter().any(|pattern| fits_type(pattern, name));
        wanted.is_empty()
            || match decoded {
                Decoded::Record { info, .. } => is(info.record.name),
                Decoded::Dynamic { name, .. } => is(name),
                Decoded::Null | Decoded::Bad { .. } => false,
            }
    }
}

/// Whether a record type's full or short name fits a pattern.
fn fits_type(pattern: &str, name: &str) -> bool {
    matches(pattern, name) || matches(pattern, name.rsplit('.').next().unwrap_or(name))
}

/// Whether a key fits a pattern: as it is written, or in the normal form of its topic's keys, whatever the spelling of either.
fn fits_key(kind: &KeyKind, pattern: &str, key: &str) -> bool {
    let folded = match (kind, kind.normalize(Some(pattern.as_bytes()))) {
        (KeyKind::Text, _) => return matches(pattern, key),
        (_, Ok(normal)) => normal,
        (KeyKind::Uuid, Err(_)) => pattern.to_lowercase(),
        (KeyKind::Pattern(form), Err(_)) => form.case.of(pattern),
    };
    matches(pattern, key) || kind.normalize(Some(key.as_bytes())).is_ok_and(|key| matches(&folded, &key))
}

/// The declared topics that the patterns name; without patterns all but the heartbeats, which drown everything else.
pub fn chosen(catalogue: &Catalogue, patterns: &[String]) -> anyhow::Result<Vec<&'static str>> {
    let topics = catalogue.topics;
    let names = || topics.iter().map(|topic| &*topic.name);
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

/// Whether a text fits a pattern, in which `*` stands for any text, and every other character for itself.
fn matches(pattern: &str, text: &str) -> bool {
    const NO_SINGLE: char = '\0';
    WildMatchPattern::<'*', NO_SINGLE>::new(pattern).matches(text)
}

/// Reads `beginning`, `end`, an offset, an RFC 3339 time, or how long ago (`10m`).
pub fn start(text: &str) -> anyhow::Result<Start> {
    match text {
        "end" => Ok(Start::End),
        _ => start_of(text, "beginning, end"),
    }
}

/// The same without the end: from there nothing is read again.
pub fn before_the_end(text: &str) -> anyhow::Result<Start> {
    start_of(text, "beginning")
}

/// Reads any start but the end. An error offers `names` beside offsets and times.
fn start_of(text: &str, names: &str) -> anyhow::Result<Start> {
    if text == "beginning" {
        return Ok(Start::Beginning);
    }
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return Ok(Start::Offset(text.parse().with_context(|| format!("'{text}' is more than any offset"))?));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        let ms = time.timestamp_millis();
        ensure!(ms >= 0, "'{text}' is before 1970, when there was no record");
        return Ok(Start::Time(ms));
    }
    let ago = seconds(text).with_context(|| {
        format!(
            "'{text}' is no start: use {names}, an offset, a time like 2026-01-31T12:00:00Z, or 10m for ten minutes ago"
        )
    })?;
    let now_ms = chrono::Utc::now().timestamp_millis();
    // As long ago as all time: from the first record on.
    Ok(Start::Time(now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0)))
}

/// The longest span that is taken: a hundred years.
const LONGEST: f64 = 36_525.0 * 86_400.0;

/// Reads a span: `90`, `90s`, `10m`, `2h`, `1d`.
pub fn seconds(text: &str) -> anyhow::Result<Duration> {
    let none = || format!("'{text}' is no time: use a number with s, m, h or d, such as 90s or 1.5h");
    let (number, unit) = match text.find(|char: char| !char.is_ascii_digit() && char != '.') {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let size = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => bail!(none()),
    };
    let number: f64 = number.parse().with_context(none)?;
    ensure!(number * size <= LONGEST, "'{text}' is longer than a hundred years: use 36525d at most");
    Ok(Duration::try_from_secs_f64(number * size)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

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
            chosen(&CATALOGUE, &["order.*".into()]).expect("some"),
            ["order.requests", "order.events", "order.dead-letters"]
        );
        assert!(chosen(&CATALOGUE, &[]).expect("all").iter().all(|name| *name != "platform.instances"));
        assert!(chosen(&CATALOGUE, &["orders".into()]).expect_err("none").to_string().contains("order.events"));
    }

    #[test]
    fn starts_and_spans_are_read() {
        assert_eq!(start("beginning").expect("sound"), Start::Beginning);
        assert_eq!(start("42").expect("sound"), Start::Offset(42));
        assert_eq!(start("1970-01-01T00:00:01Z").expect("sound"), Start::Time(1_000));
        assert!(matches!(start("10m").expect("sound"), Start::Time(_)));
        assert!(start("yesterday").is_err());
        assert_eq!(start("end").expect("sound"), Start::End);
        let end = before_the_end("end").expect_err("nothing is behind it").to_string();
        assert!(end.contains("use beginning, an offset"), "{end}");
        assert_eq!(seconds("1.5m").expect("sound"), Duration::from_secs(90));
        assert!(seconds("-1s").is_err());
        for (text, word) in [
            ("", "is no start"),
            ("-1", "is no start"),
            ("99999999999999999999", "more than any offset"),
            ("1e9d", "is no start"),
            ("999999999d", "is no start"),
            ("1969-12-31T23:59:59Z", "before 1970"),
            ("+5", "is no start"),
        ] {
            let error = start(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        // Further back than there were records is the beginning, and never a negative time.
        assert_eq!(start("36525d").expect("sound"), Start::Time(0));
        for text in ["", ".", "1.2.3", "1e9d", "9".repeat(400).as_str(), "NaN", "inf", "1y", "s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds("0s").expect("sound"), Duration::ZERO);
    }

    #[test]
    fn keys_are_known_in_any_spelling() {
        let uuid = "6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11";
        let sku = KeyKind::Pattern(quadrille_events::keys::SKU);
        for (kind, pattern, key, fits) in [
            (&KeyKind::Uuid, "6F1D3C58-1F0E-4C5E-9A37-2B8F0D9E4A11", uuid, true),
            (&KeyKind::Uuid, "{6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11}", uuid, true),
            (&KeyKind::Uuid, uuid, "6F1D3C58-1F0E-4C5E-9A37-2B8F0D9E4A11", true),
            (&KeyKind::Uuid, "6F1D*", uuid, true),
            (&KeyKind::Uuid, "6F1E*", uuid, false),
            (&sku, "tea-1", "TEA-1", true),
            (&sku, "tea-*", "Tea-12", true),
            (&sku, "tea 1", "tea 1", true),
            (&sku, "tea-1", "TEA-12", false),
            (&KeyKind::Text, "Order", "order", false),
            (&KeyKind::Text, "order", "order", true),
        ] {
            assert_eq!(fits_key(kind, pattern, key), fits, "{pattern} {key}");
        }
    }

    #[test]
    fn a_mistyped_type_is_refused_and_a_pattern_is_not() {
        let refused = |name: &str| known(&CATALOGUE, &[name.to_owned()]).err().map(|error| error.to_string());
        for name in ["OrderDelivered", "quadrille.order.OrderDelivered", "Order*", "Nothing*"] {
            assert_eq!(refused(name), None, "{name}");
        }
        let error = refused("OrderDeliverd").expect("no type");
        assert!(error.contains("did you mean OrderDelivered?"), "{error}");
    }

    #[test]
    fn what_can_never_be_seen_is_said() {
        let vain = |topics: &[&'static str], key: &str, name: &str| {
            let options = Options {
                topics: vec![],
                keys: vec![key.into()],
                types: vec![name.into()],
                correlations: vec![],
                from: Start::End,
                until: None,
                time: None,
                to_end: false,
                json: false,
            };
            vain(&CATALOGUE, &options, topics).join("\n")
        };
        let word = vain(&["order.events"], "tea 1", "OrderDeliverd");
        assert!(word.contains("'tea 1' is no key of these topics, whose keys are UUIDs"), "{word}");
        assert!(word.contains("'OrderDeliverd'"), "{word}");
        assert_eq!(vain(&["order.events", "stock.events"], "tea-1", "Order*"), "");
        assert_eq!(vain(&["order.events"], "6F1D*", "OrderDelivered"), "");
    }
}
