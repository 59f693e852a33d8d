//! The split of a workload that was decided to run in the cluster: how many replicas it holds in the hour that begins.
//!
//! Replicas are scaling within a placement, hour by hour; which target the workload is on is decided before, on monthly
//! cost. So nothing here moves anything, and governance does not enter.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::terms::{
    DeclaredTokens, ReplicaCapacity, SplitTerms, StepHours, StepMarket, TokenPrice,
};
use super::{Learned, Split, SplitParameters, decide_split};
use crate::cost::{INPUT_WEIGHT_TENTHS, OUTPUT_WEIGHT_TENTHS};
use crate::hours::{Hour, HourHistory, LEAST_KNOWN_HOURS};
use crate::plan::{Candidate, CostBasis, Decision, DemandOrigin, Verdict};
use crate::policy::PlacementPolicy;
use crate::quantity::NonNegative;
use crate::snapshot::{
    Egress, ExternalTarget, LocalTarget, Location, Pattern, TargetKind, TierState, WorkloadInput,
};

const SECONDS_PER_HOUR: f64 = 3_600.0;
const MICRO: f64 = 1e6;

/// What a workload holds in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourlySplit {
    /// The local target.
    pub target: String,
    /// Replicas that it holds.
    pub replicas: u32,
    /// The external target that takes what they do not serve; `None`: it waits.
    pub overflow: Option<String>,
}

/// Replicas for the hour that `now` is in, of a workload whose decision chose a local target.
///
/// `None` where the choice is external, the workload is suspended, its demand is declared or may wait (Batch), fewer than
/// [`LEAST_KNOWN_HOURS`] hours are known, or the speed or the cost of a replica is unknown: then the replicas of the
/// decision stand. What is learned is learned again from `hours`, so it survives whatever `hours` survives. Where the hour
/// before is unknown, what is ordered stands. Never more than the workload's devices and those that are free.
pub fn split_hour(
    decision: &Decision,
    workload: &WorkloadInput,
    tiers: &BTreeMap<String, TierState>,
    policy: &PlacementPolicy,
    hours: &HourHistory,
    now: Timestamp,
) -> Option<HourlySplit> {
    let observed = decision.inputs.demand_source == DemandOrigin::Observed;
    let waits = workload.demand.pattern == Pattern::Batch;
    let known = hours.iter().count() >= LEAST_KNOWN_HOURS;
    if workload.suspend || !observed || waits || !known {
        return None;
    }
    let candidate = chosen(decision)?;
    let local = local_of(workload, &candidate.name)?;
    let tier = candidate.tier.as_deref()?;
    let state = tiers.get(tier)?;
    let overflow = taker(decision, workload).filter(|_| workload.spills);
    let most = most_replicas(workload, local, tier, state);
    let terms = SplitTerms {
        egress: match overflow {
            Some(_) => Egress::Allowed,
            None => Egress::Forbidden,
        },
        capacity: capacity(local, tier)?,
        max_replicas: most,
        warm_hours: amount(policy.switching.warm_up.get() as f64 / SECONDS_PER_HOUR)?,
        qualification_usd: NonNegative::ZERO,
        declared: DeclaredTokens::default(),
    };
    let offers: BTreeMap<String, TokenPrice> = overflow
        .iter()
        .filter_map(|(name, external)| Some(((*name).to_owned(), token_price(external, decision)?)))
        .collect();
    let length = StepHours::new(1).ok()?;
    let replica_usd_per_hour = rent(candidate, state)?;
    let market = |time| StepMarket {
        time,
        hours: length,
        replica_usd_per_hour,
        offers: offers.clone(),
    };
    let ordered = ordered(workload, candidate);
    let held = Split {
        replicas: ordered.min(most),
        model: overflow.map(|(name, _)| name.to_owned()),
    };
    let parameters = SplitParameters::default();
    // Hours hold no prices: each teaches as if today's had held in it.
    let steps = hours.steps(length, |time| Some((market(time), held.clone())));
    let learned = Learned::from_steps(&terms, &parameters, &steps);
    let now = market(Hour::of(now).start());
    let split = decide_split(&terms, &parameters, &learned, &held, &now);
    let least = local.min_replicas.clamp(1, most);
    Some(HourlySplit {
        target: candidate.name.clone(),
        replicas: split.replicas.clamp(least, most),
        overflow: held.model,
    })
}

