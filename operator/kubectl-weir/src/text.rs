//! Tables, ages and amounts as people read them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What stands where nothing is known.
pub(crate) const UNKNOWN: &str = "-";
const GAP: usize = 3;

/// Columns aligned by their widest cell, as `kubectl get` prints them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    indent: usize,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        let mut table = Self::default();
        table.row(header.map(str::to_owned));
        table
    }

    /// Without a header, set in by two.
    pub(crate) fn list() -> Self {
        Self {
            rows: Vec::new(),
            indent: 2,
        }
    }

    pub(crate) fn indented(mut self) -> Self {
        self.indent = 2;
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width - cell.chars().count() + GAP));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A cell for what may be unknown.
pub(crate) fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

/// How long ago, in the largest unit or two, as kubectl has it: `45s`, `12m`, `3h20m`, `5d`.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    match seconds {
        ..0 => format!("in {}", length(-seconds)),
        _ => length(seconds),
    }
}

/// A moment to come or past, seen from now.
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    let distance = if at > now {
        age(at, now)
    } else {
        format!("{} ago", age(at, now))
    };
    format!("{distance} ({})", at.strftime("%Y-%m-%d %H:%M:%SZ"))
}

/// The same for a moment that may be unknown.
pub(crate) fn age_cell(at: Option<&Time>, now: Timestamp) -> String {
    cell(at.map(|at| age(at.0, now)))
}

fn length(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let both = |large: i64, unit: char, rest: i64, small: char| match rest {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{rest}{small}"),
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => both(seconds / MINUTE, 'm', seconds % MINUTE, 's'),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => both(seconds / HOUR, 'h', seconds % HOUR / MINUTE, 'm'),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => both(seconds / DAY, 'd', seconds % DAY / HOUR, 'h'),
        _ => format!("{}d", seconds / DAY),
    }
}

/// Dollars of a decimal string, with thousands apart and cents: `$1,234.50`.
pub(crate) fn dollars(decimal: &str) -> String {
    match weir_crds::quantity::micros(decimal) {
        Ok(micros) => dollars_of(micros.into()),
        Err(_) => format!("${decimal}"),
    }
}

/// The same of an amount in micro-USD.
pub(crate) fn dollars_of(micros: u128) -> String {
    let cents = (micros + 5_000) / 10_000;
    format!("${}.{:02}", grouped(cents / 100), cents % 100)
}

/// A whole number with thousands apart.
pub(crate) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A whole number that cannot be negative, with thousands apart.
pub(crate) fn count(number: i64) -> String {
    u128::try_from(number).map_or_else(|_| number.to_string(), grouped)
}

/// Text broken into lines of at most `width` characters, each after `indent`.
pub(crate) fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && indent + longer > width {
            push_line(&mut lines, &line, indent);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        push_line(&mut lines, &line, indent);
    }
    lines
}

fn push_line(lines: &mut String, line: &str, indent: usize) {
    lines.push_str(&" ".repeat(indent));
    lines.push_str(line);
    lines.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(45, "45s")]
    #[case(125, "2m5s")]
    #[case(3_600, "60m")]
    #[case(12_060, "3h21m")]
    #[case(100_000, "27h")]
    #[case(200_000, "2d7h")]
    #[case(864_000, "10d")]
    #[case(-90, "in 90s")]
    fn ages_are_told_as_kubectl_tells_them(#[case] seconds: i64, #[case] expected: &str) {
        let now = Timestamp::from_second(1_000_000_000).expect("in range");
        let at = Timestamp::from_second(1_000_000_000 - seconds).expect("in range");
        assert_eq!(age(at, now), expected);
    }

    #[rstest]
    #[case("0.2", "$0.20")]
    #[case("1234567.899999", "$1,234,567.90")]
    #[case("strange", "$strange")]
    fn money_has_cents_and_thousands(#[case] decimal: &str, #[case] expected: &str) {
        assert_eq!(dollars(decimal), expected);
    }

    #[test]
    fn lines_are_broken_between_words_and_none_is_lost() {
        let text = "a sentence that is longer than the line is wide";
        let lines = wrapped(text, 2, 20);
        assert!(
            lines.lines().all(|line| line.chars().count() <= 20),
            "{lines}"
        );
        assert_eq!(lines.split_whitespace().collect::<Vec<_>>().join(" "), text);
    }

    #[test]
    fn cells_of_any_width_stay_in_their_columns() {
        let mut table = Table::new(["NAME", "COST"]);
        table.row(["ü".to_owned(), "1".to_owned()]);
        table.row(["longer".to_owned(), "2".to_owned()]);
        assert_eq!(table.render(), "NAME     COST\nü        1\nlonger   2\n");
    }
}
