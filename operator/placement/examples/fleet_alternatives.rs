//! Compares ways to assign a fleet on the same instances: by savings per unit, with a mixed-integer solver, and ours.
//!
//! `cargo run --release -p weir-placement --example fleet_alternatives [-- SECONDS]` (how long the solver may take each time)

#[path = "fleet_growth/cpu.rs"]
mod cpu;
#[path = "../benches/fleet/instances.rs"]
mod instances;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use microlp::{ComparisonOp, OptimizationDirection};
use weir_placement::fleet::assignment::{Competitor, Problem, solve};

/// Workloads, GPUs and tiers.
const SHAPES: [(usize, usize, usize); 7] = [
    (10, 4, 2),
    (20, 8, 2),
    (50, 10, 3),
    (100, 20, 3),
    (300, 40, 4),
    (1_000, 100, 4),
    (10_000, 1_000, 20),
];

/// Savings less the cost of moving, in micro-USD.
fn worth(competitor: &Competitor, to: Option<(&str, u32)>) -> i128 {
    let held = competitor.held.as_ref();
    let before = held.map_or(0, |held| held.replicas);
    let Some((tier, replicas)) = to else {
        return -i128::from(before) * i128::from(competitor.leave.get());
    };
    let offer = &competitor.offers[tier];
    let kept = held.map_or(0, |held| {
        if held.tier == tier {
            before.min(replicas)
        } else {
            0
        }
    });
    let saved = offer.savings[..replicas as usize].iter();
    saved.map(|saving| i128::from(saving.get())).sum::<i128>()
        - i128::from(before - kept) * i128::from(competitor.leave.get())
        - i128::from(replicas - kept) * i128::from(offer.enter.get())
}

/// Every choice of every workload: its tier, replicas, units and value.
fn choices(competitor: &Competitor) -> impl Iterator<Item = (&str, u32, u32, i128)> {
    competitor.offers.iter().flat_map(move |(tier, offer)| {
        (1..=offer.savings.len() as u32).map(move |replicas| {
            let value = worth(competitor, Some((tier, replicas)));
            (tier.as_str(), replicas, replicas * offer.units.get(), value)
        })
    })
}

/// The choices with the most savings per unit first, as long as they fit.
fn by_savings_per_unit(problem: &Problem) -> i128 {
    let mut ranked = Vec::new();
    for (id, competitor) in &problem.workloads {
        let nothing = worth(competitor, None);
        for (tier, _, units, value) in choices(competitor) {
            let gain = value - nothing;
            ranked.push((gain as f64 / f64::from(units), id, tier, units, gain));
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut free = problem.capacity.clone();
    let mut value: i128 = problem.workloads.values().map(|it| worth(it, None)).sum();
    let mut served = BTreeSet::new();
    for (_, id, tier, units, gain) in ranked {
        let left = free.get_mut(tier).filter(|left| **left >= units);
        if let Some(left) = left.filter(|_| gain > 0 && !served.contains(id)) {
            *left -= units;
            value += gain;
            served.insert(id);
        }
    }
    value
}

/// The solver's plan and bound; `None` when it found none in time.
fn by_solver(problem: &Problem, limit: Duration) -> Option<(f64, bool)> {
    let mut model = microlp::Problem::new(OptimizationDirection::Maximize);
    model.set_time_limit(limit);
    let mut tiers: BTreeMap<&str, Vec<(microlp::Variable, f64)>> = BTreeMap::new();
    let mut fixed = 0.0;
    for competitor in problem.workloads.values() {
        let nothing = worth(competitor, None);
        fixed += nothing as f64 / 1e6;
        let mut one = Vec::new();
        for (tier, _, units, value) in choices(competitor) {
            let chosen = model.add_binary_var((value - nothing) as f64 / 1e6);
            one.push((chosen, 1.0));
            tiers
                .entry(tier)
                .or_default()
                .push((chosen, f64::from(units)));
        }
        model.add_constraint(&one, ComparisonOp::Le, 1.0);
    }
    for (tier, terms) in tiers {
        model.add_constraint(&terms, ComparisonOp::Le, f64::from(problem.capacity[tier]));
    }
    let solution = model.solve().ok()?.into_solution().ok()?;
    let optimal = solution.status() == microlp::SolutionStatus::Optimal;
    Some((solution.objective() + fixed, optimal))
}

fn ours(problem: &Problem) -> (i128, u64) {
    let solution = solve(problem);
    (solution.value(), solution.gap_parts_per_million())
}

fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    println!(
        "workloads GPUs tiers seed | per unit, % of ours | solver, % of ours, ms | ours $, gap ppm, ms"
    );
    for (workloads, gpus, tiers) in SHAPES {
        for seed in 1..=3 {
            let problem = instances::shaped(workloads, gpus, tiers, seed);
            let (own_time, (value, gap)) = cpu::mean(|| ours(&problem));
            let dollars = value as f64 / 1e6;
            let greedy = by_savings_per_unit(&problem) as f64 / value as f64;
            let (solver_time, solver) =
                cpu::mean(|| by_solver(&problem, Duration::from_secs(seconds)));
            let solver_time = solver_time.as_secs_f64() * 1e3;
            let solver = solver.map_or("none".to_owned(), |(value, optimal)| {
                let mark = if optimal { "" } else { " (time out)" };
                format!("{:.3} {solver_time:.1} ms{mark}", 100.0 * value / dollars)
            });
            println!(
                "{workloads:6} {gpus:5} {tiers:3} {seed:2} | {:.2} | {solver} | {dollars:.2} {gap} {:.2} ms",
                100.0 * greedy,
                own_time.as_secs_f64() * 1e3
            );
        }
    }
}
