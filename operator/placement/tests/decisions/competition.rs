//! Devices that are short: who gets them, what the others are told, and how good the plan is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use weir_placement::*;

use crate::builders::*;

const SECOND: &str = "h100";

/// Workloads with a local and a cloud side, by name, and so many free devices of the tier.
fn rivals(free: u32, workloads: &[(&str, WorkloadInput)]) -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(0));
    snapshot.workloads = workloads
        .iter()
        .map(|(id, workload)| (WorkloadId::from(*id), workload.clone()))
        .collect();
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(free);
    snapshot
}

fn on(target: &str, requests: u64) -> WorkloadInput {
    WorkloadInput {
        current: Some(placed(target, at(0))),
        ..hybrid(requests)
    }
}

fn decided<'a>(plan: &'a Plan, id: &str) -> &'a Decision {
    &plan.decisions[&WorkloadId::from(id)]
}

fn places(plan: &Plan) -> Vec<&str> {
    let targets = plan.decisions.values().map(|it| it.target.as_deref());
    targets.map(|it| it.unwrap_or("nowhere")).collect()
}

fn prompt() -> Policy {
    Policy::of(prompt_policy())
}

#[test]
fn the_last_device_goes_to_whom_it_saves_most() {
    for (a, b) in [(3_000_000, 5_000_000), (5_000_000, 3_000_000)] {
        let snapshot = rivals(1, &[("a", hybrid(a)), ("b", hybrid(b))]);
        let plan = decide(&snapshot, &prompt(), &Plan::default(), at(0));
        let (winner, loser) = if a > b { ("a", "b") } else { ("b", "a") };
        assert_eq!(decided(&plan, winner).target.as_deref(), Some(LOCAL));
        let lost = decided(&plan, loser);
        assert_eq!(
            (lost.outcome, lost.reason, lost.target.as_deref()),
            (Outcome::Place, Reason::OthersSaveMore, Some(CLOUD))
        );
        let why = "the 1 free devices of tier l4 go to workloads that save more there";
        assert!(lost.message.contains(why), "{}", lost.message);
        let rejected = &candidate(lost, LOCAL).rejected_by[0];
        assert_eq!(
            (rejected.reason, rejected.message.as_str()),
            (RejectionReason::OthersSaveMore, why)
        );
        let [competition] = &plan.competitions[..] else {
            panic!("one competition: {:?}", plan.competitions);
        };
        let ids = ["a", "b"].map(WorkloadId::from);
        assert_eq!(
            (competition.goal, &competition.workloads[..]),
            (Goal::Save, &ids[..])
        );
        assert_eq!(competition.tiers, BTreeMap::from([(TIER.to_owned(), 1)]));
        assert_eq!(competition.value, competition.bound);
        assert_eq!(competition.gap_parts_per_million, 0);
    }
}

#[test]
fn several_small_ones_outweigh_one_that_saves_more_than_each() {
    let workloads = [
        ("a", hybrid(9_000_000)),
        ("b", hybrid(5_800_000)),
        ("c", hybrid(5_800_000)),
    ];
    let plan = decide(&rivals(2, &workloads), &prompt(), &Plan::default(), at(0));
    assert_eq!(places(&plan), [CLOUD, LOCAL, LOCAL]);
}

#[test]
fn where_devices_suffice_nobody_competes() {
    let workloads = [("a", hybrid(3_000_000)), ("b", hybrid(5_000_000))];
    let plan = decide(&rivals(2, &workloads), &prompt(), &Plan::default(), at(0));
    assert_eq!(places(&plan), [LOCAL, LOCAL]);
    assert!(plan.competitions.is_empty());
}

#[test]
fn what_runs_keeps_its_devices_though_another_would_save_more() {
    let workloads = [("a", hybrid(5_800_000)), ("b", on(LOCAL, 3_000_000))];
    let plan = decide(&rivals(0, &workloads), &prompt(), &Plan::default(), at(9));
    assert_eq!(places(&plan), [CLOUD, LOCAL]);
}

#[test]
fn a_wish_that_is_held_takes_no_device_from_one_that_may_move() {
    let mut large = on(CLOUD, 5_800_000);
    large.current.as_mut().expect("a place").since = at(90_000);
    let small = on(CLOUD, 3_000_000);
    let policy = Policy::of(PlacementPolicy {
        min_dwell: Seconds::clamped(86_400),
        ..prompt_policy()
    });
    let snapshot = rivals(1, &[("large", large), ("small", small)]);
    let plan = decide(&snapshot, &policy, &Plan::default(), at(90_001));
    let outcome = |id| (decided(&plan, id).outcome, decided(&plan, id).reason);
    assert_eq!(outcome("large"), (Outcome::Hold, Reason::MinDwell));
    assert_eq!(outcome("small"), (Outcome::Move, Reason::LowerCost));
}

