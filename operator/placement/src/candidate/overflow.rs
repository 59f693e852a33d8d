//! The external target that takes what the replicas of local ones do not, and the local targets' costs with it.

use super::{Context, Curve, Evaluated};
use crate::cost::{Mix, TokenCurve};
use crate::plan::{Doubt, OverflowCost};
use crate::snapshot::WorkloadInput;

/// Targets that could take overflow, each with its curve: external ones of the spec that can serve, at a known price that
/// is not too old. Spill and failover go to no substitute.
pub(crate) fn takers(evaluated: &[Evaluated]) -> impl Iterator<Item = (&Evaluated, &TokenCurve)> {
    let could =
        |each: &&Evaluated| !each.is_substitute && each.feasible() && each.unknown_cost().is_none();
    evaluated
        .iter()
        .filter(could)
        .filter_map(|each| match &each.curve {
            Some(Curve::External(curve)) => Some((each, curve)),
            _ => None,
        })
}

/// The cheapest taker.
pub(super) struct Overflow {
    target: String,
    /// Exact cost of a request.
    price: u128,
    /// What is not to be relied on in this price, and so in every cost that it is part of.
    doubts: Vec<Doubt>,
}

impl Overflow {
    /// `None` where the gateways do not spill, or nobody could take it.
    pub(super) fn of(workload: &WorkloadInput, declared: &[Evaluated]) -> Option<Self> {
        if !workload.spills {
            return None;
        }
        let (taker, curve) = takers(declared).min_by_key(|(_, curve)| curve.per_request())?;
        Some(Self {
            target: taker.name().to_owned(),
            price: curve.per_request(),
            doubts: taker.candidate.doubts.clone(),
        })
    }

    /// The target with replicas for the base of its work alone, where it is a local one with a cost and it is known how
    /// the work lies on the hours.
    pub(super) fn mixed(&self, context: Context<'_>, mut evaluated: Evaluated) -> Evaluated {
        let figures = &context.demand.figures;
        let mix = match (&evaluated.curve, &figures.load) {
            (Some(Curve::Local(curve)), Some(load)) => Mix::new(curve.clone(), load, self.price),
            _ => None,
        };
        let candidate = &mut evaluated.candidate;
        let (Some(mix), Some(requests), Some(cost)) =
            (mix, figures.requests_per_month, candidate.cost.as_mut())
        else {
            return evaluated;
        };
        let base = mix.base(requests);
        let exact = mix.cost(base);
        let (share, bill) = mix.overflow_of(base, requests);
        cost.monthly = exact.to_micro_usd();
        cost.per_million_tokens = exact.per_million_tokens(figures);
        cost.basis = mix.curve().basis(base.replicas);
        cost.capacity_limited = false;
        cost.overflow = (bill.0 > 0).then(|| OverflowCost {
            target: self.target.clone(),
            share,
            monthly: bill.to_micro_usd(),
        });
        candidate.replicas = Some(base.replicas);
        candidate.doubts.extend(&self.doubts);
        candidate.doubts.sort_unstable();
        evaluated.exact = Some(exact);
        evaluated.warm_up = mix.curve().warm_up(base.replicas);
        evaluated.curve = Some(Curve::Mixed(Box::new(mix)));
        evaluated
    }
}
