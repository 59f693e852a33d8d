//! Which workload gets which replicas on which tier at one moment, when tiers are scarce.
//!
//! A workload takes one of its offers, with some number of replicas, or none; the plan maximizes what replicas save less what
//! moving costs, within every tier's capacity. The problem falls into components that share no scarce tier, and each is
//! solved on its own: prices per unit of a tier decouple the workloads (Lagrangian relaxation, which also gives the bound),
//! and a search near the prices' choice restores whole replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::snapshot::WorkloadId;
use crate::units::MicroUsd;

mod components;
mod evaluate;
mod menu;
mod prices;
mod repair;
mod search;

/// Name of a tier.
pub type TierName = String;

/// Workloads that compete for tiers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Units that each tier has: GPUs, MIG slices or fractions. A tier that is not named has none.
    pub capacity: BTreeMap<TierName, u32>,
    /// Who competes.
    pub workloads: BTreeMap<WorkloadId, Competitor>,
}

/// What one workload can use and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Competitor {
    /// Tiers that it may run on, one at a time.
    pub offers: BTreeMap<TierName, Offer>,
    /// Where it runs.
    pub held: Option<Placement>,
    /// What giving up one replica costs.
    pub leave: MicroUsd,
}

/// What one tier does for one workload, over the period that the plan is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Units of the tier that one replica takes.
    pub units: NonZeroU32,
    /// What the first, the second, … replica saves; as many as the workload may hold.
    pub savings: Vec<MicroUsd>,
    /// What starting one replica costs.
    pub enter: MicroUsd,
}

/// Replicas on a tier.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The tier.
    pub tier: TierName,
    /// How many, at least one in a solution.
    pub replicas: u32,
}

/// A plan and how good it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Solution {
    /// Where each workload runs; one that gets nothing is absent.
    pub placements: BTreeMap<WorkloadId, Placement>,
    /// The parts that were solved on their own, ordered by their first workload.
    pub components: Vec<Component>,
    /// Workloads whose choice was computed for this solution rather than taken from a previous one.
    pub evaluated: usize,
}

/// Workloads that compete with each other, directly or through others, and with nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Its workloads, in order.
    pub workloads: Vec<WorkloadId>,
    /// Its scarce tiers with their units. Other tiers have room for all that could ask for them.
    pub tiers: BTreeMap<TierName, u32>,
    /// Savings less the cost of moving from what was held, in micro-USD.
    pub value: i128,
    /// No plan has a higher value.
    pub bound: i128,
    /// The same two when the plan is what is held, so that nothing moves.
    pub at_rest: Standing,
}

/// A value and the bound that it is measured against, in micro-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Savings less costs.
    pub value: i128,
    /// No plan has a higher value.
    pub bound: i128,
}

impl Solution {
    /// Savings less the cost of moving, in micro-USD.
    pub fn value(&self) -> i128 {
        self.components
            .iter()
            .map(|component| component.value)
            .sum()
    }

    /// No plan has a higher value than this, in micro-USD.
    pub fn bound(&self) -> i128 {
        self.components
            .iter()
            .map(|component| component.bound)
            .sum()
    }

    /// How much of the bound may be missing, in parts per million, rounded up; zero means that no plan is better.
    pub fn gap_parts_per_million(&self) -> u64 {
        gap_parts_per_million(self.value(), self.bound())
    }
}

impl Component {
    /// How much of this part's bound may be missing, in parts per million, rounded up; zero means that no plan is better.
    pub fn gap_parts_per_million(&self) -> u64 {
        gap_parts_per_million(self.value, self.bound)
    }
}

fn gap_parts_per_million(value: i128, bound: i128) -> u64 {
    let missing = bound - value;
    let whole = bound.max(1);
    let parts = (missing * 1_000_000 + whole - 1) / whole;
    u64::try_from(parts).unwrap_or(u64::MAX)
}

/// Solves the whole problem. The same problem gives the same solution, whatever the order in which it was written down.
pub fn solve(problem: &Problem) -> Solution {
    assemble(problem, |_| None)
}

/// Solves a problem of which most is as it was when `previous` was found.
///
/// `problem` must hold what `previous` placed; `changed` says which workloads differ otherwise (another price, another
/// offer, held elsewhere). Changed capacities, and workloads that come or go, are seen without being named. Components
/// that none of this touches keep their placements and are not evaluated; the result is that of [`solve`], but for
/// `evaluated`.
pub fn resolve(problem: &Problem, previous: &Solution, changed: &[WorkloadId]) -> Solution {
    let changed: BTreeSet<_> = changed.iter().collect();
    let by_first: BTreeMap<_, _> = previous
        .components
        .iter()
        .filter_map(|component| Some((component.workloads.first()?, component)))
        .collect();
    assemble(problem, |part| {
        let same = by_first.get(part.workloads.first()?)?;
        let untouched = same.workloads.len() == part.workloads.len()
            && same.workloads.iter().eq(part.workloads.iter().copied())
            && same
                .tiers
                .iter()
                .map(|(tier, units)| (tier, *units))
                .eq(part.tiers.iter().copied())
            && !part.workloads.iter().any(|id| changed.contains(id));
        untouched.then(|| {
            let placements = part
                .workloads
                .iter()
                .map(|id| previous.placements.get(*id).cloned());
            evaluate::Outcome {
                placements: placements.collect(),
                standing: same.at_rest,
                at_rest: same.at_rest,
            }
        })
    })
}

fn assemble(
    problem: &Problem,
    known: impl Fn(&components::Part<'_>) -> Option<evaluate::Outcome>,
) -> Solution {
    let mut solution = Solution {
        placements: BTreeMap::new(),
        components: Vec::new(),
        evaluated: 0,
    };
    for part in components::split(problem) {
        let outcome = known(&part).unwrap_or_else(|| {
            solution.evaluated += part.workloads.len();
            evaluate::settle(problem, &part)
        });
        let placed = part.workloads.iter().zip(outcome.placements);
        solution
            .placements
            .extend(placed.filter_map(|(id, placement)| Some(((*id).clone(), placement?))));
        solution.components.push(Component {
            workloads: part.workloads.into_iter().cloned().collect(),
            tiers: part
                .tiers
                .into_iter()
                .map(|(tier, units)| (tier.clone(), units))
                .collect(),
            value: outcome.standing.value,
            bound: outcome.standing.bound,
            at_rest: outcome.at_rest,
        });
    }
    solution
}
