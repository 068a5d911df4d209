//! Where Kafka, the registry and the databases are: the same keys as the services', so that one environment serves both.

use std::{collections::BTreeMap, ffi::OsString};

use anyhow::Context;
use serde::Deserialize;

/// Everything that the command line needs to know about its world.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Settings {
    /// `QUADRILLE__KAFKA__*`
    pub kafka: Kafka,
    /// `QUADRILLE__REGISTRY__*`
    pub registry: Registry,
    /// `QUADRILLE__DATABASE__*`
    pub database: Database,
    /// `QUADRILLE__PROVIDER__*`
    pub provider: Provider,
}

/// Where the broker is, and what names carry in an isolated world.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Kafka {
    /// `QUADRILLE__KAFKA__BROKERS`: host:port, several with commas.
    pub brokers: String,
    /// `QUADRILLE__KAFKA__TOPIC_PREFIX`: a topic's physical name is this and its own name. Empty outside of isolated worlds.
    pub topic_prefix: String,
    /// `QUADRILLE__KAFKA__GROUP_PREFIX`: likewise for consumer groups.
    pub group_prefix: String,
}

/// Where the schema registry is.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Registry {
    /// `QUADRILLE__REGISTRY__URL`: the Confluent API's root.
    pub url: String,
}

/// Where the services' databases are, for audit and status.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Database {
    /// `QUADRILLE__DATABASE__BASE_URL`: server and role, without a database.
    pub base_url: String,
    /// `QUADRILLE__DATABASE__PREFIX`: a service's database is this and its name.
    pub prefix: String,
}

/// Where the payment provider's stand-in is, for the audit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Provider {
    /// `QUADRILLE__PROVIDER__URL`: its root.
    pub url: String,
}

/// What the global options say; they outrank the environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--brokers`
    pub brokers: Option<String>,
    /// `--registry`
    pub registry: Option<String>,
    /// `--topic-prefix`
    pub topic_prefix: Option<String>,
}

const DEFAULTS: [(&str, &str); 7] = [
    ("kafka.brokers", "127.0.0.1:9092"),
    ("kafka.topic_prefix", ""),
    ("kafka.group_prefix", ""),
    ("registry.url", "http://127.0.0.1:8081/apis/ccompat/v7"),
    ("database.base_url", "postgres://quadrille_audit:quadrille@127.0.0.1:5433"),
    ("database.prefix", "quadrille_"),
    ("provider.url", "http://127.0.0.1:8071"),
];

/// Keys of these sections that only services know: a shell may well be set up for both.
const OF_SERVICES: [&str; 4] =
    ["kafka.session_timeout_ms", "database.url", "database.migrate_url", "database.connections"];

impl Settings {
    /// Defaults, then the file that `QUADRILLE_CONFIG` names, then the environment, then the options.
    ///
    /// Whole sections that only services know are passed over; a key that nobody knows is refused.
    pub fn load(overrides: Overrides) -> anyhow::Result<Self> {
        // Only text can name a key of ours.
        let text = |(key, value): (OsString, OsString)| Some((key.into_string().ok()?, value.into_string().ok()?));
        Self::from_environment(std::env::vars_os().filter_map(text).collect(), overrides)
    }

    fn from_environment(variables: BTreeMap<String, String>, overrides: Overrides) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        for (key, value) in DEFAULTS {
            builder = builder.set_default(key, value)?;
        }
        if let Some(file) = variables.get("QUADRILLE_CONFIG") {
            builder = builder.add_source(config::File::new(file, config::FileFormat::Toml));
        }
        for (variable, value) in &variables {
            let Some(key) = variable.strip_prefix("QUADRILLE__") else { continue };
            let key = key.to_ascii_lowercase().replace("__", ".");
            builder = builder.set_override(&key, value.as_str()).with_context(|| format!("{variable} names no key"))?;
        }
        let loaded = builder
            .set_override_option("kafka.brokers", overrides.brokers)?
            .set_override_option("kafka.topic_prefix", overrides.topic_prefix)?
            .set_override_option("registry.url", overrides.registry)?
            .build()
            .context("The settings (the file of QUADRILLE_CONFIG, QUADRILLE__<SECTION>__<KEY>) cannot be read")?;
        refuse_unknown(&loaded)?;
        let settings: Self = loaded.try_deserialize().context("The settings do not have the right form")?;
        settings.checked()
    }

    fn checked(mut self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            !self.kafka.brokers.trim().is_empty(),
            "No broker is named: set QUADRILLE__KAFKA__BROKERS to host:port, or leave it unset for {}",
            DEFAULTS[0].1
        );
        for (key, url) in [("REGISTRY__URL", &mut self.registry.url), ("PROVIDER__URL", &mut self.provider.url)] {
            anyhow::ensure!(
                url.starts_with("http://") || url.starts_with("https://"),
                "QUADRILLE__{key} is '{url}', which is no address: it begins with http:// or https://"
            );
            url.truncate(url.trim_end_matches('/').len());
        }
        Ok(self)
    }

    /// A topic's physical name.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.kafka.topic_prefix)
    }

    /// A topic's own name, or `None` where it belongs to another world.
    pub fn logical<'a>(&self, physical: &'a str) -> Option<&'a str> {
        physical.strip_prefix(&self.kafka.topic_prefix)
    }

    /// A service's consumer group.
    pub fn group(&self, service: &str) -> String {
        format!("{}{service}", self.kafka.group_prefix)
    }

    /// The name of a service's database.
    pub fn database(&self, service: &str) -> String {
        format!("{}{service}", self.database.prefix)
    }

    /// The address of a service's database, password included: not to be shown.
    pub fn database_url(&self, service: &str) -> String {
        format!("{}/{}", self.database.base_url.trim_end_matches('/'), self.database(service))
    }
}

