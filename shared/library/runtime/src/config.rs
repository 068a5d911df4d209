//! Configuration: defaults in code, then a file, then the environment ([`quadrille_program::load`]). Every key has a range with a reason,
//! and a value outside is refused at the start. `service config` shows what is in force, where each value comes from and what it may be.

use std::{collections::BTreeMap, net::SocketAddr, str::FromStr};

use quadrille_kafka::{Connection, registry};
use quadrille_program::key;
pub use quadrille_program::{Error, Key, Loaded, address};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::postgres::PgConnectOptions;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// A service's configuration. `S` is the settings of its [outside](crate::Outside).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config<S = NoSettings> {
    /// The number of this instance, from 1: with instance n, `http.bind`'s port is 100 x (n - 1) higher.
    pub instance: u16,
    /// The broker.
    pub kafka: Connection,
    /// The schema registry.
    pub registry: registry::Settings,
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
    /// Where health, metrics and the service's own routes listen.
    pub bind: String,
    /// Where others reach that, as the heartbeat tells: empty for `http.bind`'s own address, or for none where that is every address.
    pub advertise: String,
    /// Requests for its own routes at once at most, streams that are open included; health and metrics count for nothing.
    pub requests: usize,
    /// Commands that may wait for a transaction; one more is refused.
    pub commands: usize,
    /// Connections to the database at most for them, beside those of `database.connections`.
    pub connections: u32,
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
    /// Where spans go (OTLP over HTTP with protobuf, `http://127.0.0.1:4318`); empty: nowhere, but trace context is carried all the same.
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

impl Effects {
    /// A try ends before its claim does: else another instance would begin the next one beside it.
    pub(crate) fn within_ms(&self) -> u64 {
        self.claim_ms * 9 / 10
    }

    /// The wait after the try of this number, from 1.
    pub(crate) fn backoff_ms(&self, tries: i32) -> u64 {
        let doubled = 1_u64.checked_shl(tries.saturating_sub(1).max(0).unsigned_abs()).unwrap_or(u64::MAX);
        self.first_backoff_ms.saturating_mul(doubled).min(self.last_backoff_ms)
    }
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
    pub inbox_days: u16,
    /// How long an order's rows stay after their last change once they have ended, in days: no shorter than `inbox_days`.
    pub ended_days: u16,
    /// How long those of them stay that money or goods are accounted for by, and the events of an order, in days: no shorter than
    /// `ended_days`. The default is ten years, what bookkeeping law asks for at the most in many countries.
    pub books_days: u16,
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
            kafka: Connection::default(),
            registry: registry::Settings::default(),
            database: Database {
                url: format!("postgres://{role}:quadrille@{postgres}/{role}"),
                migrate_url: format!("postgres://{role}_migrator:quadrille@{postgres}/{role}"),
                connections: 8,
            },
            http: Http {
                bind: "127.0.0.1:0".into(),
                advertise: String::new(),
                requests: 256,
                commands: 256,
                connections: 4,
            },
            log: Log { format: LogFormat::Human, filter: "info".into() },
            telemetry: Telemetry { otlp_endpoint: String::new() },
            batch: Batch { max_inputs: 500, max_bytes: 1 << 20, waiting: 5_000, waiting_bytes: 16 << 20 },
            effects: Effects { concurrency: 64, first_backoff_ms: 1_000, last_backoff_ms: 300_000, claim_ms: 20_000 },
            timers: Timers { after_return_ms: 30_000 },
            retention: Retention { inbox_days: 35, ended_days: 90, books_days: 3_653 },
            history: History { keep: false },
            outside: S::default(),
        }
    }
}

/// The settings of an [outside](crate::Outside): its own section of the configuration.
pub trait Settings: Clone + Default + DeserializeOwned + Serialize + Send + 'static {
    /// All of its keys, as `outside.url`, with what each may be.
    const KEYS: &'static [Key];

    /// How long a try may take by itself, which is shorter than its claim.
    fn timeout_ms(&self) -> Option<u64>;
}

impl Settings for NoSettings {
    const KEYS: &'static [Key] = &[];

    fn timeout_ms(&self) -> Option<u64> {
        None
    }
}

/// How long one request of an outside may take, and at the same time a try of a mail.
pub const TIMEOUT_MS: Key = Key::number(
    "outside.timeout_ms",
    100,
    300_000,
    "a sound answer takes longer than nothing, and a slot that waits for minutes performs nothing else",
);

