//! The demand that costs are computed for: a declared prior that observation overrides.

use crate::plan::{Confidence, DecisionInputs, DemandOrigin};
use crate::policy::PlacementPolicy;
use crate::snapshot::{Demand, DemandFigures, DemandSource, LoadCurve, ObservedDemand, Pattern};
use crate::units::{PeakPercent, Percent, RequestsPerMonth, Seconds, Tokens};

/// An observed figure replaces the recorded one only when it differs from it by more than this share of it, so that
/// noise neither decides nor rewrites a status. The least saving that a policy usually asks for is of this size.
const BAND_PERCENT: u64 = 10;
/// The same for shares, in points.
const BAND_POINTS: u64 = 5;
/// Traffic repeats by the week: less than one says nothing about its other days.
const FULL_CYCLE: u64 = 7 * 86_400;

/// Demand with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EffectiveDemand {
    pub(crate) figures: DemandFigures,
    pub(crate) origin: DemandOrigin,
    pub(crate) confidence: Option<Confidence>,
}

/// Declared demand, until the policy's time of observation is over; then observed demand, figure by figure.
/// Once observed, demand does not fall back to the prior when metering is lost: the recorded figures are carried on.
pub(crate) fn effective(
    demand: &Demand,
    policy: &PlacementPolicy,
    recorded: Option<&DecisionInputs>,
) -> EffectiveDemand {
    let mut effective = declared_or_observed(demand, policy, recorded);
    if demand.pattern == Pattern::Batch {
        // Requests that wait for room level out whatever peak they come in.
        effective.figures.peak_to_mean = None;
        effective.figures.load = None;
    }
    effective
}

fn declared_or_observed(
    demand: &Demand,
    policy: &PlacementPolicy,
    recorded: Option<&DecisionInputs>,
) -> EffectiveDemand {
    if demand.source == DemandSource::Declared {
        return declared(demand);
    }
    let recorded = recorded
        .filter(|inputs| inputs.demand_source == DemandOrigin::Observed)
        .map(|inputs| &inputs.demand);
    let enough = |observed: &&ObservedDemand| {
        observed.span >= policy.min_observation && observed.figures.requests_per_month.is_some()
    };
    let merged = |observed: &DemandFigures, recorded: Option<&DemandFigures>| {
        merged(observed, recorded, &demand.declared)
    };
    match (demand.observed.as_ref().filter(enough), recorded) {
        (Some(observed), recorded) => EffectiveDemand {
            figures: merged(&observed.figures, recorded),
            origin: DemandOrigin::Observed,
            confidence: Some(confidence(observed.span)),
        },
        (None, Some(recorded)) => EffectiveDemand {
            figures: merged(recorded, None),
            origin: DemandOrigin::Observed,
            confidence: Some(Confidence::Low),
        },
        (None, None) => declared(demand),
    }
}

fn declared(demand: &Demand) -> EffectiveDemand {
    let known = demand.declared.requests_per_month.is_some();
    EffectiveDemand {
        figures: demand.declared.clone(),
        origin: if known {
            DemandOrigin::Declared
        } else {
            DemandOrigin::Unknown
        },
        confidence: None,
    }
}

fn confidence(span: Seconds) -> Confidence {
    if span.get() >= FULL_CYCLE {
        Confidence::High
    } else {
        Confidence::Medium
    }
}

fn merged(
    observed: &DemandFigures,
    recorded: Option<&DemandFigures>,
    declared: &DemandFigures,
) -> DemandFigures {
    let tokens = |of: fn(&DemandFigures) -> Option<Tokens>| {
        steady(of(observed), recorded.and_then(of), Tokens::get).or(of(declared))
    };
    DemandFigures {
        requests_per_month: steady(
            observed.requests_per_month,
            recorded.and_then(|figures| figures.requests_per_month),
            RequestsPerMonth::get,
        ),
        input_p50: tokens(|figures| figures.input_p50),
        input_p95: tokens(|figures| figures.input_p95),
        output_p50: tokens(|figures| figures.output_p50),
        output_p95: tokens(|figures| figures.output_p95),
        cached_input: steady_share(
            observed.cached_input,
            recorded.and_then(|figures| figures.cached_input),
        )
        .or(declared.cached_input),
        peak_to_mean: steady(
            observed.peak_to_mean,
            recorded.and_then(|figures| figures.peak_to_mean),
            PeakPercent::get,
        ),
        load: steady_load(
            observed.load.as_ref(),
            recorded.and_then(|figures| figures.load.as_ref()),
        ),
        active_hours: steady_share(
            observed.active_hours,
            recorded.and_then(|figures| figures.active_hours),
        ),
    }
}

/// The recorded figure while the observed one is within the band around it. Zero is a figure like others.
fn steady<T: Copy>(observed: Option<T>, recorded: Option<T>, number: fn(T) -> u64) -> Option<T> {
    let (Some(new), Some(old)) = (observed, recorded) else {
        return observed.or(recorded);
    };
    let difference = u128::from(number(new).abs_diff(number(old)));
    let within = difference * 100 <= u128::from(number(old)) * u128::from(BAND_PERCENT);
    Some(if within { old } else { new })
}

fn steady_share(observed: Option<Percent>, recorded: Option<Percent>) -> Option<Percent> {
    let (Some(new), Some(old)) = (observed, recorded) else {
        return observed.or(recorded);
    };
    let within = new.get().abs_diff(old.get()) <= BAND_POINTS;
    Some(if within { old } else { new })
}

fn steady_load(observed: Option<&LoadCurve>, recorded: Option<&LoadCurve>) -> Option<LoadCurve> {
    let kept = recorded.filter(|old| observed.is_none_or(|new| new.is_within(BAND_PERCENT, old)));
    kept.or(observed).cloned()
}
