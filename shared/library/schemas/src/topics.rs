//! `topics.toml`: the one declaration of topics.

use std::{borrow::Cow, time::Duration};

use crate::{Problem, Problems};

/// A topic as it is declared. Borrowed where it was generated into a program, owned where it was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name, without any prefix of an isolated world.
    pub name: Cow<'static, str>,
    /// The folder with the schemas of its record types: the name unless declared otherwise.
    pub records: Cow<'static, str>,
    /// How many partitions it has, for its whole life.
    pub partitions: u32,
    /// Who writes it.
    pub writer: Writer,
    /// What its record keys are.
    pub key: Key,
    /// What becomes of records that were overtaken.
    pub cleanup: Cleanup,
    /// How long records are kept and handled; `None` is without end.
    pub retention: Option<Duration>,
    /// Why cleanup and retention are so.
    pub why: Cow<'static, str>,
}

/// Who writes a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Whoever has a request.
    Clients,
    /// Every service.
    All,
    /// This service only.
    Service(Cow<'static, str>),
}

/// What a topic's record keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A UUID.
    Uuid,
    /// A stock keeping unit.
    Sku,
    /// Any text.
    Text,
}

/// What becomes of records that a newer one with the same key has overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Nothing, until retention ends.
    Delete,
    /// They go, at the latest after `within`.
    Compact {
        /// The longest time that an overtaken record stays.
        within: Duration,
    },
}

/// The setting of what one record of a topic may unpack to: what brokers take of it packed, so that compression is no way around that. A
/// batch of many may still unpack to many times as much.
pub const MOST_UNPACKED: &str = "max.decompressed.message.bytes";
const MOST_UNPACKED_BYTES: u32 = 1_048_588;

impl Topic {
    /// The topic's settings as Kafka names them. A broker older than 4.4 does not know [`MOST_UNPACKED`]'s.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let retention = self.retention.map_or("-1".to_owned(), |time| time.as_millis().to_string());
        let mut settings = match self.cleanup {
            Cleanup::Delete => vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", retention)],
            Cleanup::Compact { within } => vec![
                ("cleanup.policy", "compact".to_owned()),
                ("retention.ms", retention),
                ("max.compaction.lag.ms", within.as_millis().to_string()),
            ],
        };
        settings.push((MOST_UNPACKED, MOST_UNPACKED_BYTES.to_string()));
        settings
    }
}

/// Reads a `topics.toml`.
pub fn parse_topics(text: &str) -> Result<Vec<Topic>, Problems> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Problem::of_file(FILE, format!("is no TOML: {}", error.to_string().trim()), "mend that line")
    })?;
    let mut topics = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in &table {
        match (key.as_str(), value.as_array()) {
            ("topics", Some(entries)) => {
                for entry in entries {
                    match Entry::of(entry).and_then(|entry| entry.topic()) {
                        Ok(topic) => topics.push(topic),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            _ => problems.push(Problem::of_field(FILE, key, "is not known", "declare topics as [[topics]]")),
        }
    }
    let mut names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        problems.push(Problem::of_field(FILE, pair[0], "is declared twice", "keep one of the two"));
    }
    Problems(problems).none_or(topics)
}

const FILE: &str = "topics.toml";
const KEYS: [&str; 9] =
    ["name", "records", "partitions", "writer", "key", "cleanup", "retention", "compact_within", "why"];

/// One `[[topics]]` entry while it is read; each fault is named with the topic.
struct Entry<'a> {
    name: &'a str,
    table: &'a toml::Table,
}

impl<'a> Entry<'a> {
    fn of(value: &'a toml::Value) -> Result<Self, Problem> {
        let table = value.as_table();
        match table.and_then(|table| Some((table.get("name")?.as_str()?, table))) {
            Some((name, table)) => Ok(Self { name, table }),
            None => Err(Problem::of_file(FILE, "a topic has no name", "give it `name = \"<aggregate>.events\"`")),
        }
    }

    fn topic(&self) -> Result<Topic, Problem> {
        if let Some(key) = self.table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(self.problem(key, "is not known", format!("known are: {}", KEYS.join(", "))));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !self.name.bytes().all(legal) || self.name.is_empty() || self.name.len() > 200 {
            return Err(self.problem("name", "is no topic name", "use up to 200 of a-z, 0-9, `.`, `-`"));
        }
        let partitions = self.table.get("partitions").and_then(toml::Value::as_integer).unwrap_or(0);
        let partitions = u32::try_from(partitions).ok().filter(|count| *count > 0);
        Ok(Topic {
            name: self.name.to_owned().into(),
            records: self.optional("records").unwrap_or(self.name).to_owned().into(),
            partitions: partitions.ok_or_else(|| self.problem("partitions", "is missing or not from 1", "set it"))?,
            writer: match self.text("writer")? {
                "clients" => Writer::Clients,
                "all" => Writer::All,
                service => Writer::Service(service.to_owned().into()),
            },
            key: match self.text("key")? {
                "uuid" => Key::Uuid,
                "sku" => Key::Sku,
                "text" => Key::Text,
                other => return Err(self.problem("key", format!("is `{other}`"), "use uuid, sku or text")),
            },
            cleanup: match self.text("cleanup")? {
                "delete" => Cleanup::Delete,
                "compact" => {
                    Cleanup::Compact { within: self.duration("compact_within", self.text("compact_within")?)? }
                }
                other => return Err(self.problem("cleanup", format!("is `{other}`"), "use delete or compact")),
            },
            retention: match self.text("retention")? {
                "forever" => None,
                time => Some(self.duration("retention", time)?),
            },
            why: self.text("why")?.to_owned().into(),
        })
    }

