//! Parsing of the decimal strings and durations that the kinds carry. Money is integer micro-USD from here on.

use std::time::Duration;

/// Pattern of a cron schedule of five fields; the operator reads it in full.
pub const CRON: &str = r"^[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}$";

/// Pattern of a decimal amount: up to nine digits before and six after the point.
pub const DECIMAL: &str = r"^[0-9]{1,9}(\.[0-9]{1,6})?$";
/// Pattern of a duration: `500ms`, `30s`, `10m`, `1h30m`, `7d`.
pub const DURATION: &str = r"^([0-9]{1,6}(ms|s|m|h|d)){1,4}$";
/// Pattern of a DNS label.
pub const DNS_LABEL: &str = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// Pattern of a SHA-256 in lower-case hexadecimal.
pub const SHA256: &str = r"^[0-9a-f]{64}$";
/// Pattern of a memory quantity with a binary or decimal suffix.
pub const MEMORY: &str = r"^[0-9]{1,12}(Ki|Mi|Gi|Ti|k|M|G|T)?$";
/// Pattern of a resource count: whole, or thousandths with `m`.
pub const COUNT: &str = r"^[0-9]{1,7}m?$";

/// Why a string is not the quantity it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a decimal number with at most six digits after the point.
    #[error("{0:?} is not a decimal number with at most six digits after the point")]
    Decimal(String),
    /// Not a duration.
    #[error("{0:?} is not a duration such as 500ms, 30s, 10m or 1h30m")]
    Duration(String),
    /// Not an amount of memory.
    #[error("{0:?} is not an amount of memory such as 512Mi or 24Gi")]
    Memory(String),
    /// Not a resource count.
    #[error("{0:?} is not a count such as 1 or 250m")]
    Count(String),
}

/// Millionths of a decimal string: `"0.35"` is 350 000.
pub fn micros(text: &str) -> Result<u64, QuantityError> {
    let fail = || QuantityError::Decimal(text.to_owned());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str, most: usize| {
        part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let point_without_digits = text.contains('.') && fraction.is_empty();
    if whole.is_empty() || !digits(whole, 9) || !digits(fraction, 6) || point_without_digits {
        return Err(fail());
    }
    let whole: u64 = whole.parse().map_err(|_| fail())?;
    let fraction: u64 = format!("{fraction:0<6}").parse().map_err(|_| fail())?;
    Ok(whole * 1_000_000 + fraction)
}

/// The shortest decimal string of an amount in millionths.
pub fn decimal(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:06}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// A duration such as `1h30m`.
pub fn duration(text: &str) -> Result<Duration, QuantityError> {
    let fail = || QuantityError::Duration(text.to_owned());
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
        rest = &rest[digits..];
        let (unit, millis) = [
            ("ms", 1),
            ("s", 1_000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))
        .ok_or_else(fail)?;
        rest = &rest[unit.len()..];
        let part = number.checked_mul(millis).ok_or_else(fail)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(fail)?;
    }
    if text.is_empty() {
        Err(fail())
    } else {
        Ok(total)
    }
}

/// Bytes of an amount of memory such as `24Gi`.
pub fn memory(text: &str) -> Result<u64, QuantityError> {
    let fail = || QuantityError::Memory(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| fail())?;
    let factor: u64 = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(fail()),
    };
    number.checked_mul(factor).ok_or_else(fail)
}

/// Thousandths of a resource count: `"2"` is 2 000, `"250m"` is 250.
pub fn milli_count(text: &str) -> Result<u64, QuantityError> {
    let fail = || QuantityError::Count(text.to_owned());
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 1),
        None => (text, 1_000),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fail());
    }
    let number: u64 = number.parse().map_err(|_| fail())?;
    number.checked_mul(factor).ok_or_else(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", Ok(0))]
    #[case("0.35", Ok(350_000))]
    #[case("12.000001", Ok(12_000_001))]
    fn money_is_read_to_the_millionth(
        #[case] text: &str,
        #[case] expected: Result<u64, QuantityError>,
    ) {
        assert_eq!(micros(text), expected);
    }

    #[rstest]
    #[case("")]
    #[case("-1")]
    #[case("1e3")]
    #[case("1.")]
    #[case(".5")]
    #[case("0.0000001")]
    #[case("NaN")]
    #[case("1,5")]
    fn what_is_not_money_is_refused(#[case] text: &str) {
        assert_eq!(micros(text), Err(QuantityError::Decimal(text.to_owned())));
    }

    #[rstest]
    #[case("500ms", 500)]
    #[case("30s", 30_000)]
    #[case("1h30m", 5_400_000)]
    #[case("7d", 604_800_000)]
    fn durations_are_read(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
    }

    #[rstest]
    #[case("")]
    #[case("5")]
    #[case("s")]
    #[case("-5s")]
    #[case("5 s")]
    #[case("99999999999999999999d")]
    fn what_is_not_a_duration_is_refused(#[case] text: &str) {
        assert!(duration(text).is_err());
    }

    #[test]
    fn memory_and_counts_are_read() {
        assert_eq!(memory("24Gi"), Ok(24 << 30));
        assert_eq!(memory("1Q"), Err(QuantityError::Memory("1Q".into())));
        assert_eq!(milli_count("250m"), Ok(250));
        assert_eq!(milli_count("2"), Ok(2_000));
        assert!(milli_count("").is_err());
    }

    proptest! {
        #[test]
        fn a_printed_amount_reads_back(amount in 0u64..1_000_000_000_000_000) {
            prop_assert_eq!(micros(&decimal(amount)), Ok(amount));
        }
    }
}
