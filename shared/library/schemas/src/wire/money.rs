//! Money: exact, never a floating point number.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of money as `decimal(12,2)`: at most 9,999,999,999.99 either way, held in cents.
///
/// As JSON it is the text `"19.99"`; a number is taken too if it has at most two decimals. Sums are checked.
///
/// ```
/// use quadrille_schemas::wire::Money;
///
/// let price: Money = "19.99".parse()?;
/// assert_eq!(price, Money::cents(1999));
/// assert_eq!(price.checked_mul(3).map(|total| total.to_string()).as_deref(), Some("59.97"));
/// assert!("19.999".parse::<Money>().is_err());
/// # Ok::<(), quadrille_schemas::wire::MoneyError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Money(i64);

/// Why something is no amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Neither digits nor a point where they belong.
    #[error("`{0}` is no amount: write it like 19.99")]
    NoAmount(String),
    /// More than two decimals, which are refused and not rounded.
    #[error("`{0}` has more than two decimals")]
    TooPrecise(String),
    /// More digits than the schema holds.
    #[error("`{0}` has more than ten digits before the point")]
    TooLarge(String),
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount: 9,999,999,999.99.
    pub const MAX: Self = Self(999_999_999_999);

    /// An amount that is known to be within bounds, such as a literal.
    ///
    /// # Panics
    /// Beyond [`Self::MAX`] either way; [`Self::try_cents`] does not.
    pub const fn cents(cents: i64) -> Self {
        match Self::try_cents(cents) {
            Some(money) => money,
            None => panic!("more than twelve digits"),
        }
    }

    /// An amount in cents, or `None` beyond [`Self::MAX`] either way.
    pub const fn try_cents(cents: i64) -> Option<Self> {
        if cents.unsigned_abs() <= Self::MAX.0.unsigned_abs() { Some(Self(cents)) } else { None }
    }

    /// The amount in cents.
    pub const fn as_cents(self) -> i64 {
        self.0
    }

    /// The sum, or `None` beyond the bounds.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        Self::try_cents(self.0 + other.0)
    }

    /// The difference, or `None` beyond the bounds.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        Self::try_cents(self.0 - other.0)
    }

    /// The amount so many times, or `None` beyond the bounds.
    pub const fn checked_mul(self, times: i64) -> Option<Self> {
        match self.0.checked_mul(times) {
            Some(cents) => Self::try_cents(cents),
            None => None,
        }
    }

    /// Big-endian two's complement of any length, as Avro has it.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let first = *bytes.first().ok_or("the decimal has no bytes")?;
        let sign = if first & 0x80 == 0 { 0 } else { 0xff };
        let (padding, digits) = bytes.split_at(bytes.len().saturating_sub(8));
        let mut wide = [sign; 8];
        wide[8 - digits.len()..].copy_from_slice(digits);
        let cents = i64::from_be_bytes(wide);
        let padded = padding.iter().all(|byte| *byte == sign) && (cents < 0) == (sign == 0xff);
        let money = if padded { Self::try_cents(cents) } else { None };
        money.ok_or_else(|| "the decimal has more than twelve digits".to_owned())
    }

    /// The shortest two's complement.
    fn to_bytes(self) -> ([u8; 8], usize) {
        let bytes = self.0.to_be_bytes();
        let sign = if self.0 < 0 { 0xff } else { 0 };
        let spare = |at: usize| bytes[at] == sign && (bytes[at + 1] ^ sign) & 0x80 == 0;
        let start = (0..7).find(|at| !spare(*at)).unwrap_or(7);
        (bytes, start)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        f.pad(&format!("{sign}{}.{:02}", cents / 100, cents % 100))
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let shown = || text.chars().take(40).collect();
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(MoneyError::NoAmount(shown()));
        }
        if decimals.len() > 2 {
            return Err(MoneyError::TooPrecise(shown()));
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > 10 {
            return Err(MoneyError::TooLarge(shown()));
        }
        let cents = format!("0{whole}{decimals:0<2}").parse::<i64>().map_err(|_| MoneyError::NoAmount(shown()))?;
        Ok(Self(if text.starts_with('-') { -cents } else { cents }))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            let (bytes, start) = self.to_bytes();
            serializer.serialize_bytes(&bytes[start..])
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Amount)
        } else {
            deserializer.deserialize_bytes(Amount)
        }
    }
}

struct Amount;

