//! The conditions that sum the others up: Ready, Stalled, Reconciling.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weir_crds::condition::{ConditionStatus, is_true, types};
use weir_crds::placement::{Location, Phase};

use super::{Finding, View, carrying};
use crate::workload::moves::Usable;
use crate::workload::validate;

/// Placed, with a key, some target that has traffic serves it, and the gateways have the route of this generation.
pub(super) fn ready(view: View<'_>, previous: &[Condition], findings: &[Finding]) -> Finding {
    let type_ = types::READY;
    let finding = |type_: &str| findings.iter().find(|finding| finding.0 == type_);
    let fails = |type_: &'static str| finding(type_).filter(|finding| !finding.holds());
    let first = fails(types::ACCEPTED)
        .or_else(|| fails(types::PLACED))
        .or_else(|| fails(types::CLIENT_KEY_READY));
    if let Some(Finding(_, _, reason, message)) = first {
        return Finding::new(type_, false, reason, message.clone());
    }
    let Some(placement) = view.placement else {
        return Finding::new(type_, false, "NotPlaced", "no target was chosen yet");
    };
    let serves = |target: &String| {
        let usable = view.observation.observed.target(target).usable;
        matches!(usable, Usable::Yes | Usable::Partly) && has_answered(view, target)
    };
    if !carrying(placement).iter().any(serves) {
        let cause = match placement.location {
            Location::Local => fails(types::LOCAL_READY),
            Location::External => fails(types::EXTERNAL_READY),
        };
        return match cause {
            Some(Finding(_, _, reason, message)) => {
                Finding::new(type_, false, reason, message.clone())
            }
            None => Finding::new(
                type_,
                false,
                "NotServing",
                "no target with traffic is ready",
            ),
        };
    }
    // Between a step and its acknowledgement the route before it is in force.
    let generation = view.facts.generation();
    let was_ready = is_true(previous, type_)
        && previous
            .iter()
            .any(|before| before.type_ == type_ && before.observed_generation == Some(generation));
    let route = fails(types::ROUTE_PROGRAMMED);
    let between = route.is_some_and(|route| route.2 == "Pending") && was_ready;
    match route.filter(|_| !between) {
        Some(Finding(_, _, reason, message)) => Finding::new(type_, false, reason, message.clone()),
        None if placement.generation != generation => Finding::new(
            type_,
            false,
            "Reconciling",
            format!("the placement is of generation {}", placement.generation),
        ),
        None => Finding::new(
            type_,
            true,
            "Serving",
            format!("requests are served by {}", carrying(placement).join(", ")),
        ),
    }
}

/// Whether the provider of an external target is known to answer. A local target is ready or not.
fn has_answered(view: View<'_>, target: &str) -> bool {
    let target = view.facts.workload.spec.target(target);
    let Some(external) = target.and_then(|target| target.external) else {
        return true;
    };
    let provider = view.facts.providers.get(&external.provider_ref.name);
    provider.is_some_and(|provider| validate::healthy(provider) == Some(true))
}

/// kstatus: no progress without a change from outside.
pub(super) fn stalled(view: View<'_>, findings: &[Finding]) -> Finding {
    let type_ = types::STALLED;
    let finding = |type_: &str| findings.iter().find(|finding| finding.0 == type_);
    let failed = |type_: &str| finding(type_).filter(|finding| finding.1 == ConditionStatus::False);
    if let Some(Finding(_, _, reason, message)) = failed(types::ACCEPTED) {
        return Finding::new(type_, true, reason, message.clone());
    }
    let infeasible = view
        .placement
        .is_none_or(|placement| placement.weights.is_empty());
    if let Some(Finding(_, _, reason, message)) = failed(types::FEASIBLE).filter(|_| infeasible) {
        return Finding::new(type_, true, reason, message.clone());
    }
    let lasting = view
        .observation
        .diagnoses
        .values()
        .any(|(reason, _)| reason.lasting());
    let refused = view
        .problems
        .values()
        .any(|problem| problem.reason.lasting());
    if let Some(Finding(_, _, reason, message)) =
        failed(types::LOCAL_READY).filter(|_| lasting || refused)
    {
        return Finding::new(type_, true, reason, message.clone());
    }
    let key = view.keys.problem.as_ref();
    if let Some(problem) = key.filter(|problem| problem.reason.lasting()) {
        return Finding::new(
            type_,
            true,
            problem.reason.as_str(),
            problem.message.clone(),
        );
    }
    if let Some(Finding(_, _, reason, message)) =
        failed(types::ROUTE_PROGRAMMED).filter(|finding| finding.2 == "AckTimeout")
    {
        return Finding::new(type_, true, reason, message.clone());
    }
    Finding::new(
        type_,
        false,
        "NotStalled",
        "nothing needs a change from outside",
    )
}

/// kstatus: work is in progress.
pub(super) fn reconciling(view: View<'_>, ready: &Finding, stalled: &Finding) -> Finding {
    let type_ = types::RECONCILING;
    if stalled.holds() {
        return Finding::new(type_, false, "Stalled", "see condition Stalled");
    }
    let moving = view
        .placement
        .filter(|placement| placement.phase != Phase::Steady);
    if let Some((placement, ongoing)) =
        moving.and_then(|placement| Some((placement, placement.r#move.as_ref()?)))
    {
        let phase = match placement.phase {
            Phase::Steady => "Steady",
            Phase::Preparing => "Preparing",
            Phase::Canary => "Canary",
            Phase::Draining => "Draining",
            Phase::RollingBack => "RollingBack",
        };
        let message = format!("moving from {} to {}", ongoing.from, ongoing.to);
        return Finding::new(type_, true, phase, message);
    }
    if ready.holds() {
        Finding::new(type_, false, "Settled", "nothing is in progress")
    } else {
        Finding::new(type_, true, &ready.2, ready.3.clone())
    }
}
