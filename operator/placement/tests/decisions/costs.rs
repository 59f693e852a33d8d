//! What targets cost: context tiers, batches, patterns, and the two costs of local hardware.

use weir_placement::*;

use crate::builders::*;

fn monthly(decision: &Decision, name: &str) -> String {
    let cost = candidate(decision, name).cost.as_ref().expect("a cost");
    cost.monthly.to_decimal()
}

fn basis(decision: &Decision) -> CostBasis {
    let cost = candidate(decision, LOCAL).cost.as_ref().expect("a cost");
    cost.basis
}

fn hourly(dollars: &str) -> Option<MicroUsdPerHour> {
    Some(MicroUsdPerHour::parse_decimal(dollars).expect("dollars"))
}

/// An owned tier of $0.50 an hour, $0.10 of it energy, with so many free devices.
fn owned(free: u32) -> TierState {
    TierState {
        cost_kind: CostKind::Owned,
        marginal_hourly_cost: hourly("0.10"),
        free_devices: Some(free),
        ..tier("0.50")
    }
}

/// 12 million requests need three of the local replicas.
fn three_replicas(state: TierState) -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(12_000_000));
    snapshot.tiers.insert(TIER.to_owned(), state);
    snapshot
}

#[test]
fn long_prompts_are_billed_at_the_price_of_their_length() {
    let cost = |p95: u64| {
        let mut workload = hybrid(1_000_000);
        workload.demand.declared = figures(1_000_000, 1_000, 100);
        workload.demand.declared.input_p95 = Some(Tokens::clamped(p95.into()));
        let listed = cloud_of(&mut workload).price.insert(price("1", "10"));
        let above = |tokens: u128, input, output| ContextTier {
            above: Tokens::clamped(tokens),
            input: usd(input),
            cached_input: None,
            cache_write: None,
            output: usd(output),
            reasoning: None,
        };
        listed.context_tiers = vec![above(4_000, "2", "20"), above(8_000, "4", "40")];
        monthly(&decide_one(&fleet(workload), prompt_policy(), at(0)), CLOUD)
    };
    // A request is $0.001 of prompt and $0.001 of answer at the list price.
    assert_eq!(cost(2_000), "2000");
    // 50 - 45 × 3000/9000 = 35 % above 4000, 50 - 45 × 7000/9000 = 15 % above 8000: 65 % once, 20 % twice, 15 % four times.
    assert_eq!(cost(10_000), "3300");
}

#[test]
fn the_cached_share_of_long_prompts_has_their_cached_price() {
    let mut workload = hybrid(1_000_000);
    workload.demand.declared = figures(1_000_000, 1_000, 0);
    workload.demand.declared.cached_input = Some(Percent::clamped(50));
    let listed = cloud_of(&mut workload).price.insert(price("1", "0"));
    listed.cached_input = Some(usd("0.1"));
    listed.context_tiers = vec![ContextTier {
        above: Tokens::MIN,
        input: usd("2"),
        cached_input: Some(usd("0.2")),
        cache_write: None,
        output: usd("0"),
        reasoning: None,
    }];
    let decision = decide_one(&fleet(workload), prompt_policy(), at(0));
    assert_eq!(monthly(&decision, CLOUD), "1100");
}

#[test]
fn requests_that_may_wait_are_billed_as_any() {
    let cost = |pattern| {
        let mut workload = hybrid(1_000_000);
        workload.demand.pattern = pattern;
        workload.demand.declared.cached_input = Some(Percent::clamped(50));
        let listed = cloud_of(&mut workload).price.insert(price("1", "10"));
        listed.cached_input = Some(usd("0.1"));
        monthly(&decide_one(&fleet(workload), prompt_policy(), at(0)), CLOUD)
    };
    // 450 × $1 + 450 × $0.1 + 180 × $10 for a thousand requests of a million tokens in all.
    for pattern in [Pattern::Interactive, Pattern::Bursty, Pattern::Batch] {
        assert_eq!(cost(pattern), "2295");
    }
}