#[test]
fn who_lost_moves_as_soon_as_a_device_is_free() {
    let mut snapshot = rivals(
        1,
        &[("a", on(CLOUD, 3_000_000)), ("b", on(CLOUD, 5_000_000))],
    );
    let policy = Policy::of(PlacementPolicy {
        min_dwell: Seconds::MIN,
        ..standard_policy()
    });
    let first = decide(&snapshot, &policy, &Plan::default(), at(1_000));
    let second = decide(&snapshot, &policy, &first, at(2_000));
    let lost = decided(&second, "a");
    assert_eq!(
        (lost.outcome, lost.reason, lost.target.as_deref()),
        (Outcome::Hold, Reason::OthersSaveMore, Some(CLOUD))
    );
    assert!(
        lost.message
            .contains("wishes for local-8b, but the 1 free devices of tier l4")
    );
    assert_eq!(lost.confirmation.as_ref().map(|it| it.count), Some(2));
    assert_eq!(decide(&snapshot, &policy, &second, at(2_000)), second);
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(2);
    let third = decide(&snapshot, &policy, &second, at(2_001));
    assert_eq!(decided(&third, "a").outcome, Outcome::Move);
}

/// Three wish for one device, and its winner's pod has not started: the device is promised, and free to whoever counts.
#[test]
fn a_wish_whose_device_is_promised_stays_confirmed_and_rests() {
    let mut winner = on(CLOUD, 5_000_000);
    let current = winner.current.as_mut().expect("a place");
    current.pending = Some(PendingMove {
        to: LOCAL.to_owned(),
        tier: Some(TIER.to_owned()),
        decision_id: "d-00000000".to_owned(),
    });
    let workloads = [
        ("a", on(CLOUD, 3_000_000)),
        ("b", on(CLOUD, 4_000_000)),
        ("winner", winner),
    ];
    let mut snapshot = rivals(1, &workloads);
    let policy = Policy::of(dwell_free());
    let mut plan = decide(&snapshot, &policy, &Plan::default(), at(1_000));
    plan = decide(&snapshot, &policy, &plan, at(2_000));
    for id in ["a", "b"] {
        let lost = decided(&plan, id);
        assert_eq!(
            lost.confirmation.as_ref().map(|it| it.count),
            Some(2),
            "{id}"
        );
        assert_eq!(
            candidate(lost, LOCAL).rejected_by[0].message,
            "tier l4 has 0 free devices on 2 nodes (1 free, 1 promised to others' starting pods)"
        );
    }
    for later in [3_000, 9_000] {
        assert_eq!(decide(&snapshot, &policy, &plan, at(later)), plan);
    }
    snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(3);
    let freed = decide(&snapshot, &policy, &plan, at(9_001));
    assert_eq!(decided(&freed, "a").outcome, Outcome::Move);
    assert_eq!(decided(&freed, "b").outcome, Outcome::Move);
}

#[test]
fn who_lost_goes_to_its_next_best_place() {
    let mut choosy = on(CLOUD, 3_000_000);
    let mut cheaper = external();
    cheaper.price = Some(price("0.11", "0.44"));
    choosy.targets.push(Target {
        name: "cheaper".to_owned(),
        kind: TargetKind::External(cheaper),
    });
    let snapshot = rivals(1, &[("a", choosy), ("b", on(CLOUD, 5_000_000))]);
    let mut plan = decide(
        &snapshot,
        &Policy::of(dwell_free()),
        &Plan::default(),
        at(1_000),
    );
    plan = decide(&snapshot, &Policy::of(dwell_free()), &plan, at(2_000));
    let lost = decided(&plan, "a");
    assert_eq!(
        (lost.outcome, lost.target.as_deref()),
        (Outcome::Move, Some("cheaper")),
        "{}",
        lost.message
    );
    assert!(
        lost.message
            .contains("tier l4 go to workloads that save more there")
    );
    let again = decide(&snapshot, &Policy::of(dwell_free()), &plan, at(2_000));
    assert_eq!(again, plan);
}

/// Two confirmations, no dwell.
fn dwell_free() -> PlacementPolicy {
    PlacementPolicy {
        min_dwell: Seconds::MIN,
        ..standard_policy()
    }
}

#[test]
fn of_those_that_can_only_run_here_the_most_are_served() {
    let large = WorkloadInput {
        demand: hybrid(20_000_000).demand,
        ..private()
    };
    let workloads = [("a", large), ("b", private()), ("c", private())];
    let plan = decide(&rivals(3, &workloads), &prompt(), &Plan::default(), at(0));
    let reasons: Vec<_> = plan.decisions.values().map(|it| it.reason).collect();
    assert_eq!(reasons[0], Reason::WaitingForGpu);
    assert_eq!(reasons[1..], [Reason::OnlyFeasibleTarget; 2]);
    assert_eq!(plan.competitions[0].goal, Goal::Serve);
    let message = &decided(&plan, "a").message;
    let why = "the 3 free devices of tier l4 go to other workloads that can only run here";
    assert!(message.contains(why), "{message}");
}

