//! The cases that must come out right, by name, as far as one side alone decides them.

use weir_placement::*;

use crate::builders::*;

fn placed_on(snapshot: &FleetSnapshot, policy: PlacementPolicy) -> (String, Reason) {
    let decision = decide_one(snapshot, policy, at(0));
    assert_eq!(decision.outcome, Outcome::Place, "{}", decision.message);
    (decision.target.expect("a target"), decision.reason)
}

fn priced(requests: u64, hourly: &str, input: &str, output: &str) -> FleetSnapshot {
    let mut workload = hybrid(requests);
    cloud_of(&mut workload).price = Some(price(input, output));
    let mut snapshot = fleet(workload);
    snapshot.tiers.insert(TIER.to_owned(), tier(hourly));
    snapshot
}

/// Traffic around the clock amortizes a GPU.
#[test]
fn always_on_assistant() {
    let snapshot = priced(3_000_000, "0.50", "0.15", "0.60");
    assert_eq!(
        placed_on(&snapshot, prompt_policy()),
        (LOCAL.to_owned(), Reason::LowerCost)
    );
}

/// Data that may not leave is served locally, whatever it costs.
#[test]
fn privacy_bound_enterprise() {
    let mut snapshot = priced(10, "400", "0.01", "0.01");
    only(&mut snapshot).egress = Egress::Forbidden;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(decision.target.as_deref(), Some(LOCAL));
    let cloud = candidate(&decision, CLOUD);
    assert_eq!((cloud.verdict, &cloud.cost), (Verdict::Rejected, &None));
    assert_eq!(
        cloud.rejected_by[0].reason,
        RejectionReason::EgressForbidden
    );
    assert_eq!(decision.break_even, None);
}

/// Where no provider can be reached, cheap tokens are of no use.
#[test]
fn edge_disconnected() {
    let snapshot = priced(10, "400", "0.01", "0.01");
    let policy = PlacementPolicy {
        connectivity: Connectivity::Disconnected,
        ..prompt_policy()
    };
    assert_eq!(
        placed_on(&snapshot, policy),
        (LOCAL.to_owned(), Reason::OnlyFeasibleTarget)
    );
}

/// Prompts without answers, by the hundred million: a few replicas against a price for every token.
#[test]
fn high_volume_batch_embedding() {
    let mut snapshot = priced(100_000_000, "0.50", "0.02", "0");
    only(&mut snapshot).demand.declared = figures(100_000_000, 500, 0);
    local_of(only(&mut snapshot))
        .throughput
        .insert(TIER.to_owned(), throughput(20_000));
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.target.as_deref(), decision.reason),
        (Some(LOCAL), Reason::LowerCost)
    );
    assert!(candidate(&decision, LOCAL).replicas > Some(0));
}

/// Test loops on hardware that is there, hosted by people who like to.
#[test]
fn development_sandbox() {
    let mut snapshot = priced(200_000, "0.01", "0.15", "0.60");
    only(&mut snapshot).self_hosting = SelfHosting::Free;
    let policy = PlacementPolicy {
        operations_cost_per_month: MicroUsd::parse_decimal("500").expect("dollars"),
        ..prompt_policy()
    };
    assert_eq!(
        placed_on(&snapshot, policy.clone()),
        (LOCAL.to_owned(), Reason::LowerCost)
    );
    only(&mut snapshot).self_hosting = SelfHosting::Costed;
    assert_eq!(
        placed_on(&snapshot, policy),
        (CLOUD.to_owned(), Reason::LowerCost)
    );
}

/// What only the cloud model can do is done there.
#[test]
fn frontier_capability() {
    let mut snapshot = priced(3_000_000, "0.01", "10", "40");
    let workload = only(&mut snapshot);
    workload.capability.required = set(&["DeepReasoning"]);
    cloud_of(workload).model.capabilities = set(&["Tools", "DeepReasoning"]);
    assert_eq!(
        placed_on(&snapshot, prompt_policy()),
        (CLOUD.to_owned(), Reason::OnlyFeasibleTarget)
    );
}

