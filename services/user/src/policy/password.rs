//! A password arrives as its argon2id hash, and nothing else is taken for one.

use phc::PasswordHash;
use quadrille_core::bounds::Fault;
use quadrille_events::Secret;

/// The accepted parameters: m=19456 KiB, t=2, p=1. Exactly these: weaker ones fall to guessing, stronger ones to whoever sends a
/// hash whose check takes a gigabyte. The next ones will come as a set with a version of their own.
const PARAMETERS: &str = "m=19456,t=2,p=1";
/// Salts in bytes: 16 is what RFC 9106 recommends, 48 the most that PHC texts have.
const SALT: std::ops::RangeInclusive<usize> = 16..=48;
/// Hashes in bytes.
const HASH: std::ops::RangeInclusive<usize> = 32..=64;

/// Whether `field` holds a hash that can be verified later. The value is never repeated, not even in part.
pub(super) fn hash(field: &str, text: &Secret) -> Result<(), Fault> {
    if acceptable(text.expose()) {
        return Ok(());
    }
    let must = format_args!(
        "be an argon2id hash as a PHC text, $argon2id$v=19${PARAMETERS}$salt$hash, with a salt of 16 to 48 bytes and a hash of 32 to 64"
    );
    Err(Fault::new(field, must))
}

fn acceptable(text: &str) -> bool {
    // Longer than any text within these bounds; nothing of it is parsed.
    if text.len() > 256 {
        return false;
    }
    let Ok(parsed) = PasswordHash::new(text) else {
        return false;
    };
    parsed.algorithm.as_str() == "argon2id"
        && parsed.version == Some(19)
        && parsed.params.as_str() == PARAMETERS
        && parsed.salt.is_some_and(|salt| SALT.contains(&salt.len()))
        && parsed.hash.is_some_and(|hash| HASH.contains(&hash.as_bytes().len()))
        // One spelling only: what we read is what was written.
        && parsed.to_string() == text
}

#[cfg(test)]
mod tests {
    use argon2::{Argon2, PasswordHasher, PasswordVerifier};

    use super::*;

    const SOUND: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$cXVhZHJpbGxlLXNhbHQtMQ$xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";

    #[test]
    fn what_is_accepted_can_be_verified_later() {
        assert!(acceptable(SOUND));
        let hasher = Argon2::default();
        for salt in [&b"sixteen bytes..."[..], &[7; 48]] {
            let hash = hasher.hash_password_with_salt(b"correct horse", salt).expect("hashes");
            assert!(acceptable(&hash.to_string()), "{hash}");
            let read = PasswordHash::new(&hash.to_string()).expect("parses");
            assert_eq!(hasher.verify_password(b"correct horse", &read), Ok(()));
            assert!(hasher.verify_password(b"battery staple", &read).is_err());
        }
    }

    #[test]
    fn nothing_else_is_taken() {
        let salt = "cXVhZHJpbGxlLXNhbHQtMQ";
        let hash = "xpXrMpUdTewD+RekzHcR+O/Plrheo4rTHgMMq81Lc7A";
        for refused in [
            String::new(),
            "correct horse".into(),
            SOUND.replace("argon2id", "argon2i"),
            SOUND.replace("argon2id", "argon2d"),
            SOUND.replace("v=19", "v=16"),
            SOUND.replace("$v=19", ""),
            SOUND.replace("m=19456", "m=4194304"),
            SOUND.replace("m=19456", "m=8"),
            SOUND.replace("t=2", "t=1"),
            SOUND.replace("p=1", "p=4"),
            SOUND.replace("p=1", "p=1,keyid=AAAA"),
            SOUND.replace("m=19456,t=2,p=1", "t=2,m=19456,p=1"),
            SOUND.replace("m=19456", "m=019456"),
            SOUND.replace(salt, "c2hvcnQ"),
            SOUND.replace(salt, "cXVhZHJpbGxlLXNhbHQtMQ.."),
            SOUND.replace(salt, "cXVhZHJpbGxlLXNhbHQtMR"),
            SOUND.replace(hash, "xpXrMpUdTewD"),
            SOUND.replace(&format!("${hash}"), ""),
            format!("{SOUND}="),
            format!(" {SOUND}"),
            format!("{SOUND}\n"),
            format!("{SOUND}$extra"),
            "x".repeat(1 << 20),
        ] {
            assert!(!acceptable(&refused), "{}", &refused[..refused.len().min(120)]);
        }
    }

    #[test]
    fn a_fault_never_repeats_the_value() {
        let fault = hash("password_hash", &Secret::new("correct horse")).expect_err("no hash");
        assert_eq!(fault.field, "password_hash");
        assert!(!fault.detail.contains("horse"), "{}", fault.detail);
    }
}
