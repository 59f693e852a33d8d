//! When a target that a move was rolled back from is tried again.
//!
//! A cause that pods without a node show (a claim that is missing, a quota) is watched: one replica stands, which holds no
//! device, and the target is tried again once that replica is ready. Any other cause is tried again after a pause that
//! grows with each attempt.

use jiff::Timestamp;
use weir_crds::placement::{Placement, RolledBack};

use super::compose::ordered;
use super::{Failure, Held, Usable, View, after, roll_back_pause};
use crate::clock::Witnessed;

/// Until when a target that was rolled back is left alone.
pub(in crate::workload) fn rolled_back_until(
    witnessed: &Witnessed,
    previous: &Placement,
    to: &str,
) -> Option<Timestamp> {
    let rolled_back = previous.rolled_back.as_ref()?;
    let since = witnessed.since(rolled_back.time.0);
    (rolled_back.target == to).then(|| after(since, roll_back_pause(rolled_back.attempts)))
}

/// What holds a wish to move to a target; `None` lets it go.
pub(super) fn held(view: &View<'_>, previous: &Placement, to: &str) -> Option<Held> {
    held_back(view, previous, to).or_else(|| dwells(view))
}

/// The leader's own time says that the dwell is not over, whatever the wall clock says.
fn dwells(view: &View<'_>) -> Option<Held> {
    let until = view.not_before.filter(|until| *until > view.now)?;
    Some(Held {
        until: Some(until),
        message: "the dwell is not over by this operator's own time".to_owned(),
    })
}

/// The target was rolled back.
fn held_back(view: &View<'_>, previous: &Placement, to: &str) -> Option<Held> {
    let rolled_back = previous.rolled_back.as_ref()?;
    let until = rolled_back_until(view.witnessed, previous, to)?;
    let seen = view.observed.target(to);
    let reason = &rolled_back.reason;
    if let Some(watched) = watched(view, previous, to) {
        return (watched == Watched::Fails).then(|| Held {
            until: None,
            message: format!(
                "{to} cannot start ({reason}) and is tried again once that is mended; that spends no move of operations.maxMovesPerWeek"
            ),
        });
    }
    let stands = stands(rolled_back, seen.failure.as_ref());
    (stands || until > view.now).then(|| Held {
        until: (!stands).then_some(until),
        message: format!("{to} was rolled back ({reason}) and is tried again after a pause"),
    })
}

/// What a replica shows that stands for the cause of a roll-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// The cause stands, or the replica is not ready yet.
    Fails,
    /// The replica is ready: the target can be moved to.
    Ready,
}

/// What the replica shows that stands for the cause; `None` where none stands.
pub(super) fn watched(view: &View<'_>, previous: &Placement, target: &str) -> Option<Watched> {
    let rolled_back = previous.rolled_back.as_ref()?;
    let stands = rolled_back.target == target
        && rolled_back.uncounted == Some(true)
        && ordered(previous, target).is_some_and(|replicas| replicas > 0);
    if !stands {
        return None;
    }
    let seen = view.observed.target(target);
    if matches!(seen.usable, Usable::Yes | Usable::Partly) {
        return Some(Watched::Ready);
    }
    // A replica that got a node and fails there is no sign any more: it holds a device.
    let at_work = seen
        .failure
        .as_ref()
        .is_none_or(|failure| failure.without_node || !failure.lasting);
    at_work.then_some(Watched::Fails)
}

fn stands(rolled_back: &RolledBack, failure: Option<&Failure>) -> bool {
    failure.is_some_and(|failure| failure.lasting && failure.reason == rolled_back.reason)
}
