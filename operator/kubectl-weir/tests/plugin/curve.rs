//! The chart of a plan: its marks lie where the numbers say.

use super::support::{EXAMPLES, PRICES, offline};

async fn chart(rest: &str) -> String {
    let line = format!("plan hybrid -f {EXAMPLES} {PRICES} {rest}");
    let answer = offline(&line).await.expect("plans");
    let at = answer.output.find("Cost a month").expect("has a chart");
    answer.output[at..].to_owned()
}

/// Columns of a mark over all rows.
fn columns(chart: &str, mark: char) -> Vec<usize> {
    let rows = chart
        .lines()
        .take_while(|line| !line.contains("requests a month"));
    let places = rows.flat_map(|row| {
        let marks = row.chars().enumerate().filter(|(_, each)| *each == mark);
        marks.map(|(column, _)| column).collect::<Vec<_>>()
    });
    places.collect()
}

#[tokio::test]
async fn the_present_demand_lies_left_of_the_crossing_below_it_and_right_above_it() {
    let below = chart("--requests 30000").await;
    let above = chart("--requests 50000000").await;
    let crossing = |chart: &str| columns(chart, 'X');
    assert_eq!(crossing(&below).len(), 1, "{below}");
    assert_eq!(crossing(&above).len(), 1, "{above}");
    assert!(columns(&below, '▲')[0] < crossing(&below)[0], "{below}");
    assert!(columns(&above, '▲')[0] > crossing(&above)[0], "{above}");
}

#[tokio::test]
async fn no_traffic_has_no_mark_and_still_a_chart() {
    let chart = chart("--requests 0").await;
    assert_eq!(columns(&chart, '▲'), Vec::<usize>::new(), "{chart}");
    assert_eq!(columns(&chart, 'X').len(), 1, "{chart}");
}

#[tokio::test]
async fn any_demand_keeps_the_chart_within_eighty_columns() {
    for requests in [1, 999, 1_000_000_000_000_u64] {
        let chart = chart(&format!("--requests {requests}")).await;
        let widest = chart.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{chart}");
    }
}

#[tokio::test]
async fn one_side_alone_is_drawn_without_a_crossing() {
    let line = format!("plan private -f {EXAMPLES}");
    let output = offline(&line).await.expect("plans").output;
    assert!(output.contains("━ best local"), "{output}");
    assert!(!output.contains("best external"), "{output}");
    assert!(!output.contains("X break-even"), "{output}");
}
