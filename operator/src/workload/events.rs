//! Events of a workload: what transitions are told as. Pure but for the telling.

use k8s_openapi::api::core::v1::ObjectReference;
use weir_crds::InferenceWorkloadStatus;
use weir_crds::condition::types;
use weir_crds::decision::Decision;

use super::failure::Reason;
use super::moves::Transition;
use crate::events::{Events, Type};

/// One event before it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it is a warning.
    pub warning: bool,
    /// The reason, in one CamelCase word group.
    pub reason: &'static str,
    /// The reason in one sentence.
    pub message: String,
}

fn normal(reason: &'static str, message: String) -> Told {
    Told {
        warning: false,
        reason,
        message,
    }
}

fn warning(reason: &'static str, message: String) -> Told {
    Told {
        warning: true,
        reason,
        message,
    }
}

/// What a transition is told as.
pub fn of_transition(transition: &Transition, decision: Option<&Decision>) -> Told {
    let why = decision.map_or("", |decision| decision.message.as_str());
    match transition {
        Transition::Placed { target } => normal("PlacementSelected", format!("{target}: {why}")),
        Transition::MoveStarted { from, to } => {
            normal("MoveStarted", format!("from {from} to {to}: {why}"))
        }
        Transition::LeftAtOnce { from, to: Some(to) } => warning(
            "PlacementMoved",
            format!("from {from} to {to} at once: {why}"),
        ),
        Transition::LeftAtOnce { from, to: None } => warning(
            "PlacementLost",
            format!("{from} may no longer serve: {why}"),
        ),
        Transition::CanaryStep { to, weight } => {
            normal("CanaryStep", format!("{to} gets {weight} % of the traffic"))
        }
        Transition::DrainStarted { from } => normal(
            "DrainStarted",
            format!("{from} gets no more traffic; its requests end"),
        ),
        Transition::DrainCompleted { from } => {
            normal("DrainCompleted", format!("no request runs on {from}"))
        }
        Transition::DrainTimedOut { from } => warning(
            "DrainTimedOut",
            format!("requests still ran on {from} when the time was up"),
        ),
        Transition::Moved { from, to } => {
            normal("PlacementMoved", format!("from {from} to {to}: {why}"))
        }
        Transition::RolledBack { from, to, reason } => warning(
            "MoveRolledBack",
            format!("{to} failed ({reason}); {from} has the traffic"),
        ),
        Transition::Abandoned { from, to } => normal(
            "MoveAbandoned",
            format!("not to {to} after all; {from} has the traffic: {why}"),
        ),
        Transition::ScaledToZero {
            target,
            replicas: 0,
        } => normal("ScaledToZero", format!("{target} is idle and sleeps")),
        Transition::ScaledToZero { target, replicas } => normal(
            "ScaledDown",
            format!("{target} is idle and keeps {replicas} replicas"),
        ),
        Transition::WokenUp { target } => normal(
            "WokenUp",
            format!("a request came for {target} while it was asleep"),
        ),
    }
}

/// What a change of status is told as: refusals, holds, residency, waiting, loading.
pub fn of_status(
    before: Option<&InferenceWorkloadStatus>,
    after: &InferenceWorkloadStatus,
) -> Vec<Told> {
    let mut told = refused(before, after);
    told.extend(client_key(before, after));
    told.extend(held(before, after));
    told.extend(residency(before, after));
    told.extend(local(before, after));
    told
}

/// A spec that cannot be acted on, and objects that it refers to and that are not there or not as they should be: whoever
/// wrote it must hear of that, also where another target serves.
fn refused(before: Option<&InferenceWorkloadStatus>, after: &InferenceWorkloadStatus) -> Vec<Told> {
    let failing = |status: &InferenceWorkloadStatus, type_: &str| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|each| each.type_ == type_ && each.status == "False");
        found.map(|found| (found.reason.clone(), found.message.clone()))
    };
    let fresh = |type_: &str| {
        let now = failing(after, type_)?;
        let known = before.and_then(|before| failing(before, type_));
        (known.as_ref() != Some(&now)).then_some(now)
    };
    let invalid = fresh(types::ACCEPTED).map(|(_, message)| warning("InvalidSpec", message));
    let unresolved = fresh(types::RESOLVED_REFS)
        .map(|(reason, message)| warning("ReferencesUnresolved", format!("{reason}: {message}")));
    invalid.into_iter().chain(unresolved).collect()
}

/// A key that took the place of another, and a Secret that cannot be made.
fn client_key(
    before: Option<&InferenceWorkloadStatus>,
    after: &InferenceWorkloadStatus,
) -> Option<Told> {
    let condition = |status: &InferenceWorkloadStatus| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|it| it.type_ == types::CLIENT_KEY_READY)?;
        Some((
            found.status.clone(),
            found.reason.clone(),
            found.message.clone(),
        ))
    };
    let (status, reason, message) = condition(after)?;
    let known = before.and_then(condition);
    if status == "False" {
        let same = known.is_some_and(|(_, known, _)| known == reason);
        let told = || warning("ClientKeyNotReady", format!("{reason}: {message}"));
        return (!same && reason != "NotMade").then(told);
    }
    let secret = |status: &InferenceWorkloadStatus| {
        let key = status.client_key.as_ref()?;
        Some(key.secret_name.clone())
    };
    let replaced = before.and_then(secret)? != secret(after)?;
    replaced.then(|| match reason.as_str() {
        "RootReplaced" => warning("ClientKeyRootReplaced", message),
        _ => normal("ClientKeyRotated", message),
    })
}