impl de::Visitor<'_> for Amount {
    type Value = Money;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount like \"19.99\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Money, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Money, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Money, E> {
        self.visit_str(&whole.to_string())
    }

    /// Rust prints the shortest number that reads back as the same float: 19.99 for 19.99. `from_json` sees to it that a
    /// number with more digits than a float holds does not come here.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Money, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Money, E> {
        Money::from_bytes(bytes).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_and_number_are_the_same_cents_and_nothing_is_rounded() {
        let json = |text: &str| serde_json::from_str::<Money>(text).map_err(|error| error.to_string());
        for (text, cents) in [
            ("\"19.99\"", 1999),
            ("19.99", 1999),
            ("19.9", 1990),
            ("19", 1900),
            ("\"-0.05\"", -5),
            ("0", 0),
            ("\"00019.99\"", 1999),
            ("9999999999.99", 999_999_999_999),
            ("-9999999999.99", -999_999_999_999),
        ] {
            assert_eq!(json(text), Ok(Money::cents(cents)), "{text}");
        }
        for (text, cause) in [
            ("19.999", "`19.999` has more than two decimals"),
            ("\"19.999\"", "`19.999` has more than two decimals"),
            ("1e-3", "`0.001` has more than two decimals"),
            ("\"NaN\"", "`NaN` is no amount"),
            ("\"\"", "`` is no amount"),
            ("\"1,50\"", "`1,50` is no amount"),
            ("\" 1\"", "` 1` is no amount"),
            ("\"+1\"", "`+1` is no amount"),
            ("\"1.\"", "`1.` is no amount"),
            ("\".5\"", "`.5` is no amount"),
            ("\"1e3\"", "`1e3` is no amount"),
            ("10000000000", "`10000000000` has more than ten digits"),
            ("1e30", "has more than ten digits"),
            ("true", "expected an amount like \"19.99\""),
            ("null", "expected an amount like \"19.99\""),
        ] {
            let error = json(text).expect_err(text);
            assert!(error.contains(cause), "{text}: {error}");
        }
        assert!(serde_json::from_str::<Money>("NaN").is_err());
    }

    #[test]
    fn bytes_are_the_shortest_twos_complement() {
        let bytes = |cents| {
            let (bytes, start) = Money::cents(cents).to_bytes();
            bytes[start..].to_vec()
        };
        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(1999), [0x07, 0xcf]);
        assert_eq!(bytes(127), [0x7f]);
        assert_eq!(bytes(128), [0, 0x80]);
        assert_eq!(bytes(-1), [0xff]);
        assert_eq!(bytes(-128), [0x80]);
        assert_eq!(bytes(-129), [0xff, 0x7f]);
    }

    #[test]
    fn padded_bytes_are_read_and_too_large_ones_refused() {
        assert_eq!(Money::from_bytes(&[0; 20]), Ok(Money::ZERO));
        assert_eq!(Money::from_bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0x07, 0xcf]), Ok(Money::cents(1999)));
        assert_eq!(Money::from_bytes(&[0xff; 20]), Ok(Money::cents(-1)));
        let too_large = Err("the decimal has more than twelve digits".to_owned());
        assert_eq!(Money::from_bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), too_large);
        assert_eq!(Money::from_bytes(&[0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0]), too_large);
        assert_eq!(Money::from_bytes(&1_000_000_000_000_i64.to_be_bytes()), too_large);
        assert_eq!(Money::from_bytes(&i64::MIN.to_be_bytes()), too_large);
        assert_eq!(Money::from_bytes(&[]), Err("the decimal has no bytes".to_owned()));
    }

    #[test]
    fn sums_are_checked() {
        assert_eq!(Money::MAX.checked_add(Money::cents(1)), None);
        assert_eq!(Money::cents(-999_999_999_999).checked_sub(Money::cents(1)), None);
        assert_eq!(Money::cents(2).checked_mul(i64::MAX), None);
        assert_eq!(Money::cents(1999).checked_mul(1_000_000), Some(Money::cents(1_999_000_000)));
        assert_eq!(Money::try_cents(i64::MIN), None);
    }

    proptest! {
        #[test]
        fn every_amount_comes_back(cents in -999_999_999_999_i64..=999_999_999_999) {
            let money = Money::cents(cents);
            let (bytes, start) = money.to_bytes();
            prop_assert_eq!(Money::from_bytes(&bytes[start..]), Ok(money));
            prop_assert_eq!(money.to_string().parse(), Ok(money));
            let number: Money = serde_json::from_str(&money.to_string()).expect("a JSON number");
            prop_assert_eq!(number, money);
        }
    }
}
