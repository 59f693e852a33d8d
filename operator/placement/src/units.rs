//! Units as types: a value that exists is in range. Money is integer micro-USD.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a number or a text is not the unit it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The number is outside of what the unit can sensibly hold.
    #[error("{value} is not a valid {unit}: it must be between {min} and {max}")]
    OutOfRange {
        /// Name of the unit.
        unit: &'static str,
        /// The number that was given.
        value: i128,
        /// Smallest valid number.
        min: u64,
        /// Largest valid number.
        max: u64,
    },
    /// The text is not a plain decimal number; signs, exponents and NaN are refused.
    #[error("{0:?} is not a decimal number")]
    NotDecimal(String),
    /// The text has more digits after the point than the unit resolves; rounding could turn it into zero.
    #[error("{text:?} has more than {digits} digits after the point")]
    TooPrecise {
        /// The text that was given.
        text: String,
        /// Digits that the unit resolves.
        digits: usize,
    },
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $min:expr, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// Smallest valid value.
            pub const MIN: Self = Self($min);
            /// Largest valid value.
            pub const MAX: Self = Self($max);

            /// Accepts a number in range.
            pub const fn new(value: u64) -> Result<Self, UnitError> {
                if value.wrapping_sub($min) > $max - $min {
                    return Err(UnitError::OutOfRange {
                        unit: stringify!($name),
                        value: value as i128,
                        min: $min,
                        max: $max,
                    });
                }
                Ok(Self(value))
            }

            /// The same of a number that may be negative, as objects hold them.
            pub fn from_signed(value: i64) -> Result<Self, UnitError> {
                let out_of_range = || UnitError::OutOfRange {
                    unit: stringify!($name),
                    value: value.into(),
                    min: $min,
                    max: $max,
                };
                u64::try_from(value).map_err(|_| out_of_range()).and_then(Self::new)
            }

            /// The number nearest to `value` that is in range.
            pub fn clamped(value: u128) -> Self {
                Self(u64::try_from(value).unwrap_or(u64::MAX).clamp($min, $max))
            }

            /// The bare number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = UnitError;
            fn try_from(value: u64) -> Result<Self, UnitError> {
                Self::new(value)
            }
        }

        impl From<$name> for u64 {
            fn from(unit: $name) -> u64 {
                unit.0
            }
        }
    };
}

unit!(
    /// An amount of money in millionths of a US dollar. The upper bound fits a signed 64-bit integer.
    MicroUsd, 0, 9_223_372_036_854_775_807
);
unit!(
    /// Micro-USD for one million tokens; at most a million dollars, more is a unit mistake.
    MicroUsdPerMillionTokens, 0, 1_000_000_000_000
);
unit!(
    /// Micro-USD for one million requests; at most a thousand dollars a request.
    MicroUsdPerMillionRequests, 0, 1_000_000_000_000_000
);
unit!(
    /// Micro-USD for one hour of one replica; at most a million dollars.
    MicroUsdPerHour, 0, 1_000_000_000_000
);
unit!(
    /// Requests in a month of 730 hours.
    RequestsPerMonth, 0, 1_000_000_000_000
);
unit!(
    /// A number of tokens of one request or of a context window.
    Tokens, 0, 100_000_000
);
unit!(
    /// Output tokens that one replica sustains, in thousandths of a token per second. Never zero: nothing is known of what never ran.
    MilliTokensPerSecond, 1, 1_000_000_000_000
);
unit!(
    /// A duration in milliseconds.
    Millis, 0, 86_400_000
);
unit!(
    /// A duration in seconds, at most ten years.
    Seconds, 0, 315_576_000
);
unit!(
    /// An amount of memory in bytes.
    Bytes, 0, 1_000_000_000_000_000
);
unit!(
    /// A share in whole percent.
    Percent, 0, 100
);
unit!(
    /// Busy hour over the mean hour, in percent: 100 is flat. Its upper bound is all traffic of ten weeks in one hour.
    PeakPercent, 100, 168_000
);
unit!(
    /// Work of an hour over that of the mean hour, in percent; an hour without work has none. Bounded as the busy hour is.
    LoadPercent, 1, 168_000
);
unit!(
    /// A benchmark score in thousandths of a point.
    Score, 0, 1_000_000_000
);

