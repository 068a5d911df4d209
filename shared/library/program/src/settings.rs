//! Settings: defaults in code, then a file, then the environment; every key is known, and has a value that it may have, or is refused.
//!
//! The file is named by `QUADRILLE_CONFIG` (TOML). A variable names its key by double underscores: `kafka.brokers` is
//! `QUADRILLE__KAFKA__BROKERS`.

use std::{collections::BTreeMap, fs::File, io::Read};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::Key;

/// The most bytes of a file of settings.
const MOST_BYTES: u64 = 1 << 20;
/// The most members of a [family](Key::family).
const MOST_MEMBERS: usize = 50;

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Source {
    /// The code.
    Default,
    /// The file of `QUADRILLE_CONFIG`.
    File(String),
    /// This variable.
    Environment(String),
    /// This option of the command line.
    Option(&'static str),
}

/// Settings with the source of each of their values, by key.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What is in force.
    pub settings: T,
    values: BTreeMap<String, Set>,
}

/// A key's value as it was set.
#[derive(Clone, Debug)]
struct Set {
    key: &'static Key,
    text: String,
    source: Source,
}

/// Why settings are refused: a sentence for each thing that is wrong, with the key, where it was set, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl From<crate::Unreadable> for Error {
    fn from(error: crate::Unreadable) -> Self {
        Self(error.to_string())
    }
}

/// Loads settings over `defaults`: the file named by `QUADRILLE_CONFIG`, then the `environment`, then `options`. `keys` are all that there
/// are; what `passes` is another program's, which is told by the same file and variables.
pub fn load<T: Serialize + DeserializeOwned>(
    defaults: &T,
    keys: impl IntoIterator<Item = &'static Key>,
    passes: fn(&str) -> bool,
    environment: &BTreeMap<String, String>,
    options: impl IntoIterator<Item = (&'static Key, &'static str, String)>,
) -> Result<Loaded<T>, Error> {
    let defaults = serde_json::to_value(defaults).map_err(|error| Error(format!("the defaults: {error}")))?;
    let mut values: BTreeMap<String, Set> = BTreeMap::new();
    let mut texts = BTreeMap::new();
    flatten("", &defaults, &mut |name, text| drop(texts.insert(name, text)));
    let mut families = vec![];
    for key in keys {
        let mut enter = |name, text| values.insert(name, Set { key, text, source: Source::Default });
        if key.is_family() {
            families.push(key);
            // The family itself is shown, so that one without members is known.
            enter(key.name.to_owned(), String::new());
            texts.extract_if(.., |name, _| key.member(name).is_some()).for_each(|(name, text)| drop(enter(name, text)));
        } else if let Some(text) = texts.remove(key.name) {
            enter(key.name.to_owned(), text);
        }
    }
    if let Some(name) = texts.keys().next() {
        return Err(Error(format!("the code has no rule for the key {name}")));
    }

    let mut problems = vec![];
    let mut set = |name: &str, text: String, source: Source| match values.get_mut(name) {
        Some(Set { source: Source::Environment(twice), .. }) if matches!(source, Source::Environment(_)) => {
            problems.push(format!("{name} is set twice, {} and from {twice}: unset one", source.describe()));
        }
        Some(set) => (set.text, set.source) = (text, source),
        None => match families.iter().find(|family| family.member(name).is_some()) {
            Some(key) => drop(values.insert(name.to_owned(), Set { key, text, source })),
            None if passes(name) => {}
            None => problems.push(unknown(name, &source, values.keys())),
        },
    };
    if let Some(path) = environment.get("QUADRILLE_CONFIG") {
        flatten("", &read(path)?, &mut |name, text| set(&name, text, Source::File(path.clone())));
    }
    for (variable, text) in environment {
        if let Some(name) = variable.strip_prefix("QUADRILLE__") {
            let name = name.to_ascii_lowercase().replace("__", ".");
            set(&name, text.clone(), Source::Environment(variable.clone()));
        }
    }
    for (key, option, text) in options {
        set(key.name, text, Source::Option(option));
    }

    for family in families {
        let count = values.keys().filter(|name| family.member(name).is_some()).count();
        if count > MOST_MEMBERS {
            problems.push(format!("{} has {count} settings: remove some, it has {MOST_MEMBERS} at most", family.name));
        }
    }

    let mut tree = Value::Object(skeleton(&defaults));
    for (name, Set { key, text, source }) in &values {
        match (key.read(name, text, &source.describe()), key.member(name)) {
            (Ok(value), Some(member)) => at(&mut tree, key.name)[member] = value,
            (Ok(_), None) if key.is_family() => {}
            (Ok(value), None) => *at(&mut tree, name) = value,
            (Err(problem), _) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(Error(problems.join("\n")));
    }
    let settings = serde_json::from_value(tree).map_err(|error| Error(format!("the rules of the code: {error}")))?;
    Ok(Loaded { settings, values })
}

impl<T> Loaded<T> {
    /// What is in force, a line per key, with its source and what else it may be; secrets hidden.
    pub fn describe(&self) -> String {
        let line = |(name, Set { key, text, source }): (&String, &Set)| {
            format!("{name} = {}  # {}; {}\n", key.shown(name, text), source.describe(), key.range())
        };
        self.values.iter().map(line).collect()
    }

    /// Refuses settings of which each is sound, and which do not go together.
    pub fn require(&self, holds: bool, names: [&str; 2], rule: &str) -> Result<(), Error> {
        if holds {
            return Ok(());
        }
        let shown = |name: &str| match self.values.get(name) {
            Some(Set { key, text, source }) => format!("{name} is {} ({})", key.shown(name, text), source.describe()),
            None => name.to_owned(),
        };
        let [one, other] = names.map(shown);
        Err(Error(format!("{one}, {other}: {rule}")))
    }

    /// The value of one key that is in force; secrets hidden.
    pub fn value(&self, name: &str) -> Result<String, Error> {
        let found = self.values.get(name).map(|set| set.key.shown(name, &set.text));
        found.ok_or_else(|| Error(format!("there is no key '{name}': use one of {}", near(name, self.values.keys()))))
    }
}

impl Source {
    fn describe(&self) -> String {
        match self {
            Self::Default => "default".into(),
            Self::File(path) => format!("from {path}"),
            Self::Environment(variable) => format!("from {variable}"),
            Self::Option(option) => format!("from {option}"),
        }
    }
}

fn read(path: &str) -> Result<Value, Error> {
    let refused = |what: &dyn std::fmt::Display| Error(format!("QUADRILLE_CONFIG names {path}: {what}"));
    let mut text = String::new();
    let mut file = File::open(path).map_err(|error| refused(&error))?.take(MOST_BYTES + 1);
    file.read_to_string(&mut text).map_err(|error| refused(&error))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(refused(&format_args!("it is larger than {MOST_BYTES} bytes")));
    }
    // The error's own text would show the line, whatever secret is in it.
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        refused(&format_args!("line {line}: {}", error.message()))
    })
}

