//! What one change makes be looked at again, counted in a fleet of ten thousand.

use std::collections::BTreeSet;

use weir_placement::*;

use crate::builders::{at, prompt_policy};
use crate::large::{carry_out, fleet, reprice};

struct World {
    snapshot: FleetSnapshot,
    policy: Policy,
    previous: Plan,
}

fn settled() -> World {
    let policy = Policy::of(prompt_policy());
    let mut snapshot = fleet(10_000);
    let first = decide(&snapshot, &policy, &Plan::default(), at(0));
    carry_out(&mut snapshot, &first, at(0));
    let previous = decide(&snapshot, &policy, &first, at(100));
    World {
        snapshot,
        policy,
        previous,
    }
}

fn key() -> PriceKey {
    PriceKey {
        provider: "provider-7".to_owned(),
        model: "model-1".to_owned(),
    }
}

fn has_price(workload: &WorkloadInput) -> bool {
    workload.targets.iter().any(|target| match &target.kind {
        TargetKind::External(external) => {
            external.provider == key().provider
                && external.model.name.as_ref() == Some(&key().model)
        }
        _ => false,
    })
}

fn tiers(workload: &WorkloadInput) -> impl Iterator<Item = &String> {
    workload
        .targets
        .iter()
        .flat_map(|target| match &target.kind {
            TargetKind::Local(local) => local.tiers.as_slice(),
            _ => &[],
        })
}

fn moves(plan: &Plan) -> usize {
    let decisions = plan.decisions.values();
    decisions.filter(|it| it.outcome == Outcome::Move).count()
}

#[test]
fn one_price_reaches_only_who_has_it_and_who_shares_a_tier_with_one() {
    let world = settled();
    let changed = Changed {
        prices: BTreeSet::from([key()]),
        ..Changed::default()
    };
    let with_price: Vec<_> = world
        .snapshot
        .workloads
        .values()
        .filter(|it| has_price(it))
        .collect();
    let concerned: BTreeSet<&String> = with_price.iter().flat_map(|it| tiers(it)).collect();
    let sharing = world
        .snapshot
        .workloads
        .values()
        .filter(|it| has_price(it) || tiers(it).any(|tier| concerned.contains(tier)))
        .count();
    let having = with_price.len();
    for percent in [99, 300, 1] {
        let mut snapshot = world.snapshot.clone();
        reprice(&mut snapshot, &key(), percent);
        let (plan, evaluated) =
            decide_changed(&snapshot, &world.policy, &world.previous, &changed, at(200));
        let full = decide(&snapshot, &world.policy, &world.previous, at(200));
        assert!(plan == full, "at {percent} % the plans differ");
        assert!(
            (having..=sharing).contains(&evaluated) && having > 50,
            "{evaluated} of {having} to {sharing}"
        );
        if percent == 99 {
            // Nobody moves for so little, so no devices come out differently for anyone.
            assert_eq!((evaluated, moves(&plan)), (having, moves(&world.previous)));
        } else if percent == 1 {
            assert!(moves(&plan) > moves(&world.previous));
        }
    }
}

#[test]
fn nothing_changed_reaches_nobody() {
    let world = settled();
    let (plan, evaluated) = decide_changed(
        &world.snapshot,
        &world.policy,
        &world.previous,
        &Changed::default(),
        at(200),
    );
    assert_eq!(evaluated, 0);
    assert!(plan == world.previous);
}

#[test]
fn a_tier_reaches_those_that_name_it_and_whom_they_displace() {
    let mut world = settled();
    let tier = world.snapshot.tiers.get_mut("tier-8").expect("the tier");
    tier.free_devices = Some(tier.free_devices.unwrap_or(0) + 3);
    let changed = Changed {
        tiers: BTreeSet::from(["tier-8".to_owned()]),
        ..Changed::default()
    };
    let (plan, evaluated) = decide_changed(
        &world.snapshot,
        &world.policy,
        &world.previous,
        &changed,
        at(200),
    );
    let full = decide(&world.snapshot, &world.policy, &world.previous, at(200));
    assert!(plan == full);
    // Two of a hundred tiers make a pair, so every fiftieth workload names it.
    assert_eq!(evaluated, 200);
}
