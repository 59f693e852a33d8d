//! The mixed cases that must come out right, by name: both sides serve, or the better side changes.

use std::collections::BTreeMap;

use weir_placement::*;

use crate::builders::*;

fn weights(decision: &Decision) -> Vec<(&str, u64, Option<u32>)> {
    let weights = decision.weights.iter();
    weights
        .map(|it| (it.target.as_str(), it.weight.get(), it.replicas))
        .collect()
}

fn step(
    snapshot: &FleetSnapshot,
    policy: &PlacementPolicy,
    before: &Decision,
    seconds: i64,
) -> Decision {
    decide_after(snapshot, policy.clone(), &plan_of(before), at(seconds))
}

/// A team may have two GPUs and its peaks need more: the base is served locally, and the cloud is on the route at weight 0
/// for what does not fit. 15 million requests a month need four replicas at the peak.
#[test]
fn base_local_burst_cloud() {
    let mut snapshot = fleet(hybrid(15_000_000));
    local_of(only(&mut snapshot)).max_replicas = 2;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Place, Reason::LowerCost),
        "{}",
        decision.message
    );
    assert_eq!(
        weights(&decision),
        [(LOCAL, 100, Some(2)), (CLOUD, 0, None)]
    );
    let cost = candidate(&decision, LOCAL).cost.as_ref().expect("a cost");
    assert!(cost.capacity_limited);
    assert!(
        decision.message.contains("more than the 2 replicas"),
        "{}",
        decision.message
    );
    let private = {
        only(&mut snapshot).egress = Egress::Forbidden;
        decide_one(&snapshot, prompt_policy(), at(0))
    };
    assert_eq!(weights(&private), [(LOCAL, 100, Some(2))]);
}

