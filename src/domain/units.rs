//! Quantities that must not be mixed up: tokens, money. Integers inside, rounded only when printed.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize, Serializer};

/// A count of tokens, as a server's `usage` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub u64);

impl Add for Tokens {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Picodollars in one US dollar.
const PICODOLLARS: u32 = 12;

/// An amount of US dollars, kept exactly in picodollars (1e-12 dollars), the unit in which every public
/// price per token is a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd {
    /// The amount in picodollars.
    pub picodollars: u128,
}

impl Usd {
    /// The amount in dollars, rounded to the nearest `f64`: for printing only.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the one place where money is rounded, on its way out")]
    pub fn dollars(self) -> f64 {
        self.picodollars as f64 / 10f64.powi(PICODOLLARS.cast_signed())
    }

    /// Reads back an amount that [`Usd::dollars`] printed. Negative and non-finite numbers are no amounts.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be finite and not negative; picodollars of any real bill fit"
    )]
    pub fn from_dollars(dollars: f64) -> Option<Self> {
        let picodollars = (dollars * 10f64.powi(PICODOLLARS.cast_signed())).round();
        (picodollars.is_finite() && picodollars >= 0.0).then_some(Self { picodollars: picodollars as u128 })
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        self.picodollars = self.picodollars.saturating_add(other.picodollars);
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.dollars())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_small_costs_add_up_to_the_cent() {
        let mut total = Usd::default();
        for _ in 0..1_000_000 {
            total += Usd { picodollars: 37_500 };
        }
        assert_eq!(total.dollars().to_string(), "0.0375");
        assert_eq!(Usd::from_dollars(0.0375), Some(total));
    }
}