/// A workload with a local side on one or two tiers and a cloud side, new or on the cloud.
fn any_rival() -> impl Strategy<Value = WorkloadInput> {
    let tiers = select(vec![
        vec![TIER],
        vec![SECOND],
        vec![TIER, SECOND],
        vec![SECOND, TIER],
    ]);
    let since = proptest::option::of(0..3_000_i64);
    (100_000..20_000_000_u64, tiers, 1..40_u64, since).prop_map(
        |(requests, tiers, cents, since)| {
            let mut workload = hybrid(requests);
            let local = local_of(&mut workload);
            local.throughput = tiers
                .iter()
                .map(|tier| ((*tier).to_owned(), throughput(2_000)))
                .collect();
            local.tiers = tiers.into_iter().map(str::to_owned).collect();
            let cloud = cloud_of(&mut workload);
            cloud.model.name = Some("mini".to_owned());
            let listed = cloud.price.as_mut().expect("a price");
            listed.input = MicroUsdPerMillionTokens::clamped(u128::from(cents) * 10_000);
            listed.output = MicroUsdPerMillionTokens::clamped(u128::from(cents) * 40_000);
            workload.current = since.map(|ago| placed(CLOUD, at(-ago)));
            workload
        },
    )
}

fn any_rivals() -> impl Strategy<Value = FleetSnapshot> {
    let free = || 0..5_u32;
    (vec(any_rival(), 2..7), free(), free()).prop_map(|(workloads, first, second)| {
        let mut snapshot = rivals(first, &[]);
        let large = TierState {
            free_devices: Some(second),
            ..tier("0.80")
        };
        snapshot.tiers.insert(SECOND.to_owned(), large);
        let named = |(at, workload)| (WorkloadId(format!("uid-{at}")), workload);
        snapshot.workloads = workloads.into_iter().enumerate().map(named).collect();
        snapshot
    })
}

/// A tier, the devices taken there and the micro-USD saved.
type Place = (String, u32, u64);

/// The places of one workload, as decisions for it alone tell them: each time with the tiers before it full.
fn places_of(snapshot: &FleetSnapshot, id: &WorkloadId, policy: &Policy) -> Vec<Place> {
    let mut alone = snapshot.clone();
    alone.workloads.retain(|each, _| each == id);
    let mut found: Vec<(String, u32, u64)> = Vec::new();
    loop {
        let plan = decide(&alone, policy, &Plan::default(), at(0));
        let decision = &plan.decisions[id];
        let target = decision.target.as_deref().expect("a target");
        let cost = |name| {
            let cost = candidate(decision, name).cost.as_ref();
            cost.expect("a cost").monthly.get()
        };
        if target == CLOUD {
            let cloud = cost(CLOUD);
            let (mut least, mut most) = (found.len() as u64, u64::MAX);
            for (tier, devices, worth) in &mut found {
                let free = snapshot.tiers[tier].free_devices.expect("known");
                let whole = cloud.saturating_sub(*worth);
                let share = whole * u64::from(free.min(*devices)) / u64::from(*devices);
                *devices = free.min(*devices);
                *worth = share.max(least).min(most);
                (least, most) = (least - 1, *worth - 1);
            }
            return found;
        }
        let tier = decision.tier.clone().expect("a tier");
        let replicas = candidate(decision, target).replicas.expect("replicas");
        alone.tiers.get_mut(&tier).expect("the tier").free_devices = Some(0);
        found.push((tier, replicas, cost(target)));
    }
}

