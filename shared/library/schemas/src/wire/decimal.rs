//! Decimal numbers: exact, never a floating point number.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of at most `PRECISION` digits, `SCALE` of them behind the point, held as a count of the last digit's units.
///
/// What a schema calls `decimal(12,2)` is a `Decimal<12, 2>`, and ends at 9,999,999,999.99 either way. As JSON it is the text `"19.99"`;
/// a number is taken too if it has no more decimals than there may be. Sums are checked.
///
/// ```
/// use quadrille_schemas::wire::Decimal;
///
/// type Money = Decimal<12, 2>;
/// let price: Money = "19.99".parse()?;
/// assert_eq!(price, Money::cents(1999));
/// assert_eq!(price.checked_mul(3).map(|total| total.to_string()).as_deref(), Some("59.97"));
/// assert!("19.999".parse::<Money>().is_err());
/// # Ok::<(), quadrille_schemas::wire::DecimalError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimal<const PRECISION: u32, const SCALE: u32>(i64);

/// Why something is no such decimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Neither digits nor a point where they belong.
    #[error("`{0}` is no amount: write it like 19.99")]
    NoAmount(String),
    /// More decimals than there may be, which are refused and not rounded.
    #[error("`{0}` has more than {1} decimals")]
    TooPrecise(String, u32),
    /// More digits before the point than the schema holds.
    #[error("`{0}` has more than {1} digits before the point")]
    TooLarge(String, u32),
}

impl<const PRECISION: u32, const SCALE: u32> Decimal<PRECISION, SCALE> {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest number.
    pub const MAX: Self = Self(10_i64.pow(PRECISION) - 1);

    /// A number that is known to be within bounds, such as a literal, in units of its last digit.
    ///
    /// # Panics
    /// Beyond [`Self::MAX`] either way; [`Self::try_units`] does not.
    pub const fn units(units: i64) -> Self {
        match Self::try_units(units) {
            Some(number) => number,
            None => panic!("more digits than the decimal's precision"),
        }
    }

    /// A number in units of its last digit, or `None` beyond [`Self::MAX`] either way.
    pub const fn try_units(units: i64) -> Option<Self> {
        if units.unsigned_abs() <= Self::MAX.0.unsigned_abs() { Some(Self(units)) } else { None }
    }

    /// The number in units of its last digit.
    pub const fn as_units(self) -> i64 {
        self.0
    }

    /// The sum, or `None` beyond the bounds.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        Self::try_units(self.0 + other.0)
    }

    /// The difference, or `None` beyond the bounds.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        Self::try_units(self.0 - other.0)
    }

    /// The number so many times, or `None` beyond the bounds.
    pub const fn checked_mul(self, times: i64) -> Option<Self> {
        match self.0.checked_mul(times) {
            Some(units) => Self::try_units(units),
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
        let units = i64::from_be_bytes(wide);
        let padded = padding.iter().all(|byte| *byte == sign) && (units < 0) == (sign == 0xff);
        let number = if padded { Self::try_units(units) } else { None };
        number.ok_or_else(|| format!("the decimal has more than {PRECISION} digits"))
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

/// With two decimals the units are hundredths: cents, where it is an amount of money.
impl<const PRECISION: u32> Decimal<PRECISION, 2> {
    /// See [`Self::units`].
    ///
    /// # Panics
    /// Beyond [`Self::MAX`] either way; [`Self::try_cents`] does not.
    pub const fn cents(cents: i64) -> Self {
        Self::units(cents)
    }

    /// See [`Self::try_units`].
    pub const fn try_cents(cents: i64) -> Option<Self> {
        Self::try_units(cents)
    }

    /// See [`Self::as_units`].
    pub const fn as_cents(self) -> i64 {
        self.as_units()
    }
}

impl<const PRECISION: u32, const SCALE: u32> fmt::Display for Decimal<PRECISION, SCALE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, one) = (self.0.unsigned_abs(), 10_u64.pow(SCALE));
        match SCALE as usize {
            0 => f.pad(&format!("{sign}{units}")),
            decimals => f.pad(&format!("{sign}{}.{:0decimals$}", units / one, units % one)),
        }
    }
}

