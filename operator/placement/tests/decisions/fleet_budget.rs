//! The move budget of a policy: who goes first, what counts, and when the next may go.

use std::collections::BTreeMap;

use weir_placement::*;

use crate::builders::*;

/// Three workloads that would go to the cloud; the more requests stay below break-even, the less is saved.
fn three_wishes() -> FleetSnapshot {
    let workload = |requests| {
        let mut workload = hybrid(requests);
        workload.current = Some(placed(LOCAL, at(-1_000_000)));
        workload
    };
    let named = [("a", 300_000), ("b", 20_000), ("c", 100_000)];
    FleetSnapshot {
        workloads: named
            .map(|(name, requests)| (WorkloadId::from(name), workload(requests)))
            .into(),
        ..fleet(hybrid(1))
    }
}

fn policy(per_hour: Option<u32>, percent: Option<u128>) -> PlacementPolicy {
    PlacementPolicy {
        move_budget: MoveBudget {
            per_hour,
            percent_per_hour: percent.map(Percent::clamped),
        },
        ..prompt_policy()
    }
}

fn movers(snapshot: &FleetSnapshot, policy: PlacementPolicy, now: Timestamp) -> Vec<String> {
    let plan = decide(snapshot, &Policy::of(policy), &Plan::default(), now);
    plan.decisions
        .iter()
        .filter(|(_, decision)| decision.outcome == Outcome::Move)
        .map(|(id, _)| id.0.clone())
        .collect()
}

#[test]
fn the_largest_savings_go_first_and_the_others_are_held() {
    let snapshot = three_wishes();
    assert_eq!(
        movers(&snapshot, policy(None, None), at(0)),
        ["a", "b", "c"]
    );
    assert_eq!(movers(&snapshot, policy(Some(2), None), at(0)), ["b", "c"]);
    assert_eq!(movers(&snapshot, policy(Some(1), None), at(0)), ["b"]);
    assert!(movers(&snapshot, policy(Some(0), None), at(0)).is_empty());
    let plan = decide(
        &snapshot,
        &Policy::of(policy(Some(1), None)),
        &Plan::default(),
        at(0),
    );
    let held = &plan.decisions[&WorkloadId::from("a")];
    assert_eq!(
        (held.outcome, held.reason, held.target.as_deref()),
        (Outcome::Hold, Reason::FleetMoveBudgetSpent, Some(LOCAL))
    );
    assert!(
        held.message
            .starts_with("wishes for cloud-mini, held by the policy's limit of 1 moves an hour: "),
        "{}",
        held.message
    );
    assert_eq!(held.confirmation.as_ref().map(|it| it.count), Some(1));
}

#[test]
fn among_equal_savings_the_uid_decides() {
    let mut snapshot = three_wishes();
    let same = snapshot.workloads[&WorkloadId::from("a")].clone();
    snapshot
        .workloads
        .values_mut()
        .for_each(|it| *it = same.clone());
    assert_eq!(movers(&snapshot, policy(Some(2), None), at(0)), ["a", "b"]);
}

#[test]
fn a_share_of_the_fleet_is_rounded_up_and_the_smaller_limit_holds() {
    let snapshot = three_wishes();
    assert_eq!(movers(&snapshot, policy(None, Some(1)), at(0)).len(), 1);
    assert_eq!(movers(&snapshot, policy(None, Some(33)), at(0)).len(), 1);
    assert_eq!(movers(&snapshot, policy(None, Some(34)), at(0)).len(), 2);
    assert_eq!(movers(&snapshot, policy(None, Some(0)), at(0)).len(), 0);
    assert_eq!(
        movers(&snapshot, policy(Some(1), Some(100)), at(0)).len(),
        1
    );
    assert_eq!(movers(&snapshot, policy(Some(9), Some(34)), at(0)).len(), 2);
}

#[test]
fn moves_of_the_last_hour_count_and_the_hold_says_until_when() {
    let mut snapshot = three_wishes();
    let done = snapshot
        .workloads
        .get_mut(&WorkloadId::from("a"))
        .expect("a");
    done.current = Some(placed(CLOUD, at(-1_000)));
    done.moves.insert(at(-1_000));
    let budget = policy(Some(2), None);
    assert_eq!(movers(&snapshot, budget.clone(), at(0)), ["b"]);
    let plan = decide(
        &snapshot,
        &Policy::of(budget.clone()),
        &Plan::default(),
        at(0),
    );
    let held = &plan.decisions[&WorkloadId::from("c")];
    assert_eq!(held.hold_until, Some(at(2_600)));
    assert_eq!(held.next_evaluation, Some(at(2_600)));
    assert_eq!(movers(&snapshot, budget.clone(), at(2_599)), ["b"]);
    assert_eq!(movers(&snapshot, budget, at(2_600)), ["b", "c"]);
}

#[test]
fn a_move_in_progress_counts() {
    let mut snapshot = three_wishes();
    let moving = snapshot
        .workloads
        .get_mut(&WorkloadId::from("a"))
        .expect("a");
    moving.current.as_mut().expect("placed").pending = Some(PendingMove {
        to: CLOUD.to_owned(),
        tier: None,
        decision_id: "d-00000000".to_owned(),
    });
    assert_eq!(movers(&snapshot, policy(Some(2), None), at(0)), ["a", "b"]);
}

#[test]
fn workloads_elsewhere_count_for_their_policy_only() {
    let mut snapshot = three_wishes();
    let elsewhere = |policy: Option<&str>| MovesElsewhere {
        policy: policy.map(str::to_owned),
        workloads: 97,
        moving: 1,
        moves: vec![at(-3_599), at(-3_600)],
    };
    snapshot.elsewhere = vec![elsewhere(None)];
    assert_eq!(movers(&snapshot, policy(Some(3), None), at(0)), ["b"]);
    // 4 % of a hundred workloads, of which two are used.
    assert_eq!(movers(&snapshot, policy(None, Some(4)), at(0)), ["b", "c"]);
    snapshot.elsewhere = vec![elsewhere(Some("other"))];
    assert_eq!(movers(&snapshot, policy(Some(3), None), at(0)).len(), 3);
}

#[test]
fn moves_for_other_reasons_count_and_are_not_held() {
    let mut snapshot = three_wishes();
    let silent = snapshot
        .workloads
        .get_mut(&WorkloadId::from("a"))
        .expect("a");
    silent.current = Some(placed(CLOUD, at(-1_000_000)));
    cloud_of(silent).healthy = Some(false);
    assert_eq!(movers(&snapshot, policy(Some(0), None), at(0)), ["a"]);
    assert_eq!(movers(&snapshot, policy(Some(2), None), at(0)), ["a", "b"]);
}

#[test]
fn each_policy_has_its_own_budget() {
    let mut snapshot = three_wishes();
    let apart = snapshot
        .workloads
        .get_mut(&WorkloadId::from("b"))
        .expect("b");
    apart.policy = Some("other".to_owned());
    let policies = Policy {
        default: policy(Some(1), None),
        named: BTreeMap::from([("other".to_owned(), policy(Some(1), None))]),
    };
    let plan = decide(&snapshot, &policies, &Plan::default(), at(0));
    let moves = |name: &str| plan.decisions[&WorkloadId::from(name)].outcome == Outcome::Move;
    assert_eq!(["a", "b", "c"].map(moves), [false, true, true]);
}
