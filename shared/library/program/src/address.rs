//! Addresses: what is one, and how one is shown.

use url::Url;

/// What a database's address may say behind `?`. What nobody reads is refused, so that nothing is passed over in silence.
const DATABASE_PARAMETERS: [&str; 6] =
    ["application_name", "sslcert", "sslkey", "sslmode", "sslrootcert", "statement-cache-capacity"];
/// Parameters that are no secret, whoever reads them.
const SHOWN: [&str; 5] = ["application_name", "sslmode", "sslrootcert", "statement-cache-capacity", "tls"];

/// A text in which no address has a secret any more: an address alone, or a message with some in it.
///
/// Of an address the scheme, a database's role, host, port and path are shown, and parameters that can be no secret. A password may hold
/// any character, an `@` or a `/` of its own included; a user without a password may be a token. So all up to the last `@` is hidden.
pub fn hide_secrets(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(hide).collect()
}

/// One word of a text.
fn hide(word: &str) -> String {
    let Some((before, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = &word[word.trim_end().len()..];
    let rest = rest.trim_end();
    let (user_info, rest) = rest.rsplit_once('@').map_or((None, rest), |(user_info, rest)| (Some(user_info), rest));
    let shown = match user_info {
        // Whether this `@` ends a password or is part of a parameter's value, nobody can tell.
        Some(user_info) if user_info.contains(['?', '#']) => "***".to_owned(),
        Some(user_info) => format!("{}@{}", user(before, user_info), without_parameters(rest)),
        None => without_parameters(rest),
    };
    format!("{before}://{shown}{end}")
}

/// Who an address signs in as: a database's role can be shown, any other user may be a token.
fn user(scheme: &str, user_info: &str) -> String {
    let (role, password) = user_info.split_once(':').map_or((user_info, ""), |(role, _)| (role, ":***"));
    let scheme = scheme.to_ascii_lowercase();
    let is_role = role.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (scheme.ends_with("postgres") || scheme.ends_with("postgresql")) && is_role && !role.is_empty() {
        true => format!("{role}{password}"),
        false => "***".to_owned(),
    }
}

fn without_parameters(rest: &str) -> String {
    let Some(begin) = rest.find(['?', '#']) else { return rest.to_owned() };
    let (path, parameters) = rest.split_at(begin);
    let mut shown = vec![];
    for parameter in parameters[1..].split(['&', ';']) {
        let harmless = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
        shown.push(match parameter.split_once('=') {
            Some((name, value)) if SHOWN.contains(&name) && harmless(value) => parameter.to_owned(),
            Some((name, _)) if SHOWN.contains(&name) => format!("{name}=***"),
            _ => "***".to_owned(),
        });
    }
    format!("{path}{}{}", &parameters[..1], shown.join("&"))
}

/// `http://` or `https://`, with a host; what is asked for is added to its path.
pub fn http(value: &str) -> Result<(), String> {
    let url = parse(value, &["http", "https"])?;
    nothing_behind_its_path(&url)
}

/// `http://` alone: where this build has no TLS.
pub fn plain_http(value: &str) -> Result<(), String> {
    let url = parse(value, &["http"])?;
    nothing_behind_its_path(&url)
}

/// A database: role, host and name are there, so that nothing is taken from elsewhere.
pub fn database(value: &str) -> Result<(), String> {
    let url = parse(value, &["postgres", "postgresql"])?;
    let name = url.path().trim_start_matches('/');
    if url.username().is_empty() {
        return Err("it has no role".into());
    }
    if name.is_empty() || name.contains('/') {
        return Err("its path is not the name of one database".into());
    }
    if url.query_pairs().any(|(name, _)| !DATABASE_PARAMETERS.contains(&&*name)) || url.fragment().is_some() {
        return Err(format!("behind ? it has something else than {}", DATABASE_PARAMETERS.join(", ")));
    }
    Ok(())
}

/// A database server with the role to look as: the databases' names are added.
pub fn database_server(value: &str) -> Result<(), String> {
    let url = parse(value, &["postgres", "postgresql"])?;
    if url.username().is_empty() {
        return Err("it has no role".into());
    }
    if !url.path().trim_matches('/').is_empty() {
        return Err("it names a database, and is to name the server alone".into());
    }
    nothing_behind_its_path(&url)
}

fn nothing_behind_its_path(url: &Url) -> Result<(), String> {
    match url.query().is_none() && url.fragment().is_none() {
        true => Ok(()),
        false => Err("it has something behind ? or #".into()),
    }
}

/// What is wrong is said without a word of the address: any part of it may be a secret that was written at the wrong place.
fn parse(value: &str, schemes: &[&str]) -> Result<Url, String> {
    let url = Url::parse(value).map_err(|error| format!("it cannot be read: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err("its scheme is another one".into());
    }
    let host_follows = value.split_once("://").is_some_and(|(_, rest)| !rest.starts_with(['/', '\\']));
    if !host_follows || url.host_str().is_none_or(str::is_empty) {
        return Err("it has no host".into());
    }
    if url.port() == Some(0) {
        return Err("its port is 0, at which nobody listens".into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_secret_is_shown() {
        for (text, shown) in [
            ("http://127.0.0.1:8081/apis/ccompat/v7", "http://127.0.0.1:8081/apis/ccompat/v7"),
            ("postgres://role:word@h:1/db?sslmode=require", "postgres://role:***@h:1/db?sslmode=require"),
            ("postgres://role@h:1/db", "postgres://role@h:1/db"),
            ("not an address: a@b", "not an address: a@b"),
            ("", ""),
        ] {
            assert_eq!(hide_secrets(text), shown);
        }
    }

    #[test]
    fn every_place_of_a_secret_is_hidden() {
        for (text, shown) in [
            ("postgres://me:s3cret@h:1/db", "postgres://me:***@h:1/db"),
            ("POSTGRES://me:s3cret@h:1/db", "POSTGRES://me:***@h:1/db"),
            ("postgresql://me:a/s3cret?@#@h:1/db", "postgresql://***"),
            ("postgres://me:a/s3cret@b:c@h/db", "postgres://me:***@h/db"),
            ("postgres://me:%73%33cret@h/db", "postgres://me:***@h/db"),
            ("postgres://h/db?user=me&password=s3cret", "postgres://h/db?***&***"),
            ("postgres://h/db?pass%77ord=s3cret;sslmode=require", "postgres://h/db?***&sslmode=require"),
            ("postgres://h/db?password=s3@cret", "postgres://***"),
            ("postgres://h/db?sslmode=s3cret%20word", "postgres://h/db?sslmode=***"),
            ("http://s3cret@h/v7", "http://***@h/v7"),
            ("https://s3cret:@h/v7", "https://***@h/v7"),
            ("HTTPS://me:s3cret@h/v7?s3cret#s3cret", "HTTPS://***@h/v7?***"),
            ("smtp://apikey:s3cret@h", "smtp://***@h"),
            ("http://h/#s3cret", "http://h/#***"),
            ("mongodb+srv://me:s3cret@h", "mongodb+srv://***@h"),
        ] {
            assert_eq!(hide_secrets(text), shown);
        }
    }

    #[test]
    fn a_message_keeps_its_words() {
        let text = "the registry at http://me:s3cret@h:1/v7 does not answer:\n  error for url (https://t0ken@h/a?key=s3cret) in 5 s";
        let shown = "the registry at http://***@h:1/v7 does not answer:\n  error for url (https://***@h/a?*** in 5 s";
        assert_eq!(hide_secrets(text), shown);
    }

    proptest! {
        /// Whatever a secret is made of, as long as it is one word.
        #[test]
        fn no_password_is_shown(password in "[!-~é]{0,5}QZXJ[!-~é]{0,5}", scheme in "(http|HTTPS|postgres|Postgresql|smtp)") {
            for address in [
                format!("{scheme}://user:{password}@host:1/path"),
                format!("http://{password}:@host:1/path"),
                format!("smtp://{password}@host:1/path"),
                format!("{scheme}://user:word@host/path?password={password}"),
                format!("({scheme}://user:{password}@host:1/path)"),
            ] {
                prop_assert!(!hide_secrets(&address).contains("QZXJ"), "{} of {}", hide_secrets(&address), address);
            }
        }
    }

    #[test]
    fn addresses_of_another_kind_are_none() {
        for sound in ["http://h", "HTTPS://me:word@h:1/v7/", "http://[::1]:8081"] {
            assert_eq!(http(sound), Ok(()), "{sound}");
        }
        let none = [
            "",
            "h:1",
            "http:",
            "http://",
            "http:///h",
            "ftp://h",
            "http://h:0",
            "http://h:99999",
            "http://h?a=b",
            "http://h/#a",
        ];
        for none in none {
            assert!(http(none).is_err(), "{none}");
        }
        assert!(plain_http("https://h:4317").is_err());

        for sound in ["postgres://r:p@h:1/db", "postgresql://r@h/db?sslmode=require", "Postgres://r:p%40@h/d%20b"] {
            assert_eq!(database(sound), Ok(()), "{sound}");
        }
        for none in [
            "mysql://r:p@h/db",
            "postgres://h/db",
            "postgres://r@h",
            "postgres://r@h/",
            "postgres://r@h/a/b",
            "postgres://r@/db",
            "postgres://r@h/db?connect_timeout=5",
            "postgres://r@h/db?password=p",
        ] {
            assert!(database(none).is_err(), "{none}");
        }
        assert_eq!(database_server("postgres://r:p@h:1"), Ok(()));
        assert_eq!(database_server("postgres://r:p@h:1/"), Ok(()));
        for none in ["postgres://r@h/db", "postgres://h", "postgres://r@h?sslmode=require"] {
            assert!(database_server(none).is_err(), "{none}");
        }
    }
}
