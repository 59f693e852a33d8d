//! Decides about a workload alone, and where that would take devices of a scarce tier together with its rivals: the workloads
//! that name a scarce tier in common with it, directly or by way of others. A tier is scarce when all that may ask for it are
//! more than are free. Rivals are read anew each time, so nothing is remembered that could be old or half there.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_crds::InferenceWorkload;
use weir_crds::placement::Placement;
use weir_crds::tier::SharedWith;
use weir_operator_core::owner::Owner;
use weir_placement::{Decision, Outcome, Reason, WorkloadId, devices_taken};

use super::decide::{self, Considered};
use super::facts::Facts;
use super::validate::{self, Validated};
use super::{Pass, dereference, elsewhere, moves};
use crate::clock::{Moment, Witnessed};
use crate::context::Context;
use crate::stores::Stores;

/// Pods that have found no node for so long want something else than the device that is free.
const NO_NODE_PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// Another workload, as far as its decision needs it.
struct Rival {
    workload: Arc<InferenceWorkload>,
    validated: Validated,
}

/// What was decided.
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// It is new, and devices that are free go to others: pods of its own would take them first.
    pub(super) waits_for_rivals: bool,
}

impl Pass<'_> {
    /// Under a move budget workloads are decided one at a time, each knowing what the others have used.
    pub(super) async fn decide(&self, validated: &Validated) -> Option<Decided> {
        let status = self.facts.workload.status.as_ref();
        let own = Considered::new(self.facts.uid(), validated, status);
        if decide::budgets(&[own]).is_empty() {
            return self.decide_among(own, &BTreeSet::new());
        }
        let decide = |told: &BTreeSet<String>| {
            let decided = self.decide_among(own, told);
            let outcome = decided.as_ref().map(|decided| decided.decision.outcome);
            (decided, outcome == Some(Outcome::Move))
        };
        self.reconciler.memory.one_at_a_time(own.uid, decide).await
    }

    fn decide_among(&self, own: Considered<'_>, told: &BTreeSet<String>) -> Option<Decided> {
        let context = &self.reconciler.context;
        let now = self.facts.now;
        let decide = |considered: &[Considered<'_>]| {
            let all = || context.stores.workloads.state();
            let here = considered.iter().map(|each| each.uid).collect();
            let policies = decide::budgets(considered);
            let elsewhere = elsewhere::elsewhere(all, &policies, (&here, told), now);
            decide::decide(considered, elsewhere, now)
        };
        let id = WorkloadId::from(own.uid);
        let alone = decide(&[own]).decisions.remove(&id)?;
        let alone = Decided {
            decision: alone,
            waits_for_rivals: false,
        };
        let input = &own.validated.input;
        let at_home = input.current.as_ref().is_some_and(|current| {
            current.pending.is_none() && alone.decision.target.as_ref() == Some(&current.target)
        });
        // What runs keeps its devices, and its growth comes first.
        let Some((tier, _)) = devices_taken(input, &alone.decision).filter(|_| !at_home) else {
            return Some(alone);
        };
        let moment = Moment {
            now,
            witnessed: self.facts.witnessed.clone(),
        };
        let rivals = rivals(context, (own.uid, tier), &moment);
        if rivals.is_empty() {
            return Some(alone);
        }
        let others = rivals.iter().map(|rival| {
            let status = rival.workload.status.as_ref();
            Considered::new(uid_of(&rival.workload), &rival.validated, status)
        });
        let mut plan = decide(&iter::once(own).chain(others).collect::<Vec<_>>());
        for competition in &plan.competitions {
            context.metrics.competed(competition);
        }
        let decision = plan.decisions.remove(&id)?;
        let waits = decision.reason == Reason::WaitingForGpu;
        Some(Decided {
            waits_for_rivals: waits && input.current.is_none(),
            decision,
        })
    }
}

/// The rivals of the workload with `uid`, which is about to take devices of `tier`; those that cannot be decided about yet
/// want none.
fn rivals(context: &Context, (uid, tier): (&str, &str), moment: &Moment) -> Vec<Rival> {
    let stores = &context.stores;
    let mut all = stores.workloads.state();
    all.retain(|workload| workload.metadata.deletion_timestamp.is_none());
    let room = |tier: &str| {
        let tier = Stores::get(&stores.tiers, None, tier)?;
        let status = tier.status.as_ref()?;
        let to_come = status.provisionable.unwrap_or(0);
        Some(Room {
            free: status.free?.saturating_add(to_come),
            shared: status.shared_with.clone(),
        })
    };
    let found = contenders(&all, (uid, tier), room);
    if found.is_empty() {
        return Vec::new();
    }
    let rival = |workload: &Arc<InferenceWorkload>| {
        let has = stores.engine_pods.of(&Owner::new(workload));
        let facts = dereference::rival(context, Arc::clone(workload), has, moment);
        let validated = validate::validate(&facts).ok()?;
        let wants_none = validate::waits_for_references(&facts, &validated)
            || facts.placement().is_some_and(|placement| {
                let current = validated.input.current.as_ref();
                let held = current.map_or(0, |current| current.held.values().sum());
                cannot_use(
                    placement,
                    held,
                    patience(&facts),
                    (moment.now, &facts.witnessed),
                )
            });
        (!wants_none).then(|| Rival {
            workload: Arc::clone(workload),
            validated,
        })
    };
    found.into_iter().filter_map(rival).collect()
}

