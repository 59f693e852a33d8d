//! The best value of a small problem, by going through every plan.

use std::collections::BTreeMap;

use weir_placement::fleet::assignment::{Competitor, Placement, Problem};

/// Savings less the cost of moving, straight from the definition.
pub fn worth(competitor: &Competitor, to: Option<&Placement>) -> i128 {
    let saved: i128 = to.map_or(0, |to| {
        let savings = &competitor.offers[&to.tier].savings;
        savings[..to.replicas as usize]
            .iter()
            .map(|saving| i128::from(saving.get()))
            .sum()
    });
    let held = competitor.held.as_ref();
    let same_tier = held.zip(to).is_some_and(|(held, to)| held.tier == to.tier);
    let before = i128::from(held.map_or(0, |held| held.replicas));
    let after = i128::from(to.map_or(0, |to| to.replicas));
    let (left, entered) = if same_tier {
        ((before - after).max(0), (after - before).max(0))
    } else {
        (before, after)
    };
    let enter = to.map_or(0, |to| competitor.offers[&to.tier].enter.get());
    saved - left * i128::from(competitor.leave.get()) - entered * i128::from(enter)
}

/// The value of the best plan: for every combination of free units, the best that led there.
pub fn optimum(problem: &Problem) -> i128 {
    let mut reached = BTreeMap::from([(problem.capacity.clone(), 0_i128)]);
    for competitor in problem.workloads.values() {
        let mut next = BTreeMap::new();
        for (free, value) in &reached {
            let mut offer = |free: BTreeMap<String, u32>, value: i128| {
                let best = next.entry(free).or_insert(value);
                *best = value.max(*best);
            };
            offer(free.clone(), value + worth(competitor, None));
            for (tier, terms) in &competitor.offers {
                for replicas in 1..=terms.savings.len() as u32 {
                    let have = free.get(tier).copied().unwrap_or(0);
                    let Some(left) = have.checked_sub(terms.units.get() * replicas) else {
                        break;
                    };
                    let mut free = free.clone();
                    free.insert(tier.clone(), left);
                    let to = Placement {
                        tier: tier.clone(),
                        replicas,
                    };
                    offer(free, value + worth(competitor, Some(&to)));
                }
            }
        }
        reached = next;
    }
    reached.into_values().max().unwrap_or(0)
}
