//! Where Kafka, the registry and the databases are: the same keys as the services', so that one environment serves both.

use std::{collections::BTreeMap, str::FromStr};

use quadrille_kafka::{Connection, Registry, registry};
use quadrille_program::{Key, Loaded, address, environment, key};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use crate::{Catalogue, http};

/// Everything that the command line needs to know about its world: what there is, and where it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// Topics, records and services: no setting, but what the program was made for.
    #[serde(skip)]
    pub catalogue: Catalogue,
    /// `QUADRILLE__KAFKA__*`
    pub kafka: Connection,
    /// `QUADRILLE__REGISTRY__*`
    pub registry: registry::Settings,
    /// `QUADRILLE__DATABASE__*`
    pub database: Database,
    /// `QUADRILLE__TOOLS__*`: what the workspace's own commands have to know, by [`Catalogue::with_settings`].
    pub tools: BTreeMap<String, String>,
}

/// Where the services' databases are, for audit and status.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Database {
    /// `QUADRILLE__DATABASE__BASE_URL`: server and role, without a database.
    pub base_url: String,
    /// `QUADRILLE__DATABASE__PREFIX`: a service's database is this and its name.
    pub prefix: String,
}

/// A setting of a workspace's own commands.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name begins with `tools.`: services pass over what does.
    pub key: Key,
    /// Its value where none is set.
    pub default: &'static str,
}

impl Setting {
    fn name(&self) -> &'static str {
        self.key.name.strip_prefix("tools.").unwrap_or(self.key.name)
    }
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

impl Settings {
    fn of(catalogue: Catalogue) -> Self {
        Self {
            tools: catalogue.settings.iter().map(|own| (own.name().to_owned(), own.default.to_owned())).collect(),
            catalogue,
            kafka: Connection::default(),
            registry: registry::Settings::default(),
            database: Database {
                base_url: "postgres://quadrille_audit:quadrille@127.0.0.1:5433".into(),
                prefix: "quadrille_".into(),
            },
        }
    }
}

/// The keys beside those of the [`Connection`].
const KEYS: [Key; 3] = [
    key::REGISTRY_URL,
    Key::address("database.base_url", "postgres://role:password@host:port", server, "databases are named behind it"),
    Key::text(
        "database.prefix",
        "up to 50 of a-z, A-Z, 0-9, hyphen and underscore",
        prefix,
        "a service's name follows, and a database's name has 63 bytes at most",
    ),
];

fn server(value: &str) -> Result<(), String> {
    address::database_server(value)?;
    let parsed = PgConnectOptions::from_str(value);
    parsed.map(drop).map_err(|_| "a percent sign of it cannot be read".into())
}

fn prefix(value: &str) -> Result<(), String> {
    let sound = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match sound && value.len() <= 50 {
        true => Ok(()),
        false => Err("it is longer, or has another character".into()),
    }
}

/// What only services know, or another workspace's commands, is passed over: a shell may well be set up for all. A mistyped key of a section that is ours is not.
fn of_services(name: &str) -> bool {
    let known = ["database.url", "database.migrate_url", "database.connections"];
    let section = name.split('.').next().unwrap_or_default();
    known.contains(&name) || !["kafka", "registry", "database"].contains(&section)
}

impl Settings {
    /// Defaults, then the file that `QUADRILLE_CONFIG` names, then the environment, then the options.
    pub fn load(catalogue: Catalogue, overrides: Overrides) -> anyhow::Result<Self> {
        Ok(Self::loaded(catalogue, overrides)?.settings)
    }

    /// The same with the source of each value.
    pub fn loaded(catalogue: Catalogue, overrides: Overrides) -> anyhow::Result<Loaded<Self>> {
        Self::from_environment(catalogue, &environment()?, overrides)
    }

    fn from_environment(
        catalogue: Catalogue,
        variables: &BTreeMap<String, String>,
        overrides: Overrides,
    ) -> anyhow::Result<Loaded<Self>> {
        let options = [
            (&key::BROKERS, "--brokers", overrides.brokers),
            (&key::TOPIC_PREFIX, "--topic-prefix", overrides.topic_prefix),
            (&key::REGISTRY_URL, "--registry", overrides.registry),
        ];
        let options = options.into_iter().filter_map(|(key, option, text)| Some((key, option, text?)));
        let own = catalogue.settings.iter().map(|own| &own.key);
        let keys = quadrille_kafka::KEYS.iter().chain(&KEYS).chain(own);
        let mut loaded = quadrille_program::load(&Self::of(catalogue), keys, of_services, variables, options)?;
        loaded.settings.catalogue = catalogue;
        loaded.settings.kafka.security.check(&loaded)?;
        let url = &mut loaded.settings.registry.url;
        url.truncate(url.trim_end_matches('/').len());
        Ok(loaded)
    }

    /// A topic's physical name.
    pub fn topic(&self, name: &str) -> String {
        self.kafka.topic(name)
    }