impl<const PRECISION: u32, const SCALE: u32> FromStr for Decimal<PRECISION, SCALE> {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let shown = || text.chars().take(40).collect();
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, decimals) = match unsigned.split_once('.') {
            Some((whole, decimals)) => (whole, Some(decimals)),
            None => (unsigned, None),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !decimals.is_none_or(digits) {
            return Err(DecimalError::NoAmount(shown()));
        }
        let (decimals, scale) = (decimals.unwrap_or_default(), SCALE as usize);
        if decimals.len() > scale {
            return Err(DecimalError::TooPrecise(shown(), SCALE));
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > (PRECISION - SCALE) as usize {
            return Err(DecimalError::TooLarge(shown(), PRECISION - SCALE));
        }
        let units = format!("0{whole}{decimals:0<scale$}").parse::<i64>();
        let units = units.map_err(|_| DecimalError::NoAmount(shown()))?;
        Ok(Self(if text.starts_with('-') { -units } else { units }))
    }
}

impl<const PRECISION: u32, const SCALE: u32> Serialize for Decimal<PRECISION, SCALE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            let (bytes, start) = self.to_bytes();
            serializer.serialize_bytes(&bytes[start..])
        }
    }
}

impl<'de, const PRECISION: u32, const SCALE: u32> Deserialize<'de> for Decimal<PRECISION, SCALE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Amount)
        } else {
            deserializer.deserialize_bytes(Amount)
        }
    }
}

struct Amount<const PRECISION: u32, const SCALE: u32>;

impl<const PRECISION: u32, const SCALE: u32> de::Visitor<'_> for Amount<PRECISION, SCALE> {
    type Value = Decimal<PRECISION, SCALE>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount like \"19.99\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Self::Value, E> {
        self.visit_str(&whole.to_string())
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Self::Value, E> {
        self.visit_str(&whole.to_string())
    }

    /// Rust prints the shortest number that reads back as the same float: 19.99 for 19.99. `from_json` sees to it that a
    /// number with more digits than a float holds does not come here.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Decimal::from_bytes(bytes).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Money = Decimal<12, 2>;

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
            ("19.999", "`19.999` has more than 2 decimals"),
            ("\"19.999\"", "`19.999` has more than 2 decimals"),
            ("1e-3", "`0.001` has more than 2 decimals"),
            ("\"NaN\"", "`NaN` is no amount"),
            ("\"\"", "`` is no amount"),
            ("\"1,50\"", "`1,50` is no amount"),
            ("\" 1\"", "` 1` is no amount"),
            ("\"+1\"", "`+1` is no amount"),
            ("\"1.\"", "`1.` is no amount"),
            ("\".5\"", "`.5` is no amount"),
            ("\"1e3\"", "`1e3` is no amount"),
            ("10000000000", "`10000000000` has more than 10 digits"),
            ("1e30", "has more than 10 digits"),
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
        let too_large = Err("the decimal has more than 12 digits".to_owned());
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

    #[test]
    fn precision_and_scale_are_the_types() {
        let parsed = |text: &str| text.parse::<Decimal<4, 3>>().map_err(|error| error.to_string());
        assert_eq!(parsed("-1.5"), Ok(Decimal::units(-1500)));
        assert_eq!(parsed("1.5").map(|number| number.to_string()).as_deref(), Ok("1.500"));
        assert_eq!(parsed("1.2345"), Err("`1.2345` has more than 3 decimals".into()));
        assert_eq!(parsed("10"), Err("`10` has more than 1 digits before the point".into()));
        let whole = |text: &str| text.parse::<Decimal<18, 0>>().map_err(|error| error.to_string());
        assert_eq!(whole("999999999999999999"), Ok(Decimal::MAX));
        assert_eq!(whole("7").map(|number| number.to_string()).as_deref(), Ok("7"));
        assert_eq!(whole("7.0"), Err("`7.0` has more than 0 decimals".into()));
        let all_decimals: Decimal<2, 2> = "0.25".parse().expect("no digit before the point is no digit too many");
        assert_eq!(all_decimals.to_string(), "0.25");
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