/// A mistyped key would leave its default in force without a word.
fn refuse_unknown(loaded: &config::Config) -> anyhow::Result<()> {
    for section in ["kafka", "registry", "database", "provider"] {
        let known = DEFAULTS.iter().map(|(key, _)| *key).chain(OF_SERVICES);
        let known: Vec<&str> = known.filter(|key| key.starts_with(section)).collect();
        for key in loaded.get_table(section).unwrap_or_default().keys() {
            let key = format!("{section}.{key}");
            anyhow::ensure!(
                known.contains(&key.as_str()),
                "There is no setting {key} (QUADRILLE__{}): use one of {}",
                key.to_ascii_uppercase().replace('.', "__"),
                known.join(", ")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)], overrides: Overrides) -> anyhow::Result<Settings> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Settings::from_environment(variables.iter().map(owned).collect(), overrides)
    }

    #[test]
    fn options_outrank_the_environment_and_the_environment_the_defaults() {
        let variables = [
            ("QUADRILLE__KAFKA__BROKERS", "one:1"),
            ("QUADRILLE__KAFKA__TOPIC_PREFIX", "t1."),
            ("QUADRILLE__HTTP__PORT", "9101"),
            ("QUADRILLE_KAFKA_PORT", "1"),
        ];
        let overrides = Overrides { brokers: Some("two:2".into()), ..Overrides::default() };
        let settings = load(&variables, overrides).expect("sound settings");
        assert_eq!(settings.kafka.brokers, "two:2");
        assert_eq!(settings.topic("order.events"), "t1.order.events");
        assert_eq!(settings.logical("t1.order.events"), Some("order.events"));
        assert_eq!(settings.logical("order.events"), None);
        assert_eq!(settings.registry.url, DEFAULTS[3].1);
        assert!(settings.database_url("order").ends_with("5433/quadrille_order"));
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_variable() {
        let error =
            load(&[("QUADRILLE__REGISTRY__URL", "localhost:8081")], Overrides::default()).expect_err("no address");
        assert!(error.to_string().contains("QUADRILLE__REGISTRY__URL"), "{error}");
        let error = load(&[("QUADRILLE__KAFKA__BROKERS", "")], Overrides::default()).expect_err("no broker");
        assert!(error.to_string().contains("QUADRILLE__KAFKA__BROKERS"), "{error}");
    }

    #[test]
    fn a_mistyped_key_is_refused_with_the_known_ones() {
        let error =
            load(&[("QUADRILLE__KAFKA__BROKER", "b:1")], Overrides::default()).expect_err("unknown").to_string();
        assert!(error.contains("QUADRILLE__KAFKA__BROKER") && error.contains("kafka.brokers"), "{error}");
        let of_services = [("QUADRILLE__DATABASE__URL", "postgres://h/db"), ("QUADRILLE__BATCH__WAITING", "7")];
        load(&of_services, Overrides::default()).expect("what services know is passed over");
    }

    #[test]
    fn a_file_lies_under_the_environment() {
        let file = std::env::temp_dir().join(format!("quadrille-{}.toml", std::process::id()));
        std::fs::write(&file, "[kafka]\nbrokers = \"file:1\"\ntopic_prefix = \"f.\"\n").expect("written");
        let variables = [("QUADRILLE_CONFIG", file.to_str().expect("text")), ("QUADRILLE__KAFKA__BROKERS", "env:1")];
        let settings = load(&variables, Overrides::default());
        std::fs::remove_file(&file).expect("removed");
        let kafka = settings.expect("sound settings").kafka;
        assert_eq!((kafka.brokers.as_str(), kafka.topic_prefix.as_str()), ("env:1", "f."));
    }
}
