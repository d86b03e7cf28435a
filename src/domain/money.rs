//! Money as integers: amounts in billionths of a US dollar, and token prices in trillionths.
//!
//! Use it to set a budget, or to read what a call cost. There is no conversion from or to a float, and no operator that
//! could wrap around: amounts come from decimal text, and sums report when they do not fit.
//!
//! ```
//! use tollgate::domain::money::{Money, Price};
//! let budget: Money = "5".parse()?;
//! let price: Price = "0.0375".parse()?; // dollars per million tokens
//! assert_eq!(budget.to_string(), "5.00");
//! assert_eq!(price.cost(1), Some(Money::from_nanos(38))); // 37.5, rounded up
//! # Ok::<(), tollgate::domain::money::MoneyError>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

/// An amount of US dollars, in units of 1e-9 dollars, up to about 9.2 billion dollars in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// Zero dollars.
    pub const ZERO: Money = Money(0);
    /// The largest amount.
    pub const MAX: Money = Money(i64::MAX);

    /// An amount of this many billionths of a dollar.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Money(nanos)
    }

    /// The amount in billionths of a dollar.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The sum, or `None` if it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).map(Money)
    }

    /// The sum, or the nearest amount that fits.
    #[must_use]
    pub fn saturating_add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// The difference, or the nearest amount that fits.
    #[must_use]
    pub fn saturating_sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }

    /// Whether the amount is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The amount in whole cents, rounded down, away from what the reader could spend: for messages, not for sums.
    #[must_use]
    pub fn to_cents(self) -> String {
        const CENT: i64 = 10_000_000;
        Money(self.0.div_euclid(CENT).saturating_mul(CENT)).to_string()
    }
}

/// Decimal dollars, with at least two decimal places and no more than needed: `5.00`, `0.0375`, `-1.50`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut whole, mut part) = (self.0.unsigned_abs() / 1_000_000_000, self.0.unsigned_abs() % 1_000_000_000);
        let mut digits = 9;
        while digits > 2 && part % 10 == 0 {
            part /= 10;
            digits -= 1;
        }
        // By hand and from its end, since every governed answer shows one. The longest is `-9223372036.854775808`.
        let (mut text, mut start) = ([0; 21], 21);
        let mut put = |byte| {
            start -= 1;
            text[start] = byte;
        };
        for _ in 0..digits {
            put(b'0' + (part % 10) as u8);
            part /= 10;
        }
        put(b'.');
        loop {
            put(b'0' + (whole % 10) as u8);
            whole /= 10;
            if whole == 0 {
                break;
            }
        }
        if self.0 < 0 {
            put(b'-');
        }
        f.write_str(std::str::from_utf8(&text[start..]).unwrap_or_default())
    }
}

/// Parses a plain decimal number that is not negative: `5`, `0.25`, `1000.000000001`.
impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let nanos = decimal(text, 9)?;
        i64::try_from(nanos).map(Money).map_err(|_| MoneyError::TooLarge)
    }
}

/// As decimal text, so that no JSON reader converts it to a float.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A token price in trillionths of a dollar per token, which equals millionths of a dollar per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Price(u64);

impl Price {
    /// A price of this many trillionths of a dollar per token.
    #[must_use]
    pub const fn from_picos(picos: u64) -> Self {
        Price(picos)
    }

    /// The price in trillionths of a dollar per token.
    #[must_use]
    pub const fn picos(self) -> u64 {
        self.0
    }

    /// The cost of this many tokens, rounded up to the next billionth; `None` if it does not fit into [`Money`].
    #[must_use]
    pub fn cost(self, tokens: u64) -> Option<Money> {
        Cost::default().add(tokens, self).total()
    }
}

/// Parses dollars per million tokens, in plain decimal: `3`, `0.0375`.
impl FromStr for Price {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let picos = decimal(text, 6)?;
        u64::try_from(picos).map(Price).map_err(|_| MoneyError::TooLarge)
    }
}

/// The sum of a call's items, kept exact and rounded up once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    picos: u128,
    overflow: bool,
}

impl Cost {
    /// Adds `count` tokens at this price.
    #[must_use]
    pub fn add(self, count: u64, price: Price) -> Self {
        self.add_picos(u128::from(count) * u128::from(price.0))
    }

