//! The cases that must come out right, by name, in which one side wins. The mixed ones are in `scenarios_mixed`.

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

/// Traffic around the clock amortizes a GPU: $365 a month against $729, above a break-even of 1.5 million requests.
#[test]
fn always_on_assistant() {
    let snapshot = priced(3_000_000, "0.50", "0.15", "0.60");
    assert_eq!(
        placed_on(&snapshot, prompt_policy()),
        (LOCAL.to_owned(), Reason::LowerCost)
    );
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        decision.break_even.map(RequestsPerMonth::get),
        Some(1_502_058)
    );
    assert_eq!(decision.savings_percent, Some(49));
    let below = decision
        .flip_conditions
        .iter()
        .find(|it| it.quantity == FlipQuantity::RequestsPerMonth);
    assert_eq!(below.map(|it| it.to.as_str()), Some(CLOUD));
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

/// Prompts without answers, by the hundred million, at night: one replica against a price for every token.
#[test]
fn high_volume_batch_embedding() {
    let mut snapshot = priced(100_000_000, "0.50", "0.02", "0");
    let workload = only(&mut snapshot);
    workload.demand.pattern = Pattern::Batch;
    workload.demand.declared = figures(100_000_000, 500, 0);
    local_of(workload)
        .throughput
        .insert(TIER.to_owned(), throughput(20_000));
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.target.as_deref(), decision.reason),
        (Some(LOCAL), Reason::LowerCost),
        "{}",
        decision.message
    );
    let cost = |name| {
        let cost = candidate(&decision, name).cost.as_ref().expect("a cost");
        cost.monthly.to_decimal()
    };
    assert_eq!(
        (cost(LOCAL).as_str(), cost(CLOUD).as_str()),
        ("365", "1000")
    );
    assert_eq!(candidate(&decision, LOCAL).replicas, Some(1));
}

/// Test loops on a workstation that is there anyway, hosted by people who like to: its energy against cheap tokens.
#[test]
fn development_sandbox() {
    let mut snapshot = priced(200_000, "0.40", "0.15", "0.60");
    only(&mut snapshot).self_hosting = SelfHosting::Free;
    let workstation = TierState {
        cost_kind: CostKind::Owned,
        marginal_hourly_cost: Some(MicroUsdPerHour::parse_decimal("0.04").expect("dollars")),
        free_devices: Some(1),
        ..tier("0.40")
    };
    snapshot.tiers.insert(TIER.to_owned(), workstation);
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

/// A volume that would pay for a GPU around the clock does not where it comes in a few hours: the same requests need
/// three times the replicas.
#[test]
fn bursty_low_average() {
    let mut snapshot = priced(4_000_000, "0.50", "0.15", "0.60");
    assert_eq!(
        placed_on(&snapshot, prompt_policy()),
        (LOCAL.to_owned(), Reason::LowerCost)
    );
    only(&mut snapshot).demand.pattern = Pattern::Bursty;
    assert_eq!(
        placed_on(&snapshot, prompt_policy()),
        (CLOUD.to_owned(), Reason::LowerCost)
    );
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(candidate(&decision, LOCAL).replicas, Some(3));
    let rare = priced(20_000, "0.50", "0.15", "0.60");
    assert_eq!(
        placed_on(&rare, prompt_policy()),
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