fn unknown<'a>(name: &str, source: &Source, known: impl Iterator<Item = &'a String>) -> String {
    format!("there is no key '{name}' ({}): remove it, or use one of {}", source.describe(), near(name, known))
}

/// The keys of the same section; of an unknown one all.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let section = name.split('.').next().unwrap_or_default();
    let all: Vec<&str> = known.map(String::as_str).collect();
    let near: Vec<&str> = all.iter().filter(|known| known.split('.').next() == Some(section)).copied().collect();
    if near.is_empty() { all } else { near }.join(", ")
}

fn flatten(prefix: &str, value: &Value, each: &mut dyn FnMut(String, String)) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, field, each);
            }
        }
        Value::String(text) => each(prefix.to_owned(), text.clone()),
        other => each(prefix.to_owned(), other.to_string()),
    }
}

/// The sections alone: one without keys (the outside of a service that has none) has to be there all the same.
fn skeleton(value: &Value) -> Map<String, Value> {
    let sections = value.as_object().into_iter().flatten().filter(|(_, value)| value.is_object());
    sections.map(|(name, value)| (name.clone(), Value::Object(skeleton(value)))).collect()
}

/// Where the key of this name has its value.
fn at<'a>(tree: &'a mut Value, name: &str) -> &'a mut Value {
    name.split('.').fold(tree, |at, part| &mut at[part])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Settings {
        kafka: Kafka,
        registry: Registry,
        outside: Nothing,
    }

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Kafka {
        brokers: String,
        topic_prefix: String,
    }

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Registry {
        url: String,
        tries: u8,
    }

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Nothing {}

    const KEYS: [Key; 4] =
        [key::BROKERS, key::TOPIC_PREFIX, key::REGISTRY_URL, Key::number("registry.tries", 1, 9, "of a reason")];

    fn load_with(variables: &[(&str, &str)]) -> Result<Loaded<Settings>, Error> {
        let defaults = Settings {
            kafka: Kafka { brokers: "d:1".into(), topic_prefix: String::new() },
            registry: Registry { url: "http://d".into(), tries: 3 },
            outside: Nothing {},
        };
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(&defaults, &KEYS, |name| name.starts_with("tools."), &environment, [])
    }

    /// A file of this text, for as long as `then` runs.
    fn with_file<T>(text: &str, then: impl FnOnce(&str) -> T) -> T {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("quadrille-settings-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, text).expect("written");
        let came = then(path.to_str().expect("text"));
        std::fs::remove_file(path).expect("removed");
        came
    }

    #[test]
    fn the_environment_outranks_the_file_and_the_file_the_defaults() {
        with_file("[kafka]\nbrokers = \"f:1\"\ntopic_prefix = \"f.\"\n[tools]\nx = 1\n", |path| {
            let variables =
                [("QUADRILLE_CONFIG", path), ("QUADRILLE__KAFKA__BROKERS", "e:1"), ("QUADRILLE__TOOLS__Y", "?")];
            let loaded = load_with(&variables).expect("sound");
            let Settings { kafka, registry, .. } = &loaded.settings;
            assert_eq!((&*kafka.brokers, &*kafka.topic_prefix, registry.tries), ("e:1", "f.", 3));
            let told = loaded.describe();
            assert!(told.contains("kafka.brokers = e:1  # from QUADRILLE__KAFKA__BROKERS; host:port,"), "{told}");
            assert!(told.contains(&format!("kafka.topic_prefix = f.  # from {path}; ")), "{told}");
            assert!(told.contains("registry.tries = 3  # default; 1 to 9\n"), "{told}");
            assert_eq!(loaded.value("kafka.topic_prefix").as_deref(), Ok("f."));
            let refused = loaded.value("kafka.broker").expect_err("no key").to_string();
            assert_eq!(refused, "there is no key 'kafka.broker': use one of kafka.brokers, kafka.topic_prefix");
        });
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let refused = load_with(&[
            ("QUADRILLE__KAFKA__BROKER", "b:1"),
            ("QUADRILLE__KAFKA__BROKERS", "b"),
            ("QUADRILLE__REGISTRY__TRIES", "256"),
            ("QUADRILLE__registry__tries", "1"),
        ])
        .expect_err("wrong");
        let refused = refused.to_string();
        for part in [
            "there is no key 'kafka.broker' (from QUADRILLE__KAFKA__BROKER): remove it, or use one of kafka.brokers, kafka.topic_prefix",
            "kafka.brokers is 'b', from QUADRILLE__KAFKA__BROKERS: ",
            "registry.tries is '256', from QUADRILLE__REGISTRY__TRIES: it has to be 1 to 9",
            "registry.tries is set twice, from QUADRILLE__registry__tries and from QUADRILLE__REGISTRY__TRIES",
        ] {
            assert!(refused.contains(part), "{part}\n{refused}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_without_its_lines() {
        for (text, said) in [
            ("[registry]\nurl = \"http://me:s3cret@h\n", "line 2: "),
            ("[registry]\nurl = [\"http://me:s3cret@h\"]", "registry.url, from "),
            ("[registry]\nurl = { me = \"s3cret\" }", "there is no key 'registry.url.me'"),
            ("registry = \"s3cret\"", "there is no key 'registry'"),
            ("[registry]\ntries = 1e0", "registry.tries is '1.0'"),
            ("[registry]\ntries = -1", "registry.tries is '-1'"),
            ("[registry]\ntries = nan", "registry.tries is 'null'"),
            (&"#".repeat(1 << 21), "larger than 1048576 bytes"),
        ] {
            let refused = with_file(text, |path| load_with(&[("QUADRILLE_CONFIG", path)])).expect_err(text).to_string();
            assert!(refused.contains(said), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        let refused = load_with(&[("QUADRILLE_CONFIG", "/nowhere")]).expect_err("no file").to_string();
        assert!(refused.contains("QUADRILLE_CONFIG names /nowhere: "), "{refused}");
    }

    #[test]
    fn a_family_takes_what_is_below_it_from_file_and_environment() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct Settings {
            options: BTreeMap<String, String>,
        }
        const OPTIONS: &[Key] = &[Key::family(
            "options",
            "a setting of another's",
            |name, _| if name == "none" { Err("there is no such setting".into()) } else { Ok(()) },
            "it is handed on",
        )];
        let load = |variables: &[(&str, &str)]| {
            let defaults = Settings { options: BTreeMap::from([("a.b".to_owned(), "0".to_owned())]) };
            let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            load(&defaults, OPTIONS, |_| false, &environment, [])
        };
        with_file("[options]\na.b = 1\n\"c.d\" = true\n", |path| {
            let variables = [("QUADRILLE_CONFIG", path), ("QUADRILLE__OPTIONS__SSL__KEY__PASSWORD", "s3cret")];
            let loaded = load(&variables).expect("sound");
            let set = [("a.b", "1"), ("c.d", "true"), ("ssl.key.password", "s3cret")];
            assert_eq!(loaded.settings.options, set.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
            assert!(loaded.describe().contains(&format!("options.a.b = 1  # from {path}; ")), "{}", loaded.describe());
            assert!(!loaded.describe().contains("s3cret"), "{}", loaded.describe());
        });
        let refused = load(&[("QUADRILLE__OPTIONS__NONE", "s3cret")]).expect_err("none").to_string();
        assert!(refused.starts_with("options.none, from QUADRILLE__OPTIONS__NONE: there is no such"), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
        let many: Vec<String> = (0..MOST_MEMBERS).map(|number| format!("QUADRILLE__OPTIONS__X{number}")).collect();
        let refused = load(&many.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>()).expect_err("too many");
        assert!(refused.to_string().contains("options has 51 settings"), "{refused}");
    }

    #[test]
    fn a_key_without_a_rule_is_the_codes_fault() {
        let defaults = serde_json::json!({ "a": { "b": 1 } });
        let refused = load(&defaults, &KEYS, |_| false, &BTreeMap::new(), []).expect_err("no rule");
        assert!(refused.to_string().contains("a.b"), "{refused}");
    }
}
