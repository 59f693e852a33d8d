//! Pure: what workloads that are not decided about have used of the policies' move budgets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_crds::InferenceWorkload;
use weir_placement::MovesElsewhere;

use super::validate;

/// Moves that ended longer ago do not count.
const COUNTED: SignedDuration = SignedDuration::from_hours(1);

/// Counts, for each of `policies`, its other workloads: how many there are, which are on the move or were just `told` to be,
/// and when moves of the last hour ended. Who is decided about `here` counts by itself; of those, only who was told to move
/// and is not seen moving yet.
pub fn elsewhere(
    workloads: impl FnOnce() -> Vec<Arc<InferenceWorkload>>,
    policies: &BTreeSet<&str>,
    (here, told): (&BTreeSet<&str>, &BTreeSet<String>),
    now: Timestamp,
) -> Vec<MovesElsewhere> {
    let none = |name: &&str| MovesElsewhere {
        policy: Some((*name).to_owned()),
        ..MovesElsewhere::default()
    };
    let mut counted: BTreeMap<&str, MovesElsewhere> =
        policies.iter().map(|name| (*name, none(name))).collect();
    if counted.is_empty() {
        return Vec::new();
    }
    for workload in workloads() {
        let named = workload.spec.placement.policy_ref.as_ref();
        let Some(of_policy) = named.and_then(|named| counted.get_mut(named.name.as_str())) else {
            continue;
        };
        let uid = workload.metadata.uid.as_deref().unwrap_or_default();
        let status = workload.status.as_ref();
        let placement = status.and_then(|status| status.placement.as_ref());
        let moving = placement.is_some_and(validate::is_going_on);
        if here.contains(uid) {
            of_policy.moving += u32::from(!moving && told.contains(uid));
            continue;
        }
        of_policy.workloads += 1;
        of_policy.moving += u32::from(moving || told.contains(uid));
        let ended = validate::moves(&workload).into_iter();
        of_policy
            .moves
            .extend(ended.filter(|ended| now.duration_since(*ended) < COUNTED));
    }
    let mut counted: Vec<MovesElsewhere> = counted.into_values().collect();
    for of_policy in &mut counted {
        of_policy.moves.sort();
    }
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
        let fleet = || fleet.into_iter().map(Arc::new).collect();
        let told = BTreeSet::from(["told".to_owned(), "other-policy".to_owned()]);
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let (quick, own) = (BTreeSet::from(["quick"]), BTreeSet::from(["self"]));
        let counted = elsewhere(fleet, &quick, (&own, &told), now);
        let late = late.parse::<Timestamp>().expect("a time");
        let expected = MovesElsewhere {
            policy: Some("quick".to_owned()),
            workloads: 3,
            moving: 2,
            moves: vec![late],
        };
        assert_eq!(counted, [expected]);
    }

    #[test]
    fn who_is_decided_about_counts_here_only_as_long_as_it_was_told_and_is_not_seen_moving() {
        let policy = || json!({"name": "quick"});
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let moving_of = |phase: &str, told: &[&str]| {
            let fleet = [
                workload("self", policy(), Value::Null),
                workload("rival", policy(), moved(&[], phase)),
            ];
            let fleet = || fleet.into_iter().map(Arc::new).collect();
            let told = told.iter().map(|uid| (*uid).to_owned()).collect();
            let here = BTreeSet::from(["self", "rival"]);
            let counted = elsewhere(fleet, &BTreeSet::from(["quick"]), (&here, &told), now);
            (counted[0].workloads, counted[0].moving)
        };
        assert_eq!(moving_of("Steady", &["rival"]), (0, 1));
        assert_eq!(moving_of("Preparing", &["rival"]), (0, 0));
        assert_eq!(moving_of("Steady", &[]), (0, 0));
    }

    #[test]
    fn without_a_budget_nobody_is_counted() {
        let fleet = || panic!("the fleet is not asked for");
        let none = BTreeSet::new();
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        assert_eq!(elsewhere(fleet, &none, (&none, &BTreeSet::new()), now), []);
    }
}
