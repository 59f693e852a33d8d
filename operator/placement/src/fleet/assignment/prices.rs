//! Prices per unit of each scarce tier, at which workloads choose on their own: the Lagrangian dual.
//!
//! For prices `p` the bound is `sum(p * capacity) + sum over workloads of max(value - p * units)`, whatever the prices
//! (Geoffrion, "Lagrangean relaxation for integer programming", 1974). It is minimized one tier at a time by bisection,
//! which is exact for one tier, and across tiers by subgradient steps (Polyak's length towards a known plan, 1969).
//! Prices are whole micro-USD, so the bound is exact.

use super::menu::{Choice, Menu, UNLIMITED};

/// Passes of bisection over all tiers, before and after the subgradient steps.
const SWEEPS: usize = 2;

/// Work for subgradient steps: options looked at in all, and fewest and most steps.
const STEP_WORK: usize = 2_000_000;
const FEWEST_STEPS: usize = 40;
const MOST_STEPS: usize = 400;

/// Steps without progress after which they are halved.
const PATIENCE: usize = 8;

/// Prices, and what they say.
#[derive(Debug, Clone)]
pub(super) struct Dual {
    pub(super) prices: Vec<i64>,
    /// No plan has a higher value.
    pub(super) bound: i128,
    /// What each workload takes at these prices; it may be more than there is.
    pub(super) plan: Vec<u32>,
}

/// What an option is worth at the prices.
pub(super) fn reduced(choice: &Choice, prices: &[i64]) -> i64 {
    if choice.tier == UNLIMITED {
        return choice.value;
    }
    let cost = prices[choice.tier as usize].saturating_mul(choice.units);
    choice.value.saturating_sub(cost)
}

/// The first best option at the prices, and its worth.
pub(super) fn best(choices: &[Choice], prices: &[i64]) -> (u32, i64) {
    let mut best = (0, i64::MIN);
    for (option, choice) in choices.iter().enumerate() {
        let worth = reduced(choice, prices);
        if worth > best.1 {
            best = (option as u32, worth);
        }
    }
    best
}

impl Dual {
    fn at(menu: &Menu, prices: Vec<i64>) -> Self {
        let rent = prices.iter().zip(&menu.capacity);
        let mut bound: i128 = rent
            .map(|(price, units)| i128::from(*price) * i128::from(*units))
            .sum();
        let mut plan = Vec::with_capacity(menu.workloads());
        for workload in 0..menu.workloads() {
            let (option, worth) = best(menu.of(workload), &prices);
            bound += i128::from(worth);
            plan.push(option);
        }
        Self {
            prices,
            bound,
            plan,
        }
    }

    /// Prices with a low bound; `value` is that of some plan and guides the length of steps.
    pub(super) fn minimize(menu: &Menu, value: impl Fn(&Self) -> i128) -> Self {
        let tiers = menu.capacity.len();
        let mut dual = Self::at(menu, vec![0; tiers]);
        if tiers == 0 || menu.free(&dual.plan).iter().all(|free| *free >= 0) {
            return dual;
        }
        let askers = askers(menu);
        dual = dual.swept(menu, &askers);
        if tiers == 1 {
            return dual;
        }
        let target = value(&dual);
        dual.descend(menu, target).swept(menu, &askers)
    }

    /// Sets every tier's price in turn to the lowest at which what is asked for is there.
    fn swept(self, menu: &Menu, askers: &[Vec<u32>]) -> Self {
        let mut prices = self.prices.clone();
        for _ in 0..if prices.len() == 1 { 1 } else { SWEEPS } {
            for (tier, askers) in askers.iter().enumerate() {
                clear_tier(menu, askers, tier, &mut prices);
            }
        }
        let swept = Self::at(menu, prices);
        if swept.bound <= self.bound {
            swept
        } else {
            self
        }
    }