fn held(before: Option<&InferenceWorkloadStatus>, after: &InferenceWorkloadStatus) -> Option<Told> {
    let decision = after.decision.as_ref()?;
    let known = before.and_then(|before| before.decision.as_ref());
    let same = known
        .is_some_and(|known| known.outcome == decision.outcome && known.reason == decision.reason);
    (decision.outcome == "Hold" && !same).then(|| {
        if decision.reason == "AdvisoryRecommendation" {
            return normal("AdvisoryRecommendation", decision.message.clone());
        }
        normal(
            "PlacementHeld",
            format!("{}: {}", decision.reason, decision.message),
        )
    })
}

fn residency(
    before: Option<&InferenceWorkloadStatus>,
    after: &InferenceWorkloadStatus,
) -> Option<Told> {
    let denied = |status: &InferenceWorkloadStatus| -> Vec<String> {
        let candidates = status
            .decision
            .iter()
            .flat_map(|decision| &decision.candidates);
        candidates
            .flat_map(|candidate| &candidate.rejected_by)
            .filter(|rejection| rejection.gate == "Residency" || rejection.gate == "ProviderTerms")
            .map(|rejection| rejection.message.clone())
            .collect()
    };
    let known = before.map(denied).unwrap_or_default();
    let fresh: Vec<String> = denied(after)
        .into_iter()
        .filter(|message| !known.contains(message))
        .collect();
    (!fresh.is_empty()).then(|| warning("ResidencyDenied", fresh.join("; ")))
}

fn local(
    before: Option<&InferenceWorkloadStatus>,
    after: &InferenceWorkloadStatus,
) -> Option<Told> {
    let condition = |status: &InferenceWorkloadStatus| {
        status
            .conditions
            .iter()
            .find(|condition| condition.type_ == types::LOCAL_READY)
            .map(|condition| (condition.reason.clone(), condition.message.clone()))
    };
    let (reason, message) = condition(after)?;
    let known = before.and_then(condition).map(|(reason, _)| reason);
    if known.as_ref() == Some(&reason) {
        return None;
    }
    match reason.as_str() {
        "Serving" => Some(normal("ModelLoaded", message)),
        "Starting" => Some(normal("ModelLoading", message)),
        "NoTraffic" | "EndpointPending" => None,
        "WaitingForNode" => Some(normal("WaitingForNode", message)),
        "WaitingForGPU" => Some(warning("WaitingForGPU", message)),
        reason if is_load_failure(reason) => {
            Some(warning("ModelLoadFailed", format!("{reason}: {message}")))
        }
        reason => Some(warning("LocalNotReady", format!("{reason}: {message}"))),
    }
}

fn is_load_failure(reason: &str) -> bool {
    [
        Reason::ChecksumMismatch,
        Reason::ModelNotFound,
        Reason::ModelInvalid,
        Reason::OutOfMemory,
        Reason::CrashLooping,
    ]
    .iter()
    .any(|each| each.as_str() == reason)
}

/// Tells them.
pub fn tell(events: &Events, object: &ObjectReference, told: &[Told]) {
    for Told {
        warning,
        reason,
        message,
    } in told
    {
        let type_ = if *warning {
            Type::Warning
        } else {
            Type::Normal
        };
        events.note(object, type_, reason, message.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decided(reason: &str) -> InferenceWorkloadStatus {
        let decision = json!({
            "id": "d-1", "trigger": "PriceChanged", "outcome": "Hold", "reason": reason, "message": "recommends b",
            "time": "2026-01-01T00:00:00Z", "inputs": {}, "candidates": [],
        });
        serde_json::from_value(json!({"decision": decision})).expect("a status")
    }

    fn with_condition(type_: &str, status: &str, message: &str) -> InferenceWorkloadStatus {
        let condition = json!({"type": type_, "status": status, "reason": "TierNotFound", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({"conditions": [condition]})).expect("a status")
    }

    #[test]
    fn a_tier_that_does_not_exist_is_a_warning_although_another_target_serves() {
        let missing = || with_condition("ResolvedRefs", "False", "GPUTier h100 does not exist");
        let told = of_status(None, &missing());
        let warned = (told[0].warning, told[0].message.as_str());
        assert_eq!(warned, (true, "TierNotFound: GPUTier h100 does not exist"));
        assert_eq!(of_status(Some(&missing()), &missing()), []);
        let found = with_condition("ResolvedRefs", "True", "everything exists");
        assert_eq!(of_status(Some(&missing()), &found), []);
        let invalid = with_condition("Accepted", "False", "no such time zone");
        assert_eq!(of_status(Some(&found), &invalid).len(), 1);
    }

    #[test]
    fn a_recommendation_is_told_once_by_its_own_name() {
        let advised = decided("AdvisoryRecommendation");
        let told = of_status(Some(&decided("MinDwell")), &advised);
        assert_eq!(
            told,
            [normal("AdvisoryRecommendation", "recommends b".to_owned())]
        );
        assert_eq!(of_status(Some(&advised), &advised), []);
        let held = of_status(None, &decided("OutsideMaintenanceWindow"));
        assert_eq!(held[0].reason, "PlacementHeld");
    }
}
