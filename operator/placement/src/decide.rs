//! The decision for a fleet: every workload in turn, with the devices that those before it left; of a change only what it
//! can reach.

mod changed;
mod fleet_budget;

pub use changed::{Changed, PriceKey};
use jiff::Timestamp;

use crate::candidate::{Context, Evaluated, evaluate};
use crate::capacity::Ledger;
use crate::choose::{Choice, View, choose};
use crate::demand::{self, EffectiveDemand};
use crate::gates;
use crate::plan::{Decision, Plan};
use crate::policy::{PlacementPolicy, Policy};
use crate::record::record;
use crate::snapshot::{FleetSnapshot, Location, TargetKind, WorkloadId, WorkloadInput};
use changed::Reach;

/// Decides for every workload of `snapshot`.
///
/// Of `previous` only what was learned is used: confirmations, the observed demand on record, and, for naming what brought
/// a decision about, its id and inputs. `now` counts in whole seconds, as status keeps it. The same arguments give the
/// same plan, and `decide(s, p, decide(s, p, plan, now), now)` is `decide(s, p, plan, now)`.
pub fn decide(snapshot: &FleetSnapshot, policy: &Policy, previous: &Plan, now: Timestamp) -> Plan {
    let pass = Pass {
        snapshot,
        policy,
        previous,
        now: whole_seconds(now),
    };
    pass.run(None).0
}

/// Decides after a change, and says how many workloads were evaluated for it.
///
/// The plan is that of [`decide`] with the same arguments, provided that `previous` is a plan of `decide` or of this
/// function for the same policies, and that `changed` names all that differs from the snapshot it was made for. Evaluated
/// is what changed, what is due by time, and what shares a tier with a workload whose devices come out differently;
/// decisions for the others are taken over. After a change of policies call [`decide`].
pub fn decide_changed(
    snapshot: &FleetSnapshot,
    policy: &Policy,
    previous: &Plan,
    changed: &Changed,
    now: Timestamp,
) -> (Plan, usize) {
    let pass = Pass {
        snapshot,
        policy,
        previous,
        now: whole_seconds(now),
    };
    pass.run(Some(changed))
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[derive(Clone, Copy)]
struct Pass<'a> {
    snapshot: &'a FleetSnapshot,
    policy: &'a Policy,
    previous: &'a Plan,
    now: Timestamp,
}

impl<'a> Pass<'a> {
    fn run(self, changed: Option<&Changed>) -> (Plan, usize) {
        let built_in = PlacementPolicy::default();
        let prepared = |(id, workload)| Prepared::new(id, workload, self, &built_in);
        let mut turns: Vec<Prepared<'_>> = self.snapshot.workloads.iter().map(prepared).collect();
        turns.sort_by_key(|turn| turn.precedence);
        let mut reach = changed.map(|changed| Reach::new(changed, self.snapshot, &turns, self.now));
        let mut ledger = Ledger::new(self.snapshot);
        let mut plan = Plan::default();
        let mut chosen = Vec::new();
        for turn in turns {
            let known = reach
                .as_mut()
                .and_then(|reach| reach.take_over(&turn, &ledger));
            if let Some(decision) = known {
                takings(turn.workload, decision).take_from(&mut ledger);
                plan.decisions.insert(turn.id.clone(), decision.clone());
                continue;
            }
            let turn = turn.choose(self, &ledger);
            turn.takings().take_from(&mut ledger);
            chosen.push(turn);
        }
        let evaluated = chosen.len();
        fleet_budget::hold(self, &mut chosen);
        for turn in chosen {
            let decision = record(turn.view(self.now), self.snapshot, turn.choice.clone());
            plan.decisions.insert(turn.prepared.id.clone(), decision);
        }
        (plan, evaluated)
    }
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

/// A workload with what was chosen for it, before that is on record.
struct Turn<'a> {
    prepared: Prepared<'a>,
    evaluated: Vec<Evaluated>,
    choice: Choice,
}

impl<'a> Prepared<'a> {
    fn new(
        id: &'a WorkloadId,
        workload: &'a WorkloadInput,
        pass: Pass<'a>,
        built_in: &'a PlacementPolicy,
    ) -> Self {
        let named = pass.policy.effective(workload.policy.as_deref());
        let policy = named.unwrap_or(built_in);
        let previous = pass.previous.decisions.get(id);
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

    fn choose(self, pass: Pass<'_>, ledger: &Ledger) -> Turn<'a> {
        let evaluated = evaluate(Context {
            snapshot: pass.snapshot,
            ledger,
            workload: self.workload,
            policy: self.policy,
            demand: &self.demand,
        });
        let choice = choose(self.view(&evaluated, pass.now));
        Turn {
            prepared: self,
            evaluated,
            choice,
        }
    }

    fn view<'b>(&'b self, evaluated: &'b [Evaluated], now: Timestamp) -> View<'b> {
        View {
            workload: self.workload,
            policy: self.policy,
            policy_missing: self.policy_missing,
            demand: &self.demand,
            evaluated,
            previous: self.previous,
            now,
        }
    }
}

impl Turn<'_> {
    fn view(&self, now: Timestamp) -> View<'_> {
        self.prepared.view(&self.evaluated, now)
    }

    fn takings(&self) -> Takings<'_> {
        let chosen = self.choice.target.map(|at| &self.evaluated[at]);
        let wished = chosen.map(|chosen| {
            let replicas = crate::record::replicas(self.prepared.workload, chosen, true);
            (chosen.candidate.tier.as_deref(), replicas)
        });
        Takings::beyond_held(self.prepared.workload, wished)
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

/// The devices that a decision for a local target needs beyond what the workload's pods hold.
struct Takings<'a>(Option<(&'a str, u32)>);

impl<'a> Takings<'a> {
    fn beyond_held(
        workload: &WorkloadInput,
        wished: Option<(Option<&'a str>, Option<u32>)>,
    ) -> Self {
        let Some((Some(tier), replicas)) = wished else {
            return Self(None);
        };
        let current = workload.current.as_ref();
        let held = current.and_then(|current| current.held.get(tier)).copied();
        let needed = replicas.unwrap_or(0).saturating_sub(held.unwrap_or(0));
        Self(Some((tier, needed)))
    }

    fn take_from(&self, ledger: &mut Ledger) {
        if let Some((tier, devices)) = self.0 {
            ledger.take(tier, devices);
        }
    }
}

/// What a decision on record took.
fn takings<'a>(workload: &WorkloadInput, decision: &'a Decision) -> Takings<'a> {
    let wished = decision
        .weights
        .iter()
        .find(|weight| Some(&weight.target) == decision.target.as_ref())
        .map(|weight| (decision.tier.as_deref(), weight.replicas));
    Takings::beyond_held(workload, wished)
}
