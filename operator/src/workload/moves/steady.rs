//! Without a move: the first placement, keeping it in line with the decision, sleep and wake-up, and leaving at once.

use jiff::Timestamp;
use weir_crds::placement::{Location, MoveInProgress, Phase, Placement, TargetWeight};

use super::compose::{Draft, compose, ordered, weights, whole_seconds};
use super::{Advance, Transition, View, after, location, retry};

/// How often a target that could sleep but for its requests is looked at again.
const LOOK_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// The first placement: all of the traffic at once, for there is none yet to lose.
pub(super) fn first(view: View<'_>) -> Advance {
    let Some(target) = &view.wish.target else {
        return Advance::default();
    };
    let now = whole_seconds(view.now);
    let draft = Draft {
        target: target.clone(),
        tier: view.wish.tier(target),
        since: now.clone(),
        phase: Phase::Steady,
        in_progress: None,
        rolled_back: None,
        shares: vec![(target.clone(), 100)],
        replicas: Vec::new(),
        new_step: true,
        new_decision: true,
    };
    let placement = Placement {
        weights: weights(&view, None, &draft),
        location: location(&view, target),
        target: draft.target,
        tier: draft.tier,
        since: draft.since,
        decision_id: view.wish.decision_id.clone(),
        step: 1,
        step_since: now,
        generation: view.generation,
        phase: Phase::Steady,
        r#move: None,
        rolled_back: None,
    };
    Advance {
        placement: Some(placement),
        transitions: vec![Transition::Placed {
            target: target.clone(),
        }],
        ..Advance::default()
    }
}

/// Traffic never stays on a target that a gate rejects: the weights change at once, ready or not.
pub(super) fn leave_what_may_not_serve(view: View<'_>, previous: &Placement) -> Option<Advance> {
    let carries = |weight: &&TargetWeight| weight.weight > 0;
    let carriers: Vec<&str> = previous
        .weights
        .iter()
        .filter(carries)
        .map(|weight| weight.target.as_str())
        .collect();
    let lawful = !carriers.is_empty() && carriers.iter().all(|target| view.wish.allows(target));
    if lawful {
        return None;
    }
    let to = view.wish.target.as_ref().filter(|to| view.wish.allows(to));
    let Some(to) = to else {
        return Some(serve_nothing(view, previous, !carriers.is_empty()));
    };
    let mut draft = Draft::keep(previous);
    draft.new_decision = true;
    draft.new_step = true;
    draft.shares = vec![(to.clone(), 100)];
    if *to == previous.target {
        let abandoned = previous.r#move.as_ref().map(|ending| ending.to.clone());
        draft.phase = Phase::Steady;
        draft.in_progress = None;
        return Some(Advance {
            placement: Some(compose(&view, previous, draft)),
            transitions: abandoned
                .map(|abandoned| Transition::Abandoned {
                    from: to.clone(),
                    to: abandoned,
                })
                .into_iter()
                .collect(),
            ..Advance::default()
        });
    }
    let going_there = previous.r#move.as_ref().filter(|ongoing| ongoing.to == *to);
    draft.phase = Phase::Draining;
    draft.in_progress = Some(MoveInProgress {
        from: previous.target.clone(),
        to: to.clone(),
        tier: view.wish.tier(to),
        reason: going_there
            .map_or(&view.wish.reason, |ongoing| &ongoing.reason)
            .clone(),
        started: going_there.map_or_else(
            || whole_seconds(view.now),
            |ongoing| ongoing.started.clone(),
        ),
        canary_step: None,
        acknowledged: None,
    });
    Some(Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![Transition::LeftAtOnce {
            from: previous.target.clone(),
            to: Some(to.clone()),
        }],
        ..Advance::default()
    })
}

fn serve_nothing(view: View<'_>, previous: &Placement, served: bool) -> Advance {
    let mut draft = Draft::keep(previous);
    draft.phase = Phase::Steady;
    draft.in_progress = None;
    draft.shares.clear();
    draft.new_decision = served;
    let transitions = served.then(|| Transition::LeftAtOnce {
        from: previous.target.clone(),
        to: None,
    });
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: transitions.into_iter().collect(),
        deadline: Some(view.after(previous.step_since.0, view.rules.drain))
            .filter(|due| *due > view.now),
        ..Advance::default()
    }
}

