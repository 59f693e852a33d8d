//! Kubernetes resource quantities, as its API server writes them: `apimachinery/pkg/api/resource`.

/// Billionths of a resource quantity such as `250m`, `1.5`, `512Mi` or `1e3`; `None` for what is none.
pub fn nanos(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    let value = match binary(suffix) {
        Some(shift) => decimal(mantissa.checked_mul(1 << shift)?, 9 - scale)?,
        None => decimal(mantissa, exponent(suffix)? + 9 - scale)?,
    };
    Some(if negative { -value } else { value })
}

/// Thousandths of a resource quantity, rounded up as Kubernetes counts them; `None` for what is none, or negative.
pub fn thousandths(text: &str) -> Option<u64> {
    const MILLION: i128 = 1_000_000;
    let nanos = u64::try_from(nanos(text)?.checked_add(MILLION - 1)? / MILLION);
    nanos.ok()
}

fn binary(suffix: &str) -> Option<u32> {
    ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .zip(1..)
        .find_map(|(name, power)| (*name == suffix).then_some(power * 10))
}

fn exponent(suffix: &str) -> Option<i32> {
    let named = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    let named = named.into_iter().find(|(name, _)| *name == suffix);
    if let Some((_, exponent)) = named {
        return Some(exponent);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-18..=18).contains(&exponent).then_some(exponent)
}

/// `mantissa` times ten to the power; digits below one billionth round up, as Kubernetes does.
fn decimal(mantissa: i128, power: i32) -> Option<i128> {
    if power >= 0 {
        return mantissa.checked_mul(10_i128.checked_pow(u32::try_from(power).ok()?)?);
    }
    let divisor = 10_i128.checked_pow(u32::try_from(-power).ok()?)?;
    Some(mantissa / divisor + i128::from(mantissa % divisor != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1000m", "1")]
    #[case("0.5", "500m")]
    #[case("1024Mi", "1Gi")]
    #[case("1e3", "1k")]
    #[case(".5", "500m")]
    #[case("2", "2.000")]
    fn the_same_amount_in_two_spellings_is_equal(#[case] a: &str, #[case] b: &str) {
        assert!(nanos(a).is_some());
        assert_eq!(nanos(a), nanos(b));
    }

    #[rstest]
    #[case("2", Some(2_000))]
    #[case("250m", Some(250))]
    #[case("1k", Some(1_000_000))]
    #[case("1500u", Some(2))]
    #[case("0", Some(0))]
    #[case("-1", None)]
    #[case("two", None)]
    fn thousandths_are_counted_up(#[case] text: &str, #[case] expected: Option<u64>) {
        assert_eq!(thousandths(text), expected);
    }

    #[rstest]
    #[case("")]
    #[case("Gi")]
    #[case("1.2.3")]
    #[case("1 Gi")]
    #[case("1gb")]
    #[case("NaN")]
    #[case("1e99")]
    fn what_is_no_quantity_is_none(#[case] text: &str) {
        assert_eq!(nanos(text), None);
    }
}
