//! Where Kafka, the registry and the databases are: the same keys as the services', so that one environment serves both.

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

impl Settings {
    /// Defaults, then the environment, then the options.
    ///
    /// Variables that only services know are passed over: a shell may well be set up for both.
    pub fn load(overrides: Overrides) -> anyhow::Result<Self> {
        let environment = config::Environment::with_prefix("QUADRILLE").prefix_separator("__").separator("__");
        Self::from_environment(environment, overrides)
    }

    fn from_environment(environment: config::Environment, overrides: Overrides) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        for (key, value) in DEFAULTS {
            builder = builder.set_default(key, value)?;
        }
        let settings: Self = builder
            .add_source(environment.ignore_empty(false))
            .set_override_option("kafka.brokers", overrides.brokers)?
            .set_override_option("kafka.topic_prefix", overrides.topic_prefix)?
            .set_override_option("registry.url", overrides.registry)?
            .build()
            .and_then(config::Config::try_deserialize)
            .context("The settings in the environment (QUADRILLE__<SECTION>__<KEY>) cannot be read")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)], overrides: Overrides) -> anyhow::Result<Settings> {
        let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let environment = config::Environment::with_prefix("QUADRILLE").prefix_separator("__").separator("__");
        Settings::from_environment(environment.source(Some(variables)), overrides)
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
}
