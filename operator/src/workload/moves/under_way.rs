//! A move under way: preparing the new target, shifting traffic to it, draining the old one, or going back.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::decision::HistoryEntry;
use weir_crds::placement::{Location, MoveInProgress, Phase, Placement};

use super::compose::{Draft, compose, whole_seconds, whole_seconds_up};
use super::going_back::{Blame, end_unprepared, go_back};
use super::steady::earliest;
use super::{
    ACK_TIMEOUT, Acknowledgement, Advance, DRAIN_SETTLE, MIN_REQUESTS, PREPARE_FAILURE_GRACE,
    PREPARE_TIMEOUT, Transition, Usable, View, after, location, steady,
};

/// The new target is being deployed or woken up. No traffic depends on it yet.
pub(super) fn preparing(view: View<'_>, previous: &Placement) -> Advance {
    let Some(ongoing) = &previous.r#move else {
        return without_a_move(view, previous);
    };
    if view.wish.target.as_ref() != Some(&ongoing.to) || !view.wish.allows(&ongoing.to) {
        return end_unprepared(view, previous, ongoing, None);
    }
    if view.rules.suspend {
        return stay(view, previous, None);
    }
    let seen = view.observed.target(&ongoing.to);
    if seen.usable == Usable::Yes {
        let old_serves = view.observed.target(&ongoing.from).usable != Usable::No;
        if !old_serves {
            return drain(view, previous, ongoing);
        }
        // A gateway that is not heard may have no endpoint of a local target yet.
        let heard = view.observed.acknowledged == Acknowledgement::All;
        if heard || location(&view, &ongoing.to) == Location::External {
            return shift(view, previous, ongoing, 0);
        }
    }
    let started = ongoing.started.0;
    let give_up = view.after(started, PREPARE_TIMEOUT.saturating_add(seen.patience));
    let lasting = seen.failure.filter(|failure| failure.lasting);
    let failure_counts = view.after(started, PREPARE_FAILURE_GRACE);
    match lasting {
        Some(failure) if view.now >= failure_counts => {
            let blame = Blame {
                reason: failure.reason,
                uncounted: true,
                watch: failure.without_node,
            };
            end_unprepared(view, previous, ongoing, Some(&blame))
        }
        _ if view.now >= give_up => {
            let blame = Blame {
                reason: "NotReadyInTime".to_owned(),
                uncounted: true,
                watch: false,
            };
            end_unprepared(view, previous, ongoing, Some(&blame))
        }
        Some(_) => stay(view, previous, Some(failure_counts)),
        None => stay(view, previous, Some(give_up)),
    }
}

/// A part of the traffic is on the new target.
pub(super) fn canary(view: View<'_>, previous: &Placement) -> Advance {
    let Some(ongoing) = &previous.r#move else {
        return without_a_move(view, previous);
    };
    let may_return = view.wish.allows(&ongoing.from);
    if view.wish.target.as_ref() != Some(&ongoing.to) && may_return {
        return go_back(view, previous, ongoing, None);
    }
    if let Some(blame) = regression(view, &ongoing.to).filter(|_| may_return) {
        return go_back(view, previous, ongoing, Some(&blame));
    }
    if view.rules.suspend {
        return stay(view, previous, None);
    }
    if view.observed.target(&ongoing.from).usable == Usable::No {
        return drain(view, previous, ongoing);
    }
    if view.observed.acknowledged != Acknowledgement::All {
        return stay(
            view,
            previous,
            Some(after(previous.step_since.0, ACK_TIMEOUT)),
        );
    }
    let Some(acknowledged) = &ongoing.acknowledged else {
        return acknowledge(view, previous);
    };
    let step = usize::try_from(ongoing.canary_step.unwrap_or(0)).unwrap_or(0);
    let pause = view
        .rules
        .canary
        .get(step)
        .map_or(jiff::SignedDuration::ZERO, |(_, pause)| *pause);
    let due = view.after(acknowledged.0, pause);
    if view.now < due {
        return stay(view, previous, Some(due));
    }
    shift(view, previous, ongoing, step + 1)
}

