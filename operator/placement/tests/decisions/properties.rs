//! Properties of the decision over random fleets, prices and histories. The README beside the crate lists them.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weir_placement::*;

use crate::builders::*;
use crate::generators::*;
use crate::substitutes::is_used_substitute;

fn is_external(workload: &WorkloadInput, name: &str) -> bool {
    let named = workload.places().find(|target| target.name == name);
    named.is_some_and(|target| target.kind.location() == Location::External)
}

/// One local and one external target whose curves cross somewhere, with everything that curves depend on.
fn crossing(
    requests: u64,
    tokens: (u64, u64),
    demand: &Demand,
    listed: &Price,
    tier: &TierState,
    rate: u64,
) -> FleetSnapshot {
    let mut workload = hybrid(requests);
    workload.demand.pattern = demand.pattern;
    workload.spills = demand.declared.load.is_some();
    workload.demand.declared = DemandFigures {
        load: demand.declared.load.clone(),
        cached_input: demand.declared.cached_input,
        input_p95: demand.declared.input_p95,
        ..figures(requests, tokens.0, tokens.1)
    };
    local_of(&mut workload)
        .throughput
        .insert(TIER.to_owned(), throughput(rate));
    cloud_of(&mut workload).price = Some(listed.clone());
    let mut snapshot = fleet(workload);
    snapshot.tiers.insert(TIER.to_owned(), tier.clone());
    snapshot
}

/// A price that may be acted on.
fn any_listed() -> impl Strategy<Value = Price> {
    (any_price(), 1..3_000_000_u128, 0..9_000_000_u128).prop_map(|(price, input, output)| Price {
        input: MicroUsdPerMillionTokens::clamped(input),
        output: MicroUsdPerMillionTokens::clamped(output),
        state: PriceState::Fresh,
        ..price
    })
}

/// A tier with room and a known cost.
fn any_priced_tier() -> impl Strategy<Value = TierState> {
    (any_tier(), 1..3_000_000_u128, 1..6_u32).prop_map(|(state, hourly, free)| TierState {
        hourly_cost: Some(MicroUsdPerHour::clamped(hourly)),
        marginal_hourly_cost: state.marginal_hourly_cost,
        cost_kind: state.cost_kind,
        free_devices: Some(free),
        ..tier("1")
    })
}

/// Decides again at each threshold, and just beyond it.
pub(crate) fn flips_just_beyond_its_thresholds(
    snapshot: &FleetSnapshot,
    policy: &PlacementPolicy,
) -> Result<(), TestCaseError> {
    let decision = decide_one(snapshot, policy.clone(), at(0));
    if decision.outcome == Outcome::Move {
        return Ok(());
    }
    for condition in &decision.flip_conditions {
        let with = |value: u64| {
            let mut changed = snapshot.clone();
            let workload = only(&mut changed);
            let per_million = MicroUsdPerMillionTokens::clamped(value.into());
            match &condition.quantity {
                FlipQuantity::RequestsPerMonth => {
                    workload.demand.declared.requests_per_month =
                        Some(RequestsPerMonth::clamped(value.into()));
                }
                FlipQuantity::InputPrice(of) => price_of(workload, of).input = per_million,
                FlipQuantity::OutputPrice(of) => price_of(workload, of).output = per_million,
            }
            let decision = decide_one(&changed, policy.clone(), at(0));
            (decision.outcome, decision.target)
        };
        let beyond = match condition.comparison {
            Comparison::Below => condition.threshold - 1,
            Comparison::Above => condition.threshold + 1,
        };
        let (stays, flipped) = (with(condition.threshold), with(beyond));
        prop_assert_eq!(
            stays,
            (Outcome::Keep, decision.target.clone()),
            "{}",
            &condition.text
        );
        prop_assert_eq!(
            flipped,
            (Outcome::Move, Some(condition.to.clone())),
            "{}",
            &condition.text
        );
    }
    Ok(())
}

