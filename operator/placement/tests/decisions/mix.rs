//! Replicas for the base of the work and the cloud for the rest, as one cost. A replica costs $365 a month and carries 16 000
//! requests an hour; the cloud takes $243 for a million.

use proptest::prelude::*;
use proptest::sample::select;
use weir_placement::*;

use crate::builders::*;
use crate::generators::{any_load, any_switching};
use crate::properties::flips_just_beyond_its_thresholds;

/// Three fifths of the work in hours of seven tenths of the mean's, the rest in hours of eight times the mean's.
fn bursty() -> LoadCurve {
    let loads = [vec![70; 12], vec![800; 8]].concat();
    curve(&loads)
}

fn curve(loads: &[u128]) -> LoadCurve {
    let loads: Vec<LoadPercent> = loads.iter().copied().map(LoadPercent::clamped).collect();
    LoadCurve::new(&loads).expect("twenty, rising")
}

fn spilling(requests: u64, load: LoadCurve) -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(20_000));
    let workload = only(&mut snapshot);
    workload.spills = true;
    workload.demand.observed = Some(ObservedDemand {
        figures: DemandFigures {
            peak_to_mean: load
                .loads()
                .last()
                .map(|load| PeakPercent::clamped(load.get().into())),
            load: Some(load),
            ..figures(requests, 900, 180)
        },
        span: Seconds::clamped(7 * 86_400),
    });
    snapshot
}

fn decided(snapshot: &FleetSnapshot) -> Decision {
    decide_one(snapshot, prompt_policy(), at(0))
}

fn cost<'a>(decision: &'a Decision, name: &str) -> &'a CandidateCost {
    candidate(decision, name).cost.as_ref().expect("a cost")
}

/// Two replicas for the bursts cost more than the cloud, and one that leaves it a tenth of the work costs less.
#[test]
fn a_bursty_workload_near_break_even_stays_local_where_the_cloud_takes_its_bursts() {
    let mut snapshot = spilling(2_000_000, bursty());
    let mixed = decided(&snapshot);
    assert_eq!(mixed.target.as_deref(), Some(LOCAL), "{}", mixed.message);
    let local = candidate(&mixed, LOCAL);
    assert_eq!(local.replicas, Some(1));
    let overflow = cost(&mixed, LOCAL).overflow.as_ref().expect("overflow");
    assert_eq!(
        (overflow.target.as_str(), overflow.share.get()),
        (CLOUD, 11)
    );
    let monthly = |cost: MicroUsd| cost.get() / 10_000;
    // Of 2 000 000 requests the replica leaves two fifths of 540 000: 21 917 come in a busy hour, and it carries 16 000.
    assert_eq!(monthly(overflow.monthly), 5_248);
    assert_eq!(monthly(cost(&mixed, LOCAL).monthly), 41_748);
    assert_eq!(monthly(cost(&mixed, CLOUD).monthly), 48_600);
    let said = "local-8b with 1 replica and 11 % of the work on cloud-mini";
    assert!(mixed.message.contains(said), "{}", mixed.message);
    assert_eq!(mixed.weights[0].replicas, Some(1));

    only(&mut snapshot).spills = false;
    let apart = decided(&snapshot);
    assert_eq!(apart.target.as_deref(), Some(CLOUD), "{}", apart.message);
    assert_eq!(candidate(&apart, LOCAL).replicas, Some(2));
    assert_eq!(monthly(cost(&apart, LOCAL).monthly), 73_000);
    assert_eq!(cost(&apart, LOCAL).overflow, None);
}

/// Both ends: where the cloud is dear all work stays, where it is cheap as much goes there as may.
#[test]
fn the_dearer_the_cloud_the_more_replicas() {
    let replicas = |output: &str| {
        let loads = [vec![70; 12], vec![400; 4], vec![1_600; 4]].concat();
        let mut snapshot = spilling(6_000_000, curve(&loads));
        only(&mut snapshot).mode = Mode::Pinned(LOCAL.to_owned());
        cloud_of(only(&mut snapshot)).price = Some(price("0.0001", output));
        let decision = decided(&snapshot);
        let overflow = cost(&decision, LOCAL).overflow.as_ref();
        (
            candidate(&decision, LOCAL).replicas,
            overflow.map(|overflow| overflow.share.get()),
        )
    };
    let shares = ["0.0001", "5", "12", "50"].map(replicas);
    let expected = [(1, 28), (2, 16), (3, 13), (4, 10)];
    assert_eq!(
        shares,
        expected.map(|(replicas, share)| (Some(replicas), Some(share)))
    );
}

