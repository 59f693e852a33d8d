//! The move budget of a policy: who goes first, what counts, and when the next may go.

use std::collections::{BTreeMap, BTreeSet};

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

/// A change that ends one wish lets the next one go, although nothing about that one changed; who wishes for nothing is
/// not looked at.
#[test]
fn a_change_lets_the_next_one_go() {
    let mut snapshot = three_wishes();
    for (id, workload) in &mut snapshot.workloads {
        cloud_of(workload).model.name = Some(format!("model-of-{id}"));
    }
    let mut content = hybrid(20_000);
    content.current = Some(placed(CLOUD, at(-1_000_000)));
    content.targets = vec![on_cloud(external())];
    snapshot.workloads.insert(WorkloadId::from("d"), content);
    let changed = Changed {
        prices: BTreeSet::from([PriceKey {
            provider: "openai-eu".to_owned(),
            model: "model-of-b".to_owned(),
        }]),
        ..Changed::default()
    };
    let mut dearer = snapshot.clone();
    let cheapest = dearer.workloads.get_mut(&WorkloadId::from("b")).expect("b");
    cloud_of(cheapest).price = Some(price("100", "400"));
    let after = |policy: &Policy| {
        let previous = decide(&snapshot, policy, &Plan::default(), at(0));
        let (plan, evaluated) = decide_changed(&dearer, policy, &previous, &changed, at(0));
        assert_eq!(plan, decide(&dearer, policy, &previous, at(0)));
        (plan, evaluated)
    };
    let (plan, evaluated) = after(&Policy::of(policy(Some(1), None)));
    let outcome = |name: &str| plan.decisions[&WorkloadId::from(name)].outcome;
    assert_eq!(
        ["a", "b", "c", "d"].map(outcome),
        [Outcome::Hold, Outcome::Keep, Outcome::Move, Outcome::Keep]
    );
    assert_eq!(
        evaluated, 3,
        "the one that wishes for nothing is not looked at"
    );
    let (_, evaluated) = after(&Policy::of(policy(None, None)));
    assert_eq!(evaluated, 1, "without a budget nobody waits");
}

/// Between two clouds no tier is shared: who may go is still the largest saving of all wishes, also after a change.
#[test]
fn wishes_without_a_tier_are_ranked_anew_after_a_change() {
    const SECOND: &str = "cloud-second";
    let workload = |name: &str, requests| {
        let mut dear = external();
        dear.price = Some(price("1", "4"));
        let mut second = external();
        second.model.name = Some(format!("second-of-{name}"));
        let mut workload = hybrid(requests);
        workload.targets = vec![
            on_cloud(dear),
            Target {
                name: SECOND.to_owned(),
                kind: TargetKind::External(second),
            },
        ];
        workload.current = Some(placed(CLOUD, at(-1_000_000)));
        (WorkloadId::from(name), workload)
    };
    let mut snapshot = fleet(hybrid(1));
    snapshot.workloads = [("a", 1_000), ("b", 2_000), ("c", 3_000)]
        .map(|(name, requests)| workload(name, requests))
        .into();
    let policy = Policy::of(policy(Some(1), None));
    let previous = decide(&snapshot, &policy, &Plan::default(), at(0));
    let best = snapshot
        .workloads
        .get_mut(&WorkloadId::from("c"))
        .expect("c");
    let TargetKind::External(second) = &mut best.targets[1].kind else {
        panic!("an external target");
    };
    second.price = Some(price("100", "400"));
    let changed = Changed {
        prices: BTreeSet::from([PriceKey {
            provider: "openai-eu".to_owned(),
            model: "second-of-c".to_owned(),
        }]),
        ..Changed::default()
    };
    let (plan, evaluated) = decide_changed(&snapshot, &policy, &previous, &changed, at(0));
    let outcomes = |plan: &Plan| -> Vec<Outcome> {
        let decisions = plan.decisions.values();
        decisions.map(|decision| decision.outcome).collect()
    };
    use Outcome::{Hold, Keep, Move};
    assert_eq!(outcomes(&previous), [Hold, Hold, Move]);
    assert_eq!((outcomes(&plan), evaluated), (vec![Hold, Move, Keep], 3));
    assert_eq!(plan, decide(&snapshot, &policy, &previous, at(0)));
}