/// A price cut moves a local workload to the cloud once dwell and confirmation are over, and a rise brings it back.
#[test]
fn cloud_price_drop_flips_local() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    let policy = PlacementPolicy {
        min_dwell: Seconds::clamped(20),
        confirmation: ConfirmationRule {
            count: 2,
            interval: Seconds::clamped(3),
        },
        ..standard_policy()
    };
    let kept = decide_one(&snapshot, policy.clone(), at(1));
    assert_eq!(
        (kept.outcome, kept.reason),
        (Outcome::Keep, Reason::LowerCost)
    );
    let mut cut = price("0.06", "0.25");
    cut.book.revision = "r2".to_owned();
    cloud_of(only(&mut snapshot)).price = Some(cut);
    let dwelling = step(&snapshot, &policy, &kept, 10);
    assert_eq!(
        (dwelling.outcome, dwelling.reason),
        (Outcome::Hold, Reason::MinDwell),
        "{}",
        dwelling.message
    );
    assert_eq!(dwelling.hold_until, Some(at(20)));
    assert_eq!(dwelling.target.as_deref(), Some(LOCAL));
    let moved = step(&snapshot, &policy, &dwelling, 20);
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
    assert!(
        moved.break_even > kept.break_even,
        "break-even rises with the cut: {:?} then {:?}",
        kept.break_even,
        moved.break_even
    );

    only(&mut snapshot).current = Some(placed(CLOUD, at(30)));
    only(&mut snapshot).moves.insert(at(30));
    cloud_of(only(&mut snapshot)).price = Some(price("0.15", "0.60"));
    let first = step(&snapshot, &policy, &moved, 51);
    assert_eq!(
        first.reason,
        Reason::AwaitingConfirmation,
        "{}",
        first.message
    );
    let back = step(&snapshot, &policy, &first, 54);
    assert_eq!(
        (back.outcome, back.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
}

/// The open model that a target waits for is released: from then on it is a candidate, at its price for qualifying it.
#[test]
fn open_model_release_flips_cloud() {
    let mut snapshot = fleet(hybrid(6_000_000));
    let workload = only(&mut snapshot);
    workload.current = Some(placed(CLOUD, at(0)));
    cloud_of(workload).model.name = Some("closed-large".to_owned());
    workload.targets[0].kind = TargetKind::Unresolved {
        location: Location::Local,
        message: "ModelProfile open-large does not exist".to_owned(),
    };
    let policy = |fee: &str| PlacementPolicy {
        switching: SwitchingRule {
            requalification: MicroUsd::parse_decimal(fee).expect("dollars"),
            ..SwitchingRule::default()
        },
        ..prompt_policy()
    };
    let before = decide_one(&snapshot, policy("1000"), at(9));
    assert_eq!(
        (before.outcome, before.reason),
        (Outcome::Keep, Reason::OnlyFeasibleTarget)
    );

    // Two replicas for $730 a month against $1458 in the cloud.
    let mut released = local();
    released.model.name = Some("open-large".to_owned());
    only(&mut snapshot).targets[0] = on_local(released);
    let dear = step(&snapshot, &policy("1000"), &before, 20);
    assert_eq!(
        (dear.outcome, dear.reason),
        (Outcome::Keep, Reason::SwitchNotPaidBack),
        "{}",
        dear.message
    );
    let cheap = step(&snapshot, &policy("500"), &before, 20);
    assert_eq!(
        (cheap.outcome, cheap.target.as_deref(), cheap.reason),
        (Outcome::Move, Some(LOCAL), Reason::LowerCost),
        "{}",
        cheap.message
    );

    // Of one equivalence group it needs no qualification.
    let workload = only(&mut snapshot);
    local_of(workload).model.equivalence_group = Some("large-chat".to_owned());
    cloud_of(workload).model.equivalence_group = Some("large-chat".to_owned());
    let equivalent = step(&snapshot, &policy("1000"), &before, 20);
    assert_eq!(equivalent.outcome, Outcome::Move, "{}", equivalent.message);

    // What it cannot do keeps it out, whatever it costs.
    only(&mut snapshot).capability.required = set(&["Vision"]);
    cloud_of(only(&mut snapshot)).model.capabilities = set(&["Vision"]);
    let incapable = step(&snapshot, &policy("0"), &before, 20);
    assert_eq!(
        (incapable.outcome, incapable.reason),
        (Outcome::Keep, Reason::OnlyFeasibleTarget)
    );
}

/// GPUs that the company owns fall idle: a workload comes back from the cloud although they would not be bought for it,
/// stays while it runs there, and leaves no trace of a subsidy when the policy counts everything.
#[test]
fn idle_gpu_pulls_back() {
    let owned = |free| TierState {
        cost_kind: CostKind::Owned,
        marginal_hourly_cost: Some(MicroUsdPerHour::parse_decimal("0.12").expect("dollars")),
        free_devices: Some(free),
        ..tier("1.90")
    };
    // $413 a month in the cloud, $1387 for a GPU fully loaded, $88 for its energy.
    let mut snapshot = fleet(hybrid(1_700_000));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    snapshot.tiers.insert(TIER.to_owned(), owned(0));
    let policy = PlacementPolicy {
        min_dwell: Seconds::clamped(100),
        ..standard_policy()
    };
    let busy = decide_one(&snapshot, policy.clone(), at(1_000));
    assert_eq!(
        (busy.outcome, busy.target.as_deref()),
        (Outcome::Keep, Some(CLOUD))
    );

    snapshot.tiers.insert(TIER.to_owned(), owned(1));
    let first = step(&snapshot, &policy, &busy, 2_000);
    assert_eq!(first.reason, Reason::AwaitingConfirmation);
    let pulled = step(&snapshot, &policy, &first, 2_300);
    assert_eq!(
        (pulled.outcome, pulled.target.as_deref(), pulled.reason),
        (Outcome::Move, Some(LOCAL), Reason::LowerCost),
        "{}",
        pulled.message
    );
    let cost = candidate(&pulled, LOCAL).cost.as_ref().expect("a cost");
    assert_eq!(cost.basis, CostBasis::Marginal);

    // There it holds the device, which is no longer free, and stays.
    only(&mut snapshot).current = Some(placed(LOCAL, at(2_400)));
    snapshot.tiers.insert(TIER.to_owned(), owned(0));
    let kept = step(&snapshot, &policy, &pulled, 9_000);
    assert_eq!(
        (kept.outcome, kept.reason),
        (Outcome::Keep, Reason::LowerCost),
        "{}",
        kept.message
    );

    let everything = PlacementPolicy {
        local_cost_basis: LocalCostBasis::FullyLoaded,
        ..prompt_policy()
    };
    let leaves = decide_one(&snapshot, everything, at(9_000));
    assert_eq!(
        (leaves.outcome, leaves.target.as_deref()),
        (Outcome::Move, Some(CLOUD))
    );
}

/// A local target that sleeps is woken at full weight with the cloud beside it at weight 0: the gateway may bridge the
/// start there. Where the cloud may not have the data there is nothing to bridge with.
#[test]
fn cold_start_bridge() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(CurrentPlacement {
        replicas: BTreeMap::from([(LOCAL.to_owned(), 0)]),
        held: BTreeMap::new(),
        ..placed(LOCAL, at(0))
    });
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Keep, Reason::LowerCost)
    );
    assert_eq!(
        weights(&decision),
        [(LOCAL, 100, Some(1)), (CLOUD, 0, None)]
    );
    only(&mut snapshot).allowed_jurisdictions = set(&["CH"]);
    let bound = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(weights(&bound), [(LOCAL, 100, Some(1))]);
}
