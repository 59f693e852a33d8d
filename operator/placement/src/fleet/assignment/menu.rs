//! A part of the problem as arrays of numbers: for every workload the options it has, their value and what they take.

use super::components::Part;
use super::{Competitor, Placement, Problem, TierName};

/// An option is worth at most a billion dollars either way: sums of them, and products with units, stay exact.
const MOST: i128 = 1_000_000_000_000_000;

/// No scarce tier: the option takes nothing that others could miss.
pub(super) const UNLIMITED: u32 = u32::MAX;

/// What a workload can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// Savings less the cost of moving there, in micro-USD.
    pub(super) value: i64,
    /// Index of the scarce tier, or [`UNLIMITED`].
    pub(super) tier: u32,
    /// Units that it takes of it.
    pub(super) units: i64,
    /// Index of the offer in the competitor's order.
    offer: u32,
    replicas: u32,
}

/// The options of every workload of a part. The first that is best is taken, so their order settles ties: what is held,
/// then nothing, then tiers by name with few replicas before many.
#[derive(Debug)]
pub(super) struct Menu {
    /// Units of each scarce tier.
    pub(super) capacity: Vec<i64>,
    first: Vec<u32>,
    choices: Vec<Choice>,
}

impl Menu {
    /// The options of `part` when each workload holds what `held` says, in the part's order.
    pub(super) fn new(problem: &Problem, part: &Part<'_>, held: &[Option<Placement>]) -> Self {
        let mut menu = Self {
            capacity: part
                .tiers
                .iter()
                .map(|(_, units)| i64::from(*units))
                .collect(),
            first: vec![0],
            choices: Vec::new(),
        };
        for (id, held) in part.workloads.iter().zip(held) {
            let start = menu.choices.len();
            let competitor = &problem.workloads[*id];
            menu.list(competitor, held.as_ref(), part);
            menu.keep_useful(start);
            menu.first.push(menu.choices.len() as u32);
        }
        menu
    }

    fn list(&mut self, competitor: &Competitor, held: Option<&Placement>, part: &Part<'_>) {
        let nothing = Choice {
            value: clamp(-moving(competitor, held, None)),
            tier: UNLIMITED,
            units: 0,
            offer: 0,
            replicas: 0,
        };
        let start = self.choices.len();
        self.choices.push(nothing);
        for (offer, (tier, terms)) in competitor.offers.iter().enumerate() {
            let scarce = part.tiers.binary_search_by_key(&tier, |(name, _)| name);
            let mut saved = 0_i128;
            for (replica, saving) in terms.savings.iter().enumerate() {
                saved += i128::from(saving.get());
                let replicas = replica as u32 + 1;
                let choice = Choice {
                    value: clamp(saved - moving(competitor, held, Some((tier, replicas)))),
                    tier: scarce.map_or(UNLIMITED, |tier| tier as u32),
                    units: scarce.map_or(0, |_| i64::from(terms.units.get()) * i64::from(replicas)),
                    offer: offer as u32,
                    replicas,
                };
                let is_held =
                    held.is_some_and(|held| held.tier == *tier && held.replicas == replicas);
                self.choices.push(choice);
                if is_held {
                    let last = self.choices.len() - 1;
                    self.choices[start..=last].rotate_right(1);
                }
            }
        }
    }

    /// Drops what does not fit, and what is worth no more than an option before it that takes nothing.
    fn keep_useful(&mut self, start: usize) {
        let mut listed = self.choices.split_off(start);
        let free = listed
            .iter()
            .filter(|choice| choice.units == 0)
            .map(|choice| choice.value)
            .max();
        let mut is_first_free = true;
        listed.retain(|choice| {
            if choice.units == 0 {
                let best = Some(choice.value) == free && is_first_free;
                is_first_free &= !best;
                return best;
            }
            Some(choice.value) > free && choice.units <= self.capacity[choice.tier as usize]
        });
        self.choices.append(&mut listed);
    }

    /// How many workloads there are.
    pub(super) fn workloads(&self) -> usize {
        self.first.len() - 1
    }

    /// How many options there are in all.
    pub(super) fn len(&self) -> usize {
        self.choices.len()
    }

    /// The options of a workload; at least one, and one of them takes nothing.
    pub(super) fn of(&self, workload: usize) -> &[Choice] {
        &self.choices[self.first[workload] as usize..self.first[workload + 1] as usize]
    }

    /// Value of a plan that takes of each workload the option at `plan`'s index.
    pub(super) fn value(&self, plan: &[u32]) -> i128 {
        let values = self
            .chosen(plan)
            .map(|(_, choice)| i128::from(choice.value));
        values.sum()
    }

    /// Units that a plan leaves free; negative where it takes more than there is.
    pub(super) fn free(&self, plan: &[u32]) -> Vec<i64> {
        let mut free = self.capacity.clone();
        for (_, choice) in self.chosen(plan) {
            take(&mut free, choice);
        }
        free
    }

    /// The options that a plan takes.
    pub(super) fn chosen<'a>(
        &'a self,
        plan: &'a [u32],
    ) -> impl Iterator<Item = (usize, &'a Choice)> {
        plan.iter()
            .enumerate()
            .map(|(workload, option)| (workload, &self.of(workload)[*option as usize]))
    }

    /// The plan in the caller's terms.
    pub(super) fn placements(
        &self,
        problem: &Problem,
        part: &Part<'_>,
        plan: &[u32],
    ) -> Vec<Option<Placement>> {
        let placement = |(workload, choice): (usize, &Choice)| {
            let competitor = &problem.workloads[part.workloads[workload]];
            let tier = competitor.offers.keys().nth(choice.offer as usize)?;
            (choice.replicas > 0).then(|| Placement {
                tier: tier.clone(),
                replicas: choice.replicas,
            })
        };
        self.chosen(plan).map(placement).collect()
    }
}

/// Takes an option's units from what is free.
pub(super) fn take(free: &mut [i64], choice: &Choice) {
    if choice.tier != UNLIMITED {
        free[choice.tier as usize] -= choice.units;
    }
}

/// Savings of a placement less the cost of moving to it, in micro-USD.
pub(super) fn worth(
    competitor: &Competitor,
    from: Option<&Placement>,
    to: Option<&Placement>,
) -> i128 {
    let replicas = to.map_or(0, |to| to.replicas as usize);
    let savings = to
        .and_then(|to| competitor.offers.get(&to.tier))
        .map_or(&[][..], |offer| &offer.savings);
    let saved: i128 = savings
        .iter()
        .take(replicas)
        .map(|saving| i128::from(saving.get()))
        .sum();
    let moved = moving(competitor, from, to.map(|to| (&to.tier, to.replicas)));
    i128::from(clamp(saved - moved))
}

/// What it costs to go from one placement to another: replicas that are given up and replicas that are started.
fn moving(competitor: &Competitor, from: Option<&Placement>, to: Option<(&TierName, u32)>) -> i128 {
    let before = from.map_or(0, |from| from.replicas);
    let after = to.map_or(0, |(_, replicas)| replicas);
    let stays = match (from, to) {
        (Some(from), Some((tier, _))) if from.tier == *tier => before.min(after),
        _ => 0,
    };
    let enter = to
        .and_then(|(tier, _)| competitor.offers.get(tier))
        .map_or(0, |offer| offer.enter.get());
    i128::from(before - stays) * i128::from(competitor.leave.get())
        + i128::from(after - stays) * i128::from(enter)
}

fn clamp(amount: i128) -> i64 {
    amount.clamp(-MOST, MOST) as i64
}