/// Whether the workload leaves devices unused that it would be given: the target with them is left alone after a move there
/// came to nothing, or its pods have found no node for so long that something else is wrong.
fn cannot_use(
    placement: &Placement,
    held: u32,
    patience: SignedDuration,
    (now, witnessed): (Timestamp, &Witnessed),
) -> bool {
    let rolled_back = placement.rolled_back.as_ref();
    let paused = rolled_back
        .and_then(|rolled_back| moves::rolled_back_until(witnessed, placement, &rolled_back.target))
        .is_some_and(|until| until > now);
    let ordered: i32 = placement
        .weights
        .iter()
        .filter_map(|weight| weight.replicas)
        .sum();
    let lacks = u32::try_from(ordered).is_ok_and(|ordered| ordered > held);
    let waited = now.duration_since(witnessed.since(placement.step_since.0));
    paused || (lacks && waited > patience)
}

/// How long pods may be without a node: longer where nodes are provisioned for them first.
fn patience(facts: &Facts) -> SignedDuration {
    let tiers = facts.tiers.values();
    let longest = tiers.filter_map(|tier| validate::ready_after(tier)).max();
    NO_NODE_PATIENCE.saturating_add(longest.unwrap_or_default())
}

fn uid_of(workload: &InferenceWorkload) -> &str {
    workload.metadata.uid.as_deref().unwrap_or_default()
}

/// The tiers that a workload names, and the most devices that it may ask of each.
fn asks(workload: &InferenceWorkload) -> BTreeMap<&str, i64> {
    let mut asks = BTreeMap::new();
    let targets = workload.spec.targets.iter();
    for local in targets.filter_map(|target| target.local.as_ref()) {
        for tier in &local.tiers {
            let most = asks.entry(tier.as_str()).or_default();
            *most = i64::from(local.scaling.max_replicas).max(*most);
        }
    }
    asks
}

/// What there is of a tier.
struct Room {
    /// Devices that are free or can be provisioned.
    free: i64,
    /// Tiers that may take some of them.
    shared: Vec<SharedWith>,
}