/// A replica that costs nothing and takes nothing over is none the cheaper for it.
#[test]
fn of_equal_costs_the_fewest_replicas_count() {
    let mut snapshot = spilling(2_000_000, bursty());
    snapshot.tiers.insert(TIER.to_owned(), tier("0"));
    let decision = decided(&snapshot);
    assert_eq!(candidate(&decision, LOCAL).replicas, Some(2));
    assert_eq!(cost(&decision, LOCAL).overflow, None);
}

#[test]
fn a_flat_load_that_fits_its_replicas_costs_what_they_do() {
    for spills in [true, false] {
        let mut snapshot = spilling(11_000_000, curve(&[100; 20]));
        only(&mut snapshot).spills = spills;
        let decision = decided(&snapshot);
        let cost = cost(&decision, LOCAL);
        assert_eq!(
            (cost.monthly.to_decimal().as_str(), &cost.overflow),
            ("365", &None)
        );
    }
}

#[test]
fn work_that_waits_and_work_whose_hours_are_unknown_are_not_split() {
    let mut snapshot = spilling(2_000_000, bursty());
    only(&mut snapshot).demand.pattern = Pattern::Batch;
    assert_eq!(cost(&decided(&snapshot), LOCAL).overflow, None);
    let mut snapshot = spilling(2_000_000, bursty());
    let observed = only(&mut snapshot).demand.observed.as_mut();
    observed.expect("observed").figures.load = None;
    assert_eq!(cost(&decided(&snapshot), LOCAL).overflow, None);
}

/// What may not go out, and what nobody can take, is not counted on.
#[test]
fn without_a_taker_the_replicas_carry_all() {
    let overflow = |change: fn(&mut WorkloadInput)| {
        let mut snapshot = spilling(2_000_000, bursty());
        change(only(&mut snapshot));
        let decision = decided(&snapshot);
        let overflow = cost(&decision, LOCAL).overflow.clone();
        assert_eq!(
            overflow.is_none(),
            candidate(&decision, LOCAL).replicas == Some(2)
        );
        overflow
    };
    assert!(overflow(|_| ()).is_some());
    assert_eq!(
        overflow(|workload| workload.egress = Egress::Forbidden),
        None
    );
    assert_eq!(
        overflow(|workload| cloud_of(workload).healthy = Some(false)),
        None
    );
    assert_eq!(overflow(|workload| cloud_of(workload).price = None), None);
}

/// Gateways spill to the first external target of the spec, whatever another one asks.
#[test]
fn overflow_is_costed_where_it_goes() {
    let mut snapshot = spilling(2_000_000, bursty());
    let cheap = ExternalTarget {
        price: Some(price("0.05", "0.2")),
        ..external()
    };
    let kind = TargetKind::External(cheap);
    only(&mut snapshot).targets.push(Target {
        name: SECOND.to_owned(),
        kind,
    });
    let taker = |snapshot: &FleetSnapshot| {
        let overflow = cost(&decided(snapshot), LOCAL).overflow.clone();
        overflow.map(|overflow| overflow.target)
    };
    assert_eq!(taker(&snapshot).as_deref(), Some(CLOUD));
    cloud_of(only(&mut snapshot)).healthy = Some(false);
    assert_eq!(taker(&snapshot).as_deref(), Some(SECOND));
}

/// The cost stays what it was while the price of the overflow cannot be relied on, and nothing moves on it; without a
/// price the replicas carry all, which moves nothing either.
#[test]
fn a_cost_with_an_unsure_price_in_it_moves_nothing() {
    let mut snapshot = spilling(2_000_000, bursty());
    let other = LocalTarget {
        throughput: [("h100".to_owned(), throughput(60_000))].into(),
        tiers: vec!["h100".to_owned()],
        ..local()
    };
    let kind = TargetKind::Local(other);
    only(&mut snapshot).targets.push(Target {
        name: "other".to_owned(),
        kind,
    });
    snapshot.tiers.insert("h100".to_owned(), tier("0.1"));
    only(&mut snapshot).current = Some(placed(LOCAL, at(-1)));
    let fresh = decided(&snapshot);
    let expected = (Outcome::Move, Some("other"));
    assert_eq!((fresh.outcome, fresh.target.as_deref()), expected);
    for state in [PriceState::Held, PriceState::Stale] {
        let listed = cloud_of(only(&mut snapshot)).price.as_mut();
        listed.expect("a price").state = state;
        let unsure = decided(&snapshot);
        assert_eq!(cost(&unsure, LOCAL), cost(&fresh, LOCAL));
        let expected = (Outcome::Hold, Reason::OverflowPriceUnsure);
        assert_eq!((unsure.outcome, unsure.reason), expected, "{state:?}");
        let said = "what takes the overflow of local-8b";
        assert!(unsure.message.contains(said), "{}", unsure.message);
    }
    cloud_of(only(&mut snapshot)).price = None;
    let unknown = decided(&snapshot);
    assert_eq!(candidate(&unknown, LOCAL).replicas, Some(2));
    assert_eq!(unknown.reason, Reason::OverflowPriceUnsure);
    // Where nothing overflows, its price says nothing.
    let mut snapshot = spilling(11_000_000, curve(&[100; 20]));
    let listed = cloud_of(only(&mut snapshot)).price.as_mut();
    listed.expect("a price").state = PriceState::Held;
    let flat = decided(&snapshot);
    assert_eq!(candidate(&flat, LOCAL).doubts, []);
}