    fn add_picos(self, picos: u128) -> Self {
        match self.picos.checked_add(picos) {
            Some(picos) => Cost { picos, ..self },
            None => Cost { overflow: true, ..self },
        }
    }

    /// Multiplies by `millionths`: 1,100,000 adds a tenth.
    #[must_use]
    pub fn times(self, millionths: u32) -> Multiplied {
        Multiplied { product: (!self.overflow).then_some(self.picos), down: 1_000 }.times(millionths)
    }

    /// The sum in money, rounded up; `None` if it does not fit into [`Money`].
    #[must_use]
    pub fn total(self) -> Option<Money> {
        self.times(1_000_000).total()
    }
}

/// A [`Cost`] and its multipliers, not yet rounded.
#[derive(Debug, Clone, Copy)]
pub struct Multiplied {
    /// `None` if it does not fit.
    product: Option<u128>,
    /// The divisor that makes billionths of it.
    down: u128,
}

impl Multiplied {
    /// Multiplies by a further `millionths`; multipliers compound.
    #[must_use]
    pub fn times(self, millionths: u32) -> Multiplied {
        let product = self.product.and_then(|product| product.checked_mul(u128::from(millionths)));
        match self.down.checked_mul(1_000_000) {
            Some(down) => Multiplied { product, down },
            None => Multiplied { product: None, ..self },
        }
    }

    /// The product in money, rounded up; `None` if it does not fit into [`Money`].
    #[must_use]
    pub fn total(self) -> Option<Money> {
        i64::try_from(self.product?.div_ceil(self.down)).ok().map(Money)
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MoneyError {
    /// The amount is negative.
    Negative,
    /// The text is not a plain decimal number: it is empty, has an exponent, a sign or a separator, or is not a number
    /// at all.
    NotDecimal,
    /// The amount has too many decimal places.
    TooFine,
    /// The amount is too large.
    TooLarge,
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MoneyError::Negative => "an amount cannot be negative",
            MoneyError::NotDecimal => "not an amount in plain decimal, such as 5 or 0.25",
            MoneyError::TooFine => "an amount has too many decimal places",
            MoneyError::TooLarge => "an amount is too large",
        })
    }
}

impl std::error::Error for MoneyError {}

/// Reads a plain decimal number as a count of units of 10^-`places`.
fn decimal(text: &str, places: usize) -> Result<u128, MoneyError> {
    if text.starts_with('-') {
        return Err(MoneyError::Negative);
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(MoneyError::NotDecimal);
    }
    let part = part.trim_end_matches('0');
    if part.len() > places {
        return Err(MoneyError::TooFine);
    }
    let units = |text: &str| match text {
        "" => Ok(0_u128),
        text => text.parse().map_err(|_| MoneyError::TooLarge),
    };
    let scale = |exponent: usize| (0..exponent).fold(1_u128, |scale, _| scale * 10);
    let whole = units(whole)?.checked_mul(scale(places)).ok_or(MoneyError::TooLarge)?;
    Ok(whole.saturating_add(units(part)? * scale(places - part.len())))
}

#[cfg(test)]
mod tests {
    use super::{Cost, Money, MoneyError, Price};

    #[test]
    fn money_is_read_from_plain_decimal_and_nothing_else() {
        for (text, nanos) in [
            ("0", Ok(0)),
            ("5", Ok(5_000_000_000)),
            ("0.25", Ok(250_000_000)),
            ("0.000000001", Ok(1)),
            ("1.5000000000000", Ok(1_500_000_000)),
            ("9223372036.854775807", Ok(i64::MAX)),
            ("9223372036.854775808", Err(MoneyError::TooLarge)),
            ("123456789012345678901234567890", Err(MoneyError::TooLarge)),
            ("99999999999999999999999999999999999999999999", Err(MoneyError::TooLarge)),
            ("0.0000000001", Err(MoneyError::TooFine)),
            ("-1", Err(MoneyError::Negative)),
            ("-0", Err(MoneyError::Negative)),
            ("NaN", Err(MoneyError::NotDecimal)),
            ("inf", Err(MoneyError::NotDecimal)),
            ("1e3", Err(MoneyError::NotDecimal)),
            ("+1", Err(MoneyError::NotDecimal)),
            ("1,000", Err(MoneyError::NotDecimal)),
            ("1.", Err(MoneyError::NotDecimal)),
            (".5", Err(MoneyError::NotDecimal)),
            ("1.2.3", Err(MoneyError::NotDecimal)),
            (" 1", Err(MoneyError::NotDecimal)),
            ("٣", Err(MoneyError::NotDecimal)),
            ("", Err(MoneyError::NotDecimal)),
        ] {
            assert_eq!(text.parse::<Money>().map(Money::nanos), nanos, "{text:?}");
        }
    }

