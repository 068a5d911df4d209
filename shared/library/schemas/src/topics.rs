//! `topics.toml`: the one declaration of topics.

use std::time::Duration;

use quadrille_topics::{KeyKind, TopicKind, TopicType, TopicWriter};

use crate::{Problem, Problems};

/// Reads a `topics.toml`. Which records a topic has is not known by it alone.
pub fn parse_topics(text: &str) -> Result<Vec<TopicType>, Problems> {
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
const KEYS: [&str; 11] = [
    "name",
    "kind",
    "writer",
    "key",
    "partitions",
    "replication",
    "min_insync_replicas",
    "retention",
    "compact_within",
    "secrets",
    "why",
];

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

    fn topic(&self) -> Result<TopicType, Problem> {
        if let Some(key) = self.table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(self.problem(key, "is not known", format!("known are: {}", KEYS.join(", "))));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !self.name.bytes().all(legal) || self.name.is_empty() || self.name.len() > 200 {
            return Err(self.problem("name", "is no topic name", "use up to 200 of a-z, 0-9, `.`, `-`"));
        }
        let kind = self.kind()?;
        Ok(TopicType {
            name: self.name.to_owned().into(),
            kind,
            writer: self.writer(kind)?,
            key: match self.text("key")? {
                "uuid" => KeyKind::Uuid,
                "sku" => KeyKind::Sku,
                "text" => KeyKind::Text,
                other => return Err(self.problem("key", format!("is `{other}`"), "use uuid, sku or text")),
            },
            partitions: self.count("partitions")?.ok_or_else(|| self.problem("partitions", "is missing", "set it"))?,
            replication: self.count("replication")?,
            min_insync_replicas: self.min_insync_replicas()?,
            retention: match self.text("retention")? {
                "forever" => None,
                time => Some(self.duration("retention", time)?),
            },
            compact_within: self.compact_within(kind)?,
            secrets: match self.table.get("secrets") {
                None => false,
                Some(given) => given.as_bool().ok_or_else(|| {
                    self.problem(
                        "secrets",
                        "is neither true nor false",
                        "set it to true where records have secret fields",
                    )
                })?,
            },
            records: [].as_slice().into(),
            why: self.text("why")?.to_owned().into(),
        })
    }

    fn kind(&self) -> Result<TopicKind, Problem> {
        let given = self.optional("kind").unwrap_or_default();
        TopicKind::ALL.into_iter().find(|kind| kind.name() == given).ok_or_else(|| {
            let known = TopicKind::ALL.map(TopicKind::name).join(", ");
            let what = if self.table.contains_key("kind") { "is no kind of topic" } else { "is missing" };
            self.problem("kind", what, format!("set it to one of {known}"))
        })
    }

    /// Who writes a topic is told by its kind, where nobody has it for its own.
    fn writer(&self, kind: TopicKind) -> Result<TopicWriter, Problem> {
        let of_kind = match kind {
            TopicKind::Requests => TopicWriter::Clients,
            TopicKind::DeadLetters => TopicWriter::All,
            TopicKind::Events | TopicKind::State => {
                return Ok(match self.text("writer")? {
                    "all" if kind == TopicKind::State => TopicWriter::All,
                    "all" | "clients" => {
                        return Err(self.problem(
                            "writer",
                            format!("is no service, and the topic is of kind {kind}"),
                            "name the one service that writes it, or mend the kind",
                        ));
                    }
                    service => TopicWriter::Service(service.to_owned().into()),
                });
            }
        };
        match self.table.contains_key("writer") {
            false => Ok(of_kind),
            true => Err(self.problem(
                "writer",
                format!("is given for a topic of kind {kind}, which no one service writes alone"),
                "remove it, or mend the kind",
            )),
        }
    }

    fn compact_within(&self, kind: TopicKind) -> Result<Option<Duration>, Problem> {
        match (kind, self.table.contains_key("compact_within")) {
            (TopicKind::State, _) => self.duration("compact_within", self.text("compact_within")?).map(Some),
            (_, false) => Ok(None),
            (_, true) => Err(self.problem(
                "compact_within",
                format!("is given for a topic of kind {kind}, all of whose records count"),
                "remove it, or mend the kind: only state is compacted",
            )),
        }
    }

    fn min_insync_replicas(&self) -> Result<Option<u16>, Problem> {
        let (least, copies) = (self.count::<u16>("min_insync_replicas")?, self.count::<u16>("replication")?);
        match (least, copies) {
            (Some(least), Some(copies)) if least > copies => Err(self.problem(
                "min_insync_replicas",
                format!("is {least}, and there are {copies} copies"),
                "set it to no more than replication",
            )),
            (Some(_), None) => {
                Err(self.problem("min_insync_replicas", "is given without replication", "set replication, too"))
            }
            _ => Ok(least),
        }
    }

    /// A whole number from 1, where the key is given.
    fn count<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, Problem> {
        let Some(given) = self.table.get(key) else { return Ok(None) };
        let count = given.as_integer().filter(|count| *count > 0).and_then(|count| T::try_from(count).ok());
        count.map(Some).ok_or_else(|| self.problem(key, "is no number from 1", "set it to a whole number"))
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
name = "a.state"
kind = "state"
writer = "a"
key = "uuid"
partitions = 6
replication = 3
min_insync_replicas = 2
retention = "30d"
compact_within = "1h"
secrets = true
why = "because"
"#;

    #[test]
    fn a_sound_declaration_is_read_whole() {
        let expected = TopicType {
            name: "a.state".into(),
            kind: TopicKind::State,
            writer: TopicWriter::Service("a".into()),
            key: KeyKind::Uuid,
            partitions: 6,
            replication: Some(3),
            min_insync_replicas: Some(2),
            retention: Some(Duration::from_secs(30 * 86_400)),
            compact_within: Some(Duration::from_secs(3_600)),
            secrets: true,
            records: [].as_slice().into(),
            why: "because".into(),
        };
        assert_eq!(
            expected.settings(),
            [
                ("cleanup.policy", "compact".to_owned()),
                ("retention.ms", "2592000000".to_owned()),
                ("max.compaction.lag.ms", "3600000".to_owned()),
                ("min.insync.replicas", "2".to_owned()),
                ("max.decompressed.message.bytes", "1048588".to_owned()),
            ]
        );
        assert_eq!(parse_topics(SOUND), Ok(vec![expected]));
    }

    #[test]
    fn who_writes_a_topic_may_be_told_by_its_kind() {
        let of_kind = |kind: &str, writer: &str| {
            let text = SOUND
                .replace("kind = \"state\"", &format!("kind = \"{kind}\""))
                .replace("compact_within = \"1h\"\n", "");
            parse_topics(&text.replace("writer = \"a\"\n", writer)).map(|topics| topics[0].writer.clone())
        };
        assert_eq!(of_kind("events", "writer = \"a\"\n"), Ok(TopicWriter::Service("a".into())));
        assert_eq!(of_kind("requests", ""), Ok(TopicWriter::Clients));
        assert_eq!(of_kind("dead-letters", ""), Ok(TopicWriter::All));
        for (kind, writer, expected) in [
            ("events", "", "writer`: is missing or no text; set it; topics.toml says how"),
            (
                "events",
                "writer = \"all\"\n",
                "writer`: is no service, and the topic is of kind events; name the one service that writes it, or mend the kind",
            ),
            (
                "requests",
                "writer = \"a\"\n",
                "writer`: is given for a topic of kind requests, which no one service writes alone; remove it, or mend the kind",
            ),
        ] {
            let problem = of_kind(kind, writer).expect_err(expected).to_string();
            assert_eq!(problem, format!("topics.toml: field `a.state.{expected}"));
        }
        let all = parse_topics(&SOUND.replace("writer = \"a\"", "writer = \"all\""));
        assert_eq!(all.expect("every instance has a state")[0].writer, TopicWriter::All);
    }

    #[test]
    fn each_fault_names_topic_key_and_mend() {
        let cases = [
            (
                "partitions = 6",
                "partitions = 0",
                "topics.toml: field `a.state.partitions`: is no number from 1; set it to a whole number",
            ),
            ("partitions = 6", "", "topics.toml: field `a.state.partitions`: is missing; set it"),
            (
                "kind = \"state\"",
                "",
                "topics.toml: field `a.state.kind`: is missing; set it to one of events, requests, state, dead-letters",
            ),
            (
                "\"state\"",
                "\"queue\"",
                "topics.toml: field `a.state.kind`: is no kind of topic; set it to one of events, requests, state, dead-letters",
            ),
            (
                "\"state\"",
                "\"events\"",
                "topics.toml: field `a.state.compact_within`: is given for a topic of kind events, all of whose records count; remove it, or mend the kind: only state is compacted",
            ),
            (
                "compact_within = \"1h\"",
                "",
                "topics.toml: field `a.state.compact_within`: is missing or no text; set it; topics.toml says how",
            ),
            (
                "replication = 3",
                "replication = 1",
                "topics.toml: field `a.state.min_insync_replicas`: is 2, and there are 1 copies; set it to no more than replication",
            ),
            (
                "replication = 3",
                "",
                "topics.toml: field `a.state.min_insync_replicas`: is given without replication; set replication, too",
            ),
            (
                "secrets = true",
                "secrets = \"yes\"",
                "topics.toml: field `a.state.secrets`: is neither true nor false; set it to true where records have secret fields",
            ),
            ("\"uuid\"", "\"id\"", "topics.toml: field `a.state.key`: is `id`; use uuid, sku or text"),
            (
                "\"30d\"",
                "\"30 days\"",
                "topics.toml: field `a.state.retention`: is `30 days`; use a number with d, h or m, like 30d",
            ),
            (
                "\"1h\"",
                "\"\"",
                "topics.toml: field `a.state.compact_within`: is ``; use a number with d, h or m, like 30d",
            ),
            (
                "why =",
                "reason =",
                "topics.toml: field `a.state.reason`: is not known; known are: name, kind, writer, key, partitions, replication, min_insync_replicas, retention, compact_within, secrets, why",
            ),
            (
                "why = \"because\"",
                "",
                "topics.toml: field `a.state.why`: is missing or no text; set it; topics.toml says how",
            ),
            (
                "name = \"a.state\"",
                "name = \"a/events\"",
                "topics.toml: field `a/events.name`: is no topic name; use up to 200 of a-z, 0-9, `.`, `-`",
            ),
            ("name = \"a.state\"", "", "topics.toml: a topic has no name; give it `name = \"<aggregate>.events\"`"),
            ("[[topics]]", "[[topic]]", "topics.toml: field `topic`: is not known; declare topics as [[topics]]"),
        ];
        for (sound, broken, expected) in cases {
            let problems = parse_topics(&SOUND.replace(sound, broken)).expect_err(broken);
            assert_eq!(problems.to_string(), expected);
        }
        let twice = parse_topics(&format!("{SOUND}{SOUND}")).expect_err("declared twice");
        assert_eq!(twice.to_string(), "topics.toml: field `a.state`: is declared twice; keep one of the two");
        assert!(parse_topics("[[topics").expect_err("no TOML").to_string().starts_with("topics.toml: is no TOML"));
    }
}
