//! `topics.toml`: the one declaration of topics.

use std::{borrow::Cow, time::Duration};

use quadrille_topics::{KeyCase, KeyKind, KeyPattern, TopicKind, TopicType, TopicWriter};

use crate::{Problem, Problems, Type};

/// What a `topics.toml` declares. Which records a topic has is not known by it alone.
#[derive(Debug, PartialEq)]
pub(crate) struct Declared {
    pub topics: Vec<TopicType>,
    /// The decimals that records may have, where the folder sets a rule for them.
    pub decimals: Option<Vec<Type>>,
}

/// Reads a `topics.toml`.
pub(crate) fn parse_topics(text: &str) -> Result<Declared, Problems> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Problem::of_file(FILE, format!("is no TOML: {}", error.to_string().trim()), "fix that line")
    })?;
    let mut problems = Vec::new();
    for (key, value) in &table {
        if !matches!(
            (key.as_str(), value),
            ("topics", toml::Value::Array(_)) | ("keys" | "rules", toml::Value::Table(_))
        ) {
            let fix = "declare topics as [[topics]], forms of keys as [keys.<name>], rules under [rules]";
            problems.push(Problem::of_field(FILE, key, "is not known", fix));
        }
    }
    let forms = table.get("keys").and_then(toml::Value::as_table).into_iter().flatten();
    let keys = sound(forms.map(|(name, form)| Entry::of_key(name, form)?.pattern(name)), &mut problems);
    // A topic with such a key would only be at fault once more.
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let entries = table.get("topics").and_then(toml::Value::as_array).into_iter().flatten();
    let topics = sound(entries.map(|entry| Entry::of(entry)?.topic(&keys)), &mut problems);
    let decimals = decimals(&table).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let mut names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    names.sort_unstable();
    for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        problems.push(Problem::of_field(FILE, pair[0], "is declared twice", "keep one of the two"));
    }
    for form in &keys {
        if problems.is_empty() && !topics.iter().any(|topic| topic.key.name() == form.name) {
            let field = format!("keys.{}", form.name);
            problems.push(Problem::of_field(FILE, field, "is the key of no topic", "use it or remove it"));
        }
    }
    Problems(problems).none_or(Declared { topics, decimals })
}

/// What was read, with the problems of the rest put to the others.
fn sound<T>(read: impl Iterator<Item = Result<T, Problem>>, problems: &mut Vec<Problem>) -> Vec<T> {
    read.filter_map(|item| item.map_err(|problem| problems.push(problem)).ok()).collect()
}

/// The rule `decimals` of `[rules]`.
fn decimals(table: &toml::Table) -> Result<Option<Vec<Type>>, Problem> {
    let Some(rules) = table.get("rules").and_then(toml::Value::as_table) else { return Ok(None) };
    if let Some(other) = rules.keys().find(|key| *key != "decimals") {
        return Err(Problem::of_field(FILE, format!("rules.{other}"), "is not known", "known are: decimals"));
    }
    let Some(given) = rules.get("decimals") else { return Ok(None) };
    let decimal = |text: &toml::Value| {
        let (precision, scale) = text.as_str()?.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
        Some(Type::Decimal { precision: precision.trim().parse().ok()?, scale: scale.trim().parse().ok()? })
    };
    let read: Option<Vec<Type>> = given.as_array().and_then(|all| all.iter().map(decimal).collect());
    read.map(Some).ok_or_else(|| {
        let fix = "write a list such as [\"decimal(12,2)\"], or leave it out to allow any";
        Problem::of_field(FILE, "rules.decimals", "is no list of decimals", fix)
    })
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

/// One `[[topics]]` or `[keys.<name>]` entry while it is read; each fault is named with it.
struct Entry<'a> {
    name: Cow<'a, str>,
    table: &'a toml::Table,
}

impl<'a> Entry<'a> {
    fn of(value: &'a toml::Value) -> Result<Self, Problem> {
        let table = value.as_table();
        match table.and_then(|table| Some((table.get("name")?.as_str()?, table))) {
            Some((name, table)) => Ok(Self { name: name.into(), table }),
            None => Err(Problem::of_file(FILE, "a topic has no name", "give it `name = \"<aggregate>.events\"`")),
        }
    }