    /// A topic's own name, or `None` where it belongs to another world.
    pub fn logical<'a>(&self, physical: &'a str) -> Option<&'a str> {
        self.kafka.logical(physical)
    }

    /// A service's consumer group.
    pub fn group(&self, service: &str) -> String {
        self.kafka.group(service)
    }

    /// A client of the schema registry.
    pub fn registry(&self) -> anyhow::Result<Registry> {
        Registry::new(&self.registry, http::TIMEOUT)
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

    fn load(variables: &[(&str, &str)], overrides: Overrides) -> anyhow::Result<Loaded<Settings>> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        const OWN: &[Setting] = &[Setting {
            key: Key::address("tools.bank_url", "http://host:port", address::http, "its books are below it"),
            default: "http://127.0.0.1:1",
        }];
        let catalogue = Catalogue::default().with_settings(OWN);
        Settings::from_environment(catalogue, &variables.iter().map(owned).collect(), overrides)
    }

    #[test]
    fn options_outrank_the_environment_and_the_environment_the_defaults() {
        let variables = [
            ("QUADRILLE__KAFKA__BROKERS", "one:1"),
            ("QUADRILLE__KAFKA__TOPIC_PREFIX", "t1."),
            ("QUADRILLE__REGISTRY__URL", "HTTP://r:1/v7/"),
            ("QUADRILLE__HTTP__PORT", "9101"),
            ("QUADRILLE_KAFKA_PORT", "1"),
        ];
        let overrides = Overrides { brokers: Some("two:2".into()), ..Overrides::default() };
        let settings = load(&variables, overrides).expect("sound settings").settings;
        assert_eq!(settings.kafka.brokers, "two:2");
        assert_eq!(settings.topic("order.events"), "t1.order.events");
        assert_eq!(settings.logical("t1.order.events"), Some("order.events"));
        assert_eq!(settings.logical("order.events"), None);
        assert_eq!(settings.registry.url, "HTTP://r:1/v7");
        assert!(settings.database_url("order").ends_with("5433/quadrille_order"));
        assert_eq!(settings.tools["bank_url"], "http://127.0.0.1:1");
        let own = [("QUADRILLE__TOOLS__BANK_URL", "http://bank:1")];
        let loaded = load(&own, Overrides::default()).expect("sound settings");
        assert_eq!(loaded.settings.tools["bank_url"], "http://bank:1");
        assert_eq!(loaded.value("tools.bank_url").as_deref(), Ok("http://bank:1"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_variable_or_option() {
        for (variable, value) in [
            ("QUADRILLE__REGISTRY__URL", "localhost:8081"),
            ("QUADRILLE__KAFKA__BROKERS", ""),
            ("QUADRILLE__KAFKA__GROUP_PREFIX", "a b"),
            ("QUADRILLE__DATABASE__BASE_URL", "postgres://role:s3cret@h/db"),
            ("QUADRILLE__DATABASE__BASE_URL", "postgres://role:s3cret%ff@h"),
            ("QUADRILLE__DATABASE__PREFIX", "a/b"),
            ("QUADRILLE__TOOLS__BANK_URL", "ftp://me:s3cret@h"),
        ] {
            let refused = load(&[(variable, value)], Overrides::default()).expect_err(variable).to_string();
            assert!(refused.contains(variable) && refused.contains("it has to be"), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
        let overrides = Overrides { topic_prefix: Some("t 1".into()), ..Overrides::default() };
        let refused = load(&[], overrides).expect_err("no prefix").to_string();
        assert!(refused.contains("kafka.topic_prefix is 't 1', from --topic-prefix"), "{refused}");
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let variables = [
            ("QUADRILLE__REGISTRY__URL", "http://me:s3cret@h:1"),
            ("QUADRILLE__DATABASE__BASE_URL", "postgres://me:s3cret@h:5433"),
            ("QUADRILLE__KAFKA__TOPIC_PREFIX", "t1."),
        ];
        let loaded = load(&variables, Overrides::default()).expect("sound settings");
        assert!(!loaded.describe().contains("s3cret"), "{}", loaded.describe());
        assert_eq!(loaded.value("registry.url").as_deref(), Ok("http://***@h:1"));
        assert_eq!(loaded.value("kafka.topic_prefix").as_deref(), Ok("t1."));
        assert_eq!(loaded.value("database.prefix").as_deref(), Ok("quadrille_"));
    }

    #[test]
    fn a_mistyped_key_is_refused_with_the_known_ones() {
        let error =
            load(&[("QUADRILLE__KAFKA__BROKER", "b:1")], Overrides::default()).expect_err("unknown").to_string();
        assert!(error.contains("QUADRILLE__KAFKA__BROKER") && error.contains("kafka.brokers"), "{error}");
        let of_others = [
            ("QUADRILLE__DATABASE__URL", "postgres://h/db"),
            ("QUADRILLE__BATCH__WAITING", "7"),
            ("QUADRILLE__TOOLS__OF_ANOTHER_WORKSPACE", "x"),
        ];
        load(&of_others, Overrides::default()).expect("what others know is passed over");
    }

    /// Names that the prefix makes fit.
    #[test]
    fn the_longest_names_fit_behind_the_longest_prefixes() {
        let longest = crate::testing::CATALOGUE.topics.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
        assert!(200 + longest <= 249, "{longest}");
        assert!(50 + "notification".len() <= 63);
    }
}
