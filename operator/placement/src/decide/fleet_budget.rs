//! The move budget of a policy: how many of its workloads cost may move in an hour, the largest savings first.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Pass;
use super::turn::{Prepared, Turn};
use crate::explain;
use crate::governance::later;
use crate::plan::{Outcome, Reason};
use crate::policy::MoveBudget;
use crate::units::Seconds;

const HOUR: u128 = 3_600;

/// Holds the moves for cost that are beyond their policy's budget. Moves for other reasons count and go on.
pub(super) fn hold(pass: Pass<'_>, turns: &mut [Turn<'_>]) {
    let mut wishes: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
    for (at, turn) in turns.iter().enumerate() {
        if begins(turn) && turn.prepared.policy.move_budget != MoveBudget::default() {
            let policy = turn.prepared.workload.policy.clone();
            wishes.entry(policy).or_default().push(at);
        }
    }
    for (policy, begun) in wishes {
        let spent = Spent::of(pass, policy.as_deref());
        let budget = turns[begun[0]].prepared.policy.move_budget;
        let Some(most) = budget.most(spent.workloads) else {
            continue;
        };
        let (mut by_cost, others): (Vec<usize>, Vec<usize>) = begun
            .into_iter()
            .partition(|at| is_held(turns[*at].choice.reason));
        by_cost.sort_by_key(|at| (Reverse(saving(&turns[*at])), turns[*at].prepared.id));
        let left = most.saturating_sub(spent.moves + others.len());
        for at in by_cost.into_iter().skip(left) {
            hold_one(&mut turns[at], most, spent.frees);
        }
    }
}

/// Whether the move of a workload may have to wait for others, so that it is looked at whenever something changes.
pub(super) fn may_wait(turn: &Prepared<'_>) -> bool {
    let wished = turn.previous.is_some_and(|previous| {
        previous.outcome == Outcome::Move || previous.reason == Reason::FleetMoveBudgetSpent
    });
    wished && turn.policy.move_budget != MoveBudget::default()
}

/// Whether the budget holds moves for this reason: workloads would follow each other in haste for these alone.
fn is_held(reason: Reason) -> bool {
    matches!(reason, Reason::LowerCost | Reason::UtilizationAboveBand)
}

/// Whether the choice begins a move.
fn begins(turn: &Turn<'_>) -> bool {
    let current = turn.prepared.workload.current.as_ref();
    let at_rest = current.is_some_and(|current| current.pending.is_none());
    turn.choice.outcome == Outcome::Move && at_rest
}

/// Exact saving of a move.
fn saving(turn: &Turn<'_>) -> u128 {
    let cost = |name: Option<&str>| {
        let named = turn.evaluated.iter().find(|each| Some(each.name()) == name);
        named.and_then(|each| each.exact).map_or(0, |exact| exact.0)
    };
    let current = turn.prepared.workload.current.as_ref();
    let to = turn.choice.target.map(|at| turn.evaluated[at].name());
    cost(current.map(|current| current.target.as_str())).saturating_sub(cost(to))
}

/// What of the last hour counts against a policy's budget.
struct Spent {
    workloads: usize,
    moves: usize,
    /// When the first of them no longer counts.
    frees: Option<Timestamp>,
}

impl Spent {
    fn of(pass: Pass<'_>, policy: Option<&str>) -> Self {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let here = pass.snapshot.workloads.values();
        let here: Vec<_> = here.filter(|it| it.policy.as_deref() == policy).collect();
        let elsewhere = pass.snapshot.elsewhere.iter();
        let elsewhere: Vec<_> = elsewhere
            .filter(|it| it.policy.as_deref() == policy)
            .collect();
        let ends = |at: Timestamp| later(at, Seconds::clamped(HOUR));
        let times = here.iter().flat_map(|it| it.moves.iter().copied());
        let others = elsewhere.iter().flat_map(|it| it.moves.iter().copied());
        let counted: Vec<Timestamp> = times
            .chain(others)
            .map(ends)
            .filter(|end| *end > pass.now)
            .collect();
        let moving = here.iter().filter(|it| {
            it.current
                .as_ref()
                .is_some_and(|current| current.pending.is_some())
        });
        let moving_elsewhere: usize = elsewhere.iter().map(|it| size(it.moving)).sum();
        let workloads_elsewhere: usize = elsewhere.iter().map(|it| size(it.workloads)).sum();
        Self {
            workloads: here.len() + workloads_elsewhere,
            moves: counted.len() + moving.count() + moving_elsewhere,
            frees: counted.iter().min().copied(),
        }
    }
}

fn hold_one(turn: &mut Turn<'_>, most: usize, frees: Option<Timestamp>) {
    let Some(current) = &turn.prepared.workload.current else {
        return;
    };
    let stays = turn
        .evaluated
        .iter()
        .position(|each| each.name() == current.target);
    let to = turn
        .choice
        .target
        .map(|at| turn.evaluated[at].name().to_owned());
    let wish = explain::held_by_fleet(&to.unwrap_or_default(), most, frees);
    turn.choice.message = format!("{wish}: {}", turn.choice.message);
    turn.choice.outcome = Outcome::Hold;
    turn.choice.reason = Reason::FleetMoveBudgetSpent;
    turn.choice.target = stays;
    turn.choice.hold_until = frees;
    turn.choice.next_evaluation = frees;
}
