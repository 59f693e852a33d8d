//! The external target that takes what the replicas of local ones do not, and the local targets' costs with it.

use super::{Context, Curve, Evaluated};
use crate::cost::Mix;
use crate::plan::{Candidate, Doubt, OverflowCost};
use crate::snapshot::{Location, WorkloadInput};

/// The external target that gateways send overflow to: the first of the spec that can serve. They spill to no substitute.
pub(crate) fn taker(evaluated: &[Evaluated]) -> Option<&Evaluated> {
    evaluated.iter().find(|each| {
        !each.is_substitute && each.feasible() && each.candidate.location == Location::External
    })
}

/// What the taker asks.
pub(super) struct Overflow {
    target: String,
    /// Exact cost of a request; `None` where that is unknown, so that replicas are counted for all of the work.
    price: Option<u128>,
    /// Whether the price is unknown, too old or held back.
    unsure: bool,
}

impl Overflow {
    /// `None` where the gateways do not spill, or nobody could take any.
    pub(super) fn of(workload: &WorkloadInput, declared: &[Evaluated]) -> Option<Self> {
        let taker = taker(declared).filter(|_| workload.spills)?;
        Some(Self {
            target: taker.name().to_owned(),
            price: match &taker.curve {
                Some(Curve::External(curve)) => Some(curve.per_request()),
                _ => None,
            },
            unsure: !taker.candidate.doubts.is_empty(),
        })
    }

    /// Whether it is known what the taker asks.
    pub(super) fn is_priced(&self) -> bool {
        self.price.is_some()
    }

    /// The target with replicas for the base of its work alone, where it is a local one and it is known how the work lies
    /// on the hours.
    pub(super) fn mixed(&self, context: Context<'_>, mut evaluated: Evaluated) -> Evaluated {
        let figures = &context.demand.figures;
        let (Some(Curve::Local(curve)), Some(load), Some(requests)) =
            (&evaluated.curve, &figures.load, figures.requests_per_month)
        else {
            return evaluated;
        };
        let candidate = &mut evaluated.candidate;
        let Some(price) = self.price else {
            if candidate.cost.is_some() {
                doubt_price(candidate);
            }
            return evaluated;
        };
        let Some(mix) = Mix::new(curve.clone(), load, price) else {
            return evaluated;
        };
        let base = mix.base(requests);
        candidate.replicas = Some(base.replicas);
        if let Some(cost) = &mut candidate.cost {
            let exact = mix.cost(base.replicas, requests);
            cost.monthly = exact.to_micro_usd();
            cost.per_million_tokens = exact.per_million_tokens(figures);
            cost.basis = mix.curve().basis(base.replicas);
            cost.capacity_limited = base.limited;
            if let Some((share, bill)) = mix.overflow_of(base.replicas, requests) {
                cost.overflow = Some(OverflowCost {
                    target: self.target.clone(),
                    share,
                    monthly: bill.to_micro_usd(),
                });
                if self.unsure {
                    doubt_price(candidate);
                }
            }
            evaluated.exact = Some(exact);
            evaluated.warm_up = mix.curve().warm_up(base.replicas);
        }
        evaluated.curve = Some(Curve::Mixed(Box::new(mix)));
        evaluated
    }
}

fn doubt_price(candidate: &mut Candidate) {
    candidate.doubts.push(Doubt::OverflowPrice);
    candidate.doubts.sort_unstable();
}
