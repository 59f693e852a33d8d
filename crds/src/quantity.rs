//! Parsing of the decimal strings and durations that the kinds carry. Money is integer micro-USD from here on.

use std::time::Duration;

use kube::core::Rule;

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

/// Longest text of a duration; a pattern of four parts has no more.
pub const DURATION_LENGTH: u32 = 32;
/// Longest text of a decimal amount.
pub const DECIMAL_LENGTH: u32 = 16;
/// Longest text of an amount of memory.
pub const MEMORY_LENGTH: u32 = 14;
/// Longest text of a resource count.
pub const COUNT_LENGTH: u32 = 8;

/// A rule that says in words what a pattern says in signs.
fn matches(pattern: &str, message: &str) -> Rule {
    // A backslash is an escape in CEL's own strings.
    let pattern = pattern.replace('\\', r"\\");
    Rule::new(format!("self.matches('{pattern}')")).message(message)
}

/// The schema's rule for a duration.
pub fn is_duration() -> Rule {
    matches(DURATION, "must be a duration such as 30s, 10m or 1h30m")
}

/// The schema's rule for a duration that is not shorter than a second.
pub fn is_a_second() -> Rule {
    let shorter = r"^(0*[0-9]{1,3}ms|0+(s|m|h|d))+$";
    Rule::new(format!("!self.matches('{shorter}')")).message("must be at least 1s")
}

/// The schema's rule for a decimal number.
pub fn is_decimal() -> Rule {
    matches(
        DECIMAL,
        "must be a decimal number such as 12 or 0.35, with at most nine digits before the point and six after it",
    )
}

/// The schema's rule for a number of at least 1.
pub fn is_one_at_least() -> Rule {
    Rule::new("!self.matches('^0+([.]|$)')").message("must be at least 1")
}

/// The schema's rule for a percentage.
pub fn is_percent() -> Rule {
    let pattern = r"^(0*[0-9]{1,2}([.][0-9]{1,6})?|0*100([.]0{1,6})?)$";
    matches(
        pattern,
        "must be a percentage from 0 to 100 such as 1 or 0.5, with at most six digits after the point",
    )
}

/// The schema's rule for a price.
pub fn is_price() -> Rule {
    matches(
        DECIMAL,
        "must be USD per million tokens such as 0.35, with at most six digits after the point: a price per token times 1000000",
    )
}

/// The schema's rule for an amount of memory.
pub fn is_memory() -> Rule {
    matches(
        MEMORY,
        "must be an amount of memory in whole numbers such as 512Mi or 24Gi",
    )
}

/// The schema's rule for a resource count that is not 0.
pub fn is_count() -> Rule {
    let pattern = r"^0*[1-9][0-9]{0,6}m?$";
    matches(
        pattern,
        "must be a whole number of at least 1, or for cpu thousandths such as 250m",
    )
}

/// The schema's rule for a DNS label.
pub fn is_dns_label() -> Rule {
    matches(
        DNS_LABEL,
        "must be lower-case letters, digits and -, at most 63, with a letter or digit at both ends",
    )
}

/// The schema's rule for a cron schedule.
pub fn is_cron() -> Rule {
    matches(
        CRON,
        "must be five cron fields such as 0 2 * * 6: minute, hour, day of month, month, day of week",
    )
}

/// The schema's rule for the name of a model in a URL's path.
pub fn is_model_name() -> Rule {
    let pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:@+/-]*[A-Za-z0-9])?$";
    Rule::new(format!(
        "self.matches('{pattern}') && !self.contains('//') && !self.contains('/.')"
    ))
    .message(
        "must be a name that a URL's path can carry: letters, digits and . _ - : @ + /, with a letter or digit at both ends, without // and /.",
    )
}

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
