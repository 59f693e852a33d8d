//! The choice for one workload: first placement, staying, leaving at once, or a governed wish to move.

mod wish;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::candidate::Evaluated;
use crate::demand::EffectiveDemand;
use crate::explain;
use crate::plan::{Confirmation, Decision, Outcome, Reason, TierBand};
use crate::policy::PlacementPolicy;
use crate::snapshot::{Mode, PendingMove, WorkloadInput};

/// What was chosen, before it is put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// Index of the wished target.
    pub(crate) target: Option<usize>,
    pub(crate) confirmation: Option<Confirmation>,
    pub(crate) hold_until: Option<Timestamp>,
    pub(crate) next_evaluation: Option<Timestamp>,
}

impl Choice {
    fn new(outcome: Outcome, reason: Reason, target: Option<usize>, message: String) -> Self {
        Self {
            outcome,
            reason,
            message,
            target,
            confirmation: None,
            hold_until: None,
            next_evaluation: None,
        }
    }
}

impl Choice {
    /// Keeps how often a wish was seen that others' devices stand against, and looks again when it may be seen next.
    pub(crate) fn keep_wish(&mut self, wish: Self, policy: &PlacementPolicy) {
        let count = wish.confirmation.as_ref().map_or(0, |seen| seen.count);
        if count < policy.confirmation.count.max(1) {
            let times = [self.next_evaluation, wish.next_evaluation];
            self.next_evaluation = times.into_iter().flatten().min();
        }
        self.confirmation = wish.confirmation;
    }
}

/// What a choice is made from.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) workload: &'a WorkloadInput,
    pub(crate) policy: &'a PlacementPolicy,
    /// Whether the workload names a policy that does not exist; `policy` is then the built-in one.
    pub(crate) policy_missing: bool,
    pub(crate) demand: &'a EffectiveDemand,
    /// Where tiers stand in the policy's utilization band.
    pub(crate) bands: &'a BTreeMap<String, TierBand>,
    pub(crate) evaluated: &'a [Evaluated],
    pub(crate) previous: Option<&'a Decision>,
    /// A wish that was confirmed for a target whose devices went to others; it counts for any target.
    pub(crate) confirmed: Option<&'a Confirmation>,
    pub(crate) now: Timestamp,
}

impl View<'_> {
    fn index(&self, name: &str) -> Option<usize> {
        self.evaluated
            .iter()
            .position(|evaluated| evaluated.name() == name)
    }

    /// The tier of a target, while that is used above the policy's band.
    fn busy_tier(&self, at: usize) -> Option<&str> {
        let tier = self.evaluated[at].candidate.tier.as_deref()?;
        self.bands.get(tier)?.busy.then_some(tier)
    }

    fn compared(&self, chosen: usize, other: usize) -> String {
        explain::compared(
            &self.evaluated[chosen],
            &self.evaluated[other],
            &self.demand.figures,
        )
    }

    /// The others that can serve, cheapest first, unknown costs last, in the spec's order among equals.
    fn feasible_others(&self, than: Option<usize>) -> Vec<usize> {
        let all = 0..self.evaluated.len();
        let mut others: Vec<_> = all
            .filter(|at| Some(*at) != than && self.evaluated[*at].feasible())
            .collect();
        others.sort_by_key(|at| {
            let exact = self.evaluated[*at].exact;
            (exact.is_none(), exact)
        });
        others
    }
}

/// Chooses. Rules come in the order of their strength: data, suspension, pinning, a move in progress, gates, cost.
/// In advisory mode what would begin a move is told instead, unless the data may not stay where it is.
pub(crate) fn choose(view: View<'_>) -> Choice {
    let choice = chosen(view);
    let current = view.workload.current.as_ref();
    let at = current.and_then(|current| view.index(&current.target));
    let advised = view.workload.mode == Mode::Advisory
        && choice.outcome == Outcome::Move
        && current.is_some_and(|current| current.pending.is_none());
    match (at, choice.target) {
        (Some(at), Some(to)) if advised && !view.evaluated[at].data_forbidden() => Choice {
            outcome: Outcome::Hold,
            reason: Reason::AdvisoryRecommendation,
            message: format!(
                "recommends {} ({:?}): {}",
                view.evaluated[to].name(),
                choice.reason,
                choice.message
            ),
            target: Some(at),
            ..choice
        },
        _ => choice,
    }
}

