//! What a change can reach: the workloads that have it, and those whose devices come out differently because of it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Prepared, fleet_budget, takings};
use crate::capacity::Ledger;
use crate::plan::{Decision, Reason};
use crate::snapshot::{FleetSnapshot, TargetKind, WorkloadId, WorkloadInput};

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
    before: Ledger,
    /// Tiers of which that is not known.
    unsure: BTreeSet<&'a str>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(
        changed: &'a Changed,
        snapshot: &'a FleetSnapshot,
        turns: &[Prepared<'a>],
        now: Timestamp,
    ) -> Self {
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
        Self {
            changed,
            now,
            before: Ledger::new(snapshot),
            unsure,
        }
    }

    /// The previous decision where nothing of the change reaches the workload.
    pub(super) fn take_over<'b>(
        &mut self,
        turn: &Prepared<'b>,
        ledger: &Ledger,
    ) -> Option<&'b Decision> {
        let previous = turn.previous?;
        let unreached = !self.has_changed(turn) && self.has_same_devices(turn.workload, ledger);
        takings(turn.workload, previous).take_from(&mut self.before);
        unreached.then_some(previous)
    }

    fn has_changed(&self, turn: &Prepared<'_>) -> bool {
        let previous = turn.previous;
        let recalled =
            previous.is_some_and(|it| it.candidates.len() != turn.workload.targets.len());
        let due = previous
            .and_then(|previous| previous.next_evaluation)
            .is_some_and(|due| due <= self.now);
        self.changed.workloads.contains(turn.id)
            || recalled
            || due
            || self.has_changed_price(turn.workload)
            || fleet_budget::may_wait(turn)
    }

    fn has_changed_price(&self, workload: &WorkloadInput) -> bool {
        let prices = &self.changed.prices;
        workload.targets.iter().any(|target| match &target.kind {
            TargetKind::External(external) => prices.iter().any(|key| {
                key.provider == external.provider
                    && external.model.name.as_ref() == Some(&key.model)
            }),
            _ => false,
        })
    }

    fn has_same_devices(&self, workload: &WorkloadInput, ledger: &Ledger) -> bool {
        tiers_of(workload)
            .all(|tier| !self.unsure.contains(tier) && self.before.free(tier) == ledger.free(tier))
    }
}

fn tiers_of(workload: &WorkloadInput) -> impl Iterator<Item = &str> {
    workload.targets.iter().flat_map(|target| {
        let tiers = match &target.kind {
            TargetKind::Local(local) => local.tiers.as_slice(),
            _ => &[],
        };
        tiers.iter().map(String::as_str)
    })
}
