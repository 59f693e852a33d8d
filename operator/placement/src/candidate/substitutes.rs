//! Which substitutes are candidates: no more than a few for a target of the spec, and none that nothing is known for.

use std::collections::BTreeMap;

use super::{Context, Evaluated, Overflow, evaluate_target};
use crate::gates;
use crate::snapshot::Substitute;

/// Candidates among the substitutes of one target. A provider may list hundreds of models.
const MOST: usize = 4;

/// The substitutes that can serve at a cost that can be relied on, at most four for a target: those worth a move first,
/// then the cheapest. Beside these, in any case, the ones where the workload is or goes to.
pub(super) fn candidates(
    context: Context<'_>,
    declared: &[Evaluated],
    overflow: Option<&Overflow>,
) -> Vec<Evaluated> {
    let evaluate = |substitute| {
        let evaluated = evaluate(context, substitute);
        match overflow {
            Some(overflow) => overflow.mixed(context, evaluated),
            None => evaluated,
        }
    };
    let workload = context.workload;
    let current = workload.current.as_ref();
    let (used, others): (Vec<_>, Vec<_>) = workload
        .substitutes
        .iter()
        .map(|substitute| (substitute, evaluate(substitute)))
        .partition(|(_, evaluated)| current.is_some_and(|current| current.uses(evaluated.name())));
    let here = current.and_then(|current| {
        let used = used.iter().map(|(_, evaluated)| evaluated);
        used.chain(declared)
            .find(|evaluated| evaluated.name() == current.target)
    });
    let mut ranked: Vec<_> = others
        .into_iter()
        .filter(|(_, evaluated)| evaluated.exact.is_some())
        .filter(|(_, evaluated)| evaluated.feasible() && evaluated.candidate.doubts.is_empty())
        .map(|(substitute, evaluated)| {
            let worth = here.is_some_and(|at| at.is_worth_leaving_for(&evaluated, context.policy));
            ((!worth, evaluated.exact), substitute, evaluated)
        })
        .collect();
    ranked.sort_by_key(|(rank, ..)| *rank);
    let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
    ranked.retain(|(_, substitute, _)| {
        let kept = kept.entry(&substitute.of).or_default();
        *kept += 1;
        *kept <= MOST
    });
    let ranked = ranked.into_iter().map(|(_, _, evaluated)| evaluated);
    let used = used.into_iter().map(|(_, evaluated)| evaluated);
    let mut candidates: Vec<Evaluated> = used.chain(ranked).collect();
    let order: BTreeMap<&str, usize> = workload
        .substitutes
        .iter()
        .enumerate()
        .map(|(at, substitute)| (substitute.target.name.as_str(), at))
        .collect();
    candidates.sort_by_key(|evaluated| order.get(evaluated.name()).copied());
    candidates
}

fn evaluate(context: Context<'_>, substitute: &Substitute) -> Evaluated {
    let target = &substitute.target;
    let rejected_by =
        gates::rejections_of_substitute(context.workload, context.policy, context.demand, target);
    Evaluated {
        // What is always kept is kept for the model that the spec names.
        kept_replicas: 0,
        is_substitute: true,
        ..evaluate_target(context, target, rejected_by)
    }
}