/// At ten times the price a fifth replica would pay for itself, and the target may have four.
#[test]
fn the_most_replicas_are_named_where_more_would_pay() {
    let mut snapshot = spilling(60_000_000, bursty());
    cloud_of(only(&mut snapshot)).price = Some(price("1.5", "6"));
    let limited = decided(&snapshot);
    assert_eq!(candidate(&limited, LOCAL).replicas, Some(4));
    assert!(cost(&limited, LOCAL).capacity_limited && cost(&limited, LOCAL).overflow.is_some());
    let said = "local-8b with 4 replicas, the most that it may have, and ";
    assert!(limited.message.contains(said), "{}", limited.message);
}

/// What waits for devices waits for those of the base, and what is free of charge still takes what overflows.
#[test]
fn the_base_holds_for_a_target_that_cannot_serve_now_and_for_a_free_cloud() {
    let mut snapshot = spilling(2_000_000, bursty());
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(0);
    let waiting = decided(&snapshot);
    let local = candidate(&waiting, LOCAL);
    let expected = (Verdict::Unavailable, Some(1), None);
    assert_eq!(
        (local.verdict, local.replicas, local.cost.as_ref()),
        expected
    );
    let mut snapshot = spilling(2_000_000, bursty());
    cloud_of(only(&mut snapshot)).price = Some(price("0", "0"));
    let free = decided(&snapshot);
    let overflow = cost(&free, LOCAL).overflow.as_ref().expect("overflow");
    assert_eq!(
        (overflow.share.get(), overflow.monthly),
        (11, MicroUsd::MIN)
    );
}

#[test]
fn a_recorded_load_stands_within_a_tenth() {
    let mut snapshot = spilling(2_000_000, bursty());
    let first = decided(&snapshot);
    let loaded = |top: u128| curve(&[vec![70; 12], vec![800; 7], vec![top]].concat());
    let again =
        |snapshot: &FleetSnapshot| decide_after(snapshot, prompt_policy(), &plan_of(&first), at(1));
    let mut set = |load: LoadCurve| {
        let observed = only(&mut snapshot).demand.observed.as_mut();
        observed.expect("observed").figures.load = Some(load);
        again(&snapshot)
    };
    // The loads come to 7 240 together.
    assert_eq!(set(loaded(800 + 724)), first);
    let changed = set(loaded(800 + 725));
    assert_eq!(changed.trigger, Trigger::DemandChanged);
    assert_eq!(changed.inputs.demand.load, Some(loaded(800 + 725)));
}

/// An hour's demand in twentieths, the rate of a replica, the tier's price: one local target and two external ones.
fn any_market() -> impl Strategy<Value = FleetSnapshot> {
    let prices = (1..3_000_000_u128, 0..9_000_000_u128);
    let replicas = (0..4_u32, 0..9_u32);
    (
        any_load(),
        1..40_000_000_u64,
        10..20_000_u64,
        replicas,
        prices.clone(),
        prices,
        1..3_000_000_u128,
        (0..400_000_u128, 0..6_u32),
    )
        .prop_map(
            |(load, requests, rate, (min, more), one, two, hourly, (marginal, free))| {
                let mut snapshot = spilling(requests, load);
                let observed = only(&mut snapshot).demand.observed.take();
                let workload = only(&mut snapshot);
                // Declared, so that figures have no band around them.
                workload.demand.declared = observed.expect("observed").figures;
                let local = local_of(workload);
                local.throughput.insert(TIER.to_owned(), throughput(rate));
                (local.min_replicas, local.max_replicas) = (min, (min + more).max(1));
                let listed = |(input, output)| Price {
                    input: MicroUsdPerMillionTokens::clamped(input),
                    output: MicroUsdPerMillionTokens::clamped(output),
                    ..price("1", "1")
                };
                cloud_of(workload).price = Some(listed(one));
                let second = ExternalTarget {
                    price: Some(listed(two)),
                    ..external()
                };
                workload.targets.push(Target {
                    name: SECOND.to_owned(),
                    kind: TargetKind::External(second),
                });
                snapshot.tiers.insert(
                    TIER.to_owned(),
                    TierState {
                        hourly_cost: Some(MicroUsdPerHour::clamped(hourly)),
                        marginal_hourly_cost: Some(MicroUsdPerHour::clamped(marginal)),
                        cost_kind: CostKind::Owned,
                        free_devices: Some(free.max(1)),
                        ..tier("1")
                    },
                );
                snapshot
            },
        )
}

