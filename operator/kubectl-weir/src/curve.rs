//! Pure: the break-even curve as a chart of characters, both axes logarithmic.

use crate::plan::{Curve, Point};
use crate::text::grouped;

const ROWS: usize = 13;
const LABEL: usize = 9;
/// More decades than this below the dearest cost would flatten what matters.
const MOST_DECADES: f64 = 6.0;
const LOCAL: char = '━';
const EXTERNAL: char = '•';
const CROSSING: char = 'X';
const PRESENT: char = '┆';

/// A chart of at most 80 columns, with its legend.
pub(crate) fn draw(curve: &Curve) -> String {
    let scale = Scale::of(&curve.points);
    let columns = curve.points.len();
    let mut grid = vec![vec![' '; columns]; ROWS];
    let present = column(curve, curve.present_requests_per_month);
    if let Some(column) = present {
        grid.iter_mut().for_each(|row| row[column] = PRESENT);
    }
    for (column, point) in curve.points.iter().enumerate() {
        if let Some(cost) = point.external_micro_usd {
            grid[scale.row(cost)][column] = EXTERNAL;
        }
        if let Some(cost) = point.local_micro_usd {
            grid[scale.row(cost)][column] = LOCAL;
        }
    }
    let crossing = column(curve, curve.break_even_requests_per_month);
    if let Some(column) = crossing
        && let Some(cost) = curve.points[column].local_micro_usd
    {
        grid[scale.row(cost)][column] = CROSSING;
    }
    let mut text = String::from("Cost a month, USD\n");
    for (at, row) in grid.iter().enumerate() {
        let label = scale.label(at);
        let line: String = row.iter().collect();
        let tick = if label.is_empty() { '│' } else { '┤' };
        text.push_str(&format!("{label:>LABEL$} {tick}{}\n", line.trim_end()));
    }
    text.push_str(&axis(curve, present));
    text.push_str(&legend(curve));
    text
}

/// The column that is nearest on the logarithmic axis; `None` for no traffic.
fn column(curve: &Curve, mark: Option<u64>) -> Option<usize> {
    let log = |requests: u64| (requests.max(1) as f64).ln();
    let mark = mark.filter(|mark| *mark > 0)?;
    let distance = |point: &Point| (log(point.requests_per_month) - log(mark)).abs();
    let columns = curve.points.iter().enumerate();
    let nearest = columns.min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    nearest.map(|(column, _)| column)
}

/// Logarithms of micro-USD from the bottom row to the top one: whole decades.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn of(points: &[Point]) -> Self {
        let costs = points
            .iter()
            .flat_map(|point| [point.local_micro_usd, point.external_micro_usd]);
        let logs: Vec<f64> = costs
            .flatten()
            .filter(|cost| *cost > 0)
            .map(|cost| (cost as f64).log10())
            .collect();
        let high = logs.iter().copied().reduce(f64::max).unwrap_or(6.0).ceil();
        let low = logs.iter().copied().reduce(f64::min).unwrap_or(6.0).floor();
        Self {
            low: low.max(high - MOST_DECADES).min(high - 1.0),
            high,
        }
    }

    /// The row of a cost, from the top; what is below the scale lies on its bottom.
    fn row(&self, micros: u64) -> usize {
        let log = (micros.max(1) as f64).log10();
        let share = (self.high - log) / (self.high - self.low);
        let row = (share * (ROWS - 1) as f64).round();
        (row.max(0.0) as usize).min(ROWS - 1)
    }

    /// The power of ten that lies on this row, if one does.
    fn label(&self, row: usize) -> String {
        let decades = (self.high - self.low).round() as i32;
        let exponents = (0..=decades).map(|decade| self.low.round() as i32 + decade);
        let mut micros = exponents.map(|exponent| 10f64.powi(exponent) as u64);
        micros
            .find(|micros| self.row(*micros) == row)
            .map(short)
            .unwrap_or_default()
    }
}

/// Dollars of a power of ten in micro-USD.
fn short(micros: u64) -> String {
    match micros {
        1_000_000.. => format!("${}", shortened(micros / 1_000_000)),
        _ => format!("${}", weir_crds::quantity::decimal(micros)),
    }
}

/// `10k` for ten thousand.
fn shortened(number: u64) -> String {
    match number {
        1_000_000_000_000.. => format!("{}T", number / 1_000_000_000_000),
        1_000_000_000.. => format!("{}G", number / 1_000_000_000),
        1_000_000.. => format!("{}M", number / 1_000_000),
        1_000.. => format!("{}k", number / 1_000),
        _ => number.to_string(),
    }
}

/// The axis of requests, with its powers of ten.
fn axis(curve: &Curve, present: Option<usize>) -> String {
    let columns = curve.points.len();
    let mut line = vec!['─'; columns];
    let mut labels = vec![' '; columns + LABEL + 2];
    let mut free_from = 0;
    let last = curve
        .points
        .last()
        .map_or(0, |point| point.requests_per_month);
    let mut decade = curve
        .points
        .first()
        .map_or(1, |point| point.requests_per_month.max(1));
    while decade <= last {
        let Some(at) = column(curve, Some(decade)) else {
            break;
        };
        line[at] = '┴';
        let label = shortened(decade);
        let width = label.chars().count();
        // The last label ends with the axis.
        let start = (at + LABEL + 2).min(columns + LABEL + 2 - width);
        if start >= free_from {
            labels.splice(start..start + width, label.chars());
            free_from = start + width + 1;
        }
        decade = decade.saturating_mul(10);
    }
    if let Some(column) = present {
        line[column] = '▲';
    }
    let line: String = line.iter().collect();
    let labels: String = labels.iter().collect();
    format!("{:LABEL$} └{line}\n{}\n", "", labels.trim_end())
}

fn legend(curve: &Curve) -> String {
    let has = |of: fn(&Point) -> Option<u64>| curve.points.iter().any(|point| of(point).is_some());
    let mut marks = Vec::new();
    if has(|point| point.local_micro_usd) {
        marks.push(format!("{LOCAL} best local"));
    }
    if has(|point| point.external_micro_usd) {
        marks.push(format!("{EXTERNAL} best external"));
    }
    if let Some(requests) = curve.break_even_requests_per_month {
        marks.push(format!(
            "{CROSSING} break-even {}",
            grouped(requests.into())
        ));
    }
    if let Some(requests) = curve.present_requests_per_month {
        marks.push(format!("▲ demand {}", grouped(requests.into())));
    }
    let mut text = format!("{:LABEL$}  requests a month\n", "");
    let mut line = format!("{:LABEL$}  ", "");
    for mark in marks {
        if line.chars().count() + mark.chars().count() > 80 {
            text.push_str(line.trim_end());
            line = format!("\n{:LABEL$}  ", "");
        }
        line.push_str(&mark);
        line.push_str("   ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
    text
}