fn price_of<'a>(workload: &'a mut WorkloadInput, name: &str) -> &'a mut Price {
    let target = workload
        .targets
        .iter_mut()
        .find(|target| target.name == name);
    match target.map(|target| &mut target.kind) {
        Some(TargetKind::External(external)) => external.price.as_mut().expect("a price"),
        _ => panic!("{name} is external"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deciding_again_at_the_same_moment_changes_nothing(
        snapshot in any_fleet(), policy in any_policy(), before in any_previous()
    ) {
        let policy = Policy::of(policy);
        let earlier = decide(&before.0, &policy, &Plan::default(), at(-before.1));
        for previous in [Plan::default(), earlier] {
            let once = decide(&snapshot, &policy, &previous, at(0));
            prop_assert_eq!(&decide(&snapshot, &policy, &once, at(0)), &once);
        }
    }

    #[test]
    fn residency_is_never_outvoted(snapshot in any_fleet(), policy in any_policy(), before in any_previous()) {
        let policy = Policy::of(policy);
        let earlier = decide(&before.0, &policy, &Plan::default(), at(-before.1));
        let plan = decide(&snapshot, &policy, &earlier, at(0));
        for (id, decision) in &plan.decisions {
            let workload = &snapshot.workloads[id];
            if workload.egress == Egress::Forbidden {
                prop_assert_ne!(decision.location, Some(Location::External));
                for weight in &decision.weights {
                    prop_assert!(!is_external(workload, &weight.target));
                }
                for candidate in decision.candidates.iter().filter(|it| it.location == Location::External) {
                    prop_assert_eq!((candidate.verdict, &candidate.cost), (Verdict::Rejected, &None));
                }
            }
        }
    }

    #[test]
    fn what_a_gate_rejects_has_no_cost_and_no_weight(snapshot in any_fleet(), policy in any_policy()) {
        let plan = decide(&snapshot, &Policy::of(policy), &Plan::default(), at(0));
        for (id, decision) in &plan.decisions {
            for candidate in &decision.candidates {
                let weighted = decision.weights.iter().any(|weight| weight.target == candidate.name);
                let still = snapshot.workloads[id].suspend || snapshot.workloads[id].mode == Mode::Advisory;
                let frozen = still && decision.target.as_ref() == Some(&candidate.name);
                if candidate.verdict == Verdict::Rejected {
                    prop_assert!(candidate.cost.is_none() && !candidate.rejected_by.is_empty());
                    prop_assert!(!weighted || frozen);
                } else if let Some(used) = is_used_substitute(&snapshot.workloads[id], decision, &candidate.name) {
                    prop_assert_eq!(weighted, used);
                } else {
                    prop_assert!(weighted || decision.target.is_none());
                }
            }
            let shares: u64 = decision.weights.iter().map(|weight| weight.weight.get()).sum();
            prop_assert_eq!(shares, if decision.target.is_some() { 100 } else { 0 });
        }
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(snapshot in any_fleet(), policy in any_policy(), seed in any::<prop::sample::Index>()) {
        let policy = Policy::of(policy);
        let plan = decide(&snapshot, &policy, &Plan::default(), at(0));
        let mut entries: Vec<_> = snapshot.workloads.clone().into_iter().collect();
        let pivot = seed.index(entries.len());
        entries.rotate_left(pivot);
        let shuffled = FleetSnapshot { workloads: entries.into_iter().collect(), ..snapshot };
        prop_assert_eq!(decide(&shuffled, &policy, &Plan::default(), at(0)), plan);
    }

    #[test]
    fn workloads_that_share_no_scarce_tier_do_not_touch_each_other(mut snapshot in any_fleet(), policy in any_policy()) {
        snapshot.tiers.values_mut().for_each(|tier| tier.free_devices = tier.free_devices.map(|_| 1_000));
        let policy = Policy::of(PlacementPolicy { move_budget: MoveBudget::default(), ..policy });
        let together = decide(&snapshot, &policy, &Plan::default(), at(0));
        for (id, workload) in &snapshot.workloads {
            let alone = FleetSnapshot {
                workloads: BTreeMap::from([(id.clone(), workload.clone())]),
                tiers: snapshot.tiers.clone(),
                elsewhere: Vec::new(),
            };
            let plan = decide(&alone, &policy, &Plan::default(), at(0));
            prop_assert_eq!(&plan.decisions[id], &together.decisions[id]);
        }
    }

    #[test]
    fn no_device_is_given_away_twice(mut snapshot in any_fleet(), policy in any_policy()) {
        for workload in snapshot.workloads.values_mut() {
            workload.current = None;
        }
        let plan = decide(&snapshot, &Policy::of(policy), &Plan::default(), at(0));
        for (name, tier) in &snapshot.tiers {
            let placed = plan.decisions.values().filter(|decision| {
                decision.tier.as_ref() == Some(name)
                    && decision.target.as_ref().is_some_and(|target| candidate(decision, target).verdict == Verdict::Feasible)
            });
            let to_come = tier.provisionable.map_or(0, |to_come| to_come.devices);
            prop_assert!(tier.free_devices.is_none_or(|free| placed.count() <= (free + to_come) as usize));
        }
    }

    /// Raising a workload's own cloud prices never sends it to the cloud, and lowering them never away from it.
    #[test]
    fn the_choice_is_monotone_in_the_own_cloud_price(
        mut workload in any_workload(), tiers in vec(any_tier(), TIERS.len()), policy in any_policy(), factor in 1..50_u128
    ) {
        workload.current.iter_mut().for_each(|current| current.pending = None);
        let tiers: BTreeMap<_, _> = TIERS.iter().map(|name| (*name).to_owned()).zip(tiers).collect();
        let decide_with = |workload: &WorkloadInput| {
            let workloads = BTreeMap::from([(WorkloadId::from(UID), workload.clone())]);
            let policy = PlacementPolicy { confirmation: ConfirmationRule { count: 1, interval: Seconds::MIN }, ..policy.clone() };
            decide_one(&FleetSnapshot { workloads, tiers: tiers.clone(), elsewhere: Vec::new() }, policy, at(0))
        };
        let cheap = decide_with(&workload);
        for target in places_mut(&mut workload) {
            if let TargetKind::External(ExternalTarget { price: Some(price), .. }) = &mut target.kind {
                let raised = |it: MicroUsdPerMillionTokens| MicroUsdPerMillionTokens::clamped(u128::from(it.get()) * factor);
                price.input = raised(price.input);
                price.cache_write = price.cache_write.map(raised);
                price.reasoning = price.reasoning.map(raised);
                price.cached_input = price.cached_input.map(raised);
                price.output = raised(price.output);
                for tier in &mut price.context_tiers {
                    tier.input = raised(tier.input);
                    tier.cached_input = tier.cached_input.map(raised);
                    tier.output = raised(tier.output);
                }
            }
        }
        let dear = decide_with(&workload);
        if cheap.location == Some(Location::Local) {
            prop_assert_ne!(dear.location, Some(Location::External), "{} then {}", cheap.message, dear.message);
        }
    }

    /// Prices jump at random; the operator carries every move out at once. Cost alone never moves a workload twice
    /// within the dwell, and never more often in a week than allowed.
    #[test]
    fn cost_never_flaps_within_the_dwell(
        prices in vec((1..2_000_000_u128, select(vec![PriceState::Fresh, PriceState::Fresh, PriceState::Held, PriceState::Stale])), 2..120),
        step in 1..2_000_i64, policy in any_policy(), most in option::of(0..4_u32)
    ) {
        let mut snapshot = fleet(hybrid(3_000_000));
        only(&mut snapshot).max_moves_per_week = most;
        let mut previous = Plan::default();
        let mut moves: Vec<i64> = Vec::new();
        for (at_step, (price, state)) in prices.into_iter().enumerate() {
            let seconds = at_step as i64 * step;
            let listed = cloud_of(only(&mut snapshot)).price.as_mut().expect("a price");
            listed.input = MicroUsdPerMillionTokens::clamped(price);
            listed.state = state;
            let policy = PlacementPolicy { connectivity: Connectivity::Connected, ..policy.clone() };
            let decision = decide_after(&snapshot, policy, &previous, at(seconds));
            if matches!(decision.outcome, Outcome::Place | Outcome::Move) {
                let target = decision.target.clone().expect("a target");
                only(&mut snapshot).current = Some(placed(&target, at(seconds)));
                if decision.outcome == Outcome::Move {
                    only(&mut snapshot).moves.insert(at(seconds));
                }
                moves.push(seconds);
            }
            previous = plan_of(&decision);
        }
        let dwell = policy.min_dwell.get() as i64;
        for pair in moves.windows(2) {
            prop_assert!(pair[1] - pair[0] >= dwell, "{moves:?}");
        }
        prop_assert!(most.is_none_or(|most| moves.len() <= most as usize + 1));
    }

    /// Forgetting a price or an hourly cost never makes its target the one that is moved to.
    #[test]
    fn missing_data_never_attracts(snapshot in any_fleet(), policy in any_policy()) {
        let policy = Policy::of(policy);
        let mut blind = snapshot.clone();
        for workload in blind.workloads.values_mut() {
            workload.current.iter_mut().for_each(|current| current.pending = None);
            for target in places_mut(workload) {
                if let TargetKind::External(external) = &mut target.kind {
                    external.price = None;
                }
            }
        }
        blind.tiers.values_mut().for_each(|tier| tier.hourly_cost = None);
        let plan = decide(&blind, &policy, &Plan::default(), at(0));
        for decision in plan.decisions.values() {
            prop_assert!(decision.candidates.iter().all(|candidate| candidate.cost.is_none()));
            prop_assert!(decision.outcome != Outcome::Move || decision.reason != Reason::LowerCost);
            prop_assert_eq!((decision.break_even, decision.flip_conditions.len()), (None, 0));
        }
    }

    #[test]
    fn break_even_is_the_least_volume_at_which_local_costs_no_more(
        listed in any_listed(), tier in any_priced_tier(), rate in 10..200_000_u64, tokens in (1..4_000_u64, 0..900_u64), demand in any_demand()
    ) {
        let costs = |requests: u64| {
            let snapshot = crossing(requests, tokens, &demand, &listed, &tier, rate);
            let policy = PlacementPolicy { min_savings_percent: Percent::MIN, ..prompt_policy() };
            decide_one(&snapshot, policy, at(0))
        };
        if let Some(volume) = costs(1).break_even.map(RequestsPerMonth::get) {
            prop_assert_eq!(costs(volume).location, Some(Location::Local));
            for fewer in [volume - 1, volume * 9 / 10, volume / 2] {
                prop_assert_eq!(costs(fewer).location, Some(Location::External), "at {} of {}", fewer, volume);
            }
        }
    }

    #[test]
    fn flip_conditions_flip_just_beyond_their_threshold(
        listed in any_listed(), tier in any_priced_tier(), rate in 10..200_000_u64, demand in any_demand(),
        switching in any_switching(), tokens in (1..4_000_u64, 0..900_u64), requests in 1..60_000_000_u64, least in 0..90_u128, at_home in any::<bool>()
    ) {
        let policy = PlacementPolicy { min_savings_percent: Percent::clamped(least), switching, ..prompt_policy() };
        let mut snapshot = crossing(requests, tokens, &demand, &listed, &tier, rate);
        only(&mut snapshot).current = Some(placed(if at_home { LOCAL } else { CLOUD }, at(-1)));
        flips_just_beyond_its_thresholds(&snapshot, &policy)?;
    }

    /// Prices, tiers and workloads change and time passes: a plan made from the one before is the one made from scratch.
    #[test]
    fn a_change_gives_the_plan_of_a_full_decision(
        before in any_fleet(), after in any_fleet(), policy in any_policy(), seconds in 0..100_000_i64,
        changes in vec((0..3_u8, any::<prop::sample::Index>()), 0..4)
    ) {
        let policy = Policy::of(policy);
        let previous = decide(&before, &policy, &Plan::default(), at(0));
        let previous = decide(&before, &policy, &previous, at(300));
        let mut snapshot = before.clone();
        let mut changed = Changed::default();
        for (kind, which) in changes {
            match kind {
                0 => {
                    let tier = TIERS[which.index(TIERS.len())];
                    snapshot.tiers.insert(tier.to_owned(), after.tiers[tier].clone());
                    changed.tiers.insert(tier.to_owned());
                }
                1 => {
                    let (id, workload) = after.workloads.iter().nth(which.index(after.workloads.len())).expect("one");
                    snapshot.workloads.insert(id.clone(), workload.clone());
                    changed.workloads.insert(id.clone());
                    let left = before.workloads.get(id).into_iter().flat_map(|workload| workload.places());
                    for target in left {
                        if let TargetKind::Local(local) = &target.kind {
                            changed.left_tiers.extend(local.tiers.iter().cloned());
                        }
                    }
                }
                _ => change_price(&mut snapshot, &mut changed, ["small", "large"][which.index(2)]),
            }
        }
        let now = at(300 + seconds);
        let (plan, evaluated) = decide_changed(&snapshot, &policy, &previous, &changed, now);
        prop_assert!(evaluated <= snapshot.workloads.len());
        prop_assert_eq!(plan, decide(&snapshot, &policy, &previous, now));
    }

    /// However many wish to move for cost, no more than the policy's budget begin to within an hour.
    #[test]
    fn cost_moves_no_more_workloads_than_the_policy_allows(
        mut snapshot in any_fleet(), policy in any_policy(), most in 0..4_u32
    ) {
        for workload in snapshot.workloads.values_mut() {
            workload.current.iter_mut().for_each(|current| current.pending = None);
            workload.moves.clear();
        }
        let policy = PlacementPolicy {
            move_budget: MoveBudget { per_hour: Some(most), percent_per_hour: None },
            confirmation: ConfirmationRule { count: 1, interval: Seconds::MIN },
            ..policy
        };
        let plan = decide(&snapshot, &Policy::of(policy), &Plan::default(), at(0));
        let begun = |decision: &&Decision| decision.outcome == Outcome::Move;
        let by_cost = |decision: &&Decision| decision.reason == Reason::LowerCost;
        let others = plan.decisions.values().filter(begun).filter(|it| !by_cost(it)).count();
        let cost = plan.decisions.values().filter(begun).filter(by_cost).count();
        prop_assert!(cost <= (most as usize).saturating_sub(others));
        let held = plan.decisions.values().any(|decision| decision.reason == Reason::FleetMoveBudgetSpent);
        prop_assert!(!held || cost + others >= most as usize);
    }
}

/// Doubles the price of a model at every provider.
fn change_price(snapshot: &mut FleetSnapshot, changed: &mut Changed, model: &str) {
    for workload in snapshot.workloads.values_mut() {
        for target in places_mut(workload) {
            let TargetKind::External(external) = &mut target.kind else {
                continue;
            };
            let (Some(price), true) = (
                &mut external.price,
                external.model.name.as_deref() == Some(model),
            ) else {
                continue;
            };
            price.input = MicroUsdPerMillionTokens::clamped(u128::from(price.input.get()) * 2 + 1);
            changed.prices.insert(PriceKey {
                provider: external.provider.clone(),
                model: model.to_owned(),
            });
        }
    }
}
