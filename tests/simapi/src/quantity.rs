//! Quantities in the form in which the API server writes them back.

/// The canonical form: `1000m` is `1`, `1024Mi` is `1Gi`, `0.25` is `250m`. `None` when it is not a quantity.
pub fn canonical(text: &str) -> Option<String> {
    let split = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let nano = nano(number)?;
    if let Some(power) = BINARY
        .iter()
        .position(|binary| *binary == suffix)
        .filter(|_| !suffix.is_empty())
    {
        let bytes = nano.checked_mul(1 << (10 * power))?;
        return Some(binary(bytes));
    }
    let exponent = match DECIMAL.iter().find(|(decimal, _)| *decimal == suffix) {
        Some((_, exponent)) => *exponent,
        None => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
    };
    let scaled = scale(nano, exponent)?;
    Some(decimal(scaled))
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
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

/// A plain decimal number in billionths; smaller parts are rounded up, as the server does.
fn nano(number: &str) -> Option<i128> {
    let negative = number.starts_with('-');
    let digits = number.trim_start_matches(['-', '+']);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut billionths: i128 = 0;
    for at in 0..9 {
        let digit = part
            .as_bytes()
            .get(at)
            .map_or(0, |digit| i128::from(digit - b'0'));
        billionths = billionths * 10 + digit;
    }
    if part.bytes().skip(9).any(|digit| digit != b'0') {
        billionths += 1;
    }
    let value = whole.checked_mul(1_000_000_000)?.checked_add(billionths)?;
    Some(if negative { -value } else { value })
}

fn scale(nano: i128, exponent: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        nano.checked_mul(factor)
    } else {
        Some(nano.div_euclid(factor) + i128::from(nano.rem_euclid(factor) != 0))
    }
}

fn decimal(nano: i128) -> String {
    if nano == 0 {
        return "0".to_owned();
    }
    let units = DECIMAL.iter().rev();
    for (suffix, exponent) in units {
        let unit = 10_i128.pow((exponent + 9).unsigned_abs());
        if nano % unit == 0 {
            return format!("{}{suffix}", nano / unit);
        }
    }
    format!("{nano}n")
}

fn binary(nano: i128) -> String {
    const ONE: i128 = 1_000_000_000;
    if nano % ONE != 0 || (nano / ONE).abs() < 1024 {
        return decimal(nano);
    }
    let mut value = nano / ONE;
    let mut power = 0;
    while value % 1024 == 0 && power + 1 < BINARY.len() {
        value /= 1024;
        power += 1;
    }
    format!("{value}{}", BINARY[power])
}

/// Base64 as Secrets carry it.
pub fn base64(bytes: &[u8]) -> String {
    let text = serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()));
    text.ok()
        .and_then(|text| text.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1000m", "1")]
    #[case("0.25", "250m")]
    #[case("1024Mi", "1Gi")]
    #[case("1500Mi", "1500Mi")]
    #[case("0.5Gi", "512Mi")]
    #[case("1000", "1k")]
    #[case("8", "8")]
    #[case("1G", "1G")]
    #[case("0", "0")]
    #[case("100Ki", "100Ki")]
    fn quantities_are_written_as_the_server_writes_them(
        #[case] given: &str,
        #[case] written: &str,
    ) {
        assert_eq!(canonical(given).unwrap(), written);
    }
}