/// How long an effect may be without an answer, of an outside that remembers keys, before it waits for a person.
pub const PARK_AFTER_MS: Key = Key::number(
    "outside.park_after_ms",
    1_000,
    2_592_000_000,
    "within a second nobody can have answered, and after a month nobody remembers a key",
);

/// All keys but those of the [`Connection`] and of an outside.
const KEYS: &[Key] = &[
    Key::number("instance", 1, 655, "instance n listens 100 x (n - 1) ports above http.bind, and ports end at 65535"),
    key::REGISTRY_URL,
    Key::address("database.url", DATABASE, database, "nothing of it is guessed"),
    Key::address("database.migrate_url", DATABASE, database, "nothing of it is guessed"),
    Key::number(
        "database.connections",
        3,
        100,
        "the worker needs one, what listens for other instances' facts another, and all else a third; PostgreSQL has 100 by default, for all",
    ),
    Key::text("http.bind", "an IP address and a port, as 127.0.0.1:9101", bind, "names are not resolved"),
    Key::address(
        "http.advertise",
        "empty, http://host:port or https://host:port",
        advertise,
        "everybody reads it in the heartbeat, and asks this instance there",
    ),
    Key::number("http.requests", 1, 10_000, "none would answer nobody, and each takes memory and perhaps a connection"),
    Key::number(
        "http.commands",
        1,
        10_000,
        "none would be handled, and each waits in memory, up to 256 KiB, with a caller who gives up after 5 s",
    ),
    Key::number(
        "http.connections",
        1,
        100,
        "a page needs one, and the worker's are not taken for it; PostgreSQL has 100 by default, for all",
    ),
    Key::one_of("log.format", &["human", "json"]),
    Key::text(
        "log.filter",
        "a level (off, error, warn, info, debug, trace) or target=level, several with commas",
        filter,
        "a mistyped level would be taken for a target, and silence all others",
    ),
    Key::address(
        "telemetry.otlp_endpoint",
        "empty or http://host:port",
        endpoint,
        "spans are sent without TLS: to a collector nearby, which can go on with it",
    ),
    Key::number(
        "batch.max_inputs",
        1,
        10_000,
        "a transaction is tried again as a whole, and holds its locks until it ends",
    ),
    Key::number("batch.max_bytes", 1, 64 << 20, "a transaction's statements carry its records whole"),
    Key::number("batch.waiting", 1, 1_000_000, "none would wait for nobody, and each takes memory beside its bytes"),
    Key::number("batch.waiting_bytes", 1, 1 << 30, "they wait in memory"),
    Key::number(
        "effects.concurrency",
        1,
        1_000,
        "none would perform nothing, and each takes a connection to the outside",
    ),
    Key::number("effects.first_backoff_ms", 1, 3_600_000, "it doubles with each try"),
    Key::number(
        "effects.last_backoff_ms",
        1,
        86_400_000,
        "an effect that is asked for less than once a day is forgotten",
    ),
    Key::number(
        "effects.claim_ms",
        1_000,
        3_600_000,
        "a try takes its time, and one whose process died is followed by none before it",
    ),
    Key::number(
        "timers.after_return_ms",
        0,
        3_600_000,
        "what others have to say comes within moments of the broker, and no deadline fires before",
    ),
    Key::number(
        "retention.inbox_days",
        1,
        3_650,
        "an inbox that forgets at once knows nothing, and one of ten years is as good as one without end",
    ),
    Key::number(
        "retention.ended_days",
        1,
        36_500,
        "an order is looked at for a while after its end, and not for longer than books are kept anywhere",
    ),
    Key::number("retention.books_days", 1, 36_500, "nobody keeps books for longer"),
    Key::flag("history.keep"),
];

const DATABASE: &str = "postgres://role:password@host:port/database";

fn database(value: &str) -> Result<(), String> {
    address::database(value)?;
    let parsed = PgConnectOptions::from_str(value);
    parsed.map(drop).map_err(|_| "a percent sign or a parameter of it cannot be read".into())
}

fn bind(value: &str) -> Result<(), String> {
    value.parse::<SocketAddr>().map(drop).map_err(|error| error.to_string())
}

fn advertise(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    address::http(value)?;
    if value.contains('@') { Err("it names a user".into()) } else { Ok(()) }
}

/// Where others reach an instance that listens at `address`: as it was told, else there. None where it listens on every address: which of
/// them others reach it knows nobody here.
pub(crate) fn advertised(advertise: &str, address: SocketAddr) -> Option<String> {
    if !advertise.is_empty() {
        return Some(advertise.trim_end_matches('/').to_owned());
    }
    (!address.ip().is_unspecified()).then(|| format!("http://{address}"))
}

