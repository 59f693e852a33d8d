//! A local target under the gates that depend on a tier, and its cost there.

use super::{Context, Curve, Evaluated, finish_availability, too_slow};
use crate::capacity;
use crate::cost::{ReplicaCurve, ReplicaRate, Work};
use crate::plan::{CandidateCost, Doubt, Verdict};
use crate::policy::LocalCostBasis;
use crate::snapshot::{CostKind, DeviceKind, LocalTarget, SelfHosting, TierState, Utilization};
use crate::units::{MicroUsd, MicroUsdPerHour};

pub(super) fn evaluate(
    context: Context<'_>,
    local: &LocalTarget,
    mut evaluated: Evaluated,
) -> Evaluated {
    let workload = context.workload;
    let choice = capacity::choose(
        &context.snapshot.tiers,
        context.room,
        local,
        evaluated.name(),
        workload.current.as_ref(),
    );
    evaluated.kept_replicas = local.min_replicas;
    let candidate = &mut evaluated.candidate;
    if choice.tier.is_none() {
        candidate.verdict = Verdict::Rejected;
    }
    candidate.rejected_by.extend(choice.failed);
    candidate.tier = choice.tier.clone();
    let Some(tier) = choice.tier.filter(|_| !evaluated.rejected()) else {
        evaluated.candidate.tier = None;
        return evaluated;
    };
    too_slow(
        workload,
        local.ttft_p95.get(&tier).copied(),
        &mut evaluated.candidate,
    );
    let throughput = local.throughput.get(&tier).copied();
    evaluated.candidate.throughput = throughput.map(|throughput| throughput.rate);
    evaluated.candidate.throughput_source = throughput.map(|throughput| throughput.source);
    let state = context.snapshot.tiers.get(&tier);
    local_cost(context, local, state, &tier, &mut evaluated);
    evaluated
}

/// Replicas and, where the target can serve, cost.
fn local_cost(
    context: Context<'_>,
    local: &LocalTarget,
    state: Option<&TierState>,
    tier: &str,
    evaluated: &mut Evaluated,
) {
    let figures = &context.demand.figures;
    let hourly = state.and_then(|state| state.hourly_cost);
    let rate = ReplicaRate {
        full: hourly.unwrap_or(MicroUsdPerHour::MIN),
        idle: state.and_then(|state| idle(context, tier, state)),
        operations: match context.workload.self_hosting {
            SelfHosting::Costed => context.policy.operations_cost_per_month,
            SelfHosting::Free | SelfHosting::Forbidden => MicroUsd::MIN,
        },
    };
    let work = Work {
        throughput: local.throughput.get(tier).copied(),
        figures,
        pattern: context.workload.demand.pattern,
    };
    let curve = ReplicaCurve::new(local, rate, work, context.policy.switching.warm_up);
    let replicas = curve.replicas(figures.requests_per_month);
    evaluated.candidate.replicas = Some(replicas.map_or(curve.min, |(replicas, _)| replicas));
    finish_availability(&mut evaluated.candidate);
    if !evaluated.feasible() {
        evaluated.curve = Some(Curve::Local(curve));
        return;
    }
    let candidate = &mut evaluated.candidate;
    if state.is_some_and(|state| {
        state.kind == DeviceKind::Gpu && state.utilization == Utilization::Lost
    }) {
        candidate.doubts.push(Doubt::UtilizationUnknown);
    }
    if hourly.is_none() {
        candidate.doubts.push(Doubt::TierCostUnknown);
    }
    let Some((replicas, capacity_limited)) = replicas else {
        let demand_known = figures.requests_per_month.is_some()
            && figures.input_p50.is_some()
            && figures.output_p50.is_some();
        candidate.doubts.push(if demand_known {
            Doubt::ThroughputUnknown
        } else {
            Doubt::DemandUnknown
        });
        return;
    };
    if hourly.is_none() {
        return;
    }
    let exact = curve.cost(replicas);
    candidate.cost = Some(CandidateCost {
        monthly: exact.to_micro_usd(),
        per_million_tokens: exact.per_million_tokens(figures),
        basis: curve.basis(replicas),
        operations: curve.operations(),
        capacity_limited,
        overflow: None,
    });
    evaluated.exact = Some(exact);
    evaluated.warm_up = curve.warm_up(replicas);
    evaluated.curve = Some(Curve::Local(curve));
}

/// What running one more of the devices adds that are paid for anyway, and how many of them count so. The workload's own
/// devices count as idle: what runs is costed as if it were not there, so it has no advantage over what would come.
/// Where it is unknown whether devices are idle, none is.
fn idle(context: Context<'_>, tier: &str, state: &TierState) -> Option<(MicroUsdPerHour, u32)> {
    let paid_anyway = matches!(state.cost_kind, CostKind::Owned | CostKind::Committed);
    let marginal = state.marginal_hourly_cost.filter(|_| paid_anyway)?;
    match context.policy.local_cost_basis {
        LocalCostBasis::FullyLoaded => None,
        LocalCostBasis::Marginal => Some((marginal, u32::MAX)),
        LocalCostBasis::Auto => {
            let blind = state.kind == DeviceKind::Gpu && state.utilization == Utilization::Lost;
            let free = context.room.free(tier).filter(|_| !blind)?;
            let current = context.workload.current.as_ref();
            let held = current.and_then(|current| current.held.get(tier));
            Some((marginal, free.saturating_add(held.copied().unwrap_or(0))))
        }
    }
}