/// All of the traffic is on the new target; requests on the old one end.
pub(super) fn draining(view: View<'_>, previous: &Placement) -> Advance {
    let Some(ongoing) = &previous.r#move else {
        return without_a_move(view, previous);
    };
    let may_return = view.wish.allows(&ongoing.from)
        && view.observed.target(&ongoing.from).usable != Usable::No
        && view.wish.target.as_ref() == Some(&ongoing.to);
    if let Some(blame) = regression(view, &ongoing.to).filter(|_| may_return) {
        return go_back(view, previous, ongoing, Some(&blame));
    }
    match drained(view, previous, ongoing, &ongoing.from) {
        Drained::Not(advance) => *advance,
        Drained::Completely => complete(view, previous, ongoing, false),
        Drained::TimedOut => complete(view, previous, ongoing, true),
    }
}

/// Why the new target is worse than it may be.
fn regression(view: View<'_>, to: &str) -> Option<Blame> {
    let seen = view.observed.target(to);
    let blame = |reason: &str, uncounted| Blame {
        reason: reason.to_owned(),
        uncounted,
        watch: false,
    };
    if seen.usable == Usable::No {
        return Some(match seen.failure {
            Some(failure) => blame(&failure.reason, failure.lasting && !failure.of_engine),
            None => blame("NotReady", false),
        });
    }
    let share = u128::from(seen.errors) * 100_000_000;
    let allowed = u128::from(seen.requests) * u128::from(view.rules.max_error_micro_percent);
    (seen.requests >= MIN_REQUESTS && share > allowed).then(|| blame("ErrorsAboveLimit", false))
}

/// The canary step of that index, or all of the traffic after the last.
fn shift(view: View<'_>, previous: &Placement, ongoing: &MoveInProgress, step: usize) -> Advance {
    let Some((weight, _)) = view.rules.canary.get(step) else {
        return drain(view, previous, ongoing);
    };
    let mut draft = Draft::keep(previous);
    draft.phase = Phase::Canary;
    draft.new_step = true;
    draft.shares = vec![
        (ongoing.from.clone(), 100 - weight),
        (ongoing.to.clone(), *weight),
    ];
    draft.in_progress = Some(MoveInProgress {
        canary_step: i32::try_from(step).ok(),
        acknowledged: None,
        ..ongoing.clone()
    });
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![Transition::CanaryStep {
            to: ongoing.to.clone(),
            weight: *weight,
        }],
        ..Advance::default()
    }
}

fn drain(view: View<'_>, previous: &Placement, ongoing: &MoveInProgress) -> Advance {
    let mut draft = Draft::keep(previous);
    draft.phase = Phase::Draining;
    draft.new_step = true;
    draft.shares = vec![(ongoing.to.clone(), 100)];
    draft.in_progress = Some(MoveInProgress {
        canary_step: None,
        acknowledged: None,
        ..ongoing.clone()
    });
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![Transition::DrainStarted {
            from: ongoing.from.clone(),
        }],
        ..Advance::default()
    }
}

pub(super) enum Drained {
    Not(Box<Advance>),
    Completely,
    TimedOut,
}

/// Whether requests on a target without traffic have ended or had their time, counted from when every gateway had the step.
pub(super) fn drained(
    view: View<'_>,
    previous: &Placement,
    ongoing: &MoveInProgress,
    target: &str,
) -> Drained {
    if !view.observed.acknowledged_by_all() || previous.generation != view.generation {
        let reported = after(previous.step_since.0, ACK_TIMEOUT);
        return Drained::Not(Box::new(stay(view, previous, Some(reported))));
    }
    let Some(acknowledged) = &ongoing.acknowledged else {
        return Drained::Not(Box::new(acknowledge(view, previous)));
    };
    let settled = view.after(acknowledged.0, DRAIN_SETTLE);
    let time_is_up = view.after(acknowledged.0, view.rules.drain);
    let none_left = view.observed.target(target).in_flight == Some(0);
    if none_left && view.now >= settled {
        Drained::Completely
    } else if view.now >= time_is_up {
        Drained::TimedOut
    } else {
        let next = if view.now < settled {
            settled
        } else {
            time_is_up
        };
        Drained::Not(Box::new(stay(view, previous, Some(next.min(time_is_up)))))
    }
}