    #[test]
    fn prices_are_read_from_plain_decimal_to_a_millionth_of_a_dollar_a_million_tokens_and_from_nothing_else() {
        for (text, picos) in [
            ("0", Ok(0)),
            ("0.00000000000000000000", Ok(0)),
            ("3", Ok(3_000_000)),
            ("0.0375", Ok(37_500)),
            ("0.000001", Ok(1)),
            ("1.50000000000000000000", Ok(1_500_000)),
            ("0.0000001", Err(MoneyError::TooFine)),
            ("0.00000000000000000001", Err(MoneyError::TooFine)),
            ("1.23456789012345678901", Err(MoneyError::TooFine)),
            ("18446744073709.551615", Ok(u64::MAX)),
            ("18446744073709.551616", Err(MoneyError::TooLarge)),
            ("340282366920938463463374607431768211456", Err(MoneyError::TooLarge)),
            ("-3", Err(MoneyError::Negative)),
            ("-0", Err(MoneyError::Negative)),
            ("NaN", Err(MoneyError::NotDecimal)),
            ("inf", Err(MoneyError::NotDecimal)),
            ("1e3", Err(MoneyError::NotDecimal)),
            ("1E-6", Err(MoneyError::NotDecimal)),
            ("+3", Err(MoneyError::NotDecimal)),
            ("$3", Err(MoneyError::NotDecimal)),
            ("3,5", Err(MoneyError::NotDecimal)),
            ("", Err(MoneyError::NotDecimal)),
        ] {
            assert_eq!(text.parse::<Price>().map(Price::picos), picos, "{text:?}");
        }
    }

    #[test]
    fn money_is_written_with_cents_and_with_no_more_digits_than_it_has() {
        for (nanos, text) in [
            (0, "0.00"),
            (5_000_000_000, "5.00"),
            (37_500_000, "0.0375"),
            (-1_500_000_000, "-1.50"),
            (1, "0.000000001"),
            (i64::MIN, "-9223372036.854775808"),
        ] {
            assert_eq!(Money::from_nanos(nanos).to_string(), text);
        }
        assert_eq!(Money::from_nanos(1_999_999_999).to_cents(), "1.99");
        assert_eq!(Money::from_nanos(-1).to_cents(), "-0.01");
    }

    #[test]
    fn a_call_is_rounded_once_and_upwards() {
        let price = Price::from_picos(37_500);
        let cost = Cost::default().add(1, price).add(1, price);
        assert_eq!(cost.total(), Some(Money::from_nanos(75)));
        assert_eq!(Cost::default().add(1, Price::from_picos(1)).total(), Some(Money::from_nanos(1)));
        assert_eq!(
            Cost::default().add(3, Price::from_picos(1_000)).times(1_100_000).total(),
            Some(Money::from_nanos(4))
        );
        // 1,000 x 1.1 x 1.000001 = 1,100.0011, of which nothing was lost on the way.
        let twice = Cost::default().add(1_000_000, Price::from_picos(1)).times(1_100_000).times(1_000_001);
        assert_eq!(twice.total(), Some(Money::from_nanos(1_101)));
    }

    #[test]
    fn a_sum_that_cannot_be_said_is_no_sum() {
        assert_eq!(Price::from_picos(u64::MAX).cost(u64::MAX), None);
        let most = Cost::default().add(u64::MAX, Price::from_picos(u64::MAX));
        assert_eq!(most.add(u64::MAX, Price::from_picos(u64::MAX)).total(), None);
    }
}