/// The most that any way of giving the free devices away saves.
fn most_saved(workloads: &[Vec<Place>], free: &BTreeMap<String, u32>) -> u64 {
    let Some((first, rest)) = workloads.split_first() else {
        return 0;
    };
    let mut best = most_saved(rest, free);
    for (tier, devices, saving) in first {
        if let Some(left) = free[tier].checked_sub(*devices) {
            let mut free = free.clone();
            free.insert(tier.clone(), left);
            best = best.max(saving + most_saved(rest, &free));
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against every way there is to give the free devices away.
    #[test]
    fn the_plan_saves_within_a_percent_of_the_most_that_can_be_saved(snapshot in any_rivals()) {
        let plan = decide(&snapshot, &prompt(), &Plan::default(), at(0));
        let places: BTreeMap<_, _> = snapshot.workloads.keys()
            .map(|id| (id, places_of(&snapshot, id, &prompt())))
            .collect();
        let free = snapshot.tiers.iter().map(|(name, tier)| (name.clone(), tier.free_devices.expect("known")));
        let free: BTreeMap<_, _> = free.collect();
        let saved = |id: &WorkloadId| {
            let tier = plan.decisions[id].tier.as_ref();
            let place = places[id].iter().find(|(name, ..)| Some(name) == tier);
            place.map_or(0, |(_, _, saving)| *saving)
        };
        let total: u64 = snapshot.workloads.keys().map(saved).sum();
        let all: Vec<_> = places.values().cloned().collect();
        let best = most_saved(&all, &free);
        prop_assert!(total <= best && best - total <= best / 100, "{} of {}", total, best);
        for (name, free) in &free {
            let taken: u32 = plan.decisions.iter()
                .filter(|(_, it)| it.tier.as_ref() == Some(name))
                .filter_map(|(id, _)| places[id].iter().find(|(tier, ..)| tier == name))
                .map(|(_, devices, _)| devices)
                .sum();
            prop_assert!(taken <= *free);
        }
        for competition in &plan.competitions {
            let value: u64 = competition.workloads.iter().map(saved).sum();
            prop_assert_eq!(competition.value.get(), value);
            prop_assert!(competition.value <= competition.bound);
            prop_assert!(competition.gap_parts_per_million <= 10_000);
        }
    }

    /// Whether wishes are held, confirmed or lost.
    #[test]
    fn rivals_decided_again_at_the_same_moment_stay(snapshot in any_rivals(), dwell in 0..3_000_u128, count in 0..4_u32) {
        let confirmation = ConfirmationRule { count, interval: Seconds::clamped(60) };
        let policy = PlacementPolicy { min_dwell: Seconds::clamped(dwell), confirmation, ..standard_policy() };
        let policy = Policy::of(policy);
        let mut plan = Plan::default();
        for step in 0..5 {
            let once = decide(&snapshot, &policy, &plan, at(step * 100));
            prop_assert_eq!(&decide(&snapshot, &policy, &once, at(step * 100)), &once);
            plan = once;
        }
    }

    #[test]
    fn a_dearer_cloud_never_costs_a_rival_its_devices(snapshot in any_rivals(), which in any::<prop::sample::Index>(), factor in 2..9_u128) {
        let cheap = decide(&snapshot, &prompt(), &Plan::default(), at(0));
        let mut dearer = snapshot.clone();
        let at_index = which.index(snapshot.workloads.len());
        let (id, workload) = dearer.workloads.iter_mut().nth(at_index).expect("one");
        let id = id.clone();
        let listed = cloud_of(workload).price.as_mut().expect("a price");
        let raised = |it: MicroUsdPerMillionTokens| MicroUsdPerMillionTokens::clamped(u128::from(it.get()) * factor);
        (listed.input, listed.output) = (raised(listed.input), raised(listed.output));
        let dear = decide(&dearer, &prompt(), &Plan::default(), at(0));
        if cheap.decisions[&id].location == Some(Location::Local) {
            prop_assert_ne!(dear.decisions[&id].location, Some(Location::External));
        }
    }

    /// Prices of some and devices change while rivals wait: the plan from the change is the plan from scratch.
    #[test]
    fn a_change_among_rivals_gives_the_plan_of_a_full_decision(
        snapshot in any_rivals(), count in 1..3_u32, percent in 20..400_u128, which in any::<prop::sample::Index>(), free in proptest::option::of(0..6_u32)
    ) {
        let confirmation = ConfirmationRule { count, interval: Seconds::clamped(60) };
        let policy = Policy::of(PlacementPolicy { min_dwell: Seconds::MIN, confirmation, ..standard_policy() });
        let mut plan = Plan::default();
        for step in 0..3 {
            plan = decide(&snapshot, &policy, &plan, at(step * 100));
        }
        let mut after = snapshot.clone();
        let at_index = which.index(snapshot.workloads.len());
        let (id, workload) = after.workloads.iter_mut().nth(at_index).expect("one");
        let mut changed = Changed { workloads: BTreeSet::from([id.clone()]), ..Changed::default() };
        let listed = cloud_of(workload).price.as_mut().expect("a price");
        listed.output = MicroUsdPerMillionTokens::clamped(u128::from(listed.output.get()) * percent / 100);
        if let Some(free) = free {
            after.tiers.get_mut(SECOND).expect("the tier").free_devices = Some(free);
            changed.tiers.insert(SECOND.to_owned());
        }
        let (partly, evaluated) = decide_changed(&after, &policy, &plan, &changed, at(300));
        prop_assert!(evaluated >= 1);
        prop_assert_eq!(partly, decide(&after, &policy, &plan, at(300)));
    }
}
