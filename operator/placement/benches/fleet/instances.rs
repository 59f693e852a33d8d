//! Random fleets of any size, the same for the same seed: what benchmarks, comparisons and the plot are measured on.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use weir_placement::fleet::assignment::{Competitor, Offer, Placement, Problem};
use weir_placement::{MicroUsd, WorkloadId};

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A tier of whole GPUs, of which a replica takes 1 to 8, or of MIG slices, seven to a GPU, of which it takes 1 to 7.
#[derive(Clone, Copy)]
enum Kind {
    Whole,
    Sliced,
}

/// `workloads` that compete for `gpus` on `tiers`. Each can use one to three tiers, and a third holds something.
pub fn shaped(workloads: usize, gpus: usize, tiers: usize, seed: u64) -> Problem {
    let mut random = Random::new(seed);
    let kinds: Vec<Kind> = (0..tiers)
        .map(|tier| {
            if tier % 3 == 2 {
                Kind::Sliced
            } else {
                Kind::Whole
            }
        })
        .collect();
    let mut problem = Problem::default();
    for (tier, kind) in kinds.iter().enumerate() {
        let share = gpus / tiers + usize::from(tier < gpus % tiers);
        let units = match kind {
            Kind::Whole => share,
            Kind::Sliced => share * 7,
        };
        problem.capacity.insert(name(tier), units as u32);
    }
    for number in 0..workloads {
        let competitor = competitor(&mut random, &kinds);
        problem
            .workloads
            .insert(WorkloadId(format!("w{number:06}")), competitor);
    }
    problem
}

fn name(tier: usize) -> String {
    format!("tier-{tier:02}")
}

pub fn money(micros: u64) -> MicroUsd {
    MicroUsd::clamped(u128::from(micros))
}

fn competitor(random: &mut Random, kinds: &[Kind]) -> Competitor {
    // Dollars an hour: most are small, a few are a thousand times as large.
    let size = 10_000_u64 << random.below(10);
    let first = size + random.below(size as usize) as u64;
    let mut offers = BTreeMap::new();
    for _ in 0..1 + random.below(3) {
        let tier = random.below(kinds.len());
        let (units, speed) = match kinds[tier] {
            Kind::Whole => {
                let units = 1 << random.below(4);
                (units, 80 + 20 * units as u64)
            }
            Kind::Sliced => {
                let units = [1, 2, 3, 4, 7][random.below(5)];
                (units, 40 + 10 * units as u64)
            }
        };
        let offer = offer(random, first * speed / 100, units);
        offers.insert(name(tier), offer);
    }
    let held = match random.below(3) {
        0 => offers.keys().next().map(|tier| Placement {
            tier: tier.clone(),
            replicas: 1,
        }),
        _ => None,
    };
    Competitor {
        offers,
        held,
        leave: money(first / 20),
    }
}

fn offer(random: &mut Random, first: u64, units: u32) -> Offer {
    let mut saving = first;
    let mut savings = Vec::new();
    for _ in 0..1 + random.below(4) {
        savings.push(money(saving));
        saving = saving * (40 + random.below(60) as u64) / 100;
    }
    Offer {
        units: NonZeroU32::MIN.saturating_add(units - 1),
        savings,
        enter: money(first / 10),
    }
}