/// The local candidate that was chosen and can serve.
fn chosen(decision: &Decision) -> Option<&Candidate> {
    let target = decision.target.as_ref()?;
    let mut candidates = decision.candidates.iter();
    candidates.find(|candidate| {
        candidate.name == *target
            && candidate.location == Location::Local
            && candidate.verdict == Verdict::Feasible
    })
}

fn local_of<'a>(workload: &'a WorkloadInput, name: &str) -> Option<&'a LocalTarget> {
    let target = workload.places().find(|target| target.name == name)?;
    match &target.kind {
        TargetKind::Local(local) => Some(local),
        TargetKind::External(_) | TargetKind::Unresolved { .. } => None,
    }
}

/// The first external target on the route that can serve at a known cost: the gateways spill to it.
fn taker<'a>(
    decision: &Decision,
    workload: &'a WorkloadInput,
) -> Option<(&'a str, &'a ExternalTarget)> {
    let on_route = |name: &str| decision.weights.iter().any(|weight| weight.target == name);
    let costed = |name: &str| {
        let mut candidates = decision.candidates.iter();
        candidates.any(|candidate| candidate.name == name && candidate.cost.is_some())
    };
    let mut places = workload.places();
    places.find_map(|target| match &target.kind {
        TargetKind::External(external) if on_route(&target.name) && costed(&target.name) => {
            Some((target.name.as_str(), external))
        }
        _ => None,
    })
}

/// The target's most replicas, and no more than its own devices and those that are free, where that is known.
fn most_replicas(
    workload: &WorkloadInput,
    local: &LocalTarget,
    tier: &str,
    state: &TierState,
) -> u32 {
    let current = workload.current.as_ref();
    let held = current.and_then(|current| current.held.get(tier));
    let devices = state.free_devices.map_or(u32::MAX, |free| {
        free.saturating_add(held.copied().unwrap_or(0))
    });
    local.max_replicas.min(devices).max(1)
}

fn ordered(workload: &WorkloadInput, candidate: &Candidate) -> u32 {
    let current = workload.current.as_ref();
    let ordered = current.and_then(|current| current.replicas.get(&candidate.name));
    // A target that sleeps or is new comes with what the decision says.
    match ordered {
        Some(ordered) if *ordered > 0 => *ordered,
        _ => candidate.replicas.unwrap_or(1),
    }
}

fn capacity(local: &LocalTarget, tier: &str) -> Option<ReplicaCapacity> {
    let milli = local.throughput.get(tier)?.rate.get() as f64;
    let hourly = amount(milli / 1_000.0 * SECONDS_PER_HOUR)?;
    let input_weight = INPUT_WEIGHT_TENTHS as f64 / OUTPUT_WEIGHT_TENTHS as f64;
    ReplicaCapacity::new(hourly, amount(input_weight)?).ok()
}

/// Dollars for an hour of a replica on the basis that the monthly cost was counted on; devices beyond the idle ones in full.
fn rent(candidate: &Candidate, state: &TierState) -> Option<NonNegative> {
    let marginal = candidate
        .cost
        .as_ref()
        .is_some_and(|cost| cost.basis == CostBasis::Marginal);
    let hourly = match state.marginal_hourly_cost {
        Some(hourly) if marginal => hourly,
        _ => state.hourly_cost?,
    };
    amount(hourly.get() as f64 / MICRO)
}

/// What a token costs there, by the rules of the monthly cost; a fee by the request is laid upon its prompt.
fn token_price(external: &ExternalTarget, decision: &Decision) -> Option<TokenPrice> {
    let price = external.price.as_ref()?;
    let usd = |micro: u64| micro as f64 / MICRO;
    let demand = &decision.inputs.demand;
    let share = demand.cached_input;
    let share = share.map_or(0.0, |share| share.get() as f64 / 100.0);
    let plain = price.input;
    let written = price.cache_write.filter(|_| share > 0.0);
    let uncached = usd(written.map_or(plain, |written| written.max(plain)).get());
    let cached = usd(price.cached_input.unwrap_or(plain).get());
    let output = price
        .reasoning
        .map_or(price.output, |reasoning| reasoning.max(price.output));
    let fee = price.per_request.map_or(0.0, |fee| usd(fee.get()));
    let prompt = demand.input_p50.map_or(0.0, |tokens| tokens.get() as f64);
    let fee = if prompt > 0.0 { fee / prompt } else { 0.0 };
    Some(TokenPrice {
        input: amount(uncached * (1.0 - share) + cached * share + fee)?,
        output: amount(usd(output.get()))?,
    })
}

fn amount(value: f64) -> Option<NonNegative> {
    NonNegative::new(value).ok()
}