    fn optional(&self, key: &str) -> Option<&'a str> {
        self.table.get(key).and_then(toml::Value::as_str)
    }

    fn text(&self, key: &str) -> Result<&'a str, Problem> {
        self.optional(key).ok_or_else(|| self.problem(key, "is missing or no text", "set it; topics.toml says how"))
    }

    fn duration(&self, key: &str, text: &str) -> Result<Duration, Problem> {
        let parsed = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(number, unit)| {
            let seconds = match unit {
                "d" => 86_400,
                "h" => 3_600,
                "m" => 60,
                _ => return None,
            };
            number.parse::<u32>().ok().map(|number| Duration::from_secs(u64::from(number) * seconds))
        });
        parsed.ok_or_else(|| self.problem(key, format!("is `{text}`"), "use a number with d, h or m, like 30d"))
    }

    fn problem(&self, key: &str, what: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem::of_field(FILE, format!("{}.{key}", self.name), what, mend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"[[topics]]
name = "a.events"
partitions = 6
writer = "a"
key = "uuid"
cleanup = "compact"
compact_within = "1h"
retention = "30d"
why = "because"
"#;

    #[test]
    fn a_sound_declaration_is_read_whole() {
        let expected = Topic {
            name: "a.events".into(),
            records: "a.events".into(),
            partitions: 6,
            writer: Writer::Service("a".into()),
            key: Key::Uuid,
            cleanup: Cleanup::Compact { within: Duration::from_secs(3_600) },
            retention: Some(Duration::from_secs(30 * 86_400)),
            why: "because".into(),
        };
        assert_eq!(
            expected.settings(),
            [
                ("cleanup.policy", "compact".to_owned()),
                ("retention.ms", "2592000000".to_owned()),
                ("max.compaction.lag.ms", "3600000".to_owned()),
                ("max.decompressed.message.bytes", "1048588".to_owned()),
            ]
        );
        assert_eq!(parse_topics(SOUND), Ok(vec![expected]));
    }

    #[test]
    fn each_fault_names_topic_key_and_mend() {
        let cases = [
            (
                "partitions = 6",
                "partitions = 0",
                "topics.toml: field `a.events.partitions`: is missing or not from 1; set it",
            ),
            ("\"uuid\"", "\"id\"", "topics.toml: field `a.events.key`: is `id`; use uuid, sku or text"),
            ("\"compact\"", "\"keep\"", "topics.toml: field `a.events.cleanup`: is `keep`; use delete or compact"),
            (
                "\"30d\"",
                "\"30 days\"",
                "topics.toml: field `a.events.retention`: is `30 days`; use a number with d, h or m, like 30d",
            ),
            (
                "\"1h\"",
                "\"\"",
                "topics.toml: field `a.events.compact_within`: is ``; use a number with d, h or m, like 30d",
            ),
            (
                "why =",
                "reason =",
                "topics.toml: field `a.events.reason`: is not known; known are: name, records, partitions, writer, key, cleanup, retention, compact_within, why",
            ),
            (
                "why = \"because\"",
                "",
                "topics.toml: field `a.events.why`: is missing or no text; set it; topics.toml says how",
            ),
            (
                "name = \"a.events\"",
                "name = \"a/events\"",
                "topics.toml: field `a/events.name`: is no topic name; use up to 200 of a-z, 0-9, `.`, `-`",
            ),
            ("name = \"a.events\"", "", "topics.toml: a topic has no name; give it `name = \"<aggregate>.events\"`"),
            ("[[topics]]", "[[topic]]", "topics.toml: field `topic`: is not known; declare topics as [[topics]]"),
        ];
        for (sound, broken, expected) in cases {
            let problems = parse_topics(&SOUND.replace(sound, broken)).expect_err(broken);
            assert_eq!(problems.to_string(), expected);
        }
        let twice = parse_topics(&format!("{SOUND}{SOUND}")).expect_err("declared twice");
        assert_eq!(twice.to_string(), "topics.toml: field `a.events`: is declared twice; keep one of the two");
        assert!(parse_topics("[[topics").expect_err("no TOML").to_string().starts_with("topics.toml: is no TOML"));
    }
}
