//! One target under the gates and the cost curves: a candidate with its cost, or with what speaks against it.

use crate::break_even::worth_a_move;
use crate::capacity::{self, Ledger};
use crate::cost::{ExactCost, ReplicaCurve, TokenCurve};
use crate::demand::EffectiveDemand;
use crate::gates::{self, protects_data, rejection};
use crate::plan::{
    Candidate, CandidateCost, CostBasis, Doubt, Gate, Rejection, RejectionReason, Verdict,
};
use crate::policy::PlacementPolicy;
use crate::snapshot::{
    DeviceKind, ExternalTarget, FleetSnapshot, LocalTarget, PriceState, SelfHosting, Target,
    TargetKind, TierState, Utilization, WorkloadInput,
};
use crate::units::{MicroUsd, Millis, Percent};

/// How a candidate's cost depends on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Curve {
    Local(ReplicaCurve),
    External(TokenCurve),
}

/// A candidate with the exact figures behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluated {
    pub(crate) candidate: Candidate,
    pub(crate) exact: Option<ExactCost>,
    pub(crate) curve: Option<Curve>,
    /// Replicas that a local target keeps even when it serves nothing.
    pub(crate) kept_replicas: u32,
}

impl Evaluated {
    pub(crate) fn name(&self) -> &str {
        &self.candidate.name
    }

    pub(crate) fn feasible(&self) -> bool {
        self.candidate.verdict == Verdict::Feasible
    }

    pub(crate) fn rejected(&self) -> bool {
        self.candidate.verdict == Verdict::Rejected
    }

    /// Whether a rule about where data may go rejects it.
    pub(crate) fn data_forbidden(&self) -> bool {
        self.candidate
            .rejected_by
            .iter()
            .any(|rejection| protects_data(rejection.gate))
    }

    /// Whether a node or a device is what it lacks.
    pub(crate) fn lacks_capacity(&self) -> bool {
        self.candidate
            .rejected_by
            .iter()
            .any(|rejection| rejection.gate == Gate::Capacity)
    }

    /// What makes its cost unfit even for a first placement.
    pub(crate) fn unknown_cost(&self) -> Option<Doubt> {
        let weak = |doubt: &&Doubt| !matches!(doubt, Doubt::PriceHeld | Doubt::UtilizationUnknown);
        self.candidate.doubts.iter().find(weak).copied()
    }

    /// Whether leaving this for `rival` is worth a move, as far as costs are known.
    pub(crate) fn is_worth_leaving_for(&self, rival: &Self, least: Percent) -> bool {
        matches!((self.exact, rival.exact), (Some(own), Some(other)) if worth_a_move(own, other, least))
    }
}

/// What evaluating a workload's targets needs.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) snapshot: &'a FleetSnapshot,
    pub(crate) ledger: &'a Ledger,
    pub(crate) workload: &'a WorkloadInput,
    pub(crate) policy: &'a PlacementPolicy,
    pub(crate) demand: &'a EffectiveDemand,
}

/// Every target of the workload, in the spec's order.
pub(crate) fn evaluate(context: Context<'_>) -> Vec<Evaluated> {
    context
        .workload
        .targets
        .iter()
        .map(|target| evaluate_target(context, target))
        .collect()
}

fn evaluate_target(context: Context<'_>, target: &Target) -> Evaluated {
    let rejected_by = gates::rejections(context.workload, context.policy, context.demand, target);
    let blank = blank(target, rejected_by);
    match &target.kind {
        TargetKind::Unresolved { .. } => blank,
        TargetKind::Local(local) => evaluate_local(context, local, blank),
        TargetKind::External(external) => evaluate_external(context, external, blank),
    }
}

fn blank(target: &Target, rejected_by: Vec<Rejection>) -> Evaluated {
    let verdict = if rejected_by.is_empty() {
        Verdict::Feasible
    } else {
        Verdict::Rejected
    };
    let candidate = Candidate {
        name: target.name.clone(),
        location: target.kind.location(),
        verdict,
        tier: None,
        replicas: None,
        cost: None,
        doubts: Vec::new(),
        rejected_by,
        throughput: None,
        throughput_source: None,
        price_book: None,
    };
    Evaluated {
        candidate,
        exact: None,
        curve: None,
        kept_replicas: 0,
    }
}

