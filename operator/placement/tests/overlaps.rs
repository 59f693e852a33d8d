//! Tiers that have nodes in common: whatever is decided, and wherever the scheduler puts the pods, each finds its device.

#[path = "decisions/builders.rs"]
#[allow(dead_code)]
mod builders;

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weir_placement::*;

use builders::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Nodes with an amount of one resource, and tiers over some of them with what one replica takes.
#[derive(Debug, Clone)]
struct Pool {
    nodes: Vec<u32>,
    tiers: Vec<(BTreeSet<usize>, u32)>,
}

impl Pool {
    fn states(&self) -> BTreeMap<String, TierState> {
        let states = (0..self.tiers.len()).map(|at| (NAMES[at].to_owned(), self.state(at)));
        states.collect()
    }

    /// As the controller of tiers counts it.
    fn state(&self, at: usize) -> TierState {
        let (nodes, count) = &self.tiers[at];
        let free = |nodes: &mut dyn Iterator<Item = &usize>| -> u32 {
            nodes.map(|node| self.nodes[*node] / count).sum()
        };
        let others = (0..self.tiers.len()).filter(|other| *other != at);
        let shared = others.filter_map(|other| {
            let (theirs, takes) = &self.tiers[other];
            let free = free(&mut nodes.intersection(theirs));
            let each = takes.div_ceil(*count);
            (free > 0).then(|| (NAMES[other].to_owned(), SharedDevices { free, each }))
        });
        TierState {
            nodes: u32::try_from(nodes.len()).expect("few"),
            free_devices: Some(free(&mut nodes.iter())),
            shared: shared.collect(),
            ..tier("0.50")
        }
    }

    /// Puts so many pods of a tier somewhere, the first node with room from `from` on; false where one finds none.
    fn schedule(&mut self, name: &str, pods: u32, from: usize) -> bool {
        let at = NAMES.iter().position(|each| *each == name).expect("a tier");
        let (nodes, count) = self.tiers[at].clone();
        let mut order: Vec<usize> = nodes.into_iter().collect();
        let shift = from.checked_rem(order.len()).unwrap_or(0);
        order.rotate_left(shift);
        (0..pods).all(|_| {
            let fits = order.iter().find(|node| self.nodes[**node] >= count);
            if let Some(node) = fits {
                self.nodes[*node] -= count;
            }
            fits.is_some()
        })
    }
}

fn any_pool() -> impl Strategy<Value = Pool> {
    let nodes = vec(0..9_u32, 1..5);
    let tier = || (btree_set(0..4_usize, 1..4), 1..4_u32);
    (nodes, vec(tier(), 2..=NAMES.len())).prop_map(|(nodes, mut tiers)| {
        for (of_tier, _) in &mut tiers {
            of_tier.retain(|node| *node < nodes.len());
        }
        Pool { nodes, tiers }
    })
}

/// New or on the cloud, with a local side on some of the tiers; now and then with nothing else, and then of one replica.
fn any_workload() -> impl Strategy<Value = WorkloadInput> {
    let tiers = select(vec![
        vec![0],
        vec![1],
        vec![2],
        vec![0, 1],
        vec![1, 2],
        vec![2, 0],
    ]);
    let since = option::of(0..3_000_i64);
    let private = prop::bool::weighted(0.2);
    (100_000..20_000_000_u64, tiers, 1..40_u64, since, private).prop_map(
        |(requests, tiers, cents, since, private)| {
            let mut workload = hybrid(requests);
            let local = local_of(&mut workload);
            local.tiers = tiers
                .into_iter()
                .map(|at: usize| NAMES[at].to_owned())
                .collect();
            let rate = |tier: &String| (tier.clone(), throughput(2_000));
            local.throughput = local.tiers.iter().map(rate).collect();
            if private {
                local.max_replicas = 1;
                workload.egress = Egress::Forbidden;
                return workload;
            }
            let price = cloud_of(&mut workload).price.as_mut().expect("a price");
            price.input = MicroUsdPerMillionTokens::clamped(u128::from(cents) * 10_000);
            price.output = MicroUsdPerMillionTokens::clamped(u128::from(cents) * 40_000);
            workload.current = since.map(|ago| placed(CLOUD, at(-ago)));
            workload
        },
    )
}

fn any_fleet() -> impl Strategy<Value = (Pool, FleetSnapshot)> {
    (any_pool(), vec(any_workload(), 1..7)).prop_map(|(pool, workloads)| {
        let named = |(at, workload)| (WorkloadId(format!("uid-{at}")), workload);
        let snapshot = FleetSnapshot {
            workloads: workloads.into_iter().enumerate().map(named).collect(),
            tiers: pool.states(),
            elsewhere: Vec::new(),
        };
        (pool, snapshot)
    })
}

/// The tier and the replicas of every decision that takes devices.
fn taken<'a>(snapshot: &'a FleetSnapshot, plan: &'a Plan) -> Vec<(&'a str, u32)> {
    let decisions = plan.decisions.iter();
    let taken =
        decisions.filter_map(|(id, decision)| devices_taken(&snapshot.workloads[id], decision));
    taken.collect()
}

#[test]
fn one_device_under_two_names_is_given_to_one() {
    let pool = Pool {
        nodes: vec![1],
        tiers: vec![(BTreeSet::from([0]), 1), (BTreeSet::from([0]), 1)],
    };
    let on_tier = |name: &str, requests| {
        let mut workload = hybrid(requests);
        let local = local_of(&mut workload);
        local.tiers = vec![name.to_owned()];
        local.throughput = BTreeMap::from([(name.to_owned(), throughput(2_000))]);
        workload
    };
    for (first, second) in [(3_000_000, 5_000_000), (5_000_000, 3_000_000)] {
        let workloads = [
            (WorkloadId::from("w-a"), on_tier("a", first)),
            (WorkloadId::from("w-b"), on_tier("b", second)),
        ];
        let snapshot = FleetSnapshot {
            workloads: BTreeMap::from(workloads),
            tiers: pool.states(),
            elsewhere: Vec::new(),
        };
        let plan = decide(
            &snapshot,
            &Policy::of(prompt_policy()),
            &Plan::default(),
            at(0),
        );
        let winner = if first > second { "a" } else { "b" };
        assert_eq!(taken(&snapshot, &plan), [(winner, 1)]);
        assert_eq!(plan.competitions.len(), 1, "{:?}", plan.competitions);
        assert_eq!(plan.competitions[0].workloads.len(), 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_device_is_booked_twice_by_tiers_that_overlap(
        (pool, snapshot) in any_fleet(), seed in vec(any::<usize>(), 8), order in any::<prop::sample::Index>()
    ) {
        let plan = decide(&snapshot, &Policy::of(prompt_policy()), &Plan::default(), at(0));
        let mut pods = taken(&snapshot, &plan);
        let pivot = order.index(pods.len().max(1));
        pods.rotate_left(pivot);
        let mut left = pool.clone();
        for (at, (tier, replicas)) in pods.iter().enumerate() {
            prop_assert!(left.schedule(tier, *replicas, seed[at % 8]), "{pods:?} on {pool:?}");
        }
    }
}
