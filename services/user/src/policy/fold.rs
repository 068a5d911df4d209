//! Unicode's NFKC_Casefold: what texts are compared by where two of them must not be the same name.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::{CodePointSetData, props::DefaultIgnorableCodePoint};

/// The text decomposed, with its case folded, composed again by NFKC and without default-ignorable characters, until nothing changes any
/// more: each can undo another one's work (U+0345, U+01F0 and U+00AD, for three).
pub(super) fn nfkc_casefold(text: &str) -> String {
    let (decomposing, case, composing, ignorable) = (
        DecomposingNormalizer::new_nfd(),
        CaseMapper::new(),
        ComposingNormalizer::new_nfkc(),
        CodePointSetData::new::<DefaultIgnorableCodePoint>(),
    );
    let once = |text: &str| -> String {
        let folded = case.fold_string(&decomposing.normalize(text)).into_owned();
        composing.normalize(&folded).chars().filter(|letter| !ignorable.contains(*letter)).collect()
    };
    let mut folded = once(text);
    loop {
        let again = once(&folded);
        if again == folded {
            return folded;
        }
        folded = again;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::LazyLock};

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// What Unicode says that code points become.
    static PROPERTY: LazyLock<BTreeMap<char, String>> = LazyLock::new(|| {
        let code_point = |hex: &str| u32::from_str_radix(hex, 16).expect("hexadecimal");
        let character = |code: u32| char::from_u32(code).expect("no surrogate");
        let lines = include_str!("../../tests/unicode/nfkc-casefold.txt").lines();
        let mut property = BTreeMap::new();
        for line in lines.filter(|line| !line.starts_with('#')) {
            let (range, becomes) = line.split_once(';').expect("a range and what it becomes");
            let (from, to) = range.split_once("..").unwrap_or((range, range));
            let becomes: String = becomes.split_whitespace().map(|hex| character(code_point(hex))).collect();
            property.extend((code_point(from)..=code_point(to)).map(|code| (character(code), becomes.clone())));
        }
        property
    });

    /// Every code point, without exception: the crates' Unicode is the file's.
    #[test]
    fn each_code_point_becomes_what_unicode_says() {
        assert_eq!(PROPERTY.len(), 10_671);
        for letter in '\0'..=char::MAX {
            let (folded, itself) = (nfkc_casefold(letter.encode_utf8(&mut [0; 4])), letter.to_string());
            assert_eq!(&folded, PROPERTY.get(&letter).unwrap_or(&itself), "U+{:04X}", u32::from(letter));
        }
    }

    /// Texts of what meets: letters that fold, marks of several classes, what is ignored and what is not.
    fn texts() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            4 => prop::sample::select(
                "aAnN\u{df}\u{1e9e}\u{130}\u{3b1}\u{3a3}\u{1f80}\u{fb03}\u{ff21}\u{1100}\u{1161}\u{11a8}\u{e9}\u{2126}".chars().collect::<Vec<_>>()
            ),
            3 => prop::sample::select("\u{300}\u{301}\u{323}\u{327}\u{345}\u{5b0}\u{3099}".chars().collect::<Vec<_>>()),
            2 => prop::sample::select("\u{ad}\u{34f}\u{200b}\u{200d}\u{202e}\u{2060}\u{3164}\u{fe0f}\u{e0061}".chars().collect::<Vec<_>>()),
            1 => any::<char>(),
        ];
        vec(letter, 0..12).prop_map(String::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Of a whole text Unicode says (R5 of its chapter 3): decomposed, each character mapped, composed.
        #[test]
        fn a_text_becomes_what_unicode_says(text in texts()) {
            let decomposed = DecomposingNormalizer::new_nfd().normalize(&text).into_owned();
            let mapped: String = decomposed.chars().map(|letter| PROPERTY.get(&letter).cloned().unwrap_or_else(|| letter.to_string())).collect();
            prop_assert_eq!(nfkc_casefold(&text), ComposingNormalizer::new_nfc().normalize(&mapped));
        }

        #[test]
        fn what_is_folded_stays_as_it_is(text in texts()) {
            let folded = nfkc_casefold(&text);
            prop_assert_eq!(nfkc_casefold(&folded), folded);
        }

        #[test]
        fn no_normal_form_makes_another_name_of_it(text in texts()) {
            let folded = nfkc_casefold(&text);
            for other in [
                ComposingNormalizer::new_nfc().normalize(&text),
                ComposingNormalizer::new_nfkc().normalize(&text),
                DecomposingNormalizer::new_nfd().normalize(&text),
                DecomposingNormalizer::new_nfkd().normalize(&text),
            ] {
                prop_assert_eq!(nfkc_casefold(&other), folded.clone());
            }
        }

        /// Before a letter. Between two marks of a letter U+034F keeps them in their order: that is what Unicode has it for.
        #[test]
        fn what_is_ignored_makes_no_other_name(
            words in vec("[A-Za-z\u{e9}\u{df}\u{3a3}\u{ff21}]{1,4}", 1..5),
            ignored in prop::sample::select(vec!['\u{ad}', '\u{34f}', '\u{200b}', '\u{202e}', '\u{2060}', '\u{feff}', '\u{3164}', '\u{e0fff}']),
        ) {
            prop_assert_eq!(nfkc_casefold(&words.join(&ignored.to_string())), nfkc_casefold(&words.concat()));
        }
    }
}