fn evaluate_local(
    context: Context<'_>,
    local: &LocalTarget,
    mut evaluated: Evaluated,
) -> Evaluated {
    let workload = context.workload;
    let choice = capacity::choose(
        &context.snapshot.tiers,
        context.ledger,
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
    let operations = match context.workload.self_hosting {
        SelfHosting::Costed => context.policy.operations_cost_per_month,
        SelfHosting::Free | SelfHosting::Forbidden => MicroUsd::MIN,
    };
    let throughput = local.throughput.get(tier).copied();
    let curve = ReplicaCurve::new(
        local,
        hourly.unwrap_or(crate::MicroUsdPerHour::MIN),
        operations,
        throughput,
        figures,
    );
    let replicas = curve.replicas(figures.requests_per_month);
    evaluated.candidate.replicas = Some(replicas.map_or(curve.min, |(replicas, _)| replicas));
    finish_availability(&mut evaluated.candidate);
    if !evaluated.feasible() {
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
        basis: CostBasis::FullyLoaded,
        operations: curve.operations,
        capacity_limited,
    });
    evaluated.exact = Some(exact);
    evaluated.curve = Some(Curve::Local(curve));
}

fn evaluate_external(
    context: Context<'_>,
    external: &ExternalTarget,
    mut evaluated: Evaluated,
) -> Evaluated {
    let candidate = &mut evaluated.candidate;
    candidate.price_book = external.price.as_ref().map(|price| price.book.clone());
    if evaluated.rejected() {
        return evaluated;
    }
    let candidate = &mut evaluated.candidate;
    too_slow(context.workload, external.ttft_p95, candidate);
    if external.healthy == Some(false) {
        let message = format!("provider {} does not answer", external.provider);
        candidate.rejected_by.push(rejection(
            Gate::ProviderHealth,
            RejectionReason::ProviderUnhealthy,
            message,
        ));
    }
    finish_availability(candidate);
    if candidate.verdict != Verdict::Feasible {
        return evaluated;
    }
    match external.price.as_ref().map(|price| price.state) {
        None => candidate.doubts.push(Doubt::PriceMissing),
        Some(PriceState::Stale) => candidate.doubts.push(Doubt::PriceStale),
        Some(PriceState::Held) => candidate.doubts.push(Doubt::PriceHeld),
        Some(PriceState::Fresh) => {}
    }
    let figures = &context.demand.figures;
    let (Some(requests), Some(_), Some(_)) = (
        figures.requests_per_month,
        figures.input_p50,
        figures.output_p50,
    ) else {
        candidate.doubts.push(Doubt::DemandUnknown);
        return evaluated;
    };
    let Some(curve) = TokenCurve::new(external, figures) else {
        return evaluated;
    };
    let exact = curve.cost(requests);
    candidate.cost = Some(CandidateCost {
        monthly: exact.to_micro_usd(),
        per_million_tokens: exact.per_million_tokens(figures),
        basis: CostBasis::PerToken,
        operations: MicroUsd::MIN,
        capacity_limited: false,
    });
    evaluated.exact = Some(exact);
    evaluated.curve = Some(Curve::External(curve));
    evaluated
}

fn too_slow(workload: &WorkloadInput, ttft: Option<Millis>, candidate: &mut Candidate) {
    let (Some(slo), Some(ttft)) = (workload.slo_ttft, ttft) else {
        return;
    };
    if ttft > slo {
        let message =
            format!("time to first token is {ttft} at the 95th percentile; the SLO is {slo}");
        candidate
            .rejected_by
            .push(rejection(Gate::Slo, RejectionReason::TtftAboveSlo, message));
    }
}

/// What passed every rule but failed a gate of capacity, speed or health is unavailable.
fn finish_availability(candidate: &mut Candidate) {
    if candidate.verdict == Verdict::Feasible && !candidate.rejected_by.is_empty() {
        candidate.verdict = Verdict::Unavailable;
    }
}
