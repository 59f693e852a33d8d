//! The decision for one workload: the call of the pure function, and its result as status has it. Pure.

mod recall;
mod render;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_crds::InferenceWorkloadStatus;
use weir_crds::decision::Decision as StatusDecision;
use weir_placement::{
    Decision, FleetSnapshot, HourHistory, HourlySplit, Outcome, PlacementPolicy, Plan, WorkloadId,
    decide as decide_fleet, split_hour,
};

use super::moves::{Wish, WishedTarget};
use super::validate::Validated;

pub use render::render;

/// Decides for one workload. Other workloads count through what their pods leave free of the tiers and what they have used
/// of the policy's move budget, so that a decision
/// depends on what is in the cluster and not on the order in which workloads are looked at.
pub fn decide(
    uid: &str,
    validated: &Validated,
    status: Option<&InferenceWorkloadStatus>,
    now: Timestamp,
) -> Option<Decision> {
    let id = WorkloadId::from(uid);
    let snapshot = FleetSnapshot {
        workloads: BTreeMap::from([(id.clone(), validated.input.clone())]),
        tiers: validated.tiers.clone(),
        elsewhere: validated.elsewhere.clone(),
    };
    let previous = status.and_then(recall::recall);
    let previous = Plan {
        decisions: previous
            .map(|previous| (id.clone(), previous))
            .into_iter()
            .collect(),
        ..Plan::default()
    };
    let mut plan = decide_fleet(&snapshot, &validated.policy, &previous, now);
    plan.decisions.remove(&id)
}

/// Replicas of the hour, where hours are known that say more than the decision's assumed peak.
pub fn split(
    decision: &Decision,
    validated: &Validated,
    (hours, spills): (&HourHistory, bool),
    now: Timestamp,
) -> Option<HourlySplit> {
    let input = &validated.input;
    let built_in = PlacementPolicy::default();
    let policy = validated.policy.effective(input.policy.as_deref());
    let policy = policy.unwrap_or(&built_in);
    split_hour(
        decision,
        input,
        &validated.tiers,
        policy,
        (hours, spills),
        now,
    )
}

/// What moves need of a decision, and of its split where there is one.
pub fn wish(decision: &Decision, split: Option<&HourlySplit>) -> Wish {
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
        if let Some(book) = &mut decision.inputs.price_book {
            book.as_of = None;
        }
        decision
    };
    timeless(a) == timeless(b)
}

/// How the API spells a variant.
pub(crate) fn name_of<T: Serialize>(value: T) -> String {
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