/// Where the instance listens: `http.bind`, 100 x (instance - 1) ports higher. Port 0 is any free one, for every instance.
pub(crate) fn listens_at(bind: &str, instance: u16) -> Option<SocketAddr> {
    let mut address: SocketAddr = bind.parse().ok()?;
    if address.port() != 0 {
        address.set_port(instance.checked_sub(1)?.checked_mul(100)?.checked_add(address.port())?);
    }
    Some(address)
}

/// `Targets` takes any word without a level for a target of which all is logged, and a blank for a part of a target's name.
fn filter(value: &str) -> Result<(), String> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let has_level = |directive: &str| directive.rsplit('=').next().is_some_and(is_level);
    if !value.split(',').all(has_level) || value.contains(' ') {
        return Err("a part of it has no level, or there is a blank".into());
    }
    Targets::from_str(value).map(drop).map_err(|error| error.to_string())
}

fn endpoint(value: &str) -> Result<(), String> {
    if value.is_empty() { Ok(()) } else { address::plain_http(value) }
}

/// Keys that the command line alone knows: a shell may well be set up for both.
fn of_tools(name: &str) -> bool {
    ["database.base_url", "database.prefix"].contains(&name) || name.starts_with("tools.")
}

/// Loads a configuration over `defaults`, from the file named by `QUADRILLE_CONFIG` and from `environment`.
pub fn load<S: Settings>(
    defaults: &Config<S>,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded<Config<S>>, Error> {
    let keys = quadrille_kafka::KEYS.iter().chain(KEYS).chain(S::KEYS);
    let loaded: Loaded<Config<S>> = quadrille_program::load(defaults, keys, of_tools, environment, [])?;
    let Config { instance, kafka, http, batch, effects, retention, outside, .. } = &loaded.settings;
    kafka.security.check(&loaded)?;
    loaded.require(
        listens_at(&http.bind, *instance).is_some(),
        ["instance", "http.bind"],
        "instance n listens 100 x (n - 1) ports above, and there is no port above 65535",
    )?;
    loaded.require(
        batch.max_inputs <= batch.waiting,
        ["batch.max_inputs", "batch.waiting"],
        "a transaction takes what waits, so it has to be at most as much",
    )?;
    loaded.require(
        batch.max_bytes <= batch.waiting_bytes,
        ["batch.max_bytes", "batch.waiting_bytes"],
        "a transaction takes what waits, so it has to be at most as much",
    )?;
    loaded.require(
        effects.first_backoff_ms <= effects.last_backoff_ms,
        ["effects.first_backoff_ms", "effects.last_backoff_ms"],
        "waits grow from the first to the last, so the first has to be at most as long",
    )?;
    loaded.require(
        outside.timeout_ms().is_none_or(|timeout_ms| timeout_ms <= effects.within_ms()),
        ["outside.timeout_ms", "effects.claim_ms"],
        "a try ends within nine tenths of its claim, so the time-out has to be at most as long",
    )?;
    loaded.require(
        retention.inbox_days <= retention.ended_days,
        ["retention.inbox_days", "retention.ended_days"],
        "what has ended is known for as long as its inputs are, or longer",
    )?;
    loaded.require(
        retention.ended_days <= retention.books_days,
        ["retention.ended_days", "retention.books_days"],
        "the books are kept for as long as anything else, or longer",
    )?;
    Ok(loaded)
}

/// Checks a configuration that was made in code.
pub(crate) fn check<S: Settings>(config: &Config<S>) -> Result<(), Error> {
    load(config, &BTreeMap::new()).map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An outside's settings, as services have them.
    #[derive(Clone, Debug, Deserialize, Serialize)]
    struct Asked {
        url: String,
        timeout_ms: u64,
    }

    impl Default for Asked {
        fn default() -> Self {
            Self { url: "http://h".into(), timeout_ms: 5_000 }
        }
    }

    impl Settings for Asked {
        const KEYS: &'static [Key] =
            &[Key::address("outside.url", "http://host:port", address::http, "it is asked there"), TIMEOUT_MS];

        fn timeout_ms(&self) -> Option<u64> {
            Some(self.timeout_ms)
        }
    }

    fn all_keys() -> impl Iterator<Item = &'static Key> {
        quadrille_kafka::KEYS.iter().chain(KEYS).chain(Asked::KEYS)
    }

    fn load_with<K: AsRef<str>>(variables: &[(K, &str)]) -> Result<Loaded<Config<Asked>>, Error> {
        let variable = |key: &str| format!("QUADRILLE__{}", key.to_ascii_uppercase().replace('.', "__"));
        let set = variables.iter().map(|(key, value)| (variable(key.as_ref()), (*value).to_owned()));
        load(&Config::of("order"), &set.collect())
    }

    fn refused(key: &str, value: &str) -> String {
        load_with(&[(key, value)]).map(|_| ()).expect_err(&format!("{key} = {value}")).to_string()
    }

    fn in_force(loaded: &Loaded<Config<Asked>>, key: &str) -> serde_json::Value {
        let settings = serde_json::to_value(&loaded.settings).expect("settings are values");
        key.split('.').fold(settings, |at, part| at[part].clone())
    }

    #[test]
    fn the_defaults_are_sound_and_every_key_has_a_rule() {
        let loaded = load_with::<&str>(&[]).expect("the defaults are sound");
        assert_eq!(loaded.describe().lines().count(), all_keys().count(), "no rule is without a key");
        load(&Config::<NoSettings>::of("user"), &BTreeMap::new()).expect("and those of a service without an outside");
    }

    /// What finds told of: each was in force, and should not have been.
    #[test]
    fn numbers_that_stop_a_service_are_refused_with_the_fix() {
        let all = refused("retention.inbox_days", "4294967295");
        assert!(all.contains("retention.inbox_days is '4294967295', from QUADRILLE__RETENTION__INBOX_DAYS: it has to be 1 to 3650, since"), "{all}");
        assert!(refused("kafka.session_timeout_ms", "1000").contains("it has to be 6000 to 300000"));
        assert!(refused("effects.concurrency", "0").contains("it has to be 1 to 1000"));
    }

    #[test]
    fn texts_that_are_none_are_refused() {
        for (key, values) in [
            ("kafka.brokers", &["", " ", "b", "b:0", "http://b:1"] as &[_]),
            ("kafka.topic_prefix", &["a b", "ä.", " t.", "t.\n"]),
            ("kafka.group_prefix", &["a b", "a/b"]),
            ("registry.url", &["", "h:1", "ftp://h", "http://", "http://h?a", " http://h"]),
            (
                "database.url",
                &[
                    "",
                    "mysql://r:p@h/db",
                    "postgres://r:p@h",
                    "postgres://r:p%ff@h/db",
                    "postgres://r:p@h/db?sslmode=maybe",
                ],
            ),
            ("database.migrate_url", &["", "postgres://h/db"]),
            ("http.bind", &["", "9101", "localhost:9101", "127.0.0.1", "127.0.0.1:70000", "http://127.0.0.1:1"]),
            ("log.format", &["", "JSON", "text"]),
            (
                "log.filter",
                &[
                    "",
                    "warm",
                    "info,rdkafka",
                    "info,,warn",
                    "info,a=b=c",
                    "info,a=",
                    "info,warn=loud",
                    "info, rdkafka=warn",
                ],
            ),
            ("telemetry.otlp_endpoint", &["h:4318", "https://h:4318"]),
            ("history.keep", &["", "1", "yes", "True"]),
            ("outside.url", &["", "smtp://h"]),
        ] {
            for value in values {
                let refused = refused(key, value);
                assert!(refused.contains(key) && refused.contains("it has to be"), "{refused}");
            }
        }
        let sound = [("log.filter", "off"), ("http.bind", "[::]:0"), ("telemetry.otlp_endpoint", "http://c:4318")];
        load_with(&sound).expect("these are sound");
        load_with(&[("log.filter", "warn,rdkafka=off,a::b=trace")]).expect("as is a filter by target");
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_both_keys() {
        for [(one, this), (other, that)] in [
            [("instance", "655"), ("http.bind", "127.0.0.1:9101")],
            [("batch.max_inputs", "501"), ("batch.waiting", "500")],
            [("batch.max_bytes", "1048577"), ("batch.waiting_bytes", "1048576")],
            [("effects.first_backoff_ms", "1001"), ("effects.last_backoff_ms", "1000")],
            [("outside.timeout_ms", "1801"), ("effects.claim_ms", "2000")],
            [("retention.inbox_days", "35"), ("retention.ended_days", "34")],
            [("retention.ended_days", "90"), ("retention.books_days", "89")],
        ] {
            let refused = load_with(&[(one, this), (other, that)]).map(drop).expect_err(one).to_string();
            for part in [format!("{one} is {this} (from QUADRILLE__"), format!("{other} is {that} (from QUADRILLE__")] {
                assert!(refused.contains(&part), "{part}: {refused}");
            }
        }
        load_with(&[("instance", "655"), ("http.bind", "127.0.0.1:0")]).expect("any port is above any other");
        load_with(&[("outside.timeout_ms", "1800"), ("effects.claim_ms", "2000")]).expect("just short enough");
        assert_eq!(listens_at("127.0.0.1:35", 656), "127.0.0.1:65535".parse().ok());
        assert_eq!(listens_at("127.0.0.1:36", 656), None);
    }

    /// Also where a service is made in code, by a test or another program.
    #[test]
    fn a_configuration_made_in_code_is_checked_likewise() {
        let mut config = Config::<NoSettings>::of("order");
        check(&config).expect("sound");
        config.effects.concurrency = 0;
        let refused = check(&config).expect_err("nobody would perform").to_string();
        assert!(refused.contains("effects.concurrency"), "{refused}");
    }

    #[test]
    fn a_key_of_the_command_line_is_passed_over_and_a_mistyped_one_refused() {
        let of_tools = [("database.base_url", "?"), ("database.prefix", "?"), ("tools.bank_url", "?")];
        load_with(&of_tools).expect("a shell may be set up for both");
        let refused = refused("database.base", "");
        assert!(refused.contains("no key 'database.base'") && refused.contains("database.url"), "{refused}");
    }

    #[test]
    fn no_secret_is_told() {
        let mark = "s3cret";
        for key in all_keys() {
            // Wherever an address may have one, and where one was written by mistake.
            for value in [
                format!("postgres://role:{mark}@host/db"),
                format!("postgres://role:a/{mark}@host/db"),
                format!("postgres://role:{mark}/@host/db?password={mark}"),
                format!("http://{mark}@host"),
                format!("https://me:{mark}@host/v7"),
                format!("HTTPS://{mark}:@host/v7"),
                format!("smtp://me:{mark}@host"),
                format!("http://me:{mark}@host:99999"),
                format!("http://me:{mark}"),
                format!("me:{mark}@host"),
                format!("http://host?{mark}"),
            ] {
                let told = match load_with(&[(key.name, value.as_str())]) {
                    Ok(loaded) => loaded.describe(),
                    Err(refused) => refused.to_string(),
                };
                let is_address = ["url", "endpoint"].iter().any(|end| key.name.ends_with(end));
                let looks_like_one = value.contains("://") && value.contains(['@', '?']);
                assert!(!(is_address || looks_like_one) || !told.contains(mark), "{} = {value}: {told}", key.name);
            }
        }
    }

    proptest! {
        /// A number is refused with its key, or in force as the same number; nothing panics.
        #[test]
        fn every_number_is_refused_or_in_force(
            which in 0..all_keys().count(),
            number in prop_oneof![any::<i128>(), -100_i128..100_000, edges()],
        ) {
            let key = all_keys().nth(which).expect("there is one");
            let text = number.to_string();
            match load_with(&[(key.name, text.as_str())]) {
                Ok(loaded) => {
                    let same = in_force(&loaded, key.name);
                    prop_assert!(same == serde_json::json!(u64::try_from(number).ok()) || same == serde_json::json!(text), "{same}");
                }
                Err(refused) => prop_assert!(refused.to_string().contains(key.name), "{refused}"),
            }
        }
    }

    /// Numbers about the powers of two, where casts and shifts go wrong.
    fn edges() -> impl Strategy<Value = i128> {
        (0_u32..70, -2_i128..3).prop_map(|(bits, more)| (1_i128 << bits) + more)
    }

    /// Cases: an address of its own, every address, and what was told.
    #[test]
    fn an_instance_advertises_where_it_can_be_reached() {
        let at = |bind: &str, told: &str| advertised(told, bind.parse().expect("an address"));
        assert_eq!(at("127.0.0.1:9101", "").as_deref(), Some("http://127.0.0.1:9101"));
        assert_eq!(at("[::1]:9101", "").as_deref(), Some("http://[::1]:9101"));
        assert_eq!((at("0.0.0.0:9101", ""), at("[::]:9101", "")), (None, None));
        assert_eq!(at("0.0.0.0:9101", "https://order.example/1/").as_deref(), Some("https://order.example/1"));
        assert!(["", "http://order:9101"].into_iter().all(|told| advertise(told).is_ok()));
        assert!(
            ["order:9101", "http://me@order", "http://order?a", "ftp://order"]
                .into_iter()
                .all(|told| advertise(told).is_err())
        );
    }
}
