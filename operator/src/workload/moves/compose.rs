//! Putting a placement together: weights in the spec's order, replicas, and the count of steps.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::placement::{Location, MoveInProgress, Phase, Placement, RolledBack, TargetWeight};

use super::{View, WishedTarget, location};

/// What the next placement is to be, before weights and counters are worked out.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub target: String,
    pub tier: Option<String>,
    pub since: Time,
    pub phase: Phase,
    pub in_progress: Option<MoveInProgress>,
    pub rolled_back: Option<RolledBack>,
    /// Shares of the traffic; every other feasible target gets 0.
    pub shares: Vec<(String, i32)>,
    /// Replicas of local targets that differ from what the rules below give.
    pub replicas: Vec<(String, i32)>,
    /// Gateways must acknowledge anew although no weight changes.
    pub new_step: bool,
    /// The decision orders these weights; otherwise the one on record does.
    pub new_decision: bool,
}

impl Draft {
    /// The placement as it is.
    pub fn keep(previous: &Placement) -> Self {
        let carries = |weight: &&TargetWeight| weight.weight > 0;
        let share = |weight: &TargetWeight| (weight.target.clone(), weight.weight);
        Self {
            target: previous.target.clone(),
            tier: previous.tier.clone(),
            since: previous.since.clone(),
            phase: previous.phase,
            in_progress: previous.r#move.clone(),
            rolled_back: previous.rolled_back.clone(),
            shares: previous.weights.iter().filter(carries).map(share).collect(),
            replicas: Vec::new(),
            new_step: false,
            new_decision: false,
        }
    }
}

/// The placement of a draft. The step is counted when anything changes that gateways must know.
pub(super) fn compose(view: &View<'_>, previous: &Placement, draft: Draft) -> Placement {
    let weights = weights(view, Some(previous), &draft);
    let routes_differ = !same_routes(&weights, &previous.weights);
    let new_generation = view.generation != previous.generation;
    let new_step = routes_differ || new_generation || draft.new_step;
    let ordered_now =
        draft.new_decision || new_generation || (routes_differ && draft.in_progress.is_none());
    let mut in_progress = draft.in_progress;
    if new_step && let Some(in_progress) = &mut in_progress {
        in_progress.acknowledged = None;
    }
    Placement {
        location: location(view, &draft.target),
        target: draft.target,
        tier: draft.tier,
        since: draft.since,
        weights,
        decision_id: if ordered_now {
            view.wish.decision_id.clone()
        } else {
            previous.decision_id.clone()
        },
        step: previous.step + i64::from(new_step),
        step_since: if new_step {
            whole_seconds(view.now)
        } else {
            previous.step_since.clone()
        },
        generation: view.generation,
        phase: draft.phase,
        r#move: in_progress,
        rolled_back: draft.rolled_back,
    }
}

/// Every feasible target with its share and, for a local one, its replicas.
pub(super) fn weights(
    view: &View<'_>,
    previous: Option<&Placement>,
    draft: &Draft,
) -> Vec<TargetWeight> {
    let weight = |wished: &WishedTarget| {
        let share = draft
            .shares
            .iter()
            .find(|(target, _)| *target == wished.name)
            .map_or(0, |(_, share)| *share);
        TargetWeight {
            target: wished.name.clone(),
            weight: share,
            replicas: (wished.location == Location::Local)
                .then(|| replicas(view, previous, draft, wished, share)),
            decided_for: wished.decided_for.clone(),
        }
    };
    view.wish.feasible.iter().map(weight).collect()
}

fn replicas(
    view: &View<'_>,
    previous: Option<&Placement>,
    draft: &Draft,
    wished: &WishedTarget,
    share: i32,
) -> i32 {
    let forced = draft
        .replicas
        .iter()
        .find(|(target, _)| *target == wished.name);
    if let Some((_, replicas)) = forced {
        return *replicas;
    }
    // A target that comes back into the weights may have pods that gateways still use.
    let existing = || view.observed.target(&wished.name).replicas;
    let before = previous
        .and_then(|placement| ordered(placement, &wished.name))
        .or_else(existing);
    if view.rules.suspend
        && let Some(before) = before
    {
        return before.max(i32::from(share > 0));
    }
    let rules = view.rules.target(&wished.name);
    let least = rules.map_or(0, |rules| rules.min_replicas);
    let most = rules.map_or(1, |rules| rules.max_replicas).max(1);
    let needed = wished.replicas.unwrap_or(1).clamp(1, most);
    let (is_from, is_to) = match &draft.in_progress {
        Some(in_progress) => (
            in_progress.from == wished.name,
            in_progress.to == wished.name,
        ),
        None => (false, false),
    };
    if is_from && draft.phase != Phase::Steady {
        return before.unwrap_or(least).max(i32::from(share > 0));
    }
    if share > 0 || (is_to && draft.phase != Phase::RollingBack) {
        return needed.max(least);
    }
    // A target without traffic keeps what it has until it has been idle for long enough.
    before.unwrap_or(0).max(least)
}

/// Replicas that a placement orders of a target.
pub(super) fn ordered(placement: &Placement, target: &str) -> Option<i32> {
    let weight = placement
        .weights
        .iter()
        .find(|weight| weight.target == target)?;
    weight.replicas
}

fn same_routes(a: &[TargetWeight], b: &[TargetWeight]) -> bool {
    let routes = |weights: &[TargetWeight]| -> Vec<(String, i32)> {
        let mut routes: Vec<_> = weights
            .iter()
            .map(|weight| (weight.target.clone(), weight.weight))
            .collect();
        routes.sort();
        routes
    };
    routes(a) == routes(b)
}

/// A moment as status keeps it.
pub(in crate::workload) fn whole_seconds(at: Timestamp) -> Time {
    Time(weir_placement::whole_seconds(at))
}

/// A moment as status keeps it, never earlier than it was.
pub(super) fn whole_seconds_up(at: Timestamp) -> Time {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Time(Timestamp::from_second(at.as_second() + up).unwrap_or(at))
}
