//! Unique names: the written rule, and the rows that it makes.
//!
//! Two user names (or two e-mail addresses) are the same if they are equal after Unicode's NFKC_Casefold (compatibility forms, case and
//! default-ignorable characters make no difference) and trimming. The row of a name has this normal form in its key, so the database's
//! primary key enforces the rule. What is shown, and what mail goes to, is the name as it was given.

use icu_properties::{CodePointMapData, props::GeneralCategory};
use quadrille_core::bounds::{self, Fault};
use quadrille_events::common::Personal;

use super::fold::nfkc_casefold;

/// A unique name's row: its kind and normal form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    /// The row's key, e.g. `email:ann@example.com`.
    pub key: String,
    /// The request's field that names it.
    pub field: &'static str,
    /// The reason of a refusal where somebody else has it.
    pub taken: &'static str,
}

/// The names of a user with these fields. What is not sound has no row: it is refused before names are looked at.
pub(crate) fn names(user_name: &str, personal: &Personal) -> Vec<Name> {
    let user_name = normal(user_name).map(|normal| Name {
        key: format!("name:{normal}"),
        field: "user_name",
        taken: "user_name_taken",
    });
    let email = personal.email.as_deref().and_then(normal).map(|normal| Name {
        key: format!("email:{normal}"),
        field: "personal.email",
        taken: "email_taken",
    });
    user_name.into_iter().chain(email).collect()
}

/// A user name that can be told from others.
pub(super) fn user_name(field: &str, name: &str) -> Result<(), Fault> {
    bounds::filled_text(field, name)?;
    distinct(field, name)
}

/// An e-mail address that a mail can be addressed to. Whether anybody reads it is not ours to know.
pub(super) fn email(field: &str, address: &str) -> Result<(), Fault> {
    bounds::filled_text(field, address)?;
    let parted = |address: &str| {
        let parts: Vec<&str> = address.split('@').collect();
        matches!(parts[..], [local, domain] if !local.is_empty() && !domain.is_empty())
    };
    // As it is compared, too: nothing may be left of a part, and a full-width @ is one.
    let sound = parted(address.trim()) && normal(address).is_none_or(|normal| parted(&normal));
    if !sound || address.trim().contains(char::is_whitespace) {
        return Err(Fault::new(field, "be like ann@example.com: one @, text on both sides, no blanks"));
    }
    distinct(field, address)
}

fn distinct(field: &str, name: &str) -> Result<(), Fault> {
    let category = CodePointMapData::<GeneralCategory>::new();
    // A later Unicode may fold it: then two names that were told apart would be one.
    if name.chars().any(|letter| category.get(letter) == GeneralCategory::Unassigned) {
        return Err(Fault::new(field, "have only characters that Unicode 18 knows"));
    }
    match normal(name) {
        Some(_) => Ok(()),
        None => Err(Fault::new(
            field,
            format_args!("have at most {} characters in its normal form (NFKC_Casefold)", bounds::TEXT),
        )),
    }
}

/// The normal form; none where nothing is left of the name, or it is or grew beyond what a key may have.
pub(crate) fn normal(name: &str) -> Option<String> {
    let is_long = |text: &str| text.chars().nth(bounds::TEXT).is_some();
    if is_long(name) {
        return None;
    }
    let folded = nfkc_casefold(name);
    let normal = folded.trim();
    let sound = !normal.is_empty() && !is_long(normal) && !normal.contains(char::is_control);
    sound.then(|| normal.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(one: &str, other: &str) -> bool {
        normal(one).is_some() && normal(one) == normal(other)
    }

    #[test]
    fn spellings_of_one_name() {
        for (one, other) in [
            ("Ann@Example.com", "ann@example.com"),
            ("  ann ", "ann"),
            ("Ren\u{e9}", "Rene\u{301}"),
            ("\u{ff21}\u{ff2e}\u{ff2e}", "ann"),
            ("stra\u{df}e", "STRASSE"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}"),
            ("\u{fb01}nn", "FINN"),
            ("\u{3000}ann\u{a0}", "ann"),
            // What nobody sees.
            ("an\u{ad}n", "ann"),
            ("ann\u{200b}", "ann"),
            ("\u{202e}ann", "ann"),
            ("ann\u{3164}", "ann"),
            ("\u{feff} ann \u{2060}", "ann"),
            ("e\u{ad}\u{301}", "\u{c9}"),
            ("\u{1f469}\u{200d}\u{1f467}\u{fe0f}", "\u{1f469}\u{1f467}"),
        ] {
            assert!(same(one, other), "{one:?} and {other:?}");
        }
        assert!(!same("ann", "anna"));
        assert!(!same("ann example", "annexample"));
    }

    #[test]
    fn a_name_has_something_to_see_and_nothing_that_unicode_may_yet_fold() {
        for refused in
            ["\u{200b}\u{2060}", "\u{ad}", "\u{3164}", "\u{301}", "\u{2800}", "\u{378}", "ann\u{378}", "ann\u{10ffff}"]
        {
            assert!(user_name("user_name", refused).is_err(), "{refused:?}");
        }
        for seen in ["\u{1f600}", "a\u{301}", "\u{202e}ann", "\u{f8ff}"] {
            assert_eq!(user_name("user_name", seen), Ok(()), "{seen:?}");
        }
    }

    #[test]
    fn a_normal_form_fits_into_a_key() {
        // One character that NFKC makes eighteen of.
        let grows = "\u{fdfa}".repeat(100);
        assert_eq!(normal(&grows), None);
        assert!(user_name("user_name", &grows).is_err());
        assert!(user_name("user_name", &"x".repeat(500)).is_ok());
    }

    #[test]
    fn addresses() {
        for sound in ["ann@example.com", " Ann.B+c@xn--bcher-kva.example ", "\u{e9}@example.com"] {
            assert_eq!(email("email", sound), Ok(()), "{sound:?}");
        }
        for refused in [
            "",
            "ann",
            "@",
            "ann@",
            "@example.com",
            "a@b@c",
            "ann b@example.com",
            "ann@example.com\r\nBcc: bob@example.com",
            "ann@example.com\0",
            "ann@example.com\u{2028}",
            "ann@\u{200b}",
            "\u{ad}@example.com",
            "ann@example\u{ff20}com",
            "ann\u{ff20}b@example.com",
            "ann@example.com\u{378}",
        ] {
            assert!(email("email", refused).is_err(), "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_its_own_normal_form(name in ".{0,40}") {
            if let Some(form) = normal(&name) {
                prop_assert_eq!(normal(&form), Some(form));
            }
        }

        #[test]
        fn case_makes_no_difference(name in "[a-z\\u{df}-\\u{f6}\\u{3b1}-\\u{3c9}]{1,20}") {
            prop_assert_eq!(normal(&name.to_lowercase()), normal(&name.to_uppercase()));
        }
    }
}
