//! Wishes to move from a target that no gate rejects: because it cannot serve, or because another costs less.

use jiff::Timestamp;

use super::{Choice, View, best, waiting};
use crate::explain;
use crate::governance::{Governed, Urgency, govern};
use crate::plan::{Confirmation, Doubt, Outcome, Reason};
use crate::snapshot::CurrentPlacement;

/// The current target may serve but cannot. Nodes come back, so another target is confirmed first, though not dwelt for.
pub(super) fn unavailable(view: View<'_>, current: &CurrentPlacement, at: usize) -> Choice {
    let own = explain::first_failure(&view.evaluated[at]).unwrap_or_default();
    let Some((to, _, message)) =
        best(view, Some(at)).filter(|(to, ..)| view.evaluated[*to].feasible())
    else {
        let failures = explain::others_failed(view.evaluated, at, None);
        let (reason, message) = match waiting(&view.evaluated[at]) {
            Some(why) => (Reason::WaitingForGpu, format!("{why}{failures}")),
            None => (
                Reason::OnlyFeasibleTarget,
                format!("no other target can serve either; {own}{failures}"),
            ),
        };
        return Choice::new(Outcome::Keep, reason, Some(at), message);
    };
    let why = format!("{own}; {message}");
    governed(
        view,
        current,
        (at, to),
        (Urgency::Availability, Reason::CurrentTargetUnavailable),
        why,
    )
}

/// The current target can serve: only a saving moves it, and only on data that can be relied on.
pub(super) fn by_cost(view: View<'_>, current: &CurrentPlacement, at: usize) -> Choice {
    let own = &view.evaluated[at];
    if let Some(choice) = by_utilization(view, current, at) {
        return choice;
    }
    let others = view.feasible_others(Some(at));
    let is_busy = |to: &usize| view.busy_tier(*to).is_some();
    let (busy, others): (Vec<usize>, Vec<usize>) = others.into_iter().partition(is_busy);
    let keep = |reason, message| Choice::new(Outcome::Keep, reason, Some(at), message);
    let worth = |to: &usize| own.is_worth_leaving_for(&view.evaluated[*to], view.policy);
    let wished_and_busy = busy.iter().copied().find(worth);
    let Some(&cheapest) = others.first() else {
        if let Some(to) = wished_and_busy {
            return hold_for_band(view, at, to);
        }
        let failures = explain::others_failed(view.evaluated, at, None);
        let message = format!(
            "{} is the only target that passes every gate{failures}",
            own.name()
        );
        return keep(Reason::OnlyFeasibleTarget, message);
    };
    if let Some(doubt) = own.unknown_cost() {
        return hold_for(view, at, at, doubt);
    }
    let sure = |to: &usize| view.evaluated[*to].candidate.doubts.is_empty();
    let Some(wished) = others.iter().copied().find(worth) else {
        if let Some(to) = wished_and_busy {
            return hold_for_band(view, at, to);
        }
        if let Some((to, doubt)) = others
            .iter()
            .find_map(|to| Some((*to, view.evaluated[*to].unknown_cost()?)))
        {
            return hold_for(view, at, to, doubt);
        }
        let rival = &view.evaluated[cheapest];
        if let Some(message) = explain::not_paid_back(own, rival, view.policy, view.demand) {
            return keep(Reason::SwitchNotPaidBack, message);
        }
        if rival.exact < own.exact {
            return keep(
                Reason::SavingsTooSmall,
                explain::too_little(own, rival, view.policy, &view.demand.figures),
            );
        }
        let reason = if rival.exact == own.exact {
            Reason::TargetOrder
        } else {
            Reason::LowerCost
        };
        return keep(reason, view.compared(at, cheapest));
    };
    if let Some(doubt) = own.candidate.doubts.first() {
        return hold_for(view, at, at, *doubt);
    }
    match others.iter().copied().filter(worth).find(sure) {
        Some(to) => {
            let why = view.compared(to, at);
            governed(
                view,
                current,
                (at, to),
                (Urgency::Cost, Reason::LowerCost),
                why,
            )
        }
        None => hold_for(view, at, wished, view.evaluated[wished].candidate.doubts[0]),
    }
}

