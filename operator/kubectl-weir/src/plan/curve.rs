//! Pure: monthly cost of the best local and the best external target over demand, by deciding at each volume.

use jiff::Timestamp;
use serde::Serialize;
use weir_crds::names;
use weir_operator::workload::decide::Considered;
use weir_operator::workload::validate::Validated;
use weir_placement::{Decision, DemandSource, Location, RequestsPerMonth};

/// Columns of the chart, and so volumes that are looked at.
const COLUMNS: u32 = 68;
/// Where nothing tells which volumes matter.
const NO_MARK: f64 = 100_000.0;

/// Monthly cost over demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Curve {
    /// By rising demand, evenly on a logarithmic axis between powers of ten.
    pub points: Vec<Point>,
    /// The demand of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present_requests_per_month: Option<u64>,
    /// Where the two sides cross.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub break_even_requests_per_month: Option<u64>,
}

/// Monthly cost at one volume, in micro-USD; `None` where that side has no target that is feasible and costed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Requests in a month.
    pub requests_per_month: u64,
    /// Of the cheapest local target.
    pub local_micro_usd: Option<u64>,
    /// Of the cheapest external target.
    pub external_micro_usd: Option<u64>,
}

/// The curve around the present demand and the break-even; `None` when no side has a known cost anywhere.
pub fn sample(validated: &Validated, decision: &Decision, now: Timestamp) -> Option<Curve> {
    let present = decision
        .inputs
        .demand
        .requests_per_month
        .map(RequestsPerMonth::get);
    let crossing = decision.break_even.map(RequestsPerMonth::get);
    let points: Vec<Point> = volumes(present, crossing)
        .into_iter()
        .filter_map(|requests| at(validated, decision, requests, now))
        .collect();
    let known = |point: &Point| point.local_micro_usd.or(point.external_micro_usd).is_some();
    points.iter().any(known).then_some(Curve {
        points,
        present_requests_per_month: present,
        break_even_requests_per_month: crossing,
    })
}

/// A decade and more on each side of what matters, between powers of ten.
fn volumes(present: Option<u64>, crossing: Option<u64>) -> Vec<u64> {
    let marks = [present, crossing].into_iter().flatten();
    let logs: Vec<f64> = marks
        .filter(|mark| *mark > 0)
        .map(|mark| (mark as f64).log10())
        .collect();
    let first = logs
        .iter()
        .copied()
        .reduce(f64::min)
        .unwrap_or(NO_MARK.log10());
    let last = logs
        .iter()
        .copied()
        .reduce(f64::max)
        .unwrap_or(NO_MARK.log10());
    let from = (first - 1.0).floor().max(0.0);
    let most = (RequestsPerMonth::MAX.get() as f64).log10();
    let to = (last + 1.0).ceil().min(most).max(from + 1.0);
    let step = (to - from) / f64::from(COLUMNS - 1);
    (0..COLUMNS)
        .map(|column| 10f64.powf(from + step * f64::from(column)).round() as u64)
        .collect()
}

/// What the operator's decision says of costs at another volume.
fn at(validated: &Validated, decision: &Decision, requests: u64, now: Timestamp) -> Option<Point> {
    let mut validated = validated.clone();
    let demand = &mut validated.input.demand;
    demand.source = DemandSource::Declared;
    demand.declared = decision.inputs.demand.clone();
    demand.declared.requests_per_month = Some(RequestsPerMonth::new(requests).ok()?);
    let there = Considered::new("", &validated, None).decide_alone(now)?;
    let cheapest = |location| {
        let candidates = there.candidates.iter();
        // As the break-even does: a workload begins on no substitute.
        let of_side = candidates.filter(|candidate| {
            candidate.location == location && names::substitute_of(&candidate.name).is_none()
        });
        let costs = of_side.filter_map(|candidate| candidate.cost.as_ref());
        costs.map(|cost| cost.monthly.get()).min()
    };
    Some(Point {
        requests_per_month: requests,
        local_micro_usd: cheapest(Location::Local),
        external_micro_usd: cheapest(Location::External),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_axis_rises_and_holds_every_mark(
            present in proptest::option::of(0u64..=1_000_000_000_000),
            crossing in proptest::option::of(0u64..=1_000_000_000_000),
        ) {
            let volumes = volumes(present, crossing);
            prop_assert_eq!(volumes.len(), COLUMNS as usize);
            prop_assert!(volumes.is_sorted());
            let last = volumes.last().copied().unwrap_or(0);
            prop_assert!(last <= RequestsPerMonth::MAX.get());
            for mark in [present, crossing].into_iter().flatten().filter(|mark| *mark > 0) {
                prop_assert!(volumes[0] <= mark && mark <= last, "{} to {last} without {mark}", volumes[0]);
            }
        }
    }
}
