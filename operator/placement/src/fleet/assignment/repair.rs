//! Makes a plan of whole replicas out of what workloads would take at the prices: first it gives back what is not there,
//! the least loss per unit first, then it hands out what is left, the most gain per unit first.

use super::menu::{Choice, Menu, UNLIMITED, take};
use super::prices::{Dual, reduced};

/// Rounds of handing out. Each but the last changes something; more than a few never did.
const FILL_ROUNDS: usize = 8;

/// A change of one workload's option, with its loss or gain for each unit.
struct Change {
    rate: f64,
    workload: u32,
    option: u32,
}

/// A plan that fits, close to what the prices say.
pub(super) fn repaired(menu: &Menu, dual: &Dual) -> Vec<u32> {
    let mut plan = dual.plan.clone();
    let mut free = menu.free(&plan);
    while let Some(tier) = free.iter().position(|free| *free < 0) {
        give_back(menu, dual, tier, (&mut plan, &mut free));
    }
    hand_out(menu, (&mut plan, &mut free));
    plan
}

/// One round of changes by workloads on `tier`; each changes at most once, so that cheap second steps are seen.
fn give_back(menu: &Menu, dual: &Dual, tier: usize, state: (&mut [u32], &mut [i64])) {
    let (plan, free) = state;
    let mut changes = Vec::new();
    for (workload, current) in menu.chosen(plan) {
        if current.tier as usize != tier {
            continue;
        }
        let worth = reduced(current, &dual.prices);
        for (option, choice) in menu.of(workload).iter().enumerate() {
            let stays = if choice.tier as usize == tier {
                choice.units
            } else {
                0
            };
            if stays < current.units {
                let loss = worth.saturating_sub(reduced(choice, &dual.prices));
                changes.push(Change {
                    rate: loss as f64 / (current.units - stays) as f64,
                    workload: workload as u32,
                    option: option as u32,
                });
            }
        }
    }
    changes.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let mut changed = vec![false; plan.len()];
    for change in changes {
        if free[tier] >= 0 {
            return;
        }
        let workload = change.workload as usize;
        let choices = menu.of(workload);
        let to = &choices[change.option as usize];
        let from = &choices[plan[workload] as usize];
        if !changed[workload] && (to.tier as usize == tier || has_room(free, to)) {
            replace(free, from, to);
            plan[workload] = change.option;
            changed[workload] = true;
        }
    }
}

/// Rounds of changes that raise the value within what is free.
fn hand_out(menu: &Menu, state: (&mut [u32], &mut [i64])) {
    let (plan, free) = state;
    for _ in 0..FILL_ROUNDS {
        let mut changes = Vec::new();
        for (workload, current) in menu.chosen(plan) {
            for (option, choice) in menu.of(workload).iter().enumerate() {
                if choice.value > current.value && fits(free, current, choice) {
                    let gain = (choice.value - current.value) as f64;
                    changes.push(Change {
                        rate: gain / extra_units(current, choice) as f64,
                        workload: workload as u32,
                        option: option as u32,
                    });
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        changes.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        for change in changes {
            let workload = change.workload as usize;
            let choices = menu.of(workload);
            let from = &choices[plan[workload] as usize];
            let to = &choices[change.option as usize];
            if to.value > from.value && fits(free, from, to) {
                replace(free, from, to);
                plan[workload] = change.option;
            }
        }
    }
}

fn extra_units(from: &Choice, to: &Choice) -> i64 {
    let kept = if from.tier == to.tier { from.units } else { 0 };
    (to.units - kept).max(1)
}

fn has_room(free: &[i64], choice: &Choice) -> bool {
    choice.tier == UNLIMITED || free[choice.tier as usize] >= choice.units
}

fn fits(free: &[i64], from: &Choice, to: &Choice) -> bool {
    let kept = if from.tier == to.tier { from.units } else { 0 };
    to.tier == UNLIMITED || free[to.tier as usize] >= to.units - kept
}

fn replace(free: &mut [i64], from: &Choice, to: &Choice) {
    if from.tier != UNLIMITED {
        free[from.tier as usize] += from.units;
    }
    take(free, to);
}