/// The cost in the cloud of a million requests of `input` and `output` tokens, of which so many percent are cached.
fn billed(input: u64, output: u64, cached: u128, change: impl Fn(&mut Price)) -> String {
    let mut workload = hybrid(1_000_000);
    workload.demand.declared = figures(1_000_000, input, output);
    workload.demand.declared.cached_input = Some(Percent::clamped(cached));
    change(cloud_of(&mut workload).price.insert(price("1", "10")));
    monthly(&decide_one(&fleet(workload), prompt_policy(), at(0)), CLOUD)
}

#[test]
fn a_fee_for_each_request_is_part_of_the_cost() {
    let fee = |fee: &str| {
        let fee = MicroUsdPerMillionRequests::parse_decimal(fee).ok();
        billed(200, 100, 0, move |price| price.per_request = fee)
    };
    assert_eq!((fee("0").as_str(), fee("5000").as_str()), ("1200", "6200"));
}

#[test]
fn an_answer_costs_the_dearer_of_its_price_and_that_of_reasoning() {
    let with = |reasoning: &str| billed(0, 100, 0, |price| price.reasoning = Some(usd(reasoning)));
    assert_eq!((with("3").as_str(), with("20").as_str()), ("1000", "2000"));
}

#[test]
fn what_a_cache_does_not_answer_is_written_into_it_at_worst() {
    let with = |cached, write: &str| {
        billed(1_000, 0, cached, |price| {
            price.cached_input = Some(usd("0.1"));
            price.cache_write = Some(usd(write));
        })
    };
    // 100 × $1.25 and 900 × $0.1 for a thousand requests of a million tokens.
    assert_eq!(with(90, "1.25"), "215");
    assert_eq!(
        with(90, "0.5"),
        "190",
        "never less than the price of prompts"
    );
    assert_eq!(with(0, "1.25"), "1000", "nothing is cached");
}

#[test]
fn cached_tokens_without_a_price_of_their_own_cost_what_others_cost() {
    assert_eq!(billed(27_147, 0, 99, |_| ()), billed(27_147, 0, 0, |_| ()));
}

#[test]
fn bursts_need_more_replicas_than_a_working_day_and_batches_fewer() {
    let replicas = |pattern| {
        let mut workload = hybrid(3_000_000);
        workload.demand.pattern = pattern;
        local_of(&mut workload).max_replicas = 20;
        let decision = decide_one(&fleet(workload), prompt_policy(), at(0));
        candidate(&decision, LOCAL).replicas
    };
    // 450 tokens of work × 3e6 = 1.35e9 of a replica's 5.256e9 a month.
    assert_eq!(replicas(Pattern::Batch), Some(1));
    assert_eq!(replicas(Pattern::Interactive), Some(1));
    assert_eq!(replicas(Pattern::Bursty), Some(2));
}

#[test]
fn idle_devices_that_are_paid_for_cost_what_running_them_adds() {
    for kind in [CostKind::Owned, CostKind::Committed] {
        let state = TierState {
            cost_kind: kind,
            ..owned(3)
        };
        let decision = decide_one(&three_replicas(state), prompt_policy(), at(0));
        assert_eq!(basis(&decision), CostBasis::Marginal);
        assert_eq!(monthly(&decision, LOCAL), "219");
        assert!(
            decision.message.contains("(marginal)"),
            "{}",
            decision.message
        );
    }
}

#[test]
fn what_is_rented_by_the_hour_is_never_free() {
    let state = TierState {
        cost_kind: CostKind::Rented,
        ..owned(3)
    };
    for local_cost_basis in [LocalCostBasis::Auto, LocalCostBasis::Marginal] {
        let policy = PlacementPolicy {
            local_cost_basis,
            ..prompt_policy()
        };
        let decision = decide_one(&three_replicas(state.clone()), policy, at(0));
        assert_eq!(
            (basis(&decision), monthly(&decision, LOCAL).as_str()),
            (CostBasis::FullyLoaded, "1095")
        );
    }
}

#[test]
fn replicas_beyond_the_idle_devices_are_fully_loaded() {
    // One of its own and one that is free.
    let mut growing = three_replicas(owned(1));
    only(&mut growing).current = Some(placed(LOCAL, at(0)));
    let decision = decide_one(&growing, prompt_policy(), at(9));
    // 730 × (2 × $0.10 + $0.50)
    assert_eq!(
        (basis(&decision), monthly(&decision, LOCAL).as_str()),
        (CostBasis::Mixed, "511")
    );
}

