//! A move that is given up: all of the traffic back to the old target, requests on the new one end.

use weir_crds::placement::{MoveInProgress, Phase, Placement, RolledBack};
use weir_crds::text;

use super::compose::{Draft, compose, whole_seconds};
use super::under_way::{Drained, drain_ended, drained, recorded, without_a_move};
use super::{Advance, Transition, View};

/// `HistoryEntry::reason` of a move that returned because its target failed.
pub const ROLLED_BACK: &str = "RolledBack";
/// `HistoryEntry::reason` of a move that returned because something else was decided.
pub const ABANDONED: &str = "Abandoned";

/// Why a move is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blame {
    /// The reason, in one CamelCase word group.
    pub reason: String,
    /// It moved no traffic, or the cause lies in the cluster: that spends no move.
    pub uncounted: bool,
    /// A replica stands until the cause is gone: it holds no device meanwhile.
    pub watch: bool,
}

/// The old target has all of the traffic again; requests on the new one end.
pub(super) fn rolling_back(view: View<'_>, previous: &Placement) -> Advance {
    let Some(ongoing) = &previous.r#move else {
        return without_a_move(view, previous);
    };
    let timed_out = match drained(view, previous, ongoing, &ongoing.to) {
        Drained::Not(advance) => return *advance,
        Drained::Completely => false,
        Drained::TimedOut => true,
    };
    let failed = previous.rolled_back.as_ref().filter(|rolled_back| {
        rolled_back.target == ongoing.to && rolled_back.time.0 >= ongoing.started.0
    });
    let reason = failed.map_or(ABANDONED, |_| ROLLED_BACK);
    let uncounted = failed.is_some_and(|rolled_back| rolled_back.uncounted == Some(true));
    let mut draft = settled_on_old(view, previous, ongoing);
    draft.rolled_back = previous.rolled_back.clone();
    let way = (ongoing.to.as_str(), ongoing.from.as_str());
    let (history, _) = recorded(view, previous, ongoing, way, (reason, uncounted));
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![drain_ended(&ongoing.to, timed_out)],
        history,
        ..Advance::default()
    }
}

/// All of the traffic back to the old target, while requests on the new one end.
pub(super) fn go_back(
    view: View<'_>,
    previous: &Placement,
    ongoing: &MoveInProgress,
    failure: Option<&Blame>,
) -> Advance {
    let mut draft = Draft::keep(previous);
    draft.phase = Phase::RollingBack;
    draft.new_step = true;
    draft.shares = vec![(ongoing.from.clone(), 100)];
    draft.in_progress = Some(MoveInProgress {
        canary_step: None,
        acknowledged: None,
        ..ongoing.clone()
    });
    if let Some(blame) = failure {
        draft.rolled_back = Some(rolled_back(view, previous, ongoing, blame));
    }
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![given_up(ongoing, failure)],
        ..Advance::default()
    }
}

/// Ends a move whose target never had traffic.
pub(super) fn end_unprepared(
    view: View<'_>,
    previous: &Placement,
    ongoing: &MoveInProgress,
    failure: Option<&Blame>,
) -> Advance {
    let mut draft = settled_on_old(view, previous, ongoing);
    let reason = if failure.is_some() {
        ROLLED_BACK
    } else {
        ABANDONED
    };
    let way = (ongoing.to.as_str(), ongoing.from.as_str());
    let uncounted = failure.is_some_and(|blame| blame.uncounted);
    let (history, at) = recorded(view, previous, ongoing, way, (reason, uncounted));
    if let Some(blame) = failure {
        let mut rolled_back = rolled_back(view, previous, ongoing, blame);
        rolled_back.time = at;
        draft.rolled_back = Some(rolled_back);
        let least = view
            .rules
            .target(&ongoing.to)
            .map(|rules| rules.min_replicas);
        if let Some(least) = least.filter(|_| blame.watch && !view.rules.suspend) {
            draft.replicas = vec![(ongoing.to.clone(), least.max(1))];
        }
    }
    Advance {
        placement: Some(compose(&view, previous, draft)),
        transitions: vec![given_up(ongoing, failure)],
        history,
        ..Advance::default()
    }
}

fn given_up(ongoing: &MoveInProgress, failure: Option<&Blame>) -> Transition {
    let (from, to) = (ongoing.from.clone(), ongoing.to.clone());
    match failure {
        Some(blame) => Transition::RolledBack {
            from,
            to,
            reason: blame.reason.clone(),
        },
        None => Transition::Abandoned { from, to },
    }
}

fn rolled_back(
    view: View<'_>,
    previous: &Placement,
    ongoing: &MoveInProgress,
    blame: &Blame,
) -> RolledBack {
    let before = previous
        .rolled_back
        .as_ref()
        .filter(|rolled_back| rolled_back.target == ongoing.to)
        .map_or(0, |rolled_back| rolled_back.attempts);
    RolledBack {
        target: ongoing.to.clone(),
        time: whole_seconds(view.now),
        reason: text::bounded(&blame.reason),
        attempts: before.saturating_add(1),
        uncounted: blame.uncounted.then_some(true),
    }
}

/// The old target alone; the new one back to its least replicas, unless a gateway may still use it from a step before.
fn settled_on_old(view: View<'_>, previous: &Placement, ongoing: &MoveInProgress) -> Draft {
    let mut draft = Draft::keep(previous);
    draft.phase = Phase::Steady;
    draft.in_progress = None;
    draft.shares = vec![(ongoing.from.clone(), 100)];
    let unused = view.observed.acknowledged_by_all() && !view.rules.suspend;
    if let Some(rules) = view.rules.target(&ongoing.to).filter(|_| unused) {
        draft
            .replicas
            .push((ongoing.to.clone(), rules.min_replicas));
    }
    draft
}
