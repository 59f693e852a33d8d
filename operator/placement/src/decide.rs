//! The decision for a fleet: every workload in turn, with the devices that those before it left.

use jiff::Timestamp;

use crate::candidate::{Context, evaluate};
use crate::capacity::Ledger;
use crate::choose::{View, choose};
use crate::demand::{self, EffectiveDemand};
use crate::gates;
use crate::plan::{Decision, Plan};
use crate::policy::{PlacementPolicy, Policy};
use crate::record::record;
use crate::snapshot::{FleetSnapshot, Location, TargetKind, WorkloadId, WorkloadInput};

/// Decides for every workload of `snapshot`.
///
/// Of `previous` only what was learned is used: confirmations, the observed demand on record, and, for naming what brought
/// a decision about, its id and inputs. `now` counts in whole seconds, as status keeps it. The same arguments give the
/// same plan, and `decide(s, p, decide(s, p, plan, now), now)` is `decide(s, p, plan, now)`.
pub fn decide(snapshot: &FleetSnapshot, policy: &Policy, previous: &Plan, now: Timestamp) -> Plan {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let built_in = PlacementPolicy::default();
    let prepared = |(id, workload)| Prepared::new(id, workload, policy, &built_in, previous);
    let mut turns: Vec<Prepared<'_>> = snapshot.workloads.iter().map(prepared).collect();
    turns.sort_by_key(|turn| turn.precedence);
    let mut ledger = Ledger::new(snapshot);
    let mut plan = Plan::default();
    for turn in turns {
        let decision = turn.decide(snapshot, &ledger, now);
        settle(&mut ledger, turn.workload, &decision);
        plan.decisions.insert(turn.id.clone(), decision);
    }
    plan
}

/// Who is served first where devices are short. What runs is not displaced, and what can only run here goes before
/// what has another place; among equals the UID decides, so that the order of arrival does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    LocalAlready,
    LocalOnly,
    Others,
}

struct Prepared<'a> {
    id: &'a WorkloadId,
    workload: &'a WorkloadInput,
    policy: &'a PlacementPolicy,
    policy_missing: bool,
    demand: EffectiveDemand,
    previous: Option<&'a Decision>,
    precedence: Precedence,
}

impl<'a> Prepared<'a> {
    fn new(
        id: &'a WorkloadId,
        workload: &'a WorkloadInput,
        policies: &'a Policy,
        built_in: &'a PlacementPolicy,
        plan: &'a Plan,
    ) -> Self {
        let named = policies.effective(workload.policy.as_deref());
        let policy = named.unwrap_or(built_in);
        let previous = plan.decisions.get(id);
        let demand = demand::effective(
            &workload.demand,
            policy,
            previous.map(|previous| &previous.inputs),
        );
        let precedence = precedence(workload, policy, &demand);
        Self {
            id,
            workload,
            policy,
            policy_missing: named.is_none(),
            demand,
            previous,
            precedence,
        }
    }

    fn decide(&self, snapshot: &FleetSnapshot, ledger: &Ledger, now: Timestamp) -> Decision {
        let evaluated = evaluate(Context {
            snapshot,
            ledger,
            workload: self.workload,
            policy: self.policy,
            demand: &self.demand,
        });
        let view = View {
            workload: self.workload,
            policy: self.policy,
            policy_missing: self.policy_missing,
            demand: &self.demand,
            evaluated: &evaluated,
            previous: self.previous,
            now,
        };
        record(view, snapshot, choose(view))
    }
}

fn precedence(
    workload: &WorkloadInput,
    policy: &PlacementPolicy,
    demand: &EffectiveDemand,
) -> Precedence {
    let is_local = |name: &str| {
        let named = workload.targets.iter().find(|target| target.name == name);
        named.is_some_and(|target| matches!(target.kind, TargetKind::Local(_)))
    };
    let placed_local = workload.current.as_ref().is_some_and(|current| {
        is_local(&current.target)
            || current
                .pending
                .as_ref()
                .is_some_and(|pending| is_local(&pending.to))
    });
    if placed_local {
        return Precedence::LocalAlready;
    }
    let other_place = workload.targets.iter().any(|target| {
        target.kind.location() == Location::External
            && gates::rejections(workload, policy, demand, target).is_empty()
    });
    if other_place {
        Precedence::Others
    } else {
        Precedence::LocalOnly
    }
}

/// Takes the devices that a decision for a local target needs beyond what the workload's pods hold.
fn settle(ledger: &mut Ledger, workload: &WorkloadInput, decision: &Decision) {
    let Some(tier) = &decision.tier else {
        return;
    };
    let wished = decision
        .weights
        .iter()
        .find(|weight| Some(&weight.target) == decision.target.as_ref());
    let replicas = wished.and_then(|weight| weight.replicas).unwrap_or(0);
    let held = workload
        .current
        .as_ref()
        .and_then(|current| current.held.get(tier))
        .copied()
        .unwrap_or(0);
    ledger.take(tier, replicas.saturating_sub(held));
}
