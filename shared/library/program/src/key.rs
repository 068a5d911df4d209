//! Keys: what each may be, and why it may be nothing else.

use serde_json::Value;

use crate::{address, hide_secrets};

/// A key of the settings. Its rule is checked when the settings are loaded, and told by `config` and by the documents.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// `kafka.brokers`
    pub name: &'static str,
    may: May,
    /// Why nothing else is taken.
    why: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum May {
    Number(u64, u64),
    Flag,
    OneOf(&'static [&'static str]),
    Text(&'static str, fn(&str) -> Result<(), String>),
    /// Like a text, but no refusal repeats it: it may hold a secret.
    Address(&'static str, fn(&str) -> Result<(), String>),
    /// Any text, never shown.
    Secret(&'static str),
    /// Keys below this one, each a text that may be a secret.
    Family(&'static str, fn(&str, &str) -> Result<(), String>),
}

/// The most characters of a value.
const LONGEST: usize = 4_000;

/// Parts of a name below a family that say: this is a secret.
const SECRET_PARTS: [&str; 7] = ["password", "secret", "token", "key", "pem", "config", "credential"];

impl Key {
    /// A whole number between two others, both included.
    pub const fn number(name: &'static str, from: u64, to: u64, why: &'static str) -> Self {
        Self { name, may: May::Number(from, to), why }
    }

    /// `true` or `false`.
    pub const fn flag(name: &'static str) -> Self {
        Self { name, may: May::Flag, why: "" }
    }

    /// One of some words.
    pub const fn one_of(name: &'static str, words: &'static [&'static str]) -> Self {
        Self { name, may: May::OneOf(words), why: "" }
    }

    /// A text of this form, which `check` takes.
    pub const fn text(
        name: &'static str,
        form: &'static str,
        check: fn(&str) -> Result<(), String>,
        why: &'static str,
    ) -> Self {
        Self { name, may: May::Text(form, check), why }
    }

    /// An address of this form, which `check` takes. It may hold a secret: no refusal repeats it, and neither may what `check` says.
    pub const fn address(
        name: &'static str,
        form: &'static str,
        check: fn(&str) -> Result<(), String>,
        why: &'static str,
    ) -> Self {
        Self { name, may: May::Address(form, check), why }
    }

    /// A text that is a secret: no output and no refusal has it.
    pub const fn secret(name: &'static str, form: &'static str, why: &'static str) -> Self {
        Self { name, may: May::Secret(form), why }
    }

    /// All keys below `name`, as `kafka.options.linger.ms`: another program's settings, which are handed on to it. `check` takes the part
    /// behind `name` and the value, and repeats no value: it may be a secret.
    pub const fn family(
        name: &'static str,
        form: &'static str,
        check: fn(&str, &str) -> Result<(), String>,
        why: &'static str,
    ) -> Self {
        Self { name, may: May::Family(form, check), why }
    }

    /// Of a family's member: its name below the family.
    pub(crate) fn member<'a>(&self, name: &'a str) -> Option<&'a str> {
        match self.may {
            May::Family(..) => name.strip_prefix(self.name)?.strip_prefix('.'),
            _ => None,
        }
    }

    pub(crate) fn is_family(&self) -> bool {
        matches!(self.may, May::Family(..))
    }

    /// A value of this key as it may be shown.
    pub(crate) fn shown(&self, name: &str, text: &str) -> String {
        let is_secret = match self.may {
            May::Secret(_) => true,
            May::Family(..) => SECRET_PARTS.iter().any(|part| name.contains(part)),
            _ => false,
        };
        if is_secret && !text.is_empty() { "***".to_owned() } else { hide_secrets(text) }
    }

    /// What it may be.
    pub fn range(&self) -> String {
        match self.may {
            May::Number(from, to) => format!("{from} to {to}"),
            May::Flag => "true or false".to_owned(),
            May::OneOf(words) => words.join(" or "),
            May::Text(form, _) | May::Address(form, _) | May::Secret(form) | May::Family(form, _) => form.to_owned(),
        }
    }

    /// The value as the settings have it; or a sentence with the key, the value, where it was set, what it has to be, and why. `name` is the
    /// key's own, or a member's of its family.
    pub(crate) fn read(&self, name: &str, text: &str, source: &str) -> Result<Value, String> {
        self.find(name, text).map_err(|problem| {
            let is = match self.may {
                May::Address(..) | May::Secret(_) | May::Family(..) => String::new(),
                // An address may have been written at the wrong place.
                _ => format!(" is '{}'", shortened(&hide_secrets(text))),
            };
            let problem = if problem.is_empty() { problem } else { format!("{problem}; ") };
            let why = if self.why.is_empty() { String::new() } else { format!(", since {}", self.why) };
            format!("{name}{is}, {source}: {problem}it has to be {}{why}", self.range())
        })
    }

    /// The value, or what is wrong with the text beside its range.
    fn find(&self, name: &str, text: &str) -> Result<Value, String> {
        if text.trim() != text || text.chars().any(char::is_control) {
            return Err("it has a blank at its end, a line break or another control character".into());
        }
        if text.chars().count() > LONGEST {
            return Err(format!("it is longer than {LONGEST} characters"));
        }
        let found = match self.may {
            May::Number(from, to) => {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|number| digits && (from..=to).contains(number)).map(Value::from)
            }
            May::Flag => text.parse::<bool>().ok().map(Value::from),
            May::OneOf(words) => words.contains(&text).then(|| text.into()),
            May::Text(_, check) | May::Address(_, check) => return check(text).map(|()| text.into()),
            May::Secret(_) => Some(text.into()),
            May::Family(_, check) => match self.member(name) {
                Some(member) => return check(member, text).map(|()| text.into()),
                None if text.is_empty() => Some(text.into()),
                None => return Err(format!("its settings are named one by one, as {}.name", self.name)),
            },
        };
        found.ok_or_else(String::new)
    }
}

fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(100).flat_map(char::escape_default).collect();
    if text.chars().nth(100).is_some() { format!("{shown}..") } else { shown }
}

