//! The decision for one workload: the call of the pure function, and its result as status has it. Pure.

pub mod recall;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_crds::InferenceWorkloadStatus;
use weir_crds::decision::Decision as StatusDecision;
use weir_crds::placement::DecidedFor;
use weir_placement::{
    Decision, FleetSnapshot, HourHistory, HourlySplit, MoveBudget, MovesElsewhere, Outcome,
    PlacementPolicy, Plan, Policy, TargetKind, TierState, WorkloadId, WorkloadInput,
    decide as decide_fleet, split_hour,
};

use super::moves::{Wish, WishedTarget};
use super::validate::Validated;

pub use render::render;

/// A workload that is decided about.
#[derive(Clone, Copy)]
pub struct Considered<'a> {
    /// Its UID.
    pub(super) uid: &'a str,
    /// What it is decided by.
    pub(super) validated: &'a Validated,
    /// Its status, which remembers the decision before.
    pub(super) status: Option<&'a InferenceWorkloadStatus>,
}

impl<'a> Considered<'a> {
    /// With the decision in `status` as the one before, if there is one.
    pub fn new(
        uid: &'a str,
        validated: &'a Validated,
        status: Option<&'a InferenceWorkloadStatus>,
    ) -> Self {
        Self {
            uid,
            validated,
            status,
        }
    }

    /// Decides for it without a look at others.
    pub fn decide_alone(self, now: Timestamp) -> Option<Decision> {
        let mut plan = decide(&[self], Vec::new(), now);
        plan.decisions.remove(&WorkloadId::from(self.uid))
    }
}

/// The policies with a move budget that govern these workloads.
pub fn budgets<'a>(considered: &[Considered<'a>]) -> BTreeSet<&'a str> {
    let unlimited = MoveBudget::default();
    let limited = |each: &Considered<'a>| {
        let named = each.validated.input.policy.as_deref();
        let policy = each.validated.policy.effective(named);
        named.filter(|_| policy.is_some_and(|policy| policy.move_budget != unlimited))
    };
    considered.iter().filter_map(limited).collect()
}

/// The plan for a workload that is asked about and those that may want the same devices. Whoever wants none counts through
/// what its pods leave free of the tiers and what it has used of the policy's move budget (`elsewhere`), so that a decision
/// depends on what is in the cluster and not on the order in which workloads are looked at.
pub fn decide(
    considered: &[Considered<'_>],
    elsewhere: Vec<MovesElsewhere>,
    now: Timestamp,
) -> Plan {
    let mut snapshot = FleetSnapshot {
        tiers: tiers(considered),
        elsewhere,
        ..FleetSnapshot::default()
    };
    let mut policy = Policy::default();
    let mut previous = Plan::default();
    for each in considered {
        let id = WorkloadId::from(each.uid);
        // The default is the built-in one for everybody.
        policy.default = each.validated.policy.default.clone();
        for (name, named) in &each.validated.policy.named {
            let known = policy.named.entry(name.clone());
            known.or_insert_with(|| named.clone());
        }
        if let Some(recalled) = each.status.and_then(recall::recall) {
            previous.decisions.insert(id.clone(), recalled);
        }
        snapshot.workloads.insert(id, each.validated.input.clone());
    }
    decide_fleet(&snapshot, &policy, &previous, now)
}

/// The tiers that these workloads name. What their pods hold is not free, even where the tier was counted before they came.
fn tiers(considered: &[Considered<'_>]) -> BTreeMap<String, TierState> {
    let mut tiers: BTreeMap<String, TierState> = BTreeMap::new();
    let mut unheld: BTreeMap<&String, u32> = BTreeMap::new();
    for each in considered {
        for (name, tier) in &each.validated.tiers {
            let known = tiers.entry(name.clone());
            known.or_insert_with(|| tier.clone());
        }
        for (name, devices) in &each.validated.devices {
            unheld.entry(name).or_insert(*devices);
        }
    }
    let current = considered
        .iter()
        .filter_map(|each| each.validated.input.current.as_ref());
    for (name, held) in current.flat_map(|current| &current.held) {
        if let Some(unheld) = unheld.get_mut(name) {
            *unheld = unheld.saturating_sub(*held);
        }
    }
    for (name, unheld) in unheld {
        let free = tiers
            .get_mut(name)
            .and_then(|tier| tier.free_devices.as_mut());
        if let Some(free) = free {
            *free = unheld.min(*free);
        }
    }
    tiers
}

/// Replicas of the hour, where hours are known that say more than the decision, which is for the month.
pub fn split(
    decision: &Decision,
    validated: &Validated,
    hours: &HourHistory,
    now: Timestamp,
) -> Option<HourlySplit> {
    let input = &validated.input;
    let built_in = PlacementPolicy::default();
    let policy = validated.policy.effective(input.policy.as_deref());
    let policy = policy.unwrap_or(&built_in);
    split_hour(decision, input, &validated.tiers, policy, hours, now)
}

/// What moves need of a decision, of its split where there is one, and of the input that it was made of.
pub fn wish(decision: &Decision, split: Option<&HourlySplit>, input: &WorkloadInput) -> Wish {
    let candidate = |name: &str| decision.candidates.iter().find(|each| each.name == name);
    let feasible = decision.weights.iter().map(|weight| {
        let candidate = candidate(&weight.target);
        WishedTarget {
            name: weight.target.clone(),
            location: match weight.replicas {
                Some(_) => weir_crds::placement::Location::Local,
                None => weir_crds::placement::Location::External,
            },
            replicas: weight.replicas.map(|replicas| {
                let of_hour = split.filter(|split| split.target == weight.target);
                count(of_hour.map_or(replicas, |split| split.replicas))
            }),
            tier: candidate.and_then(|candidate| candidate.tier.clone()),
            decided_for: decided_for(input, &weight.target),
        }
    });
    Wish {
        decision_id: decision.id.clone(),
        target: decision.target.clone(),
        reason: name_of(decision.reason),
        moves: decision.outcome == Outcome::Move,
        feasible: feasible.collect(),
    }
}

/// What a target at a provider was when it was decided about.
fn decided_for(input: &WorkloadInput, target: &str) -> Option<DecidedFor> {
    let place = input.places().find(|place| place.name == target)?;
    let TargetKind::External(external) = &place.kind else {
        return None;
    };
    Some(DecidedFor {
        provider: external.provider.clone(),
        model: external.model.name.clone()?,
    })
}

/// The split as status has it.
pub fn render_split(split: &HourlySplit) -> weir_crds::decision::Split {
    weir_crds::decision::Split {
        replicas: count(split.replicas),
        overflow_target: split.overflow.clone(),
    }
}

fn count(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}

/// The decision that stands in status although this one was made: they differ in nothing but times.
pub fn same(a: &StatusDecision, b: &StatusDecision) -> bool {
    let timeless = |decision: &StatusDecision| {
        let mut decision = decision.clone();
        decision.time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
        decision.next_evaluation_time = None;
        decision.inputs.utilization_percent = None;
        decision.inputs.utilization_state = None;
        if let Some(book) = &mut decision.inputs.price_book {
            book.as_of = None;
        }
        decision
    };
    timeless(a) == timeless(b)
}

/// How the API spells a variant.
pub fn name_of<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

/// The variant that the API spells so.
fn from_name<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

#[cfg(test)]
mod tests;
