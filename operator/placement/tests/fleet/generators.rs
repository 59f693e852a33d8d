//! Random problems and random demand.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weir_placement::fleet::assignment::{Competitor, Offer, Placement, Problem};
use weir_placement::fleet::learned::HourDemand;
use weir_placement::{MicroUsd, NonNegative, WorkloadId};

/// How large a random problem may be.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub workloads: usize,
    pub tiers: usize,
    pub replicas: usize,
    pub units: u32,
}

/// Small enough to enumerate.
pub const SMALL: Size = Size {
    workloads: 8,
    tiers: 3,
    replicas: 3,
    units: 7,
};

pub fn id(number: usize) -> WorkloadId {
    WorkloadId(format!("w{number:05}"))
}

pub fn tier(number: usize) -> String {
    format!("t{number}")
}

pub fn money(micros: u64) -> MicroUsd {
    MicroUsd::clamped(u128::from(micros))
}

/// Amounts that tie often, and amounts that hardly ever do.
fn any_money() -> impl Strategy<Value = MicroUsd> {
    prop_oneof![0..6_u64, 0..2_000_000_u64].prop_map(money)
}

fn any_offer(size: Size) -> impl Strategy<Value = Offer> {
    let savings = vec(any_money(), 0..=size.replicas);
    (1..=3_u32, savings, any_money()).prop_map(|(units, mut savings, enter)| {
        savings.sort_unstable_by(|a, b| b.cmp(a));
        Offer {
            units: NonZeroU32::MIN.saturating_add(units - 1),
            savings,
            enter: money(enter.get() / 4),
        }
    })
}

fn any_placement(size: Size) -> impl Strategy<Value = Placement> {
    let tier = (0..size.tiers + 1).prop_map(tier);
    (tier, 0..=size.replicas as u32 + 1).prop_map(|(tier, replicas)| Placement { tier, replicas })
}

pub fn any_competitor(size: Size) -> impl Strategy<Value = Competitor> {
    let offers = btree_map(
        (0..size.tiers).prop_map(tier),
        any_offer(size),
        0..=size.tiers,
    );
    (offers, option::of(any_placement(size)), any_money()).prop_map(|(offers, held, leave)| {
        Competitor {
            offers,
            held,
            leave: money(leave.get() / 4),
        }
    })
}

pub fn any_problem(size: Size) -> impl Strategy<Value = Problem> {
    let capacity = vec(0..=size.units, size.tiers);
    let workloads = vec(any_competitor(size), 0..=size.workloads);
    (capacity, workloads).prop_map(|(capacity, workloads)| Problem {
        capacity: capacity
            .into_iter()
            .enumerate()
            .map(|(number, units)| (tier(number), units))
            .collect(),
        workloads: workloads
            .into_iter()
            .enumerate()
            .map(|(number, competitor)| (id(number), competitor))
            .collect(),
    })
}

/// Demand of some hours of some workloads; an absent one is unknown.
pub type Days = Vec<BTreeMap<WorkloadId, HourDemand>>;

pub fn amount(value: f64) -> NonNegative {
    NonNegative::new(value).unwrap_or(NonNegative::ZERO)
}

fn any_hour() -> impl Strategy<Value = HourDemand> {
    let need = prop_oneof![Just(0.0), 0.0..4.0, select(vec![1.0, 2.0])];
    (need, 0.0..50.0).prop_map(|(need, price)| HourDemand {
        replicas_needed: amount(need),
        cloud_usd: amount(need * price),
    })
}

pub fn any_days(hours: std::ops::Range<usize>) -> impl Strategy<Value = Days> {
    let hour = btree_map((0..5_usize).prop_map(id), any_hour(), 0..=5);
    vec(hour, hours)
}
