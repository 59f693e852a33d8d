//! What a change can reach: the workloads that have it, and those whose devices come out differently because of it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::competition::Arena;
use super::places::Places;
use super::turn::{Prepared, Takings};
use super::{Pass, fleet_budget};
use crate::capacity::Ledger;
use crate::plan::{Decision, Outcome, Reason};
use crate::snapshot::{TargetKind, TierState, WorkloadId, WorkloadInput};

/// What differs between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed {
    /// Models of providers whose price, terms or health differ.
    pub prices: BTreeSet<PriceKey>,
    /// Tiers that differ.
    pub tiers: BTreeSet<String>,
    /// Workloads that are new, or differ in anything but what the above says.
    pub workloads: BTreeSet<WorkloadId>,
    /// Tiers that workloads which are gone had named.
    pub left_tiers: BTreeSet<String>,
}

/// A model of a provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PriceKey {
    /// Name of the provider.
    pub provider: String,
    /// Name of the model, as `ModelFacts::name` has it.
    pub model: String,
}

/// Follows a change through the workloads in their turn.
pub(super) struct Reach<'a> {
    changed: &'a Changed,
    now: Timestamp,
    /// What the previous plan had left of each tier at this turn.
    before: Ledger<'a>,
    /// Tiers of which that is not known.
    unsure: BTreeSet<&'a str>,
    /// Who competed for devices.
    competed: BTreeSet<&'a WorkloadId>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(changed: &'a Changed, pass: Pass<'a>, turns: &[Prepared<'a>]) -> Self {
        let tiers = changed.tiers.iter().chain(&changed.left_tiers);
        let mut unsure: BTreeSet<&str> = tiers.map(String::as_str).collect();
        for turn in turns {
            // What a changed workload took is not known; what the fleet's budget held had taken what it wished for.
            let held = |previous: &Decision| previous.reason == Reason::FleetMoveBudgetSpent;
            if changed.workloads.contains(turn.id) || turn.previous.is_some_and(held) {
                unsure.extend(tiers_of(turn.workload));
                unsure.extend(turn.previous.and_then(|previous| previous.tier.as_deref()));
            }
        }
        let competitions = pass.previous.competitions.iter();
        for competition in competitions.clone() {
            let mut workloads = competition.workloads.iter();
            if workloads.any(|id| changed.workloads.contains(id)) {
                unsure.extend(competition.tiers.keys().map(String::as_str));
            }
        }
        // What another tier takes of nodes in common is then not known either.
        let tangled = |(_, state): &(&String, &TierState)| {
            let mut others = state.shared.keys();
            others.any(|other| unsure.contains(other.as_str()))
        };
        let tangled: Vec<_> = pass.snapshot.tiers.iter().filter(tangled).collect();
        unsure.extend(tangled.into_iter().map(|(tier, _)| tier.as_str()));
        Self {
            changed,
            now: pass.now,
            before: Ledger::new(pass.snapshot),
            unsure,
            competed: competitions.flat_map(|it| &it.workloads).collect(),
        }
    }

    /// Whether anything of the change reaches the workload before others compete with it.
    pub(super) fn reaches(&self, turn: &Prepared<'_>, ledger: &Ledger<'_>) -> bool {
        let Some(previous) = turn.previous else {
            return true;
        };
        self.has_changed(turn, previous) || !self.has_same_devices(turn.workload, ledger)
    }

    /// Takes what the previous plan had taken in this turn.
    pub(super) fn pass_by(&mut self, turn: &Prepared<'_>) {
        if let Some(previous) = turn.previous {
            Takings::of_decision(turn.workload, previous).take_from(&mut self.before);
        }
    }

    /// Those that a change reaches, by itself or because they compete with one that it reaches, and the others. Who
    /// wanted no devices and wants none is nobody's rival, and neither is one rival's tier another's affair unless
    /// they name a tier in common.
    pub(super) fn split<'b>(
        &mut self,
        turns: Vec<Prepared<'b>>,
        arena: Arena<'_>,
    ) -> (Vec<Places<'b>>, Vec<Prepared<'b>>) {
        let places = |turn| Places::new(turn, arena);
        let (first, mut others): (Vec<_>, Vec<_>) = turns
            .into_iter()
            .partition(|turn| self.reaches(turn, arena.ledger));
        let mut reached: Vec<Places<'b>> = first.into_iter().map(places).collect();
        let mut contested: BTreeSet<&str> = reached
            .iter()
            .filter(|it| !it.is_complete() || self.wanted_devices(&it.prepared))
            .flat_map(|it| tiers_of(it.prepared.workload))
            .flat_map(|tier| with_connected(arena.ledger, tier))
            .collect();
        loop {
            let rival = |turn: &Prepared<'b>| {
                self.wanted_devices(turn)
                    && tiers_of(turn.workload).any(|tier| contested.contains(tier))
            };
            let (rivals, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(rival);
            others = rest;
            if rivals.is_empty() {
                break;
            }
            let tiers = rivals.iter().flat_map(|turn| tiers_of(turn.workload));
            contested.extend(tiers.flat_map(|tier| with_connected(arena.ledger, tier)));
            reached.extend(rivals.into_iter().map(places));
        }
        let evaluated = reached.iter().map(|places| &places.prepared);
        for turn in evaluated.chain(&others) {
            self.pass_by(turn);
        }
        (reached, others)
    }

    /// Whether it had wished for devices that were free, whether it got them or not.
    fn wanted_devices(&self, turn: &Prepared<'_>) -> bool {
        let took = |previous| Takings::of_decision(turn.workload, previous).devices();
        self.competed.contains(turn.id) || turn.previous.and_then(took).is_some()
    }

    fn has_changed(&self, turn: &Prepared<'_>, previous: &Decision) -> bool {
        let recalled = previous.candidates.len() < turn.workload.targets.len();
        let due = previous.next_evaluation.is_some_and(|due| due <= self.now);
        // A wish that nothing held when it was decided is held once the window has closed.
        let wished = previous.outcome == Outcome::Move || self.competed.contains(turn.id);
        let may_close = wished && turn.workload.maintenance_window.is_some();
        self.changed.workloads.contains(turn.id)
            || recalled
            || due
            || may_close
            || self.has_changed_price(turn.workload)
            || fleet_budget::may_wait(turn)
    }

    fn has_changed_price(&self, workload: &WorkloadInput) -> bool {
        let prices = &self.changed.prices;
        workload.places().any(|target| match &target.kind {
            TargetKind::External(external) => prices.iter().any(|key| {
                key.provider == external.provider
                    && external.model.name.as_ref() == Some(&key.model)
            }),
            _ => false,
        })
    }

    fn has_same_devices(&self, workload: &WorkloadInput, ledger: &Ledger<'_>) -> bool {
        tiers_of(workload)
            .all(|tier| !self.unsure.contains(tier) && self.before.free(tier) == ledger.free(tier))
    }
}

/// The tier, and those whose devices may be the same.
fn with_connected<'a>(ledger: &Ledger<'a>, tier: &'a str) -> BTreeSet<&'a str> {
    let mut tiers = ledger.connected(tier);
    tiers.insert(tier);
    tiers
}

fn tiers_of(workload: &WorkloadInput) -> impl Iterator<Item = &str> {
    workload.places().flat_map(|target| {
        let tiers = match &target.kind {
            TargetKind::Local(local) => local.tiers.as_slice(),
            _ => &[],
        };
        tiers.iter().map(String::as_str)
    })
}