/// No move is in progress: begins one, or keeps the placement in line with spec and decision.
pub(super) fn steady(view: View<'_>, previous: &Placement) -> Advance {
    let wished = view.wish.target.as_ref();
    let elsewhere = wished.filter(|to| {
        view.wish.moves && **to != previous.target && view.wish.allows(to) && !view.rules.suspend
    });
    let Some(to) = elsewhere else {
        return refresh(view, previous);
    };
    if let Some(held) = retry::held(&view, previous, to) {
        let mut advance = refresh(view, previous);
        advance.deadline = earliest(advance.deadline, held.until);
        advance.held = Some(held);
        return advance;
    }
    let mut draft = Draft::keep(previous);
    draft.phase = Phase::Preparing;
    draft.new_decision = true;
    draft.new_step = true;
    draft.in_progress = Some(MoveInProgress {
        from: previous.target.clone(),
        to: to.clone(),
        tier: view.wish.tier(to),
        reason: view.wish.reason.clone(),
        started: whole_seconds(view.now),
        canary_step: None,
        acknowledged: None,
    });
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![Transition::MoveStarted {
            from: previous.target.clone(),
            to: to.clone(),
        }],
        ..Advance::default()
    }
}

fn refresh(view: View<'_>, previous: &Placement) -> Advance {
    let mut draft = Draft::keep(previous);
    draft.shares = vec![(previous.target.clone(), 100)];
    if previous.location == Location::Local && !view.rules.suspend {
        draft.tier = view.wish.tier(&previous.target).or(draft.tier);
    }
    let mut advance = Advance::default();
    if !view.rules.suspend {
        sleep_and_wake(view, previous, &mut draft, &mut advance);
    }
    advance.placement = Some(compose(&view, previous, draft));
    advance
}

/// Local targets without traffic: asleep after a while, awake when a request came for them.
fn sleep_and_wake(view: View<'_>, previous: &Placement, draft: &mut Draft, advance: &mut Advance) {
    for target in &view.rules.targets {
        let idle = target.name != previous.target && view.wish.allows(&target.name);
        if target.location != Location::Local || !idle || is_watched(view, previous, &target.name) {
            continue;
        }
        let before = ordered(previous, &target.name).unwrap_or(0);
        let seen = view.observed.target(&target.name);
        let asked = |since: Timestamp| seen.woken.is_some_and(|at| at >= since);
        let recently = asked(before_now(view.now, target.idle_after));
        if before == 0 && recently && asked(previous.step_since.0) {
            draft
                .replicas
                .push((target.name.clone(), target.min_replicas.max(1)));
            draft.new_step = true;
            advance.transitions.push(Transition::WokenUp {
                target: target.name.clone(),
            });
        } else if before > target.min_replicas {
            let since = previous.since.0.max(previous.step_since.0);
            let due = view.after(since, target.idle_after);
            let unused = seen.in_flight == Some(0) && !recently;
            if view.now < due {
                advance.deadline = earliest(advance.deadline, Some(due));
            } else if unused && view.observed.acknowledged_by_all() {
                draft
                    .replicas
                    .push((target.name.clone(), target.min_replicas));
                advance.transitions.push(Transition::ScaledToZero {
                    target: target.name.clone(),
                    replicas: target.min_replicas,
                });
            } else {
                advance.deadline = earliest(advance.deadline, Some(after(view.now, LOOK_AGAIN)));
            }
        }
    }
}

/// Whether a replica stands there for the cause of a roll-back, while the target is still wished for.
fn is_watched(view: View<'_>, previous: &Placement, target: &str) -> bool {
    let wished = view.wish.moves && view.wish.target.as_deref() == Some(target);
    wished && retry::watched(&view, previous, target).is_some()
}

fn before_now(now: Timestamp, duration: jiff::SignedDuration) -> Timestamp {
    now.saturating_sub(duration).unwrap_or(Timestamp::MIN)
}

/// The earlier of two moments that may be none.
pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