/// Parses a plain decimal number as an integer number of units of ten to the minus `digits`.
fn parse_decimal(text: &str, digits: usize) -> Result<u64, UnitError> {
    let not_decimal = || UnitError::NotDecimal(text.to_owned());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let ends_in_point = text.ends_with('.');
    if whole.is_empty() || ends_in_point || !all_digits(whole) || !all_digits(fraction) {
        return Err(not_decimal());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > digits {
        return Err(UnitError::TooPrecise {
            text: text.to_owned(),
            digits,
        });
    }
    format!("{whole}{fraction:0<digits$}")
        .parse()
        .map_err(|_| not_decimal())
}

/// The shortest decimal text of an integer number of units of ten to the minus six.
fn format_micros(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:06}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

macro_rules! money {
    ($name:ident) => {
        impl $name {
            /// Parses dollars such as `0.35`.
            pub fn parse_decimal(dollars: &str) -> Result<Self, UnitError> {
                Self::new(parse_decimal(dollars, 6)?)
            }

            /// Dollars as the shortest exact decimal text, such as `0.35`.
            pub fn to_decimal(self) -> String {
                format_micros(self.0)
            }
        }

        /// Dollars for people: two digits after the point, more below ten cents.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.0 >= 100_000 || self.0 == 0 {
                    let cents = (self.0 + 5_000) / 10_000;
                    write!(f, "${}.{:02}", cents / 100, cents % 100)
                } else {
                    write!(f, "${}", format_micros(self.0))
                }
            }
        }
    };
}

money!(MicroUsd);
money!(MicroUsdPerMillionTokens);
money!(MicroUsdPerMillionRequests);
money!(MicroUsdPerHour);

impl Score {
    /// Parses a score such as `71.5`.
    pub fn parse_decimal(text: &str) -> Result<Self, UnitError> {
        Self::new(parse_decimal(text, 3)?)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_micros(self.0 * 1_000))
    }
}

impl MilliTokensPerSecond {
    /// From whole tokens per second.
    pub const fn from_whole(tokens_per_second: u64) -> Result<Self, UnitError> {
        Self::new(tokens_per_second.saturating_mul(1_000))
    }
}

impl fmt::Display for MilliTokensPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tokens/s",
            format_micros(self.0.saturating_mul(1_000))
        )
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl fmt::Display for PeakPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0)
    }
}

impl fmt::Display for RequestsPerMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        write!(f, "{} MiB", self.0.div_ceil(MIB))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0.35", 350_000)]
    #[case("12", 12_000_000)]
    #[case("0.000001", 1)]
    #[case("0.1000000", 100_000)]
    fn dollars_are_parsed_exactly(#[case] text: &str, #[case] micros: u64) {
        assert_eq!(MicroUsd::parse_decimal(text).map(MicroUsd::get), Ok(micros));
    }

    #[rstest]
    #[case("-1")]
    #[case("+1")]
    #[case("NaN")]
    #[case("1e3")]
    #[case("")]
    #[case(".5")]
    #[case("1.")]
    #[case("99999999999999999999")]
    fn what_is_not_a_plain_decimal_is_refused(#[case] text: &str) {
        assert!(matches!(
            MicroUsd::parse_decimal(text),
            Err(UnitError::NotDecimal(_))
        ));
    }

    #[test]
    fn a_price_too_small_to_hold_is_refused_and_not_rounded_to_zero() {
        assert!(matches!(
            MicroUsdPerMillionTokens::parse_decimal("0.0000001"),
            Err(UnitError::TooPrecise { .. })
        ));
    }

    #[test]
    fn a_price_of_more_than_a_million_dollars_is_a_unit_mistake() {
        assert!(MicroUsdPerMillionTokens::parse_decimal("1000001").is_err());
    }

    #[rstest]
    #[case(0, "$0.00")]
    #[case(1_234, "$0.001234")]
    #[case(484_999, "$0.48")]
    #[case(485_000, "$0.49")]
    #[case(1_999_999, "$2.00")]
    #[case(25_550_000, "$25.55")]
    fn money_reads_as_dollars(#[case] micros: u64, #[case] text: &str) {
        assert_eq!(MicroUsd::clamped(micros.into()).to_string(), text);
    }

    #[test]
    fn a_negative_number_is_named_as_it_was_given() {
        let refused = RequestsPerMonth::from_signed(-5).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|error| error.starts_with("-5 is not")));
        assert_eq!(RequestsPerMonth::from_signed(5), RequestsPerMonth::new(5));
    }

    #[test]
    fn values_out_of_range_do_not_deserialize() {
        assert!(serde_json::from_str::<Percent>("101").is_err());
        assert!(serde_json::from_str::<Percent>("-1").is_err());
        assert!(serde_json::from_str::<MilliTokensPerSecond>("0").is_err());
    }
}
