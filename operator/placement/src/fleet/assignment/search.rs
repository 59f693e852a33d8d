//! Searches the plans that are close to what the prices say, and proves how good the best of them is.
//!
//! A plan's value is the bound less what each workload loses by not taking its best option at the prices, less the price
//! of every unit that stays free. So only options that lose less than the gap between the bound and a known plan matter,
//! the core (Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", 1995). Workloads of the core are
//! taken in turn; states that leave the same units free are merged, those that cannot close the gap are dropped, and
//! beyond a width the worst are dropped too, which is remembered in the bound.

use super::menu::{Choice, Menu, UNLIMITED};
use super::prices::{Dual, reduced};

/// States that are made in all: so many for each workload, at least and at most so many.
const STATES_PER_WORKLOAD: usize = 2_000;
const FEWEST_STATES: usize = 20_000;
const MOST_STATES: usize = 100_000;

/// States that are kept from one workload to the next, at least and at most.
const NARROWEST: usize = 16;
const WIDEST: usize = 20_000;

/// Workloads of the core that are taken; those that lose more by changing are left as they are.
const LARGEST_CORE: usize = 500;

/// The best plan found, with a bound that no plan exceeds.
pub(super) struct Found {
    /// Absent when nothing beats the plan that was known.
    pub(super) plan: Option<Vec<u32>>,
    pub(super) bound: i128,
}

/// A workload of the core with the options that it may take instead of its best.
struct Member {
    workload: u32,
    /// Loss, then option; the least loss first.
    others: Vec<(i64, u32)>,
}

#[derive(Clone)]
struct State {
    loss: i64,
    free: Box<[i64]>,
    /// The last change on the way here, as an index into the trail.
    last: u32,
}

/// A change and the one before it.
struct Step {
    before: u32,
    workload: u32,
    option: u32,
}

const START: u32 = u32::MAX;

struct Search<'a> {
    menu: &'a Menu,
    dual: &'a Dual,
    trail: Vec<Step>,
    /// Losses of this and more are of no use.
    gap: i64,
    best: Option<u32>,
    /// The least loss that was dropped without proof.
    dropped: i64,
}

/// Looks for a plan that is worth more than `known`.
pub(super) fn improve(menu: &Menu, dual: &Dual, known: i128) -> Found {
    let gap = i64::try_from(dual.bound - known).unwrap_or(i64::MAX);
    let mut search = Search {
        menu,
        dual,
        trail: Vec::new(),
        gap,
        best: None,
        dropped: i64::MAX,
    };
    if gap > 0 {
        search.run();
    }
    let plan = search.best.map(|last| search.plan(last));
    let least_loss = search.gap.min(search.dropped).max(0);
    Found {
        plan,
        bound: dual.bound - i128::from(least_loss),
    }
}

impl Search<'_> {
    fn run(&mut self) {
        let mut core = self.core();
        if let Some(left) = core.get(LARGEST_CORE) {
            self.dropped = left.others[0].0;
            core.truncate(LARGEST_CORE);
        }
        let reach = Reach::of(self.menu, self.dual, &core);
        let states = (STATES_PER_WORKLOAD * core.len()).clamp(FEWEST_STATES, MOST_STATES);
        let width = (states / core.len().max(1)).clamp(NARROWEST, WIDEST);
        let mut layer = vec![State {
            loss: 0,
            free: self.menu.free(&self.dual.plan).into(),
            last: START,
        }];
        self.finish(&layer[0]);
        for (turn, member) in core.iter().enumerate() {
            let mut next = Vec::with_capacity(layer.len() * 2);
            for state in layer {
                self.branch(&state, member, &mut next);
                next.push(state);
            }
            layer = self.prune(next, &reach, turn + 1, width);
        }
    }

    /// Workloads that have another option within the gap, those that lose least first.
    fn core(&self) -> Vec<Member> {
        let mut core: Vec<Member> = Vec::new();
        for (workload, best) in self.dual.plan.iter().enumerate() {
            let choices = self.menu.of(workload);
            let worth = reduced(&choices[*best as usize], &self.dual.prices);
            let loss = |choice| worth.saturating_sub(reduced(choice, &self.dual.prices));
            let mut others: Vec<(i64, u32)> = choices
                .iter()
                .enumerate()
                .map(|(option, choice)| (loss(choice), option as u32))
                .filter(|(loss, option)| *loss < self.gap && option != best)
                .collect();
            others.sort_unstable();
            if !others.is_empty() {
                core.push(Member {
                    workload: workload as u32,
                    others,
                });
            }
        }
        core.sort_by_key(|member| member.others[0].0);
        core
    }

    /// Every change of `member` that can still close the gap.
    fn branch(&mut self, state: &State, member: &Member, next: &mut Vec<State>) {
        let choices = self.menu.of(member.workload as usize);
        let best = &choices[self.dual.plan[member.workload as usize] as usize];
        for (loss, option) in &member.others {
            let loss = state.loss + loss;
            if loss >= self.gap {
                break;
            }
            let mut free = state.free.clone();
            if best.tier != UNLIMITED {
                free[best.tier as usize] += best.units;
            }
            let choice = &choices[*option as usize];
            if choice.tier != UNLIMITED {
                free[choice.tier as usize] -= choice.units;
            }
            let last = self.trail.len() as u32;
            self.trail.push(Step {
                before: state.last,
                workload: member.workload,
                option: *option,
            });
            let state = State { loss, free, last };
            self.finish(&state);
            next.push(state);
        }
    }

    /// Takes the plan of a state, with all others at their best, if it fits and beats what is known.
    fn finish(&mut self, state: &State) {
        if state.free.iter().any(|free| *free < 0) {
            return;
        }
        let unused = state.free.iter().zip(&self.dual.prices);
        let loss = unused.fold(state.loss, |loss, (free, price)| {
            loss.saturating_add(free.saturating_mul(*price))
        });
        if loss < self.gap {
            self.gap = loss;
            self.best = Some(state.last);
        }
    }

    /// Merges and drops states, so that at most `width` go on.
    fn prune(
        &mut self,
        mut states: Vec<State>,
        reach: &Reach,
        turn: usize,
        width: usize,
    ) -> Vec<State> {
        states.sort_by(|a, b| a.free.cmp(&b.free).then(a.loss.cmp(&b.loss)));
        states.dedup_by(|later, earlier| later.free == earlier.free);
        let prices = &self.dual.prices;
        let mut rated: Vec<(i64, State)> = states
            .into_iter()
            .filter_map(|state| Some((reach.least_loss(&state, prices, turn)?, state)))
            .filter(|(least, _)| *least < self.gap)
            .collect();
        rated.sort_by_key(|(least, _)| *least);
        if let Some((least, _)) = rated.get(width) {
            self.dropped = self.dropped.min(*least);
            rated.truncate(width);
        }
        rated.into_iter().map(|(_, state)| state).collect()
    }

    fn plan(&self, last: u32) -> Vec<u32> {
        let mut plan = self.dual.plan.clone();
        let mut last = last;
        while last != START {
            let step = &self.trail[last as usize];
            plan[step.workload as usize] = step.option;
            last = step.before;
        }
        plan
    }
}

