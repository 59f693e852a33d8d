//! Real numbers that cannot be a mistake: what forecasts and their costs are computed with.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A finite number that is not negative: an amount of demand, a price in dollars, a number of hours.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct NonNegative(f64);

/// Why a number is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a finite number of zero or more")]
pub struct NotAnAmount(f64);

impl NonNegative {
    /// Nothing.
    pub const ZERO: Self = Self(0.0);

    /// Accepts a finite number of zero or more; minus zero becomes zero.
    pub fn new(value: f64) -> Result<Self, NotAnAmount> {
        if value.is_finite() && value >= 0.0 {
            Ok(Self(value.abs()))
        } else {
            Err(NotAnAmount(value))
        }
    }

    /// The bare number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// A constant of this crate.
    pub(crate) const fn of(value: f64) -> Self {
        assert!(
            value >= 0.0 && value <= f64::MAX,
            "an amount is finite and not negative"
        );
        Self(value)
    }
}

/// Equal numbers are the same number: there is no NaN and no minus zero.
impl Eq for NonNegative {}

impl Ord for NonNegative {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for NonNegative {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<f64> for NonNegative {
    type Error = NotAnAmount;
    fn try_from(value: f64) -> Result<Self, NotAnAmount> {
        Self::new(value)
    }
}

impl From<NonNegative> for f64 {
    fn from(amount: NonNegative) -> Self {
        amount.0
    }
}

/// A part of a whole: a number between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

/// Why a number is not a share.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not between 0 and 1")]
pub struct NotAShare(f64);

impl Share {
    /// Accepts a number between 0 and 1.
    pub fn new(value: f64) -> Result<Self, NotAShare> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(NotAShare(value))
        }
    }

    /// The bare number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// A constant of this crate.
    pub(crate) const fn of(value: f64) -> Self {
        assert!(value >= 0.0 && value <= 1.0, "a share is between 0 and 1");
        Self(value)
    }
}

impl TryFrom<f64> for Share {
    type Error = NotAShare;
    fn try_from(value: f64) -> Result<Self, NotAShare> {
        Self::new(value)
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(f64::NAN)]
    #[case(f64::INFINITY)]
    #[case(-1e-300)]
    fn what_is_no_amount_is_refused(#[case] value: f64) {
        assert!(NonNegative::new(value).is_err());
    }

    #[test]
    fn minus_zero_is_zero() {
        assert_eq!(
            NonNegative::new(-0.0).map(|amount| amount.get().is_sign_positive()),
            Ok(true)
        );
    }

    #[test]
    fn a_negative_amount_does_not_deserialize() {
        assert!(serde_json::from_str::<NonNegative>("-0.5").is_err());
    }

    #[rstest]
    #[case(f64::NAN)]
    #[case(1.001)]
    #[case(-0.001)]
    fn what_is_no_share_is_refused(#[case] value: f64) {
        assert!(Share::new(value).is_err());
    }
}