const SECOND: &str = "cloud-second";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every number of replicas is tried.
    #[test]
    fn the_cost_is_that_of_the_cheapest_number_of_replicas(snapshot in any_market()) {
        let decision = decided(&snapshot);
        let workload = snapshot.workloads.values().next().expect("one");
        let tier = &snapshot.tiers[TIER];
        let TargetKind::Local(target) = &workload.targets[0].kind else { panic!("the first is local") };
        let free = tier.free_devices.expect("known");
        if target.min_replicas > free {
            prop_assert_eq!(candidate(&decision, LOCAL).verdict, Verdict::Unavailable);
            return Ok(());
        }
        let demand = &workload.demand.declared;
        let requests = demand.requests_per_month.expect("known").get() as f64;
        let load = demand.load.as_ref().expect("known").loads();
        let cloud = cost(&decision, CLOUD).monthly.get();
        let month_tokens = target.throughput[TIER].rate.get() as f64 / 1_000.0 * 730.0 * 3_600.0;
        let rent = |replicas: u32| {
            let idle = replicas.min(tier.free_devices.expect("known"));
            let full = tier.hourly_cost.expect("known").get();
            let marginal = tier.marginal_hourly_cost.expect("known").get().min(full);
            (u64::from(idle) * marginal + u64::from(replicas - idle) * full) as f64 * 730.0
        };
        let overflow = |replicas: u32| {
            let left = |load: &LoadPercent| {
                let carried = f64::from(replicas) * month_tokens / 450.0 / (load.get() as f64 / 100.0);
                (requests - carried).max(0.0) / 20.0
            };
            load.iter().map(left).sum::<f64>() / requests
        };
        let total = |replicas: u32| rent(replicas) + overflow(replicas) * cloud as f64;
        let found = candidate(&decision, LOCAL);
        let replicas = found.replicas.expect("local");
        let monthly = cost(&decision, LOCAL).monthly.get() as f64;
        let slack = 1e-3 * cloud as f64 + 2.0;
        prop_assert!((monthly - total(replicas)).abs() <= slack, "{} is not {}", monthly, total(replicas));
        let share = cost(&decision, LOCAL).overflow.as_ref().map_or(0.0, |overflow| overflow.share.get() as f64);
        prop_assert!((share - overflow(replicas) * 100.0).abs() <= 0.6);
        for other in target.min_replicas.max(1)..=target.max_replicas.min(free) {
            prop_assert!(monthly <= total(other) + slack, "{} cost {}, {} would cost {}", replicas, monthly, other, total(other));
        }
    }

    #[test]
    fn break_even_is_the_least_volume_at_which_the_mix_costs_no_more(snapshot in any_market()) {
        let costs = |requests: u64| {
            let mut snapshot = snapshot.clone();
            only(&mut snapshot).demand.declared.requests_per_month = Some(RequestsPerMonth::clamped(requests.into()));
            decided(&snapshot)
        };
        if let Some(volume) = costs(1).break_even.map(RequestsPerMonth::get) {
            prop_assert_eq!(costs(volume).location, Some(Location::Local));
            for fewer in [volume.saturating_sub(1), volume * 9 / 10, volume / 2] {
                let at = if fewer < volume { Location::External } else { Location::Local };
                prop_assert_eq!(costs(fewer).location, Some(at), "at {} of {}", fewer, volume);
            }
        }
    }

    #[test]
    fn flip_conditions_of_a_mix_flip_just_beyond_their_threshold(
        mut snapshot in any_market(), switching in any_switching(), least in 0..60_u128, place in select(vec![LOCAL, LOCAL, CLOUD, SECOND])
    ) {
        let policy = PlacementPolicy { min_savings_percent: Percent::clamped(least), switching, ..prompt_policy() };
        only(&mut snapshot).current = Some(placed(place, at(-1)));
        flips_just_beyond_its_thresholds(&snapshot, &policy)?;
    }
}
