//! One workload in its turn: what it brings, what is chosen for it, and the devices that this takes.

use std::collections::BTreeMap;

use super::Pass;
use crate::band::bands;
use crate::candidate::{Context, Evaluated, Filling, evaluate};
use crate::capacity::{Ledger, Room};
use crate::choose::{Choice, View, choose};
use crate::demand::{self, EffectiveDemand};
use crate::gates;
use crate::plan::{Confirmation, Decision, Gate, TierBand};
use crate::policy::PlacementPolicy;
use crate::snapshot::{Location, Target, TargetKind, WorkloadId, WorkloadInput};
use crate::units::RequestsPerMonth;

/// Who is served first where devices are short. What runs is not displaced, and what can only run here goes before
/// what has another place. Within the first the UID decides, within each of the others the assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Precedence {
    LocalAlready,
    LocalOnly,
    Others,
}

/// A workload before anything is chosen for it.
#[derive(Clone)]
pub(super) struct Prepared<'a> {
    pub(super) id: &'a WorkloadId,
    pub(super) workload: &'a WorkloadInput,
    pub(super) policy: &'a PlacementPolicy,
    policy_missing: bool,
    demand: EffectiveDemand,
    bands: BTreeMap<String, TierBand>,
    pub(super) previous: Option<&'a Decision>,
    pub(super) precedence: Precedence,
}

/// A workload with what was chosen for it, before that is on record.
pub(super) struct Turn<'a> {
    pub(super) prepared: Prepared<'a>,
    pub(super) evaluated: Vec<Evaluated>,
    pub(super) choice: Choice,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
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
        let bands = bands(
            policy.utilization_band,
            workload,
            pass.snapshot,
            previous.map(|previous| &previous.bands),
            pass.now,
        );
        Self {
            bands,
            id,
            workload,
            policy,
            policy_missing: named.is_none(),
            demand,
            previous,
            precedence,
        }
    }

    pub(super) fn requests(&self) -> Option<RequestsPerMonth> {
        self.demand.figures.requests_per_month
    }

    /// The choice with the room there is. `confirmed` is a wish that was confirmed already and counts for any target.
    pub(super) fn choose(
        &self,
        pass: Pass<'_>,
        room: Room<'_>,
        confirmed: Option<&Confirmation>,
    ) -> (Vec<Evaluated>, Choice) {
        let evaluated = self.evaluate(pass, room);
        let lost = match confirmed {
            None => self.lost_wish(pass, room, &evaluated),
            Some(_) => None,
        };
        let wished = lost.as_ref().and_then(|lost| lost.confirmation.as_ref());
        let view = View {
            confirmed: confirmed.or(wished),
            ..self.view(&evaluated, pass)
        };
        let mut choice = choose(view);
        if let Some(lost) = lost {
            choice.keep_wish(lost, self.policy);
        }
        (evaluated, choice)
    }

    fn evaluate(&self, pass: Pass<'_>, room: Room<'_>) -> Vec<Evaluated> {
        evaluate(Context {
            snapshot: pass.snapshot,
            room,
            workload: self.workload,
            policy: self.policy,
            demand: &self.demand,
            filling: Filling::Whole,
        })
    }

    /// What would be chosen if this plan had promised no device to others, where that is a wish to move to a target which
    /// lacks room because it did.
    fn lost_wish(&self, pass: Pass<'_>, room: Room<'_>, evaluated: &[Evaluated]) -> Option<Choice> {
        self.workload.current.as_ref()?;
        let lacks = |name: &str| {
            let mut all = evaluated.iter();
            all.any(|each| each.name() == name && !each.rejected() && each.lacks_capacity())
        };
        let promised = |target: &Target| match &target.kind {
            TargetKind::Local(local) => {
                let mut tiers = local.tiers.iter();
                lacks(&target.name) && tiers.any(|tier| room.is_promised(tier))
            }
            TargetKind::External(_) | TargetKind::Unresolved { .. } => false,
        };
        if !self.workload.places().any(promised) {
            return None;
        }
        let evaluated = self.evaluate(pass, room.as_counted());
        let wish = choose(self.view(&evaluated, pass));
        let target = &wish.confirmation.as_ref()?.target;
        lacks(target).then_some(wish)
    }

    fn view<'b>(&'b self, evaluated: &'b [Evaluated], pass: Pass<'_>) -> View<'b> {
        View {
            workload: self.workload,
            policy: self.policy,
            policy_missing: self.policy_missing,
            demand: &self.demand,
            bands: &self.bands,
            evaluated,
            previous: self.previous,
            confirmed: None,
            now: pass.now,
        }
    }
}