fn chosen(view: View<'_>) -> Choice {
    let current = view.workload.current.as_ref();
    let at = current.and_then(|current| view.index(&current.target));
    let may_stay_frozen = at.is_none_or(|at| !view.evaluated[at].data_forbidden());
    let removed = current.is_some() && at.is_none();
    if let Some(reason) = frozen(view).filter(|_| may_stay_frozen && !removed) {
        return hold_frozen(view, reason, at);
    }
    if view.evaluated.iter().all(Evaluated::rejected) {
        return Choice::new(
            Outcome::Infeasible,
            Reason::NoFeasibleTarget,
            None,
            explain::all_failed(view.evaluated),
        );
    }
    if let Mode::Pinned(name) = &view.workload.mode {
        return pinned(view, name, at);
    }
    let Some(current) = current else {
        return first_placement(view);
    };
    if let Some(choice) = current
        .pending
        .as_ref()
        .and_then(|pending| in_progress(view, pending, at))
    {
        return choice;
    }
    match at {
        None => {
            let message = format!("there is no target {} any more", current.target);
            leave_at_once(view, None, Reason::TargetRemoved, message)
        }
        Some(at) if view.evaluated[at].rejected() => {
            let message = explain::first_failure(&view.evaluated[at]).unwrap_or_default();
            leave_at_once(view, Some(at), Reason::CurrentTargetRejected, message)
        }
        Some(at) if !view.evaluated[at].feasible() => wish::unavailable(view, current, at),
        Some(at) => wish::by_cost(view, current, at),
    }
}

/// Why nothing may move at all.
fn frozen(view: View<'_>) -> Option<Reason> {
    if view.workload.suspend {
        return Some(Reason::Suspended);
    }
    view.policy_missing.then_some(Reason::PolicyMissing)
}

fn hold_frozen(view: View<'_>, reason: Reason, at: Option<usize>) -> Choice {
    let pending = view
        .workload
        .current
        .as_ref()
        .and_then(|current| current.pending.as_ref());
    let wished = pending
        .and_then(|pending| view.index(&pending.to))
        .filter(|to| !view.evaluated[*to].data_forbidden());
    let message = match reason {
        Reason::PolicyMissing => {
            let name = view.workload.policy.as_deref().unwrap_or_default();
            format!("policy {name} does not exist, so nothing moves")
        }
        _ => "the workload is suspended, so nothing moves or scales".to_owned(),
    };
    Choice::new(Outcome::Hold, reason, wished.or(at), message)
}

/// The pinned target, without dwell or confirmation: the pin is a person's decision. Gates hold all the same.
fn pinned(view: View<'_>, name: &str, at: Option<usize>) -> Choice {
    let allowed = |at: &usize| !view.evaluated[*at].rejected();
    let Some(to) = view.index(name).filter(allowed) else {
        let failure = view
            .index(name)
            .and_then(|to| explain::first_failure(&view.evaluated[to]));
        let why = failure.unwrap_or_else(|| format!("the spec has no target {name}"));
        let (outcome, stays) = match at.filter(allowed) {
            Some(at) => (Outcome::Hold, Some(at)),
            None => (Outcome::Infeasible, None),
        };
        return Choice::new(
            outcome,
            Reason::PinnedTargetRejected,
            stays,
            format!("pinned to {name}, but {why}"),
        );
    };
    let (reason, message) = match waiting(&view.evaluated[to]) {
        Some(why) => (Reason::WaitingForGpu, why),
        None => (
            Reason::Pinned,
            format!("the spec pins the workload to {name}"),
        ),
    };
    let outcome = match &view.workload.current {
        None => Outcome::Place,
        Some(current) if at == Some(to) && current.pending.is_none() => Outcome::Keep,
        Some(current) if at == Some(to) => {
            let abandoned = current.pending.as_ref().map_or("", |pending| &pending.to);
            let message = format!("{message}; the move to {abandoned} is abandoned");
            return Choice::new(Outcome::Keep, reason, Some(to), message);
        }
        Some(_) => Outcome::Move,
    };
    Choice::new(outcome, reason, Some(to), message)
}

/// The target with the least known cost; without any, the first of the spec. Without a feasible one, the first that
/// may serve once it can. A substitute only where a workload that is placed has nothing else that can serve it.
fn best(view: View<'_>, except: Option<usize>) -> Option<(usize, Reason, String)> {
    let mut others = view.feasible_others(except);
    let declared = |at: &usize| !view.evaluated[*at].is_substitute;
    if view.workload.current.is_none() || others.iter().any(declared) {
        others.retain(declared);
    }
    let known = |at: &usize| {
        view.evaluated[*at].unknown_cost().is_none() && view.evaluated[*at].exact.is_some()
    };
    let costed: Vec<_> = others.iter().copied().filter(known).collect();
    if let [only] = others[..] {
        let name = view.evaluated[only].name();
        let failures = explain::others_failed(view.evaluated, only, except);
        let message = format!("{name} is the only target that passes every gate{failures}");
        return Some((only, Reason::OnlyFeasibleTarget, message));
    }
    match costed[..] {
        [cheapest, next, ..] => {
            let equal = view.evaluated[cheapest].exact == view.evaluated[next].exact;
            let reason = if equal {
                Reason::TargetOrder
            } else {
                Reason::LowerCost
            };
            Some((cheapest, reason, view.compared(cheapest, next)))
        }
        [only] => {
            let name = view.evaluated[only].name();
            let message = format!(
                "{name} is the only target whose cost is known{}",
                unknown(view, &others)
            );
            Some((only, Reason::OnlyKnownCost, message))
        }
        [] => match others.iter().min() {
            Some(first) => {
                let name = view.evaluated[*first].name();
                let message = format!(
                    "{name} is first in the spec's order{}",
                    unknown(view, &others)
                );
                Some((*first, Reason::TargetOrder, message))
            }
            None => first_unavailable(view, except),
        },
    }
}

