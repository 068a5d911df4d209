//! Configuration: defaults in code, then a file, then the environment; every key is known, or refused.
//!
//! The file is named by `QUADRILLE_CONFIG` (TOML). A variable names its key by double underscores: `kafka.brokers` is
//! `QUADRILLE__KAFKA__BROKERS`. `service config` shows what is in force and where each value comes from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A service's configuration. `S` is the settings of its [outside](crate::Outside).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config<S = NoSettings> {
    /// The number of this instance, from 1: with instance n, `http.bind`'s port is 100 x (n - 1) higher.
    pub instance: u16,
    /// The broker.
    pub kafka: Kafka,
    /// The schema registry.
    pub registry: Registry,
    /// The service's own database.
    pub database: Database,
    /// Health and metrics.
    pub http: Http,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub telemetry: Telemetry,
    /// Batches of inputs.
    pub batch: Batch,
    /// Effects' tries.
    pub effects: Effects,
    /// Timers.
    pub timers: Timers,
    /// How long what was handled is remembered.
    pub retention: Retention,
    /// Whether decisions are recorded.
    pub history: History,
    /// The outside world of this service.
    pub outside: S,
}

/// For services without an outside.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// `kafka`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Bootstrap brokers, `host:port` separated by commas.
    pub brokers: String,
    /// Put before every topic's name: an isolated world on a shared broker.
    pub topic_prefix: String,
    /// Put before the service's name in its consumer group.
    pub group_prefix: String,
    /// How long the group waits for a silent instance, in milliseconds.
    pub session_timeout_ms: u32,
}

/// `registry`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The Confluent API's address.
    pub url: String,
}

/// `database`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://role:password@host:port/database` of the run-time role.
    pub url: String,
    /// The same for the migrator, which `migrate` uses.
    pub migrate_url: String,
    /// Connections at most, beside the relay's own.
    pub connections: u32,
}

/// `http`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Where health and metrics listen.
    pub bind: String,
}

/// `log`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// `human` or `json`.
    pub format: LogFormat,
    /// A `tracing` filter: `info,rdkafka=warn`.
    pub filter: String,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// An object a line.
    Json,
}

/// `telemetry`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans go (OTLP over gRPC, `http://127.0.0.1:4317`); empty: nowhere, but trace context is carried all the same.
    pub otlp_endpoint: String,
}

/// `batch`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Inputs of one transaction at most.
    pub max_inputs: usize,
    /// Bytes of one transaction's records at most.
    pub max_bytes: usize,
    /// Decoded inputs that may wait for a transaction; beyond that partitions are paused.
    pub waiting: usize,
    /// Bytes of records that may wait likewise.
    pub waiting_bytes: usize,
}

/// `effects`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Effects {
    /// Effects under way at once at most.
    pub concurrency: usize,
    /// The wait after the first try without an answer, in milliseconds; it doubles with each further one.
    pub first_backoff_ms: u64,
    /// The longest wait between two tries, in milliseconds.
    pub last_backoff_ms: u64,
    /// After this time, in milliseconds, a try that said nothing (its process died) is followed by another.
    pub claim_ms: u64,
}

/// `timers`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Timers {
    /// How long a broker must have answered without a break, in milliseconds, before a business deadline may fire: what others have to
    /// say comes a moment after the broker.
    pub after_return_ms: u64,
}

/// `retention`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// How long the inbox remembers inputs, and how long closed dead letters stay, in days: longer than any topic that is heard keeps
    /// records, those without end aside.
    pub inbox_days: u32,
}

/// `history`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Keep each input and what it came to in the table `history`, for `quadrille replay`. Nothing removes it again.
    pub keep: bool,
}