/// Rare requests do not pay for a GPU that waits for them.
#[test]
fn bursty_low_average() {
    let snapshot = priced(20_000, "0.50", "0.15", "0.60");
    assert_eq!(
        placed_on(&snapshot, prompt_policy()),
        (CLOUD.to_owned(), Reason::LowerCost)
    );
}

/// Many tenants, each below what a deployment of its own costs: every one goes to the cloud.
#[test]
fn multi_tenant_below_amortization() {
    let mut snapshot = priced(30_000, "0.50", "0.15", "0.60");
    let tenant = only(&mut snapshot).clone();
    snapshot.workloads = (0..50)
        .map(|n| (WorkloadId(format!("tenant-{n}")), tenant.clone()))
        .collect();
    let plan = decide(
        &snapshot,
        &Policy::of(prompt_policy()),
        &Plan::default(),
        at(0),
    );
    assert_eq!(plan.decisions.len(), 50);
    assert!(
        plan.decisions
            .values()
            .all(|decision| decision.target.as_deref() == Some(CLOUD))
    );
}

/// A team that does not host is not given a deployment, however cheap.
#[test]
fn no_ops_capacity() {
    let mut snapshot = priced(3_000_000, "0.01", "10", "40");
    only(&mut snapshot).self_hosting = SelfHosting::Forbidden;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(decision.target.as_deref(), Some(CLOUD));
    assert_eq!(
        candidate(&decision, LOCAL).rejected_by[0].reason,
        RejectionReason::SelfHostingForbidden
    );
}

/// A product around somebody else's model has one target; the decision says so and has no break-even.
#[test]
fn thin_wrapper() {
    let mut snapshot = priced(50_000, "0.50", "0.15", "0.60");
    only(&mut snapshot).targets.remove(0);
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.target.as_deref(), decision.reason),
        (Some(CLOUD), Reason::OnlyFeasibleTarget)
    );
    assert_eq!(decision.break_even, None);
}

/// A price cut moves a local workload to the cloud once dwell and confirmation are over, and a rise brings it back.
#[test]
fn cloud_price_drop_flips_local() {
    let mut snapshot = priced(3_000_000, "0.50", "0.15", "0.60");
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    let policy = PlacementPolicy {
        min_dwell: Seconds::clamped(20),
        confirmation: ConfirmationRule {
            count: 2,
            interval: Seconds::clamped(3),
        },
        ..standard_policy()
    };
    let step = |snapshot: &FleetSnapshot, previous: &Decision, seconds| {
        decide_after(snapshot, policy.clone(), &plan_of(previous), at(seconds))
    };
    let kept = decide_one(&snapshot, policy.clone(), at(1));
    assert_eq!(
        (kept.outcome, kept.reason),
        (Outcome::Keep, Reason::LowerCost)
    );
    let mut cut = price("0.06", "0.25");
    cut.book.revision = "r2".to_owned();
    cloud_of(only(&mut snapshot)).price = Some(cut);
    let dwelling = step(&snapshot, &kept, 10);
    assert_eq!(
        (dwelling.outcome, dwelling.reason),
        (Outcome::Hold, Reason::MinDwell),
        "{}",
        dwelling.message
    );
    assert_eq!(dwelling.hold_until, Some(at(20)));
    assert_eq!(dwelling.target.as_deref(), Some(LOCAL));
    let moved = step(&snapshot, &dwelling, 20);
    assert_eq!(
        (moved.outcome, moved.reason),
        (Outcome::Move, Reason::LowerCost),
        "{}",
        moved.message
    );
    assert_eq!(
        (moved.target.as_deref(), moved.trigger),
        (Some(CLOUD), Trigger::PriceChanged)
    );

    only(&mut snapshot).current = Some(placed(CLOUD, at(30)));
    only(&mut snapshot).moves.insert(at(30));
    cloud_of(only(&mut snapshot)).price = Some(price("0.15", "0.60"));
    let first = step(&snapshot, &moved, 51);
    assert_eq!(
        first.reason,
        Reason::AwaitingConfirmation,
        "{}",
        first.message
    );
    let back = step(&snapshot, &first, 54);
    assert_eq!(
        (back.outcome, back.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
}
