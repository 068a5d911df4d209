//! The environment: what begins with `QUADRILLE_` is ours, and nothing else is.

use std::{collections::BTreeMap, ffi::OsString};

/// A variable of ours that is no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} is not UTF-8: set it anew, or unset it")]
pub struct Unreadable(String);

/// The process's variables that begin with `QUADRILLE_`. Whatever the others hold is none of our business.
pub fn environment() -> Result<BTreeMap<String, String>, Unreadable> {
    ours(std::env::vars_os())
}

fn ours(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<BTreeMap<String, String>, Unreadable> {
    let is_ours = |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(b"QUADRILLE_");
    let text = |(name, value): (OsString, OsString)| match (name.to_str(), value.to_str()) {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Unreadable(name.to_string_lossy().into_owned())),
    };
    variables.filter(is_ours).map(text).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn read(variables: &[(&[u8], &[u8])]) -> Result<BTreeMap<String, String>, Unreadable> {
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        ours(variables.iter().map(|(name, value)| (text(name), text(value))))
    }

    #[test]
    fn what_is_not_ours_may_hold_anything() {
        let ours = read(&[(b"X", b"caf\xe9"), (b"\xe9", b""), (b"QUADRILLE_A", b"1")]).expect("readable");
        assert_eq!(ours, BTreeMap::from([("QUADRILLE_A".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn one_of_ours_that_is_no_text_is_refused_by_name_without_its_value() {
        let refused = read(&[(b"QUADRILLE__DATABASE__URL", b"postgres://me:s3cr\xe9t@h/db")]).expect_err("no text");
        assert!(refused.to_string().contains("QUADRILLE__DATABASE__URL"), "{refused}");
        assert!(!refused.to_string().contains("s3cr"), "{refused}");
        let refused = read(&[(b"QUADRILLE__K\xe9Y", b"1")]).expect_err("no text");
        assert!(refused.to_string().contains("QUADRILLE__K"), "{refused}");
    }
}
