//! Tiers: what waits, what is preferred, and who gets the last device.

use std::collections::BTreeMap;

use weir_placement::*;

use crate::builders::*;

fn without_nodes(mut snapshot: FleetSnapshot) -> FleetSnapshot {
    let tier = snapshot.tiers.get_mut(TIER).expect("the tier");
    tier.nodes = 0;
    tier.free_devices = Some(0);
    snapshot
}

#[test]
fn a_private_workload_without_a_gpu_is_placed_and_waits() {
    let decision = decide_one(&without_nodes(fleet(private())), prompt_policy(), at(0));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Place, Reason::WaitingForGpu)
    );
    assert_eq!(
        (decision.target.as_deref(), decision.tier.as_deref()),
        (Some(LOCAL), Some(TIER))
    );
    assert_eq!(decision.weights[0].replicas, Some(1));
    assert!(decision.message.contains("0 nodes"), "{}", decision.message);
}

#[test]
fn a_waiting_workload_stays_and_its_reason_clears_when_a_node_comes() {
    let mut snapshot = without_nodes(fleet(private()));
    let waiting = decide_one(&snapshot, prompt_policy(), at(0));
    only(&mut snapshot).current = Some(CurrentPlacement {
        held: BTreeMap::new(),
        ..placed(LOCAL, at(0))
    });
    let kept = decide_after(&snapshot, prompt_policy(), &plan_of(&waiting), at(5));
    assert_eq!(
        (kept.outcome, kept.reason),
        (Outcome::Keep, Reason::WaitingForGpu)
    );
    assert_eq!(kept.id, waiting.id);
    snapshot.tiers.insert(TIER.to_owned(), tier("0.50"));
    let served = decide_after(&snapshot, prompt_policy(), &plan_of(&kept), at(10));
    assert_eq!(
        (served.outcome, served.reason),
        (Outcome::Keep, Reason::OnlyFeasibleTarget)
    );
    assert_eq!(served.trigger, Trigger::CapacityChanged);
}

#[test]
fn a_workload_with_a_cloud_side_does_not_wait_for_a_node() {
    let decision = decide_one(
        &without_nodes(fleet(hybrid(3_000_000))),
        prompt_policy(),
        at(0),
    );
    assert_eq!(
        (decision.target.as_deref(), decision.reason),
        (Some(CLOUD), Reason::OnlyFeasibleTarget)
    );
}

#[test]
fn nothing_moves_to_a_tier_without_a_free_device() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(9)).outcome,
        Outcome::Move
    );
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(0);
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Keep, Some(CLOUD))
    );
    assert_eq!(
        candidate(&decision, LOCAL).rejected_by[0].reason,
        RejectionReason::NoCapacity
    );
}

/// 12 million requests need three replicas.
fn on_the_cloud(free: u32) -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(12_000_000));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(free);
    snapshot
}

#[test]
fn nothing_moves_to_where_some_of_its_replicas_would_find_no_device() {
    let enough = decide_one(&on_the_cloud(3), prompt_policy(), at(9));
    assert_eq!(
        (enough.outcome, enough.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
    let decision = decide_one(&on_the_cloud(2), prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Keep, Some(CLOUD))
    );
    let rejected = &candidate(&decision, LOCAL).rejected_by[0];
    assert_eq!(
        (rejected.reason, rejected.message.as_str()),
        (
            RejectionReason::NoCapacity,
            "tier l4 has 2 free devices on 2 nodes, and 3 are needed"
        )
    );
}

#[test]
fn who_has_no_other_place_is_served_by_as_many_devices_as_there_are() {
    let mut snapshot = fleet(WorkloadInput {
        demand: hybrid(12_000_000).demand,
        ..private()
    });
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(1);
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Place, Reason::OnlyFeasibleTarget)
    );
}

#[test]
fn replicas_that_stand_by_are_not_in_the_way_of_their_own_target() {
    let mut snapshot = on_the_cloud(0);
    let current = only(&mut snapshot).current.as_mut().expect("a place");
    let standing_by = BTreeMap::from([(TIER.to_owned(), 3)]);
    current.held = standing_by.clone();
    current.standby = BTreeMap::from([(LOCAL.to_owned(), standing_by)]);
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
    let elsewhere = &mut only(&mut snapshot)
        .current
        .as_mut()
        .expect("a place")
        .standby;
    *elsewhere = BTreeMap::from([(CLOUD.to_owned(), BTreeMap::new())]);
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(decision.outcome, Outcome::Keep);
}

#[test]
fn devices_that_can_be_provisioned_are_room_at_their_price_and_delay() {
    let mut snapshot = without_nodes(on_the_cloud(0));
    let provisionable = |devices, dollars: &str| {
        Some(Provisionable {
            devices,
            ready_after: Seconds::clamped(180),
            hourly_cost: Some(MicroUsdPerHour::parse_decimal(dollars).expect("dollars")),
        })
    };
    let mut with = |state| {
        snapshot
            .tiers
            .get_mut(TIER)
            .expect("the tier")
            .provisionable = state;
        decide_one(&snapshot, prompt_policy(), at(9))
    };
    let decision = with(provisionable(4, "0.60"));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
    let cost = |decision: &Decision| {
        let cost = candidate(decision, LOCAL).cost.clone().expect("a cost");
        cost.monthly.to_decimal()
    };
    // Three at $0.60 for 730 hours.
    assert_eq!(cost(&decision), "1314");
    let few = with(provisionable(2, "0.60"));
    assert_eq!(
        candidate(&few, LOCAL).rejected_by[0].message,
        "tier l4 has 2 free devices on 0 nodes (0 free, 2 to be provisioned), and 3 are needed"
    );
    assert_eq!(with(provisionable(4, "9")).outcome, Outcome::Keep);
    // Nobody counts on less than what such devices cost once they are there.
    assert_eq!(cost(&with(provisionable(4, "0.01"))), "1095");
    let policy = PlacementPolicy {
        switching: SwitchingRule {
            warm_up: Seconds::MIN,
            pay_back: Seconds::clamped(60),
            ..SwitchingRule::default()
        },
        ..prompt_policy()
    };
    assert_eq!(
        decide_one(&snapshot, policy, at(9)).reason,
        Reason::SwitchNotPaidBack
    );
}

