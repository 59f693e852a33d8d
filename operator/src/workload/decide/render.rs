//! A decision as status has it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::decision as status;
use weir_crds::placement::Location as StatusLocation;
use weir_crds::text;
use weir_placement::{
    Candidate, Confirmation, Decision, DecisionInputs, DemandOrigin, LoadCurve, Location,
    MicroUsdPerMillionTokens, Rejection, TierBand, UtilizationState, Verdict,
};

use super::name_of;

/// As many as the schema admits: every target of a spec, and four substitutes for each.
const MOST_CANDIDATES: usize = 96;

/// The decision as status has it, without its split. A decision that was taken before keeps its time.
pub fn render(
    decision: &Decision,
    previous: Option<&status::Decision>,
    now: Timestamp,
) -> status::Decision {
    let taken_before = previous.filter(|previous| previous.id == decision.id);
    let wished = decision
        .candidates
        .iter()
        .find(|candidate| Some(&candidate.name) == decision.target.as_ref());
    let per_million = wished
        .and_then(|candidate| candidate.cost.as_ref())
        .and_then(|cost| cost.per_million_tokens);
    status::Decision {
        id: decision.id.clone(),
        trigger: name_of(decision.trigger),
        outcome: name_of(decision.outcome),
        reason: name_of(decision.reason),
        message: text::bounded(&decision.message),
        time: taken_before.map_or_else(|| whole(now), |before| before.time.clone()),
        target: decision.target.clone(),
        inputs: inputs(&decision.inputs),
        candidates: decision
            .candidates
            .iter()
            .take(MOST_CANDIDATES)
            .map(candidate)
            .collect(),
        cost_per_million_tokens_usd: per_million.map(MicroUsdPerMillionTokens::to_decimal),
        break_even_requests_per_month: decision
            .break_even
            .and_then(|requests| i64::try_from(requests.get()).ok()),
        savings_percent: decision
            .savings_percent
            .map(|percent| i32::try_from(percent).unwrap_or(i32::MIN)),
        flip_conditions: decision
            .flip_conditions
            .iter()
            .take(16)
            .map(|condition| text::bounded(&condition.text))
            .collect(),
        confirmation: decision.confirmation.as_ref().map(confirmation),
        utilization_band: decision.bands.iter().take(64).map(band).collect(),
        hold_until: decision.hold_until.map(whole),
        next_evaluation_time: decision.next_evaluation.map(whole),
        split: None,
    }
}

fn whole(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn confirmation(confirmation: &Confirmation) -> status::Confirmation {
    status::Confirmation {
        target: confirmation.target.clone(),
        count: i32::try_from(confirmation.count).unwrap_or(i32::MAX),
        since: whole(confirmation.since),
        last: whole(confirmation.last),
    }
}

fn band((tier, band): (&String, &TierBand)) -> status::TierBand {
    status::TierBand {
        tier: tier.clone(),
        busy: band.busy,
        beyond_since: band.beyond_since.map(whole),
    }
}

fn inputs(inputs: &DecisionInputs) -> status::DecisionInputs {
    let number = |number: u64| i64::try_from(number).ok();
    let percent = |percent: weir_placement::Percent| i32::try_from(percent.get()).ok();
    let demand = &inputs.demand;
    let known = inputs.demand_source != DemandOrigin::Unknown;
    status::DecisionInputs {
        requests_per_month: demand.requests_per_month.and_then(|of| number(of.get())),
        input_tokens: demand.input_p50.and_then(|tokens| number(tokens.get())),
        output_tokens: demand.output_p50.and_then(|tokens| number(tokens.get())),
        cached_input_percent: demand.cached_input.and_then(percent),
        peak_to_mean_percent: demand
            .peak_to_mean
            .and_then(|peak| i32::try_from(peak.get()).ok()),
        hourly_load_percent: demand
            .load
            .iter()
            .flat_map(LoadCurve::loads)
            .filter_map(|load| i32::try_from(load.get()).ok())
            .collect(),
        active_hours_percent: demand.active_hours.and_then(percent),
        demand_source: known.then(|| name_of(inputs.demand_source)),
        demand_confidence: inputs.demand_confidence.map(name_of),
        tokens_per_second: inputs
            .throughput
            .and_then(|rate| number(rate.get() / 1_000)),
        throughput_source: inputs.throughput_source.map(name_of),
        utilization_percent: inputs.utilization.and_then(percent),
        utilization_state: inputs
            .utilization_state
            .filter(|state| *state != UtilizationState::NotReported)
            .map(name_of),
        price_book: inputs
            .price_book
            .as_ref()
            .map(|book| status::PriceBookInput {
                name: book.name.clone(),
                revision: book.revision.clone(),
                as_of: book.as_of.map(whole),
            }),
    }
}

fn candidate(candidate: &Candidate) -> status::Candidate {
    let cost = candidate.cost.as_ref();
    status::Candidate {
        name: candidate.name.clone(),
        location: match candidate.location {
            Location::Local => StatusLocation::Local,
            Location::External => StatusLocation::External,
        },
        feasible: candidate.verdict == Verdict::Feasible,
        tier: candidate.tier.clone(),
        replicas: candidate
            .replicas
            .map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX)),
        cost_per_million_tokens_usd: cost
            .and_then(|cost| cost.per_million_tokens)
            .map(MicroUsdPerMillionTokens::to_decimal),
        monthly_cost_usd: cost.map(|cost| cost.monthly.to_decimal()),
        cost_basis: cost.map(|cost| name_of(cost.basis)),
        overflow: cost
            .and_then(|cost| cost.overflow.as_ref())
            .map(|overflow| status::Overflow {
                target: overflow.target.clone(),
                percent: i32::try_from(overflow.share.get()).unwrap_or(100),
                monthly_cost_usd: overflow.monthly.to_decimal(),
            }),
        rejected_by: candidate
            .rejected_by
            .iter()
            .take(16)
            .map(rejection)
            .collect(),
    }
}

fn rejection(rejection: &Rejection) -> status::Rejection {
    status::Rejection {
        gate: name_of(rejection.gate),
        reason: name_of(rejection.reason),
        message: text::bounded(&rejection.message),
    }
}
