//! Solves one part, and goes on from its plan until solving again changes nothing.

use super::components::Part;
use super::menu::{self, Menu};
use super::prices::Dual;
use super::repair::repaired;
use super::search::improve;
use super::{Placement, Problem, Standing};

/// What was found for a part.
pub(super) struct Outcome {
    /// In the part's order.
    pub(super) placements: Vec<Option<Placement>>,
    /// Measured from what was held.
    pub(super) standing: Standing,
    /// Measured when the placements are what is held.
    pub(super) at_rest: Standing,
}

/// The plan for a part from which no further solving departs.
///
/// Another plan is taken only when it is worth more than staying, moves included. So savings rise with every round, which
/// ends the rounds; and as moving twice never costs less than moving at once, no round lowers the value seen from what
/// was held at first.
pub(super) fn settle(problem: &Problem, part: &Part<'_>) -> Outcome {
    let held: Vec<Option<Placement>> = part
        .workloads
        .iter()
        .map(|id| problem.workloads[*id].held.clone())
        .collect();
    let first = round(problem, part, &held);
    let (mut placements, mut at_rest) = (first.placements, first.standing);
    let mut stays = first.stays;
    while !stays {
        let next = round(problem, part, &placements);
        (placements, at_rest, stays) = (next.placements, next.standing, next.stays);
    }
    let value = value(problem, part, &held, &placements);
    Outcome {
        placements,
        standing: Standing {
            value,
            bound: first.standing.bound,
        },
        at_rest,
    }
}

struct Round {
    placements: Vec<Option<Placement>>,
    standing: Standing,
    stays: bool,
}

fn round(problem: &Problem, part: &Part<'_>, held: &[Option<Placement>]) -> Round {
    let menu = Menu::new(problem, part, held);
    let dual = Dual::minimize(&menu, |dual| menu.value(&repaired(&menu, dual)));
    let repaired = repaired(&menu, &dual);
    let known = menu.value(&repaired);
    let staying = staying(problem, part, held);
    let floor = staying.map_or(known, |value| value.max(known));
    let found = improve(&menu, &dual, floor);
    let plan = found.plan.unwrap_or(repaired);
    let value = menu.value(&plan);
    match staying {
        Some(staying) if staying >= value => Round {
            placements: held.to_vec(),
            standing: Standing {
                value: staying,
                bound: found.bound,
            },
            stays: true,
        },
        _ => Round {
            placements: menu.placements(problem, part, &plan),
            standing: Standing {
                value,
                bound: found.bound,
            },
            stays: false,
        },
    }
}

/// Value of leaving everything as it is; `None` where that is not possible.
fn staying(problem: &Problem, part: &Part<'_>, held: &[Option<Placement>]) -> Option<i128> {
    let mut free: Vec<i64> = part
        .tiers
        .iter()
        .map(|(_, units)| i64::from(*units))
        .collect();
    for (id, held) in part.workloads.iter().zip(held) {
        let Some(held) = held else { continue };
        let offer = problem.workloads[*id].offers.get(&held.tier)?;
        if held.replicas == 0 || held.replicas as usize > offer.savings.len() {
            return None;
        }
        if let Ok(tier) = part
            .tiers
            .binary_search_by_key(&&held.tier, |(name, _)| name)
        {
            free[tier] -= i64::from(offer.units.get()) * i64::from(held.replicas);
        }
    }
    let possible = free.iter().all(|free| *free >= 0);
    possible.then(|| value(problem, part, held, held))
}

/// Savings of `to` less the cost of moving there from `from`, counted as the menu counts them.
fn value(
    problem: &Problem,
    part: &Part<'_>,
    from: &[Option<Placement>],
    to: &[Option<Placement>],
) -> i128 {
    let mut sum = 0;
    for ((id, from), to) in part.workloads.iter().zip(from).zip(to) {
        sum += menu::worth(&problem.workloads[*id], from.as_ref(), to.as_ref());
    }
    sum
}
