//! Splits a problem into parts that share no scarce tier, so that each can be solved, and kept, on its own.

use std::collections::BTreeMap;

use super::{Problem, TierName};
use crate::snapshot::WorkloadId;

/// Workloads that compete with each other and with nobody else; both lists are in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) workloads: Vec<&'a WorkloadId>,
    /// Tiers that cannot hold all that its workloads may ask for, with their units.
    pub(super) tiers: Vec<(&'a TierName, u32)>,
}

/// The parts, ordered by their first workload. A tier with room for all that could ask for it couples nobody.
pub(super) fn split(problem: &Problem) -> Vec<Part<'_>> {
    let scarce = scarce_tiers(problem);
    let mut groups = Groups::new(scarce.len());
    for competitor in problem.workloads.values() {
        let mut asked = competitor
            .offers
            .keys()
            .filter_map(|tier| position(&scarce, tier));
        if let Some(first) = asked.next() {
            asked.for_each(|other| groups.join(first, other));
        }
    }
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut part_of_group = BTreeMap::new();
    for (id, competitor) in &problem.workloads {
        let tier = competitor
            .offers
            .keys()
            .find_map(|tier| position(&scarce, tier));
        let fresh = parts.len();
        let part = match tier {
            Some(tier) => *part_of_group.entry(groups.find(tier)).or_insert(fresh),
            None => fresh,
        };
        if part == fresh {
            parts.push(Part {
                workloads: Vec::new(),
                tiers: Vec::new(),
            });
        }
        parts[part].workloads.push(id);
    }
    for (tier, (name, units)) in scarce.iter().enumerate() {
        if let Some(part) = part_of_group.get(&groups.find(tier)) {
            parts[*part].tiers.push((name, *units));
        }
    }
    parts
}

fn position(scarce: &[(&TierName, u32)], tier: &TierName) -> Option<usize> {
    scarce.binary_search_by_key(&tier, |(name, _)| name).ok()
}

fn scarce_tiers(problem: &Problem) -> Vec<(&TierName, u32)> {
    let mut asked: BTreeMap<&TierName, u64> = BTreeMap::new();
    let offers = problem
        .workloads
        .values()
        .flat_map(|competitor| &competitor.offers);
    for (tier, offer) in offers {
        let most = u64::from(offer.units.get()).saturating_mul(offer.savings.len() as u64);
        let sum = asked.entry(tier).or_default();
        *sum = sum.saturating_add(most);
    }
    let units = |tier: &TierName| problem.capacity.get(tier).copied().unwrap_or(0);
    asked
        .into_iter()
        .map(|(tier, most)| (tier, units(tier), most))
        .filter(|(_, units, most)| *most > u64::from(*units))
        .map(|(tier, units, _)| (tier, units))
        .collect()
}

/// Disjoint sets of tiers.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn find(&mut self, mut member: usize) -> usize {
        while self.0[member] != member {
            self.0[member] = self.0[self.0[member]];
            member = self.0[member];
        }
        member
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        self.0[one.max(other)] = one.min(other);
    }
}