/// What the members from some turn on can still do to each tier.
struct Reach {
    turns: Vec<Vec<TierReach>>,
}

#[derive(Clone, Copy)]
struct TierReach {
    /// Most units that can be given back, and taken.
    gives: i64,
    takes: i64,
    /// Least loss for each unit given back, and taken.
    give_rate: f64,
    take_rate: f64,
}

impl Reach {
    fn of(menu: &Menu, dual: &Dual, core: &[Member]) -> Self {
        let nothing = TierReach {
            gives: 0,
            takes: 0,
            give_rate: f64::INFINITY,
            take_rate: f64::INFINITY,
        };
        let mut turns = vec![vec![nothing; menu.capacity.len()]];
        for member in core.iter().rev() {
            let mut reach = turns[turns.len() - 1].clone();
            let choices = menu.of(member.workload as usize);
            let best = &choices[dual.plan[member.workload as usize] as usize];
            for (tier, reach) in reach.iter_mut().enumerate() {
                reach.add(member, |option| {
                    let on = |choice: &Choice| {
                        if choice.tier as usize == tier {
                            choice.units
                        } else {
                            0
                        }
                    };
                    on(&choices[option as usize]) - on(best)
                });
            }
            turns.push(reach);
        }
        turns.reverse();
        Self { turns }
    }

    /// A loss that no completion of the state can undercut; `None` when none fits.
    fn least_loss(&self, state: &State, prices: &[i64], turn: usize) -> Option<i64> {
        let mut more = 0.0_f64;
        for ((free, price), reach) in state.free.iter().zip(prices).zip(&self.turns[turn]) {
            if *free < 0 {
                if free + reach.gives < 0 {
                    return None;
                }
                more = more.max(-free as f64 * reach.give_rate);
            } else {
                let filled = (*free).min(reach.takes) as f64;
                let idle = (*free - (*free).min(reach.takes)) as f64;
                let price = *price as f64;
                more = more.max(filled * price.min(reach.take_rate) + idle * price);
            }
        }
        // Rounded down by more than the arithmetic can err, so that the bound stays one.
        let more = (more * (1.0 - 1e-9)).floor() as i64;
        Some(state.loss.saturating_add(more))
    }
}

impl TierReach {
    fn add(&mut self, member: &Member, extra: impl Fn(u32) -> i64) {
        let (mut gives, mut takes) = (0, 0);
        for (loss, option) in &member.others {
            let units = extra(*option);
            if units < 0 {
                gives = gives.max(-units);
                self.give_rate = self.give_rate.min(*loss as f64 / -units as f64);
            } else if units > 0 {
                takes = takes.max(units);
                self.take_rate = self.take_rate.min(*loss as f64 / units as f64);
            }
        }
        self.gives += gives;
        self.takes += takes;
    }
}
