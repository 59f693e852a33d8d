//! Properties of the assignment over random problems. The README beside the solver lists them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::prelude::*;
use weir_placement::fleet::assignment::{
    Competitor, Component, Offer, Placement, Problem, Solution, Standing, resolve, solve,
};
use weir_placement::{MicroUsd, WorkloadId};

use crate::exact::{optimum, worth};
use crate::generators::*;

/// Too many plans to enumerate, few enough to prove the best.
const MIDDLING: Size = Size {
    workloads: 24,
    tiers: 4,
    replicas: 4,
    units: 20,
};

fn value_of(problem: &Problem, placements: &BTreeMap<WorkloadId, Placement>) -> i128 {
    let competitors = problem.workloads.iter();
    competitors
        .map(|(id, competitor)| worth(competitor, placements.get(id)))
        .sum()
}

fn holding(problem: &Problem, solution: &Solution) -> Problem {
    let mut problem = problem.clone();
    for (id, competitor) in &mut problem.workloads {
        competitor.held = solution.placements.get(id).cloned();
    }
    problem
}

fn saved(problem: &Problem, solution: &Solution, id: &WorkloadId) -> u64 {
    solution.placements.get(id).map_or(0, |placement| {
        let savings = &problem.workloads[id].offers[&placement.tier].savings;
        let held = &savings[..placement.replicas as usize];
        held.iter().map(|saving| saving.get()).sum()
    })
}

/// A part of which a value and a bound are known.
fn part(value: i128, bound: i128) -> Component {
    Component {
        workloads: Vec::new(),
        tiers: BTreeMap::new(),
        value,
        bound,
        at_rest: Standing { value, bound },
    }
}

/// Cloud prices of one workload, `percent` higher: all that its replicas save grows alike.
fn dearer(problem: &Problem, id: &WorkloadId, percent: u64) -> Problem {
    let mut problem = problem.clone();
    if let Some(competitor) = problem.workloads.get_mut(id) {
        for offer in competitor.offers.values_mut() {
            for saving in &mut offer.savings {
                *saving = money(saving.get() * (100 + percent));
            }
            offer.enter = money(offer.enter.get() * 100);
        }
    }
    problem
}

/// All amounts a hundred times as high, so that a percentage of a small one is a whole number.
fn in_hundredths(problem: &Problem) -> Problem {
    let mut problem = problem.clone();
    for competitor in problem.workloads.values_mut() {
        competitor.leave = money(competitor.leave.get() * 100);
        for offer in competitor.offers.values_mut() {
            offer.enter = money(offer.enter.get() * 100);
            for saving in &mut offer.savings {
                *saving = money(saving.get() * 100);
            }
        }
    }
    problem
}

fn check_feasible(problem: &Problem, solution: &Solution) -> Result<(), TestCaseError> {
    let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, placement) in &solution.placements {
        let offer = problem.workloads[id].offers.get(&placement.tier);
        prop_assert!(offer.is_some_and(|offer| offer.savings.len() >= placement.replicas as usize));
        prop_assert!(placement.replicas > 0);
        let units = offer.map_or(0, |offer| u64::from(offer.units.get()));
        *taken.entry(&placement.tier).or_default() += units * u64::from(placement.replicas);
    }
    for (tier, units) in taken {
        let capacity = problem.capacity.get(tier).copied().unwrap_or(0);
        prop_assert!(units <= u64::from(capacity), "{} of {}", units, capacity);
    }
    Ok(())
}

fn check_sound(problem: &Problem) -> Result<(), TestCaseError> {
    let solution = solve(problem);
    check_feasible(problem, &solution)?;
    prop_assert_eq!(solution.value(), value_of(problem, &solution.placements));
    prop_assert!(solution.value() <= solution.bound());
    prop_assert_eq!(solution.evaluated, problem.workloads.len());
    let members: Vec<_> = solution
        .components
        .iter()
        .flat_map(|part| &part.workloads)
        .collect();
    prop_assert_eq!(members.len(), problem.workloads.len());
    Ok(())
}

