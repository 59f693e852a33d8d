//! The decision for a fleet: what runs here already in turn, with the devices that those before it left; then whoever wants
//! devices, all at once; of a change only what it can reach.

mod changed;
mod competition;
mod fleet_budget;
mod places;
mod turn;

pub use changed::{Changed, PriceKey};
use jiff::Timestamp;

use crate::capacity::Ledger;
use crate::plan::{Decision, Goal, Plan};
use crate::policy::{PlacementPolicy, Policy};
use crate::record::record;
use crate::snapshot::{FleetSnapshot, WorkloadInput};
use changed::Reach;
use competition::Arena;
use places::Places;
use turn::{Precedence, Prepared, Takings, Turn};

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
/// is what changed, what is due by time, what shares a tier with a workload whose devices come out differently, and what
/// competes with one of these; decisions for the others are taken over. After a change of policies call [`decide`].
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

/// The tier and the devices of it that a decision takes beyond those that the workload's pods hold; `None` when it takes none.
pub fn devices_taken<'a>(
    workload: &WorkloadInput,
    decision: &'a Decision,
) -> Option<(&'a str, u32)> {
    Takings::of_decision(workload, decision).devices()
}

/// A moment to the second, as status keeps it.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
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
        let turns: Vec<Prepared<'_>> = self.snapshot.workloads.iter().map(prepared).collect();
        let reach = changed.map(|changed| Reach::new(changed, self, &turns));
        let mut run = Run {
            pass: self,
            reach,
            ledger: Ledger::new(self.snapshot),
            chosen: Vec::new(),
            plan: Plan::default(),
        };
        let (mut here, mut only_here, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for turn in turns {
            match turn.precedence {
                Precedence::LocalAlready => here.push(turn),
                Precedence::LocalOnly => only_here.push(turn),
                Precedence::Others => others.push(turn),
            }
        }
        run.in_turn(here);
        run.compete(only_here, Goal::Serve);
        run.compete(others, Goal::Save);
        run.finish()
    }
}

/// A pass under way.
struct Run<'a> {
    pass: Pass<'a>,
    reach: Option<Reach<'a>>,
    ledger: Ledger<'a>,
    chosen: Vec<Turn<'a>>,
    plan: Plan,
}

impl<'a> Run<'a> {
    /// Chooses one after the other, each with the devices that those before it left.
    fn in_turn(&mut self, turns: Vec<Prepared<'a>>) {
        for turn in turns {
            let reached = self.reach.as_mut().is_none_or(|reach| {
                let reached = reach.reaches(&turn, &self.ledger);
                reach.pass_by(&turn);
                reached
            });
            if reached {
                let turn = Turn::new(turn, self.pass, &self.ledger);
                turn.takings().take_from(&mut self.ledger);
                self.chosen.push(turn);
            } else {
                self.take_over(turn);
            }
        }
    }

    /// Chooses for all at once: what is free is given away where it is worth most.
    fn compete(&mut self, turns: Vec<Prepared<'a>>, goal: Goal) {
        let arena = Arena {
            pass: self.pass,
            ledger: &self.ledger,
            goal,
        };
        let (mut reached, unreached) = match &mut self.reach {
            None => {
                let places = |turn| Places::new(turn, arena);
                (turns.into_iter().map(places).collect(), Vec::new())
            }
            Some(reach) => reach.split(turns, arena),
        };
        let standing = competition::standing(&self.pass.previous.competitions, goal, &unreached);
        self.plan.competitions.extend(standing);
        for turn in unreached {
            self.take_over(turn);
        }
        while !reached.is_empty() {
            let arena = Arena {
                pass: self.pass,
                ledger: &self.ledger,
                goal,
            };
            let (given, competitions) = competition::assign(arena, reached);
            self.plan.competitions.extend(competitions);
            let (taken, again, competed) = competition::take(&mut self.ledger, given, goal);
            self.plan.competitions.extend(competed);
            self.chosen.extend(taken);
            let arena = Arena {
                pass: self.pass,
                ledger: &self.ledger,
                goal,
            };
            reached = again
                .into_iter()
                .map(|turn| Places::new(turn, arena))
                .collect();
        }
    }

    fn take_over(&mut self, turn: Prepared<'a>) {
        let Some(previous) = turn.previous else {
            return;
        };
        Takings::of_decision(turn.workload, previous).take_from(&mut self.ledger);
        let decisions = &mut self.plan.decisions;
        decisions.insert(turn.id.clone(), previous.clone());
    }

    fn finish(mut self) -> (Plan, usize) {
        let evaluated = self.chosen.len();
        fleet_budget::hold(self.pass, &mut self.chosen);
        for turn in self.chosen {
            let view = turn.view(self.pass);
            let decision = record(
                view,
                (turn.prepared.id, self.pass.snapshot),
                turn.choice.clone(),
            );
            let decisions = &mut self.plan.decisions;
            decisions.insert(turn.prepared.id.clone(), decision);
        }
        self.plan.competitions.sort();
        (self.plan, evaluated)
    }
}