impl<S: Default> Config<S> {
    /// The defaults of a service: the local world of `make up`.
    pub fn of(service: &str) -> Self {
        let postgres = "127.0.0.1:5433";
        let role = format!("quadrille_{service}");
        Self {
            instance: 1,
            kafka: Kafka {
                brokers: "127.0.0.1:9092".into(),
                topic_prefix: String::new(),
                group_prefix: String::new(),
                session_timeout_ms: 10_000,
            },
            registry: Registry { url: "http://127.0.0.1:8081/apis/ccompat/v7".into() },
            database: Database {
                url: format!("postgres://{role}:quadrille@{postgres}/{role}"),
                migrate_url: format!("postgres://{role}_migrator:quadrille@{postgres}/{role}"),
                connections: 8,
            },
            http: Http { bind: "127.0.0.1:0".into() },
            log: Log { format: LogFormat::Human, filter: "info".into() },
            telemetry: Telemetry { otlp_endpoint: String::new() },
            batch: Batch { max_inputs: 500, max_bytes: 1 << 20, waiting: 5_000, waiting_bytes: 16 << 20 },
            effects: Effects { concurrency: 64, first_backoff_ms: 1_000, last_backoff_ms: 300_000, claim_ms: 20_000 },
            timers: Timers { after_return_ms: 30_000 },
            retention: Retention { inbox_days: 35 },
            history: History { keep: false },
            outside: S::default(),
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The code.
    Default,
    /// The file of `QUADRILLE_CONFIG`.
    File(String),
    /// This variable.
    Environment(String),
}

/// A configuration with the source of each of its values, by key.
#[derive(Clone, Debug)]
pub struct Loaded<S> {
    /// What is in force.
    pub config: Config<S>,
    /// Key, value and source, sorted by key.
    pub values: BTreeMap<String, (String, Source)>,
}

/// Why a configuration is refused: names the key, where it was set, and the mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Loads a configuration over `defaults`, from the file named by `QUADRILLE_CONFIG` and from `environment`.
pub fn load<S>(defaults: Config<S>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Loaded<S>, Error>
where
    S: Serialize + DeserializeOwned,
{
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let defaults = serde_json::to_value(&defaults).map_err(|error| Error(format!("the defaults: {error}")))?;
    let mut values: BTreeMap<String, (String, Source)> = BTreeMap::new();
    flatten("", &defaults, &mut |key, value| {
        values.insert(key, (value, Source::Default));
    });

    let mut set = |key: String, value: String, source: Source| match values.get_mut(&key) {
        Some(known) => {
            *known = (value, source);
            Ok(())
        }
        None => Err(Error(unknown(&key, &source, values.keys()))),
    };
    if let Some(path) = environment.get("QUADRILLE_CONFIG") {
        let read = |error: &dyn std::fmt::Display| Error(format!("QUADRILLE_CONFIG names {path}: {error}"));
        let text = std::fs::read_to_string(path).map_err(|error| read(&error))?;
        let file: serde_json::Value = toml::from_str(&text).map_err(|error| read(&error))?;
        let mut flat = vec![];
        flatten("", &file, &mut |key, value| flat.push((key, value)));
        for (key, value) in flat {
            set(key, value, Source::File(path.clone()))?;
        }
    }
    for (variable, value) in &environment {
        if let Some(key) = variable.strip_prefix("QUADRILLE__") {
            let key = key.to_ascii_lowercase().replace("__", ".");
            set(key, value.clone(), Source::Environment(variable.clone()))?;
        }
    }

    let mut builder = config::Config::builder();
    for (key, (value, _)) in &values {
        builder = builder.set_override(key, value.as_str()).map_err(|error| Error(error.to_string()))?;
    }
    // A section without keys (the outside of a service that has none) leaves no value behind.
    builder = builder.set_default("outside", config::Map::<String, String>::new()).map_err(|e| Error(e.to_string()))?;
    let config = builder.build().and_then(config::Config::try_deserialize).map_err(|error| {
        let text = error.to_string();
        let culprit =
            values.iter().find(|(key, (_, source))| *source != Source::Default && text.contains(key.as_str()));
        match culprit {
            Some((key, (_, source))) => Error(format!("{key}, {}: {text}", describe(source))),
            None => Error(text),
        }
    })?;
    Ok(Loaded { config, values })
}

impl<S> Loaded<S> {
    /// What is in force, a line a key, with its source; secrets hidden.
    pub fn describe(&self) -> String {
        let line = |(key, (value, source)): (&String, &(String, Source))| {
            format!("{key} = {}  # {}\n", hide_password(value), describe(source))
        };
        self.values.iter().map(line).collect()
    }
}

/// An address without the password in it.
pub fn hide_password(value: &str) -> String {
    let hidden = || {
        let (scheme, rest) = value.split_once("://")?;
        let (user_info, host) = rest.rsplit_once('@')?;
        let user = user_info.split(':').next()?;
        Some(format!("{scheme}://{user}:***@{host}"))
    };
    hidden().unwrap_or_else(|| value.to_owned())
}

fn describe(source: &Source) -> String {
    match source {
        Source::Default => "default".into(),
        Source::File(path) => format!("from {path}"),
        Source::Environment(variable) => format!("from {variable}"),
    }
}

fn unknown<'a>(key: &str, source: &Source, known: impl Iterator<Item = &'a String>) -> String {
    let section = key.split('.').next().unwrap_or_default();
    let all: Vec<&String> = known.collect();
    let near: Vec<&str> = all.iter().filter(|known| known.starts_with(section)).map(|known| known.as_str()).collect();
    let choices = if near.is_empty() {
        all.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ")
    } else {
        near.join(", ")
    };
    format!("there is no key '{key}' ({}): remove it, or use one of {choices}", describe(source))
}

fn flatten(prefix: &str, value: &serde_json::Value, each: &mut dyn FnMut(String, String)) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, field, each);
            }
        }
        serde_json::Value::String(text) => each(prefix.to_owned(), text.clone()),
        other => each(prefix.to_owned(), other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(environment: &[(&str, &str)]) -> Result<Loaded<NoSettings>, Error> {
        load(Config::of("order"), environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_environment_overrides_and_is_named_as_the_source() {
        let loaded = load_with(&[("QUADRILLE__KAFKA__BROKERS", "b:1"), ("QUADRILLE__BATCH__MAX_INPUTS", "7")]).unwrap();
        assert_eq!(loaded.config.kafka.brokers, "b:1");
        assert_eq!(loaded.config.batch.max_inputs, 7);
        assert!(loaded.describe().contains("kafka.brokers = b:1  # from QUADRILLE__KAFKA__BROKERS\n"));
        assert!(loaded.describe().contains("registry.url = http://127.0.0.1:8081/apis/ccompat/v7  # default\n"));
    }

    #[test]
    fn passwords_are_hidden() {
        let text = load_with(&[("QUADRILLE__DATABASE__URL", "postgres://me:s:e@cret@h:1/db")]).unwrap().describe();
        assert!(text.contains("database.url = postgres://me:***@h:1/db"), "{text}");
        assert!(!text.contains("cret@"), "{text}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let error = load_with(&[("QUADRILLE__KAFKA__BROKER", "b:1")]).unwrap_err().to_string();
        assert!(error.contains("no key 'kafka.broker' (from QUADRILLE__KAFKA__BROKER)"), "{error}");
        assert!(error.contains("kafka.brokers"), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_key_and_source() {
        let error = load_with(&[("QUADRILLE__BATCH__MAX_INPUTS", "many")]).unwrap_err().to_string();
        assert!(error.contains("batch.max_inputs") && error.contains("QUADRILLE__BATCH__MAX_INPUTS"), "{error}");
    }
}
