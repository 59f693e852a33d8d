//! The previous decision, as far as status remembers it.

use weir_crds::InferenceWorkloadStatus;
use weir_crds::decision as status;
use weir_placement::{
    Confirmation, Decision, DecisionInputs, DemandFigures, DemandOrigin, LoadCurve, LoadPercent,
    MilliTokensPerSecond, PeakPercent, Percent, PriceBookRef, Remembered, RequestsPerMonth,
    TierBand, Tokens,
};

use super::from_name;

/// `None` when status has no decision, or one that another version wrote.
pub(super) fn recall(status: &InferenceWorkloadStatus) -> Option<Decision> {
    let decision = status.decision.as_ref()?;
    let remembered = Remembered {
        id: decision.id.clone(),
        trigger: from_name(&decision.trigger)?,
        outcome: from_name(&decision.outcome)?,
        reason: from_name(&decision.reason)?,
        message: decision.message.clone(),
        target: decision.target.clone(),
        inputs: inputs(
            &decision.inputs,
            status.observed_generation.unwrap_or_default(),
        ),
        weighted_targets: status
            .placement
            .iter()
            .flat_map(|placement| &placement.weights)
            .map(|weight| weight.target.clone())
            .collect(),
        confirmation: decision.confirmation.as_ref().map(confirmation),
        bands: decision.utilization_band.iter().map(band).collect(),
    };
    Some(remembered.recall())
}

fn confirmation(confirmation: &status::Confirmation) -> Confirmation {
    Confirmation {
        target: confirmation.target.clone(),
        count: u32::try_from(confirmation.count).unwrap_or(0),
        since: confirmation.since.0,
        last: confirmation.last.0,
    }
}

fn band(band: &status::TierBand) -> (String, TierBand) {
    let stands = TierBand {
        busy: band.busy,
        beyond_since: band.beyond_since.as_ref().map(|since| since.0),
    };
    (band.tier.clone(), stands)
}

fn inputs(inputs: &status::DecisionInputs, generation: i64) -> DecisionInputs {
    let rate = |whole: i64| MilliTokensPerSecond::from_whole(u64::try_from(whole).ok()?).ok();
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    DecisionInputs {
        generation,
        policy: None,
        demand: figures(inputs),
        demand_source: from_name(&name(&inputs.demand_source)).unwrap_or(DemandOrigin::Unknown),
        demand_confidence: from_name(&name(&inputs.demand_confidence)),
        throughput: inputs.tokens_per_second.and_then(rate),
        throughput_source: from_name(&name(&inputs.throughput_source)),
        utilization: inputs.utilization_percent.and_then(percent),
        utilization_state: from_name(&name(&inputs.utilization_state)),
        price_book: inputs.price_book.as_ref().map(|book| PriceBookRef {
            name: book.name.clone(),
            revision: book.revision.clone(),
            as_of: book.as_of.as_ref().map(|time| time.0),
        }),
    }
}

/// The demand on record. A figure that is nothing that Weir writes counts as unknown.
pub fn figures(inputs: &status::DecisionInputs) -> DemandFigures {
    let tokens = |count: Option<i64>| Tokens::new(u64::try_from(count?).ok()?).ok();
    let requests = |count: i64| RequestsPerMonth::new(u64::try_from(count).ok()?).ok();
    let peak = |share: i32| PeakPercent::new(u64::try_from(share).ok()?).ok();
    DemandFigures {
        requests_per_month: inputs.requests_per_month.and_then(requests),
        input_p50: tokens(inputs.input_tokens),
        input_p95: None,
        output_p50: tokens(inputs.output_tokens),
        output_p95: None,
        cached_input: inputs.cached_input_percent.and_then(percent),
        peak_to_mean: inputs.peak_to_mean_percent.and_then(peak),
        load: load(&inputs.hourly_load_percent),
        active_hours: inputs.active_hours_percent.and_then(percent),
    }
}

fn percent(share: i32) -> Option<Percent> {
    Percent::new(u64::try_from(share).ok()?).ok()
}

fn load(percents: &[i32]) -> Option<LoadCurve> {
    let load = |percent: &i32| LoadPercent::new(u64::try_from(*percent).ok()?).ok();
    let loads: Option<Vec<LoadPercent>> = percents.iter().map(load).collect();
    LoadCurve::new(&loads?).ok()
}
