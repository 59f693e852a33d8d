//! A local target under the gates that depend on a tier, and its cost there.

use super::{Context, Curve, Evaluated, Filling, finish_availability, too_slow};
use crate::capacity;
use crate::cost::{ReplicaCurve, ReplicaRate, ToCome, Work};
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
    let current = workload.current.as_ref();
    let name = evaluated.name().to_owned();
    let held_for = |tier: &str| current.map_or(0, |current| current.held_for(&name, tier));
    let need = |tier: &str| {
        let least = least(context, &curve(context, local, tier));
        least.saturating_sub(held_for(tier))
    };
    let choice = capacity::choose(
        &context.snapshot.tiers,
        context.room,
        (&name, local),
        current,
        need,
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
    let mut curve = curve(context, local, &tier);
    if let Some(free) = context.room.free(&tier).filter(|_| !choice.at_home)
        && context.filling != Filling::AsFarAsItGoes
    {
        curve = curve.within(free.saturating_add(held_for(&tier)));
    }
    local_cost(context, &tier, curve, &mut evaluated);
    evaluated
}

/// Replicas that there must be devices for before the target can serve.
fn least(context: Context<'_>, curve: &ReplicaCurve) -> u32 {
    let requests = context.demand.figures.requests_per_month;
    let all = || {
        let replicas = curve.replicas(requests);
        replicas.map_or(curve.min, |(replicas, _)| replicas)
    };
    match context.filling {
        Filling::Whole => all(),
        Filling::Mixed => curve.min,
        Filling::AsFarAsItGoes => 1,
    }
}

/// What the target's replicas on a tier cost.
fn curve(context: Context<'_>, local: &LocalTarget, tier: &str) -> ReplicaCurve {
    let state = context.snapshot.tiers.get(tier);
    let hourly = state.and_then(|state| state.hourly_cost);
    let full = hourly.unwrap_or(MicroUsdPerHour::MIN);
    let to_come = state.and_then(|state| to_come(context, tier, state, full));
    let there = to_come.map_or(u32::MAX, |to_come| to_come.beyond);
    let idle = state.and_then(|state| idle(context, tier, state));
    let rate = ReplicaRate {
        full,
        idle: idle.map(|(hourly, idle)| (hourly, idle.min(there))),
        operations: match context.workload.self_hosting {
            SelfHosting::Costed => context.policy.operations_cost_per_month,
            SelfHosting::Free | SelfHosting::Forbidden => MicroUsd::MIN,
        },
        to_come,
    };
    let work = Work {
        throughput: local.throughput.get(tier).copied(),
        figures: &context.demand.figures,
        pattern: context.workload.demand.pattern,
    };
    ReplicaCurve::new(local, rate, work, context.policy.switching.warm_up)
}

/// Replicas and, where the target can serve, cost.
fn local_cost(context: Context<'_>, tier: &str, curve: ReplicaCurve, evaluated: &mut Evaluated) {
    let figures = &context.demand.figures;
    let state = context.snapshot.tiers.get(tier);
    let hourly = state.and_then(|state| state.hourly_cost);
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
            let blind = matches!(
                state.utilization,
                Utilization::Lost | Utilization::NotMeasurable
            );
            let blind = blind && state.kind == DeviceKind::Gpu;
            there(context, tier, state)
                .filter(|_| !blind)
                .map(|there| (marginal, there))
        }
    }
}

/// Devices that exist for the workload: those that are free, and its own. `None` is unknown.
fn there(context: Context<'_>, tier: &str, state: &TierState) -> Option<u32> {
    let free = context.room.free(tier)?.saturating_sub(state.to_come());
    let current = context.workload.current.as_ref();
    let held = current.and_then(|current| current.held.get(tier));
    Some(free.saturating_add(held.copied().unwrap_or(0)))
}

/// Replicas beyond the devices that exist, where further ones can be provisioned.
fn to_come(
    context: Context<'_>,
    tier: &str,
    state: &TierState,
    full: MicroUsdPerHour,
) -> Option<ToCome> {
    let provisionable = state.provisionable.filter(|it| it.devices > 0)?;
    Some(ToCome {
        beyond: there(context, tier, state)?,
        hourly: provisionable.hourly_cost.unwrap_or(full),
        ready_after: provisionable.ready_after,
    })
}