#[test]
fn a_workload_that_holds_the_last_device_keeps_it() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(0);
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Keep, Reason::LowerCost)
    );
}

#[test]
fn a_lost_node_moves_a_workload_only_once_confirmed() {
    let mut snapshot = without_nodes(fleet(hybrid(3_000_000)));
    only(&mut snapshot).current = Some(CurrentPlacement {
        held: BTreeMap::new(),
        ..placed(LOCAL, at(0))
    });
    let policy = standard_policy();
    let first = decide_one(&snapshot, policy.clone(), at(1));
    assert_eq!(
        (first.outcome, first.reason),
        (Outcome::Hold, Reason::AwaitingConfirmation)
    );
    assert_eq!(
        first.weights[0],
        TargetWeight {
            target: LOCAL.to_owned(),
            weight: Percent::clamped(100),
            replicas: Some(1),
        }
    );
    let second = decide_after(&snapshot, policy, &plan_of(&first), at(301));
    assert_eq!(
        (second.outcome, second.reason),
        (Outcome::Move, Reason::CurrentTargetUnavailable)
    );
}

#[test]
fn a_spent_budget_does_not_keep_a_workload_on_a_target_that_cannot_serve() {
    let mut snapshot = without_nodes(fleet(hybrid(3_000_000)));
    let workload = only(&mut snapshot);
    workload.max_moves_per_week = Some(0);
    workload.current = Some(CurrentPlacement {
        held: BTreeMap::new(),
        ..placed(LOCAL, at(0))
    });
    let decision = decide_one(&snapshot, prompt_policy(), at(301));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Move, Reason::CurrentTargetUnavailable)
    );
}

#[test]
fn the_preferred_tier_with_room_is_taken_and_a_place_there_is_kept() {
    let mut snapshot = fleet(private());
    local_of(only(&mut snapshot)).tiers =
        vec!["small".to_owned(), "full".to_owned(), TIER.to_owned()];
    let mut small = tier("0.10");
    small.device_memory = Some(Bytes::clamped(1 << 30));
    let mut full = tier("0.20");
    full.free_devices = Some(0);
    snapshot
        .tiers
        .extend([("small".to_owned(), small), ("full".to_owned(), full)]);
    let first = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(first.tier.as_deref(), Some(TIER));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    snapshot
        .tiers
        .get_mut("full")
        .expect("the tier")
        .free_devices = Some(8);
    let later = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(later.tier.as_deref(), Some(TIER));
}

#[test]
fn the_last_device_goes_to_the_workload_that_has_no_other_place() {
    let mut snapshot = fleet(hybrid(3_000_000));
    snapshot
        .workloads
        .insert(WorkloadId::from("zz-private"), private());
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(1);
    let plan = decide(
        &snapshot,
        &Policy::of(prompt_policy()),
        &Plan::default(),
        at(0),
    );
    let reasons: Vec<_> = plan
        .decisions
        .values()
        .map(|decision| (decision.target.as_deref(), decision.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            (Some(CLOUD), Reason::OnlyFeasibleTarget),
            (Some(LOCAL), Reason::OnlyFeasibleTarget),
        ]
    );
}

#[test]
fn a_suspended_workload_does_not_scale() {
    let mut snapshot = fleet(hybrid(50_000_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    let running = decide_one(&snapshot, prompt_policy(), at(9));
    assert!(running.weights[0].replicas > Some(1));
    only(&mut snapshot).suspend = true;
    let suspended = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (suspended.outcome, suspended.reason),
        (Outcome::Hold, Reason::Suspended)
    );
    assert_eq!(suspended.weights[0].replicas, Some(1));
}

#[test]
fn replicas_step_up_with_demand_and_stop_at_the_most_allowed() {
    let replicas = |requests| {
        let decision = decide_one(&fleet(hybrid(requests)), prompt_policy(), at(0));
        let local = candidate(&decision, LOCAL);
        (
            local.replicas,
            local.cost.as_ref().map(|cost| cost.capacity_limited),
        )
    };
    // 0.3 × 900 + 180 = 450 tokens a request, twice that at the peak; 2000 tokens/s × 2 628 000 s = 5.256e9 a month.
    assert_eq!(replicas(0), (Some(1), Some(false)));
    assert_eq!(replicas(5_840_000), (Some(1), Some(false)));
    assert_eq!(replicas(5_840_001), (Some(2), Some(false)));
    assert_eq!(replicas(23_360_000), (Some(4), Some(false)));
    assert_eq!(replicas(23_360_001), (Some(4), Some(true)));
}