    /// Subgradient steps; each tier's units are scaled by its capacity.
    fn descend(self, menu: &Menu, target: i128) -> Self {
        let steps = (STEP_WORK / menu.len().max(1)).clamp(FEWEST_STEPS, MOST_STEPS);
        let mut best = self.clone();
        let mut current = self;
        let (mut length, mut idle) = (1.0_f64, 0);
        for _ in 0..steps {
            let scaled = |(free, units): (&i64, &i64)| *free as f64 / (*units).max(1) as f64;
            let free = menu.free(&current.plan);
            let slope: Vec<f64> = free.iter().zip(&menu.capacity).map(scaled).collect();
            // A price of zero cannot fall, so room on its tier says nothing about the direction.
            let moves = |tier: usize| current.prices[tier] > 0 || slope[tier] < 0.0;
            let norm: f64 = (0..slope.len())
                .filter(|tier| moves(*tier))
                .map(|tier| slope[tier] * slope[tier])
                .sum();
            if norm <= 0.0 || current.bound <= target {
                break;
            }
            let step = length * (current.bound - target) as f64 / norm;
            let price = |tier: usize| {
                let change = step * slope[tier] / menu.capacity[tier].max(1) as f64;
                ((current.prices[tier] as f64 - change).max(0.0)).round() as i64
            };
            current = Self::at(menu, (0..slope.len()).map(price).collect());
            if current.bound < best.bound {
                best = current.clone();
                idle = 0;
                continue;
            }
            idle += 1;
            if idle == PATIENCE {
                idle = 0;
                length *= 0.5;
                current = best.clone();
            }
        }
        best
    }
}

/// For each tier the workloads that have options on it.
fn askers(menu: &Menu) -> Vec<Vec<u32>> {
    let mut askers = vec![Vec::new(); menu.capacity.len()];
    for workload in 0..menu.workloads() {
        for choice in menu.of(workload) {
            if choice.tier == UNLIMITED {
                continue;
            }
            let listed: &mut Vec<u32> = &mut askers[choice.tier as usize];
            if listed.last() != Some(&(workload as u32)) {
                listed.push(workload as u32);
            }
        }
    }
    askers
}

/// Bisects for the lowest price of one tier at which its workloads ask for no more than there is.
fn clear_tier(menu: &Menu, askers: &[u32], tier: usize, prices: &mut [i64]) {
    let market = Market::new(menu, askers, tier, prices);
    let (mut low, mut high) = (0, market.highest);
    while low < high {
        let middle = low + (high - low) / 2;
        if market.asked_at(middle) <= menu.capacity[tier] {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    prices[tier] = low;
}

/// What one tier's workloads would ask for, side by side in memory: it is read for every price that is tried.
struct Market {
    /// For each workload its worth without the tier, and where its options on the tier end.
    workloads: Vec<(i64, usize)>,
    /// Value and units.
    options: Vec<(i64, i64)>,
    /// Nobody asks for anything at this price.
    highest: i64,
}

impl Market {
    fn new(menu: &Menu, askers: &[u32], tier: usize, prices: &[i64]) -> Self {
        let mut market = Self {
            workloads: Vec::with_capacity(askers.len()),
            options: Vec::with_capacity(2 * askers.len()),
            highest: 0,
        };
        for workload in askers {
            let (mut elsewhere, begin) = (i64::MIN, market.options.len());
            for choice in menu.of(*workload as usize) {
                if choice.tier as usize == tier {
                    market.options.push((choice.value, choice.units));
                } else {
                    elsewhere = elsewhere.max(reduced(choice, prices));
                }
            }
            for (value, units) in &market.options[begin..] {
                let most = value.saturating_sub(elsewhere) / units + 1;
                market.highest = market.highest.max(most);
            }
            market.workloads.push((elsewhere, market.options.len()));
        }
        market
    }

    fn asked_at(&self, price: i64) -> i64 {
        let (mut asked, mut begin) = (0, 0);
        for (elsewhere, end) in &self.workloads {
            let mut best = (*elsewhere, 0);
            for (value, units) in &self.options[begin..*end] {
                let worth = value.saturating_sub(price.saturating_mul(*units));
                if worth > best.0 {
                    best = (worth, *units);
                }
            }
            asked += best.1;
            begin = *end;
        }
        asked
    }
}
