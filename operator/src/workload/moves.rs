//! The state machine of a move, make before break: what the placement becomes, given what was decided and observed. Pure.
//!
//! `Steady → Preparing → Canary… → Draining → Steady`, and from any step before the release `→ RollingBack → Steady`.
//! One call makes one step. Everything that a step needs stands in `status.placement` or can be observed again, so a
//! process that ends between two writes is continued by the next one.

mod compose;
mod going_back;
mod observed;
mod retry;
mod steady;
mod under_way;

use jiff::{SignedDuration, Timestamp};
use weir_crds::decision::HistoryEntry;
use weir_crds::placement::{Location, Phase, Placement};

use crate::clock::Witnessed;

pub(super) use compose::whole_seconds;
pub use going_back::{ABANDONED, ROLLED_BACK};
pub use observed::{
    Acknowledgement, Failure, Observed, Rules, TargetObserved, TargetRules, Usable, Wish,
    WishedTarget,
};
pub(super) use retry::rolled_back_until;

/// How long gateways may take to acknowledge a step before that is reported.
pub const ACK_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);
/// How long a gateway that became ready, or an operator that began to lead, may take until they hear each other: what was
/// acknowledged before is not doubted meanwhile, and nothing is released.
pub const HEARING_TIMEOUT: SignedDuration = SignedDuration::from_secs(60);
/// How long a new target may take until it is ready.
pub const PREPARE_TIMEOUT: SignedDuration = SignedDuration::from_mins(20);
/// How long a failure of a new target may last before its move is given up.
pub const PREPARE_FAILURE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// Counters of gateways are at most this old, so requests in flight are believed to be none only after it.
pub const DRAIN_SETTLE: SignedDuration = SignedDuration::from_secs(2);
/// Requests that a share of errors must be taken from.
pub const MIN_REQUESTS: u64 = 5;
/// Pause after the first roll-back before the same target is tried again; doubled with each further one.
pub const ROLL_BACK_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// Longest such pause.
pub const ROLL_BACK_PAUSE_MOST: SignedDuration = SignedDuration::from_hours(6);

/// What one call of [`advance`] sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The placement in status; `None` before the first.
    pub previous: Option<&'a Placement>,
    /// What was decided.
    pub wish: &'a Wish,
    /// What the spec says about moves.
    pub rules: &'a Rules,
    /// What is observed of targets and gateways.
    pub observed: &'a Observed,
    /// Completed moves, the newest first.
    pub history: &'a [HistoryEntry],
    /// Generation of the spec.
    pub generation: i64,
    /// The present moment.
    pub now: Timestamp,
    /// What of the time before this leader has itself seen go by.
    pub witnessed: &'a Witnessed,
    /// A move that cost alone speaks for does not begin before.
    pub not_before: Option<Timestamp>,
}

impl View<'_> {
    /// When a pause is over that began at `at`, as status says: by the wall clock and by this leader's own time.
    fn after(&self, at: Timestamp, pause: SignedDuration) -> Timestamp {
        after(self.witnessed.since(at), pause)
    }
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// What `status.placement` is to be; equal to the previous one when there is nothing to do.
    pub placement: Option<Placement>,
    /// What happens with it, for events.
    pub transitions: Vec<Transition>,
    /// The end of a move: written before the placement that ends it, so that it cannot be lost.
    pub history: Option<HistoryEntry>,
    /// When time alone may bring the next step.
    pub deadline: Option<Timestamp>,
    /// A wish to move waits for a target that was rolled back.
    pub held: Option<Held>,
}

/// Why a wish to move waits for a target that was rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Until when; `None` while the cause stands.
    pub until: Option<Timestamp>,
    /// Why, in words.
    pub message: String,
}