fn first_unavailable(view: View<'_>, except: Option<usize>) -> Option<(usize, Reason, String)> {
    let may_serve = |at: &usize| {
        let evaluated = &view.evaluated[*at];
        Some(*at) != except && !evaluated.rejected() && !evaluated.is_substitute
    };
    let candidates: Vec<_> = (0..view.evaluated.len()).filter(may_serve).collect();
    let slow_rather_than_absent = candidates
        .iter()
        .find(|at| !view.evaluated[**at].lacks_capacity());
    let first = *slow_rather_than_absent.or(candidates.first())?;
    let failures = explain::others_failed(view.evaluated, first, except);
    let name = view.evaluated[first].name();
    Some(match waiting(&view.evaluated[first]) {
        Some(why) => (first, Reason::WaitingForGpu, format!("{why}{failures}")),
        None => {
            let own = explain::first_failure(&view.evaluated[first]).unwrap_or_default();
            let message =
                format!("{name} is the only target that may serve, although {own}{failures}");
            (first, Reason::OnlyFeasibleTarget, message)
        }
    })
}

fn unknown(view: View<'_>, others: &[usize]) -> String {
    let doubt = |at: &usize| {
        let evaluated = &view.evaluated[*at];
        Some(format!(
            "; {}",
            explain::doubted(evaluated, evaluated.unknown_cost()?)
        ))
    };
    others.iter().filter_map(doubt).collect()
}

/// What a target waits for, if it is room that it lacks.
fn waiting(evaluated: &Evaluated) -> Option<String> {
    let name = evaluated.name();
    evaluated.lacks_capacity().then(|| {
        let gate = |rejection: &&crate::Rejection| rejection.gate == crate::Gate::Capacity;
        let lacks: Vec<_> = evaluated
            .candidate
            .rejected_by
            .iter()
            .filter(gate)
            .map(|each| each.message.as_str())
            .collect();
        format!("{name} waits for capacity: {}", lacks.join("; "))
    })
}

fn first_placement(view: View<'_>) -> Choice {
    match best(view, None) {
        Some((to, reason, message)) => Choice::new(Outcome::Place, reason, Some(to), message),
        None => Choice::new(
            Outcome::Infeasible,
            Reason::NoFeasibleTarget,
            None,
            explain::all_failed(view.evaluated),
        ),
    }
}

/// A move in progress stands, with the reason that it was ordered for, unless a gate rejects its target.
fn in_progress(view: View<'_>, pending: &PendingMove, at: Option<usize>) -> Option<Choice> {
    let allowed = |at: &usize| !view.evaluated[*at].rejected();
    if let Some(to) = view.index(&pending.to).filter(allowed) {
        let ordered = view
            .previous
            .filter(|previous| previous.target.as_deref() == Some(&pending.to));
        let (reason, message) = match ordered {
            Some(previous) => (previous.reason, previous.message.clone()),
            None => (
                Reason::MoveInProgress,
                format!("a move to {} is in progress", pending.to),
            ),
        };
        return Some(Choice::new(Outcome::Move, reason, Some(to), message));
    }
    let at = at.filter(allowed)?;
    let failure = view
        .index(&pending.to)
        .and_then(|to| explain::first_failure(&view.evaluated[to]));
    let why = failure.unwrap_or_else(|| format!("there is no target {} any more", pending.to));
    let message = format!("the move to {} is abandoned; {why}", pending.to);
    Some(Choice::new(
        Outcome::Keep,
        Reason::MoveAbandoned,
        Some(at),
        message,
    ))
}

fn leave_at_once(view: View<'_>, at: Option<usize>, reason: Reason, why: String) -> Choice {
    match best(view, at) {
        Some((to, _, message)) => {
            Choice::new(Outcome::Move, reason, Some(to), format!("{why}; {message}"))
        }
        None => Choice::new(
            Outcome::Infeasible,
            Reason::NoFeasibleTarget,
            None,
            explain::all_failed(view.evaluated),
        ),
    }
}