/// The broker, as services and tools know it.
pub const BROKERS: Key =
    Key::text("kafka.brokers", "host:port, several with commas", brokers, "a client asks there first");

/// An isolated world's topics.
pub const TOPIC_PREFIX: Key = Key::text(
    "kafka.topic_prefix",
    "up to 200 of a-z, A-Z, 0-9, dot, hyphen and underscore",
    prefix,
    "a topic's whole name has 249 of these characters at most",
);

/// An isolated world's groups.
pub const GROUP_PREFIX: Key = Key::text(
    "kafka.group_prefix",
    "up to 200 of a-z, A-Z, 0-9, dot, hyphen and underscore",
    prefix,
    "groups are named as topics are",
);

/// The schema registry.
pub const REGISTRY_URL: Key = Key::address(
    "registry.url",
    "http://host:port/path or https://host:port/path",
    address::http,
    "the Confluent API is below it",
);

fn brokers(value: &str) -> Result<(), String> {
    match value.split(',').all(|broker| is_host_and_port(broker.trim_matches(' '))) {
        true => Ok(()),
        false => Err("one of them is not host:port".into()),
    }
}

fn is_host_and_port(broker: &str) -> bool {
    let Some((host, port)) = broker.rsplit_once(':') else { return false };
    let sound_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    sound_host && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn prefix(value: &str) -> Result<(), String> {
    let sound = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    match sound && value.len() <= 200 {
        true => Ok(()),
        false => Err("it is longer, or has another character".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        for sound in ["127.0.0.1:9092", "a:1,b-2.c_d:65535", "a:1, b:2", "[::1]:9092"] {
            assert_eq!(brokers(sound), Ok(()), "{sound}");
        }
        for none in [
            "",
            ",",
            "a:1,",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "a:1,,b:2",
            "PLAINTEXT://a:1",
            "[::g]:1",
            "a b:1",
            "a:9092/x",
        ] {
            assert!(brokers(none).is_err(), "{none}");
        }
    }

    #[test]
    fn prefixes_fit_before_every_name() {
        for sound in ["", "t1.", "A_b-c.", &"x".repeat(200)] {
            assert_eq!(prefix(sound), Ok(()), "{sound}");
        }
        for none in ["a b", "ä", "a/b", "a:", &"x".repeat(201)] {
            assert!(prefix(none).is_err(), "{none}");
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere_and_of_a_family_what_may_be_one() {
        let secret = Key::secret("a.password", "any text", "of a reason");
        assert_eq!((secret.shown(secret.name, "s3cret"), secret.shown(secret.name, "")), ("***".into(), String::new()));
        let refused = secret.read(secret.name, "s3cret ", "from A__PASSWORD").expect_err("a blank at its end");
        assert!(refused.starts_with("a.password, from A__PASSWORD: ") && !refused.contains("s3cret"), "{refused}");

        let family = Key::family("a.options", "a setting of b's", |_, _| Err("it is none".into()), "b takes it");
        assert_eq!(family.shown("a.options.ssl.key.password", "s3cret"), "***");
        assert_eq!(family.shown("a.options.linger.ms", "5"), "5");
        let refused = family.read("a.options.x", "s3cret", "from A__OPTIONS__X").expect_err("refused");
        assert_eq!(
            refused,
            "a.options.x, from A__OPTIONS__X: it is none; it has to be a setting of b's, since b takes it"
        );
        assert!(family.read("a.options", "x=1", "").expect_err("not one by one").contains("a.options.name"));
    }

    #[test]
    fn a_refusal_says_all_and_repeats_no_secret() {
        let key = Key::number("a.b", 5, 7, "of a reason");
        assert_eq!(key.read("a.b", "6", ""), Ok(Value::from(6)));
        for none in ["", "4", "8", "-6", "+6", " 6", "6.0", "0x6", "6_0", "6e0", "\u{ff16}", "99999999999999999999"] {
            let refused = key.read("a.b", none, "from A__B").expect_err(none);
            assert!(refused.starts_with("a.b is '") && refused.contains(", from A__B: "), "{refused}");
            assert!(refused.ends_with("it has to be 5 to 7, since of a reason"), "{refused}");
        }
        let long = "9".repeat(1_000_000);
        assert!(key.read("a.b", &long, "").expect_err("too large").len() < 300);
        let refused =
            REGISTRY_URL.read("registry.url", "ftp://me:s3cret@h", "from A__B").expect_err("no address of a registry");
        assert_eq!(
            refused,
            "registry.url, from A__B: its scheme is another one; it has to be http://host:port/path or https://host:port/path, \
             since the Confluent API is below it"
        );
    }
}
