//! The contract's bounds on what the shop's clients may say, beside the platform's own.

use std::{fmt::Display, ops::RangeInclusive};

pub use quadrille_core::bounds::*;

/// How many pieces a line or a delivery of goods may have.
pub const QUANTITY: RangeInclusive<i32> = 1..=1_000_000;

/// A quantity within [`QUANTITY`].
pub fn quantity(field: impl Display, quantity: i32) -> Result<(), Fault> {
    if QUANTITY.contains(&quantity) { Ok(()) } else { Err(Fault::new(field, "be from 1 to 1000000")) }
}

/// A currency by ISO 4217's form. Which currencies exist is not ours to know.
pub fn currency(field: impl Display, currency: &str) -> Result<(), Fault> {
    if currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(())
    } else {
        Err(Fault::new(field, "be three upper-case letters by ISO 4217, e.g. EUR"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_currencies() {
        for refused in [0, -1, i32::MIN, 1_000_001, i32::MAX] {
            assert!(quantity("quantity", refused).is_err(), "{refused}");
        }
        assert_eq!(quantity("quantity", 1).and(quantity("quantity", 1_000_000)), Ok(()));
        for refused in ["", "eur", "EU", "EURO", "E R", "ÉU"] {
            assert!(currency("currency", refused).is_err(), "{refused:?}");
        }
        assert_eq!(currency("currency", "EUR"), Ok(()));
    }
}