/// The current target's tier is too full: the workload goes to the cheapest target whose cost can be relied on and whose tier
/// is not. `None` while there is none, or the tier is not.
fn by_utilization(view: View<'_>, current: &CurrentPlacement, at: usize) -> Option<Choice> {
    let tier = view.busy_tier(at)?;
    let band = view.policy.utilization_band?;
    let others = view.feasible_others(Some(at));
    let fits = |to: &&usize| {
        let rival = &view.evaluated[**to];
        let sure = rival.exact.is_some() && rival.candidate.doubts.is_empty();
        sure && view.busy_tier(**to).is_none() && !rival.is_substitute
    };
    let to = *others.iter().find(fits)?;
    let why = explain::above_band(tier, band) + "; " + &view.compared(to, at);
    let wish = (Urgency::Cost, Reason::UtilizationAboveBand);
    Some(governed(view, current, (at, to), wish, why))
}

/// A target would be worth the move, and its tier is too full.
fn hold_for_band(view: View<'_>, at: usize, to: usize) -> Choice {
    let name = view.evaluated[to].name();
    let tier = view.busy_tier(to).unwrap_or_default();
    let band = view.policy.utilization_band;
    let why = band.map_or_else(String::new, |band| explain::not_below_band(tier, band));
    Choice::new(
        Outcome::Hold,
        Reason::UtilizationAboveBand,
        Some(at),
        format!("wishes for {name}, but {why}"),
    )
}

fn hold_for(view: View<'_>, at: usize, of: usize, doubt: Doubt) -> Choice {
    let why = explain::doubted(&view.evaluated[of], doubt);
    let name = view.evaluated[at].name();
    Choice::new(
        Outcome::Hold,
        Reason::from(doubt),
        Some(at),
        format!("stays on {name}: {why}"),
    )
}

/// A wish to move under governance: `way` is from where to where.
fn governed(
    view: View<'_>,
    current: &CurrentPlacement,
    way: (usize, usize),
    wish: (Urgency, Reason),
    why: String,
) -> Choice {
    let (at, to) = way;
    let (urgency, reason) = wish;
    let name = view.evaluated[to].name();
    let confirmed = view.confirmed.map(|confirmed| Confirmation {
        target: name.to_owned(),
        ..confirmed.clone()
    });
    let before = view
        .previous
        .and_then(|previous| previous.confirmation.as_ref());
    let seen = confirmed.as_ref().or(before);
    let Governed {
        held_by,
        confirmation,
        hold_until,
        next_evaluation,
    } = govern(
        view.workload,
        current,
        view.policy,
        (name, urgency),
        seen,
        view.now,
    );
    let mut choice = match held_by {
        None => Choice::new(Outcome::Move, reason, Some(to), why),
        Some(held_by) => {
            let hold = hold_message(view, held_by, &confirmation, hold_until);
            Choice::new(
                Outcome::Hold,
                held_by,
                Some(at),
                format!("wishes for {name}, {hold}: {why}"),
            )
        }
    };
    choice.confirmation = Some(confirmation);
    choice.hold_until = hold_until;
    choice.next_evaluation = next_evaluation;
    choice
}

fn hold_message(
    view: View<'_>,
    held_by: Reason,
    confirmation: &Confirmation,
    until: Option<Timestamp>,
) -> String {
    let until = until.map_or_else(String::new, |until| format!(" until {until}"));
    match held_by {
        Reason::MinDwell => format!("held by the dwell of {}{until}", view.policy.min_dwell),
        Reason::OutsideMaintenanceWindow => format!("held outside the maintenance window{until}"),
        Reason::MoveBudgetSpent => {
            let most = view.workload.max_moves_per_week.unwrap_or_default();
            format!("held by the limit of {most} moves a week (operations.maxMovesPerWeek){until}")
        }
        _ => explain::seen(confirmation.count, view.policy.confirmation.count.max(1)),
    }
}