pub(super) fn drain_ended(from: &str, timed_out: bool) -> Transition {
    let from = from.to_owned();
    if timed_out {
        Transition::DrainTimedOut { from }
    } else {
        Transition::DrainCompleted { from }
    }
}

fn complete(
    view: View<'_>,
    previous: &Placement,
    ongoing: &MoveInProgress,
    timed_out: bool,
) -> Advance {
    let way = (ongoing.from.as_str(), ongoing.to.as_str());
    let (history, at) = recorded(view, previous, ongoing, way, (&ongoing.reason, false));
    let mut draft = Draft::keep(previous);
    draft.target = ongoing.to.clone();
    draft.tier = view.wish.tier(&ongoing.to).or_else(|| ongoing.tier.clone());
    draft.since = at;
    draft.phase = Phase::Steady;
    draft.in_progress = None;
    draft.shares = vec![(ongoing.to.clone(), 100)];
    draft.rolled_back = previous
        .rolled_back
        .clone()
        .filter(|rolled_back| rolled_back.target != ongoing.to);
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![
            drain_ended(&ongoing.from, timed_out),
            Transition::Moved {
                from: ongoing.from.clone(),
                to: ongoing.to.clone(),
            },
        ],
        history,
        ..Advance::default()
    }
}

/// The entry of history that the end of this move has, unless it was written already, and the time of that end.
pub(super) fn recorded(
    view: View<'_>,
    previous: &Placement,
    ongoing: &MoveInProgress,
    way: (&str, &str),
    (reason, uncounted): (&str, bool),
) -> (Option<HistoryEntry>, Time) {
    let (from, to) = way;
    let written = view.history.iter().find(|entry| {
        entry.id == previous.decision_id
            && entry.from.as_deref() == Some(from)
            && entry.to == to
            && entry.time.0 >= ongoing.started.0
    });
    if let Some(entry) = written {
        return (None, entry.time.clone());
    }
    let time = whole_seconds(view.now);
    let entry = HistoryEntry {
        id: previous.decision_id.clone(),
        time: time.clone(),
        from: Some(from.to_owned()),
        to: to.to_owned(),
        reason: reason.to_owned(),
        uncounted: uncounted.then_some(true),
    };
    (Some(entry), time)
}

/// Writes down when every gateway had the step.
fn acknowledge(view: View<'_>, previous: &Placement) -> Advance {
    let mut draft = Draft::keep(previous);
    if let Some(ongoing) = &mut draft.in_progress {
        ongoing.acknowledged = Some(whole_seconds_up(view.now));
    }
    Advance {
        placement: Some(compose(&view, previous, draft)),
        deadline: Some(after(view.now, DRAIN_SETTLE)),
        ..Advance::default()
    }
}

/// The step goes on; replicas, the other targets and the generation follow spec and decision.
fn stay(view: View<'_>, previous: &Placement, deadline: Option<Timestamp>) -> Advance {
    Advance {
        placement: Some(compose(&view, previous, Draft::keep(previous))),
        deadline: earliest(deadline, None).filter(|due| *due > view.now),
        ..Advance::default()
    }
}

/// A phase without its move cannot be continued: the weights as they are become the placement.
pub(super) fn without_a_move(view: View<'_>, previous: &Placement) -> Advance {
    let mut steadied = previous.clone();
    steadied.phase = Phase::Steady;
    let view = View {
        previous: Some(&steadied),
        ..view
    };
    steady::steady(view, &steadied)
}
