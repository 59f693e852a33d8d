//! Pure: what other workloads have used of a policy's move budget.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use weir_crds::InferenceWorkload;
use weir_placement::MovesElsewhere;

use super::validate;

/// Moves that ended longer ago do not count.
const COUNTED: SignedDuration = SignedDuration::from_hours(1);

/// Counts the workloads of a policy apart from the one with `uid`: how many there are, which are on the move or were just
/// `told` to be, and when moves of the last hour ended.
pub fn elsewhere<'a>(
    workloads: impl Iterator<Item = &'a InferenceWorkload>,
    policy: &str,
    (uid, told): (&str, &BTreeSet<String>),
    now: Timestamp,
) -> MovesElsewhere {
    let mut counted = MovesElsewhere {
        policy: Some(policy.to_owned()),
        ..MovesElsewhere::default()
    };
    for workload in workloads {
        let own_uid = workload.metadata.uid.as_deref().unwrap_or_default();
        let named = workload.spec.placement.policy_ref.as_ref();
        if own_uid == uid || named.is_none_or(|named| named.name != policy) {
            continue;
        }
        let placement = workload
            .status
            .as_ref()
            .and_then(|status| status.placement.as_ref());
        let moving = placement.is_some_and(validate::is_going_on);
        counted.workloads += 1;
        counted.moving += u32::from(moving || told.contains(own_uid));
        let ended = validate::moves(workload).into_iter();
        counted
            .moves
            .extend(ended.filter(|ended| now.duration_since(*ended) < COUNTED));
    }
    counted.moves.sort();
    counted
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn workload(uid: &str, policy: Value, status: Value) -> InferenceWorkload {
        serde_json::from_value(json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
            "metadata": {"name": uid, "uid": uid},
            "spec": {"placement": {"policyRef": policy}, "targets": []},
            "status": status,
        }))
        .expect("a workload")
    }

    fn moved(times: &[&str], phase: &str) -> Value {
        let entry = |time: &&str| json!({"id": "d", "time": time, "from": "a", "to": "b", "reason": "LowerCost"});
        json!({
            "history": times.iter().map(entry).collect::<Vec<_>>(),
            "placement": {"target": "b", "location": "Local", "since": "2026-01-01T00:00:00Z", "weights": [],
                "decisionId": "d", "step": 1, "stepSince": "2026-01-01T00:00:00Z", "generation": 1, "phase": phase},
        })
    }

    #[test]
    fn only_others_of_the_policy_count_and_only_moves_of_the_last_hour() {
        let quick = || json!({"name": "quick"});
        let late = "2026-01-01T11:30:00Z";
        let fleet = [
            workload("self", quick(), moved(&[late], "Canary")),
            workload(
                "other-policy",
                json!({"name": "slow"}),
                moved(&[late], "Canary"),
            ),
            workload("no-policy", Value::Null, moved(&[late], "Canary")),
            workload(
                "moving",
                quick(),
                moved(&["2026-01-01T10:59:59Z", late], "Preparing"),
            ),
            workload("going-back", quick(), moved(&[], "RollingBack")),
            workload("told", quick(), Value::Null),
        ];
        let told = BTreeSet::from(["told".to_owned(), "other-policy".to_owned()]);
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let counted = elsewhere(fleet.iter(), "quick", ("self", &told), now);
        assert_eq!((counted.workloads, counted.moving), (3, 2));
        assert_eq!(counted.moves, [late.parse::<Timestamp>().expect("a time")]);
    }
}