    fn of_key(name: &str, value: &'a toml::Value) -> Result<Self, Problem> {
        let name = format!("keys.{name}");
        match value.as_table() {
            Some(table) => Ok(Self { name: name.into(), table }),
            None => Err(Problem::of_field(FILE, &name, "is no table", format!("write it as [{name}]"))),
        }
    }

    /// A key that is none of those known is a mistyped one.
    fn knows(&self, known: &[&str]) -> Result<(), Problem> {
        match self.table.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.problem(key, "is not known", format!("known are: {}", known.join(", ")))),
        }
    }

    fn pattern(&self, name: &str) -> Result<KeyPattern, Problem> {
        self.knows(&["first", "rest", "longest", "case"])?;
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if matches!(name, "uuid" | "text")
            || !name.bytes().all(letters)
            || !name.starts_with(|first: char| first.is_ascii_lowercase())
        {
            let fix = "use a-z, 0-9 and _, a letter first, and neither uuid nor text";
            return Err(Problem::of_field(FILE, &*self.name, "is no name for a form of keys", fix));
        }
        let case = match self.text("case")? {
            "as-is" => KeyCase::AsIs,
            "lower" => KeyCase::Lower,
            "upper" => KeyCase::Upper,
            other => return Err(self.problem("case", format!("is `{other}`"), "use upper, lower or as-is")),
        };
        let set = |key: &str| {
            let set = self.text(key)?;
            let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'[' | b']' | b'\\' | b'^' | b'{' | b'}');
            match !set.is_empty() && set.bytes().all(plain) && case.of(set) == set {
                true => Ok(set.to_owned().into()),
                false => {
                    let fix =
                        "write ASCII characters of the keys' case as in a regular expression's brackets, like A-Z0-9-";
                    Err(self.problem(key, format!("is `{set}`"), fix))
                }
            }
        };
        Ok(KeyPattern {
            name: name.to_owned().into(),
            first: set("first")?,
            rest: set("rest")?,
            longest: self.count("longest")?.ok_or_else(|| self.problem("longest", "is missing", "set it"))?,
            case,
        })
    }

    fn topic(&self, forms: &[KeyPattern]) -> Result<TopicType, Problem> {
        self.knows(&KEYS)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !self.name.bytes().all(legal) || self.name.is_empty() || self.name.len() > 200 {
            return Err(self.problem("name", "is no topic name", "use up to 200 of a-z, 0-9, `.`, `-`"));
        }
        let kind = self.kind()?;
        Ok(TopicType {
            name: self.name.to_string().into(),
            kind,
            writer: self.writer(kind)?,
            key: match self.text("key")? {
                "uuid" => KeyKind::Uuid,
                "text" => KeyKind::Text,
                other => KeyKind::Pattern(forms.iter().find(|form| form.name == other).cloned().ok_or_else(|| {
                    self.problem(
                        "key",
                        format!("is `{other}`"),
                        "use uuid, text or a form that is declared as [keys.<name>]",
                    )
                })?),
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
                    // Whose keys are each one service's own.
                    "all" => TopicWriter::All,
                    "clients" => {
                        return Err(self.problem(
                            "writer",
                            format!("is no service, and the topic is of kind {kind}"),
                            "name the one service that writes it, or fix the kind",
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
                "remove it, or fix the kind",
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
                "remove it, or fix the kind: only state is compacted",
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

    fn problem(&self, key: &str, what: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem::of_field(FILE, format!("{}.{key}", self.name), what, fix)
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
        assert_eq!(parse_topics(SOUND), Ok(Declared { topics: vec![expected], decimals: None }));
    }

    #[test]
    fn who_writes_a_topic_may_be_told_by_its_kind() {
        let of_kind = |kind: &str, writer: &str| {
            let text = SOUND
                .replace("kind = \"state\"", &format!("kind = \"{kind}\""))
                .replace("compact_within = \"1h\"\n", "");
            parse_topics(&text.replace("writer = \"a\"\n", writer)).map(|declared| declared.topics[0].writer.clone())
        };
        assert_eq!(of_kind("events", "writer = \"a\"\n"), Ok(TopicWriter::Service("a".into())));
        assert_eq!(of_kind("requests", ""), Ok(TopicWriter::Clients));
        assert_eq!(of_kind("dead-letters", ""), Ok(TopicWriter::All));
        for (kind, writer, expected) in [
            ("events", "", "writer`: is missing or no text; set it; topics.toml says how"),
            (
                "events",
                "writer = \"clients\"\n",
                "writer`: is no service, and the topic is of kind events; name the one service that writes it, or fix the kind",
            ),
            (
                "requests",
                "writer = \"a\"\n",
                "writer`: is given for a topic of kind requests, which no one service writes alone; remove it, or fix the kind",
            ),
        ] {
            let problem = of_kind(kind, writer).expect_err(expected).to_string();
            assert_eq!(problem, format!("topics.toml: field `a.state.{expected}"));
        }
        let all = parse_topics(&SOUND.replace("writer = \"a\"", "writer = \"all\""));
        assert_eq!(all.expect("every instance has a state").topics[0].writer, TopicWriter::All);
    }

    #[test]
    fn each_fault_names_topic_key_and_fix() {
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
                "topics.toml: field `a.state.compact_within`: is given for a topic of kind events, all of whose records count; remove it, or fix the kind: only state is compacted",
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
            (
                "\"uuid\"",
                "\"id\"",
                "topics.toml: field `a.state.key`: is `id`; use uuid, text or a form that is declared as [keys.<name>]",
            ),
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
            (
                "[[topics]]",
                "[[topic]]",
                "topics.toml: field `topic`: is not known; declare topics as [[topics]], forms of keys as [keys.<name>], rules under [rules]",
            ),
        ];
        for (sound, broken, expected) in cases {
            let problems = parse_topics(&SOUND.replace(sound, broken)).expect_err(broken);
            assert_eq!(problems.to_string(), expected);
        }
        let twice = parse_topics(&format!("{SOUND}{SOUND}")).expect_err("declared twice");
        assert_eq!(twice.to_string(), "topics.toml: field `a.state`: is declared twice; keep one of the two");
        assert!(parse_topics("[[topics").expect_err("no TOML").to_string().starts_with("topics.toml: is no TOML"));
    }

    const SKU: &str = r#"
[keys.sku]
first = "A-Z0-9"
rest = "A-Z0-9-"
longest = 40
case = "upper"

[rules]
decimals = ["decimal(12,2)"]
"#;

    #[test]
    fn a_folder_declares_forms_of_keys_and_its_decimals() {
        let text = SOUND.replace("\"uuid\"", "\"sku\"") + SKU;
        let declared = parse_topics(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(declared.topics[0].key.normalize(Some(b"tea-1")).as_deref(), Ok("TEA-1"));
        assert_eq!(declared.decimals, Some(vec![Type::Decimal { precision: 12, scale: 2 }]));
        let unused = parse_topics(&format!("{SOUND}{SKU}")).expect_err("no topic has such keys").to_string();
        assert_eq!(unused, "topics.toml: field `keys.sku`: is the key of no topic; use it or remove it");
        for (sound, broken, expected) in [
            (
                "[keys.sku]",
                "[keys.uuid]",
                "keys.uuid`: is no name for a form of keys; use a-z, 0-9 and _, a letter first, and neither uuid nor text",
            ),
            ("\"upper\"", "\"UPPER\"", "keys.sku.case`: is `UPPER`; use upper, lower or as-is"),
            ("= \"A-Z0-9\"", "= \"a-z\"", "keys.sku.first`: is `a-z`; write ASCII characters of the keys' case"),
            ("= \"A-Z0-9-\"", "= \"\"", "keys.sku.rest`: is ``; write ASCII characters"),
            ("longest = 40", "", "keys.sku.longest`: is missing; set it"),
            ("longest = 40", "length = 40", "keys.sku.length`: is not known; known are: first, rest, longest, case"),
            ("decimals", "decimal", "rules.decimal`: is not known; known are: decimals"),
            ("\"decimal(12,2)\"", "\"money\"", "rules.decimals`: is no list of decimals; write a list such as"),
        ] {
            let problems = parse_topics(&text.replace(sound, broken)).expect_err(broken).to_string();
            assert!(problems.contains(&format!("topics.toml: field `{expected}")), "{problems}");
        }
    }
}