impl<'a> Turn<'a> {
    pub(super) fn new(prepared: Prepared<'a>, pass: Pass<'_>, ledger: &Ledger<'_>) -> Self {
        let (evaluated, choice) = prepared.choose(pass, Room::all(ledger), None);
        Self {
            prepared,
            evaluated,
            choice,
        }
    }

    pub(super) fn view(&self, pass: Pass<'_>) -> View<'_> {
        self.prepared.view(&self.evaluated, pass)
    }

    pub(super) fn takings(&self) -> Takings<'_> {
        Takings::of_choice(self.prepared.workload, &self.evaluated, &self.choice)
    }
}

fn precedence(
    workload: &WorkloadInput,
    policy: &PlacementPolicy,
    demand: &EffectiveDemand,
) -> Precedence {
    let is_local = |name: &str| {
        let named = workload.places().find(|target| target.name == name);
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

/// The devices that a decision for a local target needs beyond what the workload's pods hold. What waits for a device
/// takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Takings<'a>(Option<(&'a str, u32)>);

impl<'a> Takings<'a> {
    pub(super) fn of_choice(
        workload: &WorkloadInput,
        evaluated: &'a [Evaluated],
        choice: &Choice,
    ) -> Self {
        let chosen = choice.target.map(|at| &evaluated[at]);
        let wished = chosen
            .filter(|chosen| !chosen.lacks_capacity())
            .map(|chosen| {
                let replicas = crate::record::replicas(workload, chosen, true);
                let tier = chosen.candidate.tier.as_deref();
                (chosen.candidate.name.as_str(), tier, replicas)
            });
        Self::beyond_held(workload, wished)
    }

    /// What a decision on record took.
    pub(super) fn of_decision(workload: &WorkloadInput, decision: &'a Decision) -> Self {
        let is_target = |name: &String| Some(name) == decision.target.as_ref();
        let chosen = decision.candidates.iter().find(|it| is_target(&it.name));
        let waits = chosen.is_some_and(|chosen| {
            let mut failed = chosen.rejected_by.iter();
            failed.any(|rejection| rejection.gate == Gate::Capacity)
        });
        let weight = decision.weights.iter().find(|it| is_target(&it.target));
        let wished = weight.filter(|_| !waits).map(|weight| {
            (
                weight.target.as_str(),
                decision.tier.as_deref(),
                weight.replicas,
            )
        });
        Self::beyond_held(workload, wished)
    }

    fn beyond_held(
        workload: &WorkloadInput,
        wished: Option<(&str, Option<&'a str>, Option<u32>)>,
    ) -> Self {
        let Some((target, Some(tier), replicas)) = wished else {
            return Self(None);
        };
        let current = workload.current.as_ref();
        let held = current.map_or(0, |current| current.held_for(target, tier));
        let needed = replicas.unwrap_or(0).saturating_sub(held);
        Self((needed > 0).then_some((tier, needed)))
    }

    pub(super) fn devices(self) -> Option<(&'a str, u32)> {
        self.0
    }

    pub(super) fn take_from(self, ledger: &mut Ledger<'_>) {
        if let Some((tier, devices)) = self.0 {
            ledger.take(tier, devices);
        }
    }
}
