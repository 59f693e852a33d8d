//! What holds a wish to move: dwell, the week's move budget, the maintenance window, and confirmation over consecutive
//! evaluations. The budget of a whole policy is in `fleet_budget`.

use jiff::{SignedDuration, Timestamp};

use crate::plan::{Confirmation, Reason};
use crate::policy::PlacementPolicy;
use crate::snapshot::{CurrentPlacement, WorkloadInput};
use crate::units::Seconds;
use crate::window::WindowState;

const WEEK_SECONDS: u128 = 7 * 86_400;

/// How a wish to move fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Governed {
    /// What holds it; `None` lets it go.
    pub(crate) held_by: Option<Reason>,
    pub(crate) confirmation: Confirmation,
    /// Until when it is held, where that is known.
    pub(crate) hold_until: Option<Timestamp>,
    /// When time alone may let it go on.
    pub(crate) next_evaluation: Option<Timestamp>,
}

/// Which rules hold a wish. Confirmation always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Cost alone speaks for it: dwell, the week's budget and the maintenance window hold it too.
    Cost,
    /// The current target cannot serve.
    Availability,
}

/// Judges the wish for `target` that this evaluation has.
pub(crate) fn govern(
    workload: &WorkloadInput,
    current: &CurrentPlacement,
    policy: &PlacementPolicy,
    wish: (&str, Urgency),
    seen: Option<&Confirmation>,
    now: Timestamp,
) -> Governed {
    let (target, urgency) = wish;
    let settled = settled_since(workload, current);
    let confirmation = confirm(policy, target, seen, settled, now);
    let needed = policy.confirmation.count.max(1);
    let confirmed = confirmation.count >= needed;
    let next_confirmation =
        (!confirmed).then(|| later(confirmation.last, confirmation_gap(policy)));
    let dwell_ends = later(settled, policy.min_dwell);
    let dwells = urgency == Urgency::Cost && now < dwell_ends;
    let budget = match urgency {
        Urgency::Cost => budget_frees(workload, now),
        Urgency::Availability => None,
    };
    let (held_by, hold_until) = if dwells {
        (Some(Reason::MinDwell), Some(dwell_ends))
    } else if let Some(frees) = budget {
        (Some(Reason::MoveBudgetSpent), frees)
    } else if let Some(opens) = closed_until(workload, urgency, now) {
        (Some(Reason::OutsideMaintenanceWindow), opens)
    } else if !confirmed {
        (Some(Reason::AwaitingConfirmation), None)
    } else {
        (None, None)
    };
    Governed {
        next_evaluation: next_confirmation.or(hold_until),
        held_by,
        confirmation,
        hold_until,
    }
}

/// `Some` when cost may not move the workload now: with the time at which its window opens, if that is known.
fn closed_until(
    workload: &WorkloadInput,
    urgency: Urgency,
    now: Timestamp,
) -> Option<Option<Timestamp>> {
    let window = workload.maintenance_window.as_ref()?;
    match window.state(now) {
        WindowState::Closed { opens } if urgency == Urgency::Cost => Some(opens),
        _ => None,
    }
}

/// When the workload came to rest: its last move, an attempt that was rolled back among them.
fn settled_since(workload: &WorkloadInput, current: &CurrentPlacement) -> Timestamp {
    workload
        .moves
        .last()
        .map_or(current.since, |last| current.since.max(*last))
}

/// Evaluations closer together than the interval count once; two at one moment never count twice.
fn confirmation_gap(policy: &PlacementPolicy) -> Seconds {
    policy.confirmation.interval.max(Seconds::clamped(1))
}

/// The count goes on while the wish is the same, was first seen after the last move, and is seen far enough apart. It
/// stops at what is needed, so that a held wish rewrites nothing.
fn confirm(
    policy: &PlacementPolicy,
    target: &str,
    seen: Option<&Confirmation>,
    settled: Timestamp,
    now: Timestamp,
) -> Confirmation {
    let needed = policy.confirmation.count.max(1);
    let same =
        |seen: &&Confirmation| seen.target == target && seen.since >= settled && seen.last <= now;
    let Some(seen) = seen.filter(same) else {
        return Confirmation {
            target: target.to_owned(),
            count: 1,
            since: now,
            last: now,
        };
    };
    let mut confirmation = seen.clone();
    if confirmation.count < needed && now >= later(seen.last, confirmation_gap(policy)) {
        confirmation.count += 1;
        confirmation.last = now;
    }
    confirmation
}

/// `Some` when the week's moves are used up: with the time at which one is free again, if ever.
fn budget_frees(workload: &WorkloadInput, now: Timestamp) -> Option<Option<Timestamp>> {
    let most = usize::try_from(workload.max_moves_per_week?).unwrap_or(usize::MAX);
    let counts = |at: &&Timestamp| week_after(**at) > now;
    let spent = workload.moves.iter().filter(counts).count();
    if spent < most {
        return None;
    }
    let frees = workload.moves.iter().filter(counts).nth(spent - most);
    Some(frees.map(|at| week_after(*at)))
}

/// `at` and `after`, at most the end of time.
pub(crate) fn later(at: Timestamp, after: Seconds) -> Timestamp {
    let seconds = i64::try_from(after.get()).unwrap_or(i64::MAX);
    at.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

fn week_after(at: Timestamp) -> Timestamp {
    later(at, Seconds::clamped(WEEK_SECONDS))
}