fn check_rests(problem: &Problem) -> Result<(), TestCaseError> {
    let once = solve(problem);
    let again = solve(&holding(problem, &once));
    prop_assert_eq!(&again.placements, &once.placements);
    Ok(())
}

fn check_monotone(problem: &Problem, which: usize, percent: u64) -> Result<(), TestCaseError> {
    let Some(id) = problem.workloads.keys().nth(which) else {
        return Ok(());
    };
    let (before, after) = (in_hundredths(problem), dearer(problem, id, percent));
    let mut after = after;
    for (other, competitor) in &before.workloads {
        if other != id {
            after.workloads.insert(other.clone(), competitor.clone());
        } else if let Some(own) = after.workloads.get_mut(other) {
            own.leave = competitor.leave;
        }
    }
    let (was, is) = (solve(&before), solve(&after));
    prop_assert!(
        saved(&before, &is, id) >= saved(&before, &was, id),
        "{:?} became {:?}",
        was.placements.get(id),
        is.placements.get(id)
    );
    Ok(())
}

fn check_incremental(problem: &Problem, which: usize, percent: u64) -> Result<(), TestCaseError> {
    let first = solve(problem);
    let rested = holding(problem, &first);
    let Some(id) = rested.workloads.keys().nth(which).cloned() else {
        return Ok(());
    };
    let mut changed = rested.clone();
    if let Some(competitor) = changed.workloads.get_mut(&id) {
        for offer in competitor.offers.values_mut() {
            for saving in &mut offer.savings {
                *saving = money(saving.get() * (100 + percent) / 100);
            }
        }
    }
    let (quick, whole) = (
        resolve(&changed, &first, std::slice::from_ref(&id)),
        solve(&changed),
    );
    prop_assert_eq!(&quick.placements, &whole.placements);
    prop_assert_eq!(&quick.components, &whole.components);
    let part = whole
        .components
        .iter()
        .find(|part| part.workloads.contains(&id));
    prop_assert_eq!(Some(quick.evaluated), part.map(|part| part.workloads.len()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_plan_fits_and_its_figures_are_right(problem in any_problem(SMALL)) {
        check_sound(&problem)?;
    }

    #[test]
    fn no_plan_of_a_small_problem_is_better_and_the_bound_says_so(problem in any_problem(SMALL)) {
        let solution = solve(&problem);
        let best = optimum(&problem);
        prop_assert_eq!((solution.value(), solution.bound()), (best, best));
        prop_assert_eq!(solution.gap_parts_per_million(), 0);
        prop_assert!(solution.components.iter().all(|part| part.gap_parts_per_million() == 0));
    }

    #[test]
    fn solving_from_the_solution_changes_nothing(problem in any_problem(SMALL)) {
        check_rests(&problem)?;
    }

    #[test]
    fn a_dearer_cloud_takes_nothing_away_from_its_workload(
        problem in any_problem(SMALL), which in 0..8_usize, percent in 1..300_u64
    ) {
        check_monotone(&problem, which, percent)?;
    }

    #[test]
    fn a_change_evaluates_its_component_and_gives_the_plan_of_a_full_solve(
        problem in any_problem(SMALL), which in 0..8_usize, percent in 0..300_u64
    ) {
        check_incremental(&problem, which, percent)?;
    }

    #[test]
    fn other_names_give_a_plan_of_the_same_value(problem in any_problem(SMALL), turn in 1..8_usize) {
        let count = problem.workloads.len().max(1);
        let renamed = |number: usize| id((count - 1 - number + turn) % count);
        let others: Problem = Problem {
            capacity: problem.capacity.clone(),
            workloads: problem.workloads.values().enumerate().map(|(number, it)| (renamed(number), it.clone())).collect(),
        };
        prop_assert_eq!(others.workloads.len(), problem.workloads.len());
        prop_assert_eq!(solve(&others).value(), solve(&problem).value());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_plan_of_a_larger_problem_fits_and_its_figures_are_right(problem in any_problem(MIDDLING)) {
        check_sound(&problem)?;
    }

    #[test]
    fn a_larger_problem_is_solved_to_within_one_percent(problem in any_problem(MIDDLING)) {
        prop_assert!(solve(&problem).gap_parts_per_million() <= 10_000);
    }

    #[test]
    fn solving_a_larger_problem_from_its_solution_changes_nothing(problem in any_problem(MIDDLING)) {
        check_rests(&problem)?;
    }

    #[test]
    fn a_dearer_cloud_takes_nothing_away_in_a_larger_problem(
        problem in any_problem(MIDDLING), which in 0..24_usize, percent in 1..300_u64
    ) {
        check_monotone(&problem, which, percent)?;
    }

    #[test]
    fn a_change_in_a_larger_problem_gives_the_plan_of_a_full_solve(
        problem in any_problem(MIDDLING), which in 0..24_usize, percent in 0..300_u64
    ) {
        check_incremental(&problem, which, percent)?;
    }
}

#[test]
fn nothing_to_decide_is_a_plan_without_a_gap() {
    let solution = solve(&Problem::default());
    assert_eq!((solution.value(), solution.gap_parts_per_million()), (0, 0));
}

#[test]
fn amounts_beyond_reason_neither_overflow_nor_break_the_bound() {
    let mut problem = Problem {
        capacity: BTreeMap::from([(tier(0), u32::MAX)]),
        ..Problem::default()
    };
    for number in 0..3 {
        let offer = Offer {
            units: NonZeroU32::MAX,
            savings: vec![MicroUsd::MAX; 3],
            enter: MicroUsd::MAX,
        };
        let competitor = Competitor {
            offers: BTreeMap::from([(tier(0), offer)]),
            held: None,
            leave: MicroUsd::MAX,
        };
        problem.workloads.insert(id(number), competitor);
    }
    let solution = solve(&problem);
    assert!(solution.value() <= solution.bound());
}

#[test]
fn one_price_among_ten_thousand_workloads_evaluates_those_that_share_its_tier() {
    let offer = |saving: usize| Offer {
        units: NonZeroU32::MIN,
        savings: vec![money(saving as u64), money(saving as u64 / 2)],
        enter: money(5),
    };
    let mut problem = Problem::default();
    for number in 0..10_000 {
        let own_tier = tier(number / 100);
        problem.capacity.insert(own_tier.clone(), 10);
        let competitor = Competitor {
            offers: BTreeMap::from([(own_tier, offer(1_000 + number * 7_919 % 10_007))]),
            held: None,
            leave: money(3),
        };
        problem.workloads.insert(id(number), competitor);
    }
    let first = solve(&problem);
    let mut changed = holding(&problem, &first);
    let dearer = id(4_242);
    if let Some(competitor) = changed.workloads.get_mut(&dearer) {
        competitor.offers = BTreeMap::from([(tier(42), offer(50_000))]);
    }
    let quick = resolve(&changed, &first, std::slice::from_ref(&dearer));
    assert_eq!(quick.evaluated, 100);
    assert_eq!(quick.placements, solve(&changed).placements);
    assert_eq!(
        quick.placements.get(&dearer).map(|placed| placed.replicas),
        Some(2)
    );
}

#[test]
fn each_part_names_its_own_gap() {
    let parts = vec![part(100, 100), part(299, 300), part(0, 0)];
    let gaps: Vec<_> = parts.iter().map(Component::gap_parts_per_million).collect();
    assert_eq!(gaps, [0, 3_334, 0]);
    let whole = Solution {
        placements: BTreeMap::new(),
        components: parts,
        evaluated: 0,
    };
    assert_eq!(whole.gap_parts_per_million(), 2_500);
}
