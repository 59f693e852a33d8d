//! Fleets that grow evenly: what times are measured on.

use weir_placement::WorkloadId;
use weir_placement::fleet::assignment::{Problem, Solution};

use crate::instances::{Random, money, shaped};

/// Workloads that there are for each GPU.
const WORKLOADS_PER_GPU: usize = 10;

/// GPUs of a tier, about; the number of tiers follows.
const GPUS_PER_TIER: usize = 50;

/// `workloads` that compete for a tenth as many GPUs.
pub fn fleet(workloads: usize, seed: u64) -> Problem {
    let gpus = (workloads / WORKLOADS_PER_GPU).max(2);
    let tiers = (gpus / GPUS_PER_TIER).clamp(2, 24);
    shaped(workloads, gpus, tiers, seed)
}

/// The problem an hour later: what `solution` placed is held, and a share of the workloads pays another price.
pub fn later(problem: &Problem, solution: &Solution, seed: u64) -> (Problem, Vec<WorkloadId>) {
    let mut random = Random::new(seed);
    let (mut problem, mut changed) = (problem.clone(), Vec::new());
    for (id, competitor) in &mut problem.workloads {
        competitor.held = solution.placements.get(id).cloned();
        if random.below(20) == 0 {
            let percent = 50 + random.below(150) as u64;
            for saving in competitor
                .offers
                .values_mut()
                .flat_map(|offer| &mut offer.savings)
            {
                *saving = money(saving.get() * percent / 100);
            }
            changed.push(id.clone());
        }
    }
    (problem, changed)
}