/// What happens to a placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The first placement.
    Placed {
        /// The target.
        target: String,
    },
    /// A move begins.
    MoveStarted {
        /// The target that is left.
        from: String,
        /// The target that is moved to.
        to: String,
    },
    /// The target lost its right to serve and is left without preparation.
    LeftAtOnce {
        /// The target that is left.
        from: String,
        /// The target that is moved to; `None` when no target may serve.
        to: Option<String>,
    },
    /// The new target gets a share of the traffic.
    CanaryStep {
        /// The new target.
        to: String,
        /// Its share in percent.
        weight: i32,
    },
    /// The new target has all of the traffic.
    DrainStarted {
        /// The target whose requests end.
        from: String,
    },
    /// No request runs on the old target.
    DrainCompleted {
        /// The old target.
        from: String,
    },
    /// Requests still ran on the old target when the time was up.
    DrainTimedOut {
        /// The old target.
        from: String,
    },
    /// The move is complete.
    Moved {
        /// The target that was left.
        from: String,
        /// The target that was moved to.
        to: String,
    },
    /// The move is given up because its target failed.
    RolledBack {
        /// The target that has the traffic again.
        from: String,
        /// The target that failed.
        to: String,
        /// What failed.
        reason: String,
    },
    /// The move is given up because something else was decided.
    Abandoned {
        /// The target that has the traffic.
        from: String,
        /// The target that is not moved to.
        to: String,
    },
    /// A target without traffic is put to sleep, or to its least replicas.
    ScaledToZero {
        /// The target.
        target: String,
        /// Replicas that are kept.
        replicas: i32,
    },
    /// A target that was asleep is woken up because a request came for it.
    WokenUp {
        /// The target.
        target: String,
    },
}

/// Makes the next step.
pub fn advance(view: View<'_>) -> Advance {
    let Some(previous) = view.previous else {
        return steady::first(view);
    };
    if let Some(advance) = steady::leave_what_may_not_serve(view, previous) {
        return advance;
    }
    match previous.phase {
        Phase::Steady => steady::steady(view, previous),
        Phase::Preparing => under_way::preparing(view, previous),
        Phase::Canary => under_way::canary(view, previous),
        Phase::Draining => under_way::draining(view, previous),
        Phase::RollingBack => going_back::rolling_back(view, previous),
    }
}

/// Replicas that the Deployment of a local target is to have; `None` leaves it as it is.
///
/// A target that the placement no longer lists keeps its pods until every gateway has stopped using it and its requests
/// have ended.
pub fn replicas(
    placement: &Placement,
    target: &str,
    existing: Option<i32>,
    observed: &Observed,
    released: bool,
) -> Option<i32> {
    let listed = placement
        .weights
        .iter()
        .find(|weight| weight.target == target);
    if let Some(weight) = listed {
        return Some(weight.replicas.unwrap_or(0));
    }
    existing?;
    if released && observed.acknowledged_by_all() {
        return Some(0);
    }
    None
}

/// Whether requests on a target that lost its place in the weights have ended, or had their time.
pub fn released(view: View<'_>, placement: &Placement, target: &str) -> bool {
    if view.previous != Some(placement) || !view.observed.acknowledged_by_all() {
        return false;
    }
    let since = placement.step_since.0;
    let settled = view.now >= view.after(since, DRAIN_SETTLE);
    let idle = settled && view.observed.target(target).in_flight == Some(0);
    idle || view.now >= view.after(since, view.rules.drain)
}

/// `at` and `duration`, at most the end of time.
pub(crate) fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// The pause after so many roll-backs in a row.
pub(crate) fn roll_back_pause(attempts: i32) -> SignedDuration {
    let doublings = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(0)
        .min(16);
    ROLL_BACK_PAUSE
        .checked_mul(1 << doublings)
        .map_or(ROLL_BACK_PAUSE_MOST, |pause| {
            pause.min(ROLL_BACK_PAUSE_MOST)
        })
}

/// Whether a target is in the cluster, as far as the spec or the wish tells.
fn location(view: &View<'_>, target: &str) -> Location {
    let wished = view.wish.feasible.iter().find(|each| each.name == target);
    let ruled = || view.rules.target(target).map(|rules| rules.location);
    wished
        .map(|each| each.location)
        .or_else(ruled)
        .unwrap_or(Location::Local)
}

#[cfg(test)]
mod tests;
