//! One target under the gates and the cost curves: a candidate with its cost, or with what speaks against it.

mod local;
mod overflow;
mod substitutes;

use overflow::Overflow;
pub(crate) use overflow::taker;

use crate::capacity::Room;
use crate::cost::{ExactCost, Mix, ReplicaCurve, Step, TokenCurve};
use crate::demand::EffectiveDemand;
use crate::gates::{self, protects_data, rejection};
use crate::hurdle::Hurdle;
use crate::plan::{
    Candidate, CandidateCost, CostBasis, Doubt, Gate, Rejection, RejectionReason, Verdict,
};
use crate::policy::PlacementPolicy;
use crate::snapshot::{
    ExternalTarget, FleetSnapshot, Location, ModelFacts, PriceState, Target, TargetKind,
    WorkloadInput,
};
use crate::units::{MicroUsd, Millis};

/// How a candidate's cost depends on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Curve {
    Local(ReplicaCurve),
    /// In the cluster, and an external target takes what the replicas do not.
    Mixed(Box<Mix>),
    External(TokenCurve),
}

impl Curve {
    /// Over requests per month.
    pub(crate) fn steps(&self) -> Box<dyn Iterator<Item = Step> + '_> {
        match self {
            Self::Local(curve) => Box::new(curve.steps()),
            Self::Mixed(mix) => Box::new(mix.steps()),
            Self::External(curve) => Box::new(std::iter::once(curve.step())),
        }
    }
}

/// A candidate with the exact figures behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evaluated {
    pub(crate) candidate: Candidate,
    pub(crate) exact: Option<ExactCost>,
    pub(crate) curve: Option<Curve>,
    /// What its replicas cost before they serve, in micro-USD.
    pub(crate) warm_up: u128,
    pub(crate) model: Option<ModelFacts>,
    /// Replicas that a local target keeps even when it serves nothing.
    pub(crate) kept_replicas: u32,
    /// Whether another model stands in here.
    pub(crate) is_substitute: bool,
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
        let unfit = |doubt: &&Doubt| {
            !matches!(
                doubt,
                Doubt::PriceHeld | Doubt::UtilizationUnknown | Doubt::OverflowPrice
            )
        };
        self.candidate.doubts.iter().find(unfit).copied()
    }

    /// What leaving this for `rival` must save.
    pub(crate) fn hurdle(&self, rival: &Self, policy: &PlacementPolicy) -> Hurdle {
        let equivalent = matches!((&self.model, &rival.model), (Some(own), Some(other)) if own.is_equivalent(other));
        Hurdle::new(policy, !equivalent)
    }

    /// Whether leaving this for `rival` is worth a move, as far as costs are known.
    pub(crate) fn is_worth_leaving_for(&self, rival: &Self, policy: &PlacementPolicy) -> bool {
        let (Some(own), Some(other)) = (self.exact, rival.exact) else {
            return false;
        };
        self.hurdle(rival, policy)
            .is_cleared(own.0, (other.0, rival.warm_up))
    }
}

/// What evaluating a workload's targets needs.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) snapshot: &'a FleetSnapshot,
    pub(crate) room: Room<'a>,
    pub(crate) workload: &'a WorkloadInput,
    pub(crate) policy: &'a PlacementPolicy,
    pub(crate) demand: &'a EffectiveDemand,
    pub(crate) filling: Filling,
}

/// Whether fewer devices than a local target needs are enough for it to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
    /// They are not: the work has a place elsewhere.
    Whole,
    /// An external target takes what fewer replicas leave, at a price that is known.
    Mixed,
    /// There is no place elsewhere, and some of the work is more than none.
    AsFarAsItGoes,
}

/// Every target of the workload, in the spec's order, and the substitutes that are candidates.
pub(crate) fn evaluate(context: Context<'_>) -> Vec<Evaluated> {
    let targets = &context.workload.targets;
    let is_external = |target: &&Target| target.kind.location() == Location::External;
    let externals: Vec<_> = targets.iter().filter(is_external).collect();
    let externals: Vec<_> = externals
        .into_iter()
        .map(|target| evaluate_declared(context, target))
        .collect();
    let overflow = Overflow::of(context.workload, &externals);
    let figures = &context.demand.figures;
    let shape_known = figures.load.is_some() && figures.requests_per_month.is_some();
    let filling = match &overflow {
        _ if externals.iter().all(Evaluated::rejected) => Filling::AsFarAsItGoes,
        Some(overflow) if shape_known && overflow.is_priced() => Filling::Mixed,
        _ => Filling::Whole,
    };
    let context = Context { filling, ..context };
    let mixed = |evaluated| match &overflow {
        Some(overflow) => overflow.mixed(context, evaluated),
        None => evaluated,
    };
    let mut externals = externals.into_iter();
    let evaluated = targets.iter().map(|target| {
        let external = is_external(&target).then(|| externals.next()).flatten();
        external.unwrap_or_else(|| mixed(evaluate_declared(context, target)))
    });
    let mut evaluated: Vec<Evaluated> = evaluated.collect();
    evaluated.extend(substitutes::candidates(
        context,
        &evaluated,
        overflow.as_ref(),
    ));
    evaluated
}

fn evaluate_declared(context: Context<'_>, target: &Target) -> Evaluated {
    let rejected_by = gates::rejections(context.workload, context.policy, context.demand, target);
    evaluate_target(context, target, rejected_by)
}

fn evaluate_target(
    context: Context<'_>,
    target: &Target,
    rejected_by: Vec<Rejection>,
) -> Evaluated {
    let blank = blank(target, rejected_by);
    match &target.kind {
        TargetKind::Unresolved { .. } => blank,
        TargetKind::Local(local) => local::evaluate(context, local, blank),
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
        warm_up: 0,
        model: target.kind.model().cloned(),
        kept_replicas: 0,
        is_substitute: false,
    }
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
    let curve = external
        .price
        .as_ref()
        .and_then(|price| TokenCurve::new(price, figures));
    let Some(curve) = curve else {
        return evaluated;
    };
    let exact = curve.cost(requests);
    candidate.cost = Some(CandidateCost {
        monthly: exact.to_micro_usd(),
        per_million_tokens: exact.per_million_tokens(figures),
        basis: CostBasis::PerToken,
        operations: MicroUsd::MIN,
        capacity_limited: false,
        overflow: None,
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