/// The workloads that contend with the one with `uid` once it wants devices of `tier`. `room`: what there is of a tier; a
/// tier of which that is unknown has no limit.
fn contenders<'a>(
    all: &'a [Arc<InferenceWorkload>],
    (uid, tier): (&str, &str),
    room: impl Fn(&str) -> Option<Room>,
) -> Vec<&'a Arc<InferenceWorkload>> {
    let asked: Vec<_> = all.iter().map(|workload| asks(workload)).collect();
    let mut total: BTreeMap<&str, i64> = BTreeMap::new();
    for (tier, most) in asked.iter().flatten() {
        let total = total.entry(tier).or_default();
        *total = total.saturating_add(*most);
    }
    let rooms: BTreeMap<&str, Room> = total
        .keys()
        .filter_map(|tier| Some((*tier, room(tier)?)))
        .collect();
    let is_short = |tier: &str| {
        let asked = |tier: &str| total.get(tier).copied().unwrap_or(0);
        rooms.get(tier).is_some_and(|room| {
            let by_others = room.shared.iter().map(|with| {
                let most = asked(&with.tier).saturating_mul(with.each);
                most.min(with.free)
            });
            by_others.fold(asked(tier), i64::saturating_add) > room.free
        })
    };
    // Where a tier is short, so are those that it has nodes in common with.
    let near = |tier: &'a str| {
        let shared = rooms.get(tier).into_iter().flat_map(|room| &room.shared);
        let others = shared.filter_map(|with| Some(*total.get_key_value(with.tier.as_str())?.0));
        others.chain([tier]).collect::<Vec<_>>()
    };
    let tiers = asked.iter().flat_map(|asks| asks.keys().copied());
    let short = tiers.filter(|tier| is_short(tier));
    let scarce: BTreeSet<&str> = short.flat_map(near).collect();
    let Some(tier) = scarce.get(tier) else {
        return Vec::new();
    };
    let mut contested: BTreeSet<&str> = near(tier).into_iter().collect();
    let mut others: Vec<_> = all.iter().zip(&asked).collect();
    let mut found = Vec::new();
    loop {
        let contends = |(_, asks): &(_, &BTreeMap<&str, i64>)| {
            asks.keys().any(|tier| contested.contains(tier))
        };
        let (more, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(contends);
        others = rest;
        if more.is_empty() {
            break;
        }
        for (workload, asks) in more {
            let tiers = asks.keys().copied().filter(|tier| scarce.contains(tier));
            contested.extend(tiers.flat_map(near));
            if uid_of(workload) != uid {
                found.push(workload);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::*;

    fn workload(uid: &str, targets: &[(&[&str], i32)]) -> Arc<InferenceWorkload> {
        let local = |(at, (tiers, most)): (usize, &(&[&str], i32))| -> Value {
            json!({"name": format!("t{at}"), "local": {
                "modelRef": {"name": "m"}, "tiers": tiers, "scaling": {"maxReplicas": most},
            }})
        };
        let targets: Vec<Value> = targets.iter().enumerate().map(local).collect();
        let workload = json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
            "metadata": {"name": uid, "uid": uid}, "spec": {"targets": targets},
        });
        Arc::new(serde_json::from_value(workload).expect("a workload"))
    }

    fn found(all: &[Arc<InferenceWorkload>], tier: &str, free: &[(&str, i64)]) -> Vec<String> {
        let free: BTreeMap<&str, i64> = free.iter().copied().collect();
        let room = |tier: &str| {
            let free = free.get(tier).copied()?;
            let shared = Vec::new();
            Some(Room { free, shared })
        };
        let found = contenders(all, ("own", tier), room);
        found.into_iter().map(|each| each.name_any()).collect()
    }

    #[test]
    fn who_cannot_use_a_device_does_not_contend_for_it() {
        let placement = |change: Value| -> Placement {
            let mut placement = json!({
                "target": "here", "location": "Local", "since": "2026-01-01T00:00:00Z", "decisionId": "d", "step": 1,
                "stepSince": "2026-01-01T12:00:00Z", "generation": 1, "phase": "Steady",
                "weights": [{"target": "here", "weight": 100, "replicas": 2}, {"target": "cloud", "weight": 0}],
            });
            for (name, value) in change.as_object().expect("fields") {
                placement[name] = value.clone();
            }
            serde_json::from_value(placement).expect("a placement")
        };
        let at = |time: &str| time.parse::<Timestamp>().expect("a time");
        let witnessed = Witnessed::default();
        let by = |time| (time, &witnessed);
        let (soon, later) = (at("2026-01-01T12:04:59Z"), at("2026-01-01T12:05:01Z"));
        let steady = placement(json!({}));
        assert!(!cannot_use(&steady, 1, NO_NODE_PATIENCE, by(soon)));
        assert!(cannot_use(&steady, 1, NO_NODE_PATIENCE, by(later)));
        assert!(!cannot_use(&steady, 2, NO_NODE_PATIENCE, by(later)));
        let rolled_back = json!({"target": "cloud", "attempts": 1, "reason": "Errors", "message": "m",
            "time": "2026-01-01T12:00:00Z"});
        let returned = placement(json!({"rolledBack": rolled_back}));
        let until =
            moves::rolled_back_until(&Witnessed::default(), &returned, "cloud").expect("a pause");
        let before = until - SignedDuration::from_secs(1);
        assert!(cannot_use(&returned, 2, NO_NODE_PATIENCE, by(before)));
        assert!(!cannot_use(&returned, 2, NO_NODE_PATIENCE, by(until)));
    }

    #[test]
    fn where_there_is_room_for_all_that_may_ask_nobody_contends() {
        let fleet = [
            workload("own", &[(&["a"], 2)]),
            workload("other", &[(&["a"], 3)]),
        ];
        assert!(found(&fleet, "a", &[("a", 5)]).is_empty());
        assert_eq!(found(&fleet, "a", &[("a", 4)]), ["other"]);
        assert!(found(&fleet, "a", &[]).is_empty());
    }

    #[test]
    fn who_asks_for_the_same_devices_under_another_name_contends() {
        let fleet = [
            workload("own", &[(&["a"], 1)]),
            workload("other", &[(&["b"], 1)]),
        ];
        let found = |shared: &[&str]| {
            let with = |tier: &&str| SharedWith {
                tier: (*tier).to_owned(),
                free: 1,
                each: 1,
            };
            let room = |tier: &str| {
                let others = shared.iter().filter(|other| **other != tier);
                let shared = others.map(with).collect();
                Some(Room { free: 1, shared })
            };
            contenders(&fleet, ("own", "a"), room).len()
        };
        assert_eq!(found(&[]), 0);
        assert_eq!(found(&["a", "b"]), 1);
    }

    #[test]
    fn a_workload_asks_for_the_most_that_one_of_its_targets_may_have() {
        let fleet = [workload("own", &[(&["a"], 2), (&["a", "b"], 3)])];
        assert_eq!(asks(&fleet[0]), BTreeMap::from([("a", 3), ("b", 3)]));
    }

    #[test]
    fn rivals_of_rivals_contend_by_way_of_scarce_tiers_only() {
        let fleet = [
            workload("own", &[(&["a"], 1)]),
            workload("near", &[(&["a", "b", "wide"], 1)]),
            workload("far", &[(&["b"], 1)]),
            workload("apart", &[(&["wide"], 1)]),
            workload("cloud", &[]),
        ];
        let free = [("a", 1), ("b", 1), ("wide", 9)];
        assert_eq!(found(&fleet, "a", &free), ["near", "far"]);
        assert_eq!(
            found(&fleet, "a", &[("a", 1), ("b", 2), ("wide", 9)]),
            ["near"]
        );
    }
}
