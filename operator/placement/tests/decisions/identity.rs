//! One identity for one decision of one workload.

use std::collections::BTreeSet;

use weir_placement::*;

use crate::builders::*;

fn decided(snapshot: &FleetSnapshot, previous: &Plan, second: i64) -> Plan {
    let policy = Policy {
        default: standard_policy(),
        ..Policy::default()
    };
    decide(snapshot, &policy, previous, at(second))
}

fn ids(plan: &Plan) -> Vec<String> {
    plan.decisions
        .values()
        .map(|each| each.id.clone())
        .collect()
}

/// Three workloads that are alike in everything but who they are.
fn alike() -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(1_000));
    let workload = only(&mut snapshot).clone();
    for uid in ["one", "other"] {
        let id = WorkloadId::from(uid);
        snapshot.workloads.insert(id, workload.clone());
    }
    snapshot
}

#[test]
fn workloads_that_are_alike_have_decisions_of_their_own() {
    let ids = ids(&decided(&alike(), &Plan::default(), 0));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3, "{ids:?}");
}

#[test]
fn the_same_decision_keeps_its_identity_for_as_long_as_it_stands() {
    let snapshot = alike();
    let first = decided(&snapshot, &Plan::default(), 0);
    let mut last = first.clone();
    for day in 1..=30 {
        last = decided(&snapshot, &last, day * 86_400);
        assert_eq!(ids(&last), ids(&first));
    }
}

#[test]
fn a_decision_that_is_taken_again_after_another_is_another_one() {
    let cheap = fleet(hybrid(1_000));
    let mut dear = cheap.clone();
    cloud_of(only(&mut dear)).price = Some(price("2", "4"));
    let first = decided(&cheap, &Plan::default(), 0);
    let between = decided(&dear, &first, 10);
    let again = decided(&cheap, &between, 20);
    let all = [ids(&first), ids(&between), ids(&again)].concat();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3, "{all:?}");
}

#[test]
fn an_identity_that_a_version_before_gave_stays_until_something_else_is_decided() {
    let snapshot = fleet(hybrid(1_000));
    let mut before = decided(&snapshot, &Plan::default(), 0);
    let decision = before.decisions.values_mut().next().expect("one");
    let short = decision
        .id
        .rsplit_once('-')
        .expect("two parts")
        .0
        .to_owned();
    decision.id = short.clone();
    assert_eq!(ids(&decided(&snapshot, &before, 60)), [short]);
}