#[test]
fn the_policy_may_name_the_basis() {
    let with = |local_cost_basis, free| {
        let policy = PlacementPolicy {
            local_cost_basis,
            ..prompt_policy()
        };
        let mut growing = three_replicas(owned(free));
        only(&mut growing).current = Some(placed(LOCAL, at(0)));
        let decision = decide_one(&growing, policy, at(9));
        (basis(&decision), monthly(&decision, LOCAL))
    };
    assert_eq!(
        with(LocalCostBasis::FullyLoaded, 8),
        (CostBasis::FullyLoaded, "1095".to_owned())
    );
    assert_eq!(
        with(LocalCostBasis::Marginal, 1),
        (CostBasis::Marginal, "219".to_owned())
    );
}

/// What runs is costed as if it were not there: its own devices are neither an advantage nor a burden.
#[test]
fn a_workload_pays_for_the_devices_that_it_holds_what_a_new_one_would_pay() {
    let mut running = three_replicas(owned(0));
    let mut current = placed(LOCAL, at(0));
    current.held = [(TIER.to_owned(), 3)].into();
    only(&mut running).current = Some(current);
    let mut coming = three_replicas(owned(3));
    only(&mut coming).current = Some(placed(CLOUD, at(0)));
    let cost = |snapshot: &FleetSnapshot| {
        let decision = decide_one(snapshot, prompt_policy(), at(9));
        (basis(&decision), monthly(&decision, LOCAL))
    };
    assert_eq!(cost(&running), (CostBasis::Marginal, "219".to_owned()));
    assert_eq!(cost(&coming), cost(&running));
}

#[test]
fn unknown_idleness_and_unknown_energy_are_not_free() {
    let unknown_free = TierState {
        free_devices: None,
        ..owned(3)
    };
    let lost = TierState {
        utilization: Utilization::Lost,
        ..owned(3)
    };
    let unknown_energy = TierState {
        marginal_hourly_cost: None,
        ..owned(3)
    };
    for state in [unknown_free, lost, unknown_energy] {
        let decision = decide_one(&three_replicas(state), prompt_policy(), at(0));
        assert_eq!(basis(&decision), CostBasis::FullyLoaded);
    }
}

#[test]
fn idle_devices_still_cost_the_work_of_operating_a_workload() {
    let policy = PlacementPolicy {
        operations_cost_per_month: MicroUsd::parse_decimal("200").expect("dollars"),
        ..prompt_policy()
    };
    let decision = decide_one(&three_replicas(owned(3)), policy, at(0));
    assert_eq!(monthly(&decision, LOCAL), "419");
}

/// Two workloads do not both count the same idle device.
#[test]
fn an_idle_device_is_marginal_for_one_workload_only() {
    let mut snapshot = fleet(hybrid(3_000_000));
    let workload = only(&mut snapshot).clone();
    snapshot
        .workloads
        .insert(WorkloadId::from("zz-second"), workload);
    snapshot.tiers.insert(TIER.to_owned(), owned(2));
    let plan = decide(
        &snapshot,
        &Policy::of(prompt_policy()),
        &Plan::default(),
        at(0),
    );
    assert!(
        plan.decisions
            .values()
            .all(|decision| basis(decision) == CostBasis::Marginal)
    );
    let growing = snapshot.workloads.get_mut(&WorkloadId::from(UID));
    let growing = growing.expect("the first");
    growing.demand.declared = figures(12_000_000, 900, 180);
    growing.current = Some(placed(LOCAL, at(0)));
    snapshot.tiers.insert(TIER.to_owned(), owned(1));
    let plan = decide(
        &snapshot,
        &Policy::of(prompt_policy()),
        &Plan::default(),
        at(0),
    );
    let first = &plan.decisions[&WorkloadId::from(UID)];
    let second = &plan.decisions[&WorkloadId::from("zz-second")];
    assert_eq!(basis(first), CostBasis::Mixed);
    assert_eq!(second.target.as_deref(), Some(CLOUD));
}
