//! Puts a choice on record: the numbers that went in, what would flip it, its identity, what brought it about.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::band::due;
use crate::break_even::break_even;
use crate::candidate::{Curve, Evaluated};
use crate::choose::{Choice, View};
use crate::explain;
use crate::flips::flip_conditions;
use crate::plan::{Decision, DecisionInputs, Outcome, Reason, TargetWeight, Trigger, Verdict};
use crate::policy::PlacementPolicy;
use crate::snapshot::{
    FleetSnapshot, Location, PriceBookRef, Utilization, WorkloadId, WorkloadInput,
};
use crate::units::{Percent, RequestsPerMonth};

/// Utilization is recorded in steps of this many points.
const UTILIZATION_STEP: u64 = 10;

/// The decision that a choice makes.
pub(crate) fn record(
    view: View<'_>,
    (id, snapshot): (&WorkloadId, &FleetSnapshot),
    choice: Choice,
) -> Decision {
    let chosen = choice.target.map(|at| &view.evaluated[at]);
    let inputs = inputs(view, snapshot, chosen);
    let mut decision = Decision {
        id: String::new(),
        trigger: Trigger::Initial,
        outcome: choice.outcome,
        reason: choice.reason,
        message: choice.message,
        target: chosen.map(|chosen| chosen.name().to_owned()),
        location: chosen.map(|chosen| chosen.candidate.location),
        tier: chosen.and_then(|chosen| chosen.candidate.tier.clone()),
        weights: weights(view, choice.target),
        inputs,
        candidates: view
            .evaluated
            .iter()
            .map(|evaluated| evaluated.candidate.clone())
            .collect(),
        break_even: break_even_of(view, chosen),
        savings_percent: chosen.and_then(|chosen| savings(view, chosen)),
        flip_conditions: choice
            .target
            .map_or_else(Vec::new, |at| flip_conditions(view, at)),
        confirmation: choice.confirmation,
        bands: view.bands.clone(),
        hold_until: choice.hold_until,
        next_evaluation: choice
            .next_evaluation
            .into_iter()
            .chain(due(view.policy.utilization_band, view.bands))
            .min(),
    };
    decision.id = frozen_id(view, &decision).unwrap_or_else(|| identity(view, id, &decision));
    decision.trigger = trigger(view, &decision);
    decision
}

/// Every target that no gate rejects. A frozen workload keeps its target even so: traffic goes on. Spill and failover
/// go to no substitute: its model was not qualified.
fn weights(view: View<'_>, wished: Option<usize>) -> Vec<TargetWeight> {
    let Some(wished) = wished else {
        return Vec::new();
    };
    let on_route = |evaluated: &Evaluated| {
        let current = view.workload.current.as_ref();
        let used = current.is_some_and(|current| current.uses(evaluated.name()));
        !evaluated.rejected() && (used || !evaluated.is_substitute)
    };
    let usable = |(at, evaluated): &(usize, &Evaluated)| *at == wished || on_route(evaluated);
    let all = view.evaluated.iter().enumerate();
    all.filter(usable)
        .map(|(at, evaluated)| TargetWeight {
            target: evaluated.name().to_owned(),
            weight: Percent::clamped(if at == wished { 100 } else { 0 }),
            replicas: replicas(view.workload, evaluated, at == wished),
        })
        .collect()
}

/// What the demand needs for the wished target and what is always kept for others. Suspended workloads do not scale.
pub(crate) fn replicas(
    workload: &WorkloadInput,
    evaluated: &Evaluated,
    wished: bool,
) -> Option<u32> {
    if evaluated.candidate.location == Location::External {
        return None;
    }
    let ordered = workload
        .current
        .as_ref()
        .and_then(|current| current.replicas.get(evaluated.name()));
    match ordered {
        Some(ordered) if workload.suspend => Some(*ordered),
        _ if wished => Some(evaluated.candidate.replicas.unwrap_or(1).max(1)),
        _ => Some(evaluated.kept_replicas),
    }
}

/// The cheapest of the spec's targets on that side, or the chosen one.
fn cheapest<'a>(
    view: View<'a>,
    chosen: Option<&Evaluated>,
    location: Location,
) -> Option<&'a Evaluated> {
    let is_chosen = |name: &str| chosen.is_some_and(|chosen| chosen.name() == name);
    let costed = |evaluated: &&Evaluated| {
        let counts = !evaluated.is_substitute || is_chosen(evaluated.name());
        counts && evaluated.candidate.location == location && evaluated.exact.is_some()
    };
    view.evaluated
        .iter()
        .filter(costed)
        .min_by_key(|evaluated| evaluated.exact)
}

fn break_even_of(view: View<'_>, chosen: Option<&Evaluated>) -> Option<RequestsPerMonth> {
    let local = cheapest(view, chosen, Location::Local)?;
    let external = cheapest(view, chosen, Location::External)?;
    match (&local.curve, &external.curve) {
        (Some(local), Some(Curve::External(external))) => break_even(local, external),
        _ => None,
    }
}

fn savings(view: View<'_>, chosen: &Evaluated) -> Option<i64> {
    let other_side = match chosen.candidate.location {
        Location::Local => Location::External,
        Location::External => Location::Local,
    };
    explain::saving_percent(cheapest(view, None, other_side)?, chosen)
}

fn inputs(view: View<'_>, snapshot: &FleetSnapshot, chosen: Option<&Evaluated>) -> DecisionInputs {
    let on = |location| {
        let of_chosen = chosen.filter(|chosen| chosen.candidate.location == location);
        let allowed = |evaluated: &&Evaluated| {
            evaluated.candidate.location == location && !evaluated.rejected()
        };
        of_chosen
            .or_else(|| cheapest(view, chosen, location))
            .or_else(|| view.evaluated.iter().find(allowed))
    };
    let local = on(Location::Local).map(|evaluated| &evaluated.candidate);
    let external = on(Location::External).map(|evaluated| &evaluated.candidate);
    let tier = local.and_then(|local| snapshot.tiers.get(local.tier.as_ref()?));
    let before = view
        .previous
        .and_then(|previous| previous.inputs.utilization);
    DecisionInputs {
        generation: view.workload.generation,
        policy: (!view.policy_missing).then(|| policy_digest(view.policy)),
        demand: view.demand.figures.clone(),
        demand_source: view.demand.origin,
        demand_confidence: view.demand.confidence,
        throughput: local.and_then(|local| local.throughput),
        throughput_source: local.and_then(|local| local.throughput_source),
        utilization: tier.and_then(|tier| stepped(tier.utilization, before)),
        utilization_state: tier.map(|tier| tier.utilization.state()),
        price_book: external.and_then(|external| external.price_book.clone()),
    }
}

/// The recorded step while utilization is less than a step away from it, so that noise does not rewrite a status.
fn stepped(utilization: Utilization, before: Option<Percent>) -> Option<Percent> {
    let Utilization::Known(now) = utilization else {
        return None;
    };
    let near = |before: &Percent| before.get().abs_diff(now.get()) < UTILIZATION_STEP;
    let rounded = (now.get() + UTILIZATION_STEP / 2) / UTILIZATION_STEP * UTILIZATION_STEP;
    Some(
        before
            .filter(near)
            .unwrap_or(Percent::clamped(rounded.into())),
    )
}

fn policy_digest(policy: &PlacementPolicy) -> String {
    short_digest(policy)
}

/// The first eight hexadecimal digits of the SHA-256 of the value's JSON.
fn short_digest(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(&json)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `d-<what was decided>-<when, for whom>`: one decision of one workload. While the same is decided, the identity that it
/// was first taken under stays.
fn identity(view: View<'_>, id: &WorkloadId, decision: &Decision) -> String {
    let decided = material(decision);
    let before = view.previous.map(|previous| previous.id.as_str());
    let same = |before: &&str| before.split('-').nth(1) == Some(decided.as_str());
    if let Some(before) = before.filter(same) {
        return before.to_owned();
    }
    let once = short_digest(&(id, view.now.as_second(), &decided));
    format!("d-{decided}-{once}")
}

/// A digest of what is material. How sure demand is, how busy devices are, and a price book's revision and age change
/// without changing anything else.
fn material(decision: &Decision) -> String {
    let mut inputs = decision.inputs.clone();
    inputs.demand_confidence = None;
    inputs.utilization = None;
    inputs.utilization_state = None;
    let anonymous = |book: &mut Option<PriceBookRef>| {
        if let Some(book) = book {
            book.revision = String::new();
            book.as_of = None;
        }
    };
    anonymous(&mut inputs.price_book);
    let mut candidates = decision.candidates.clone();
    candidates
        .iter_mut()
        .for_each(|candidate| anonymous(&mut candidate.price_book));
    let held_by = (decision.outcome == Outcome::Hold).then_some(decision.reason);
    short_digest(&(
        &decision.target,
        held_by,
        &decision.weights,
        &inputs,
        &candidates,
    ))
}

/// A move in progress keeps the identity that it was ordered under, while the same targets may be used.
fn frozen_id(view: View<'_>, decision: &Decision) -> Option<String> {
    let pending = view.workload.current.as_ref()?.pending.as_ref()?;
    let previous = view.previous?;
    let names = |decision: &Decision| -> Vec<String> {
        decision
            .weights
            .iter()
            .map(|weight| weight.target.clone())
            .collect()
    };
    let stands = decision.outcome == Outcome::Move
        && decision.target.as_ref() == Some(&pending.to)
        && previous.id == pending.decision_id
        && names(previous) == names(decision);
    stands.then(|| previous.id.clone())
}

/// The most telling difference from the previous decision; where there is none, time let through what its trigger began.
fn trigger(view: View<'_>, decision: &Decision) -> Trigger {
    let Some(previous) = view.previous else {
        let new = view.workload.current.is_none();
        return if new {
            Trigger::Initial
        } else {
            Trigger::Periodic
        };
    };
    if previous.id == decision.id {
        return previous.trigger;
    }
    let (before, after) = (&previous.inputs, &decision.inputs);
    let declared = |name: &str| {
        let mut targets = view.workload.targets.iter();
        targets.any(|target| target.name == name)
    };
    let verdicts = |decision: &Decision| -> Vec<(String, Verdict)> {
        let candidates = decision.candidates.iter();
        candidates
            .filter(|candidate| declared(&candidate.name))
            .map(|candidate| (candidate.name.clone(), candidate.verdict))
            .collect()
    };
    if before.generation != after.generation {
        Trigger::SpecChanged
    } else if before.policy.is_some() && before.policy != after.policy {
        Trigger::PolicyChanged
    } else if new_revision(before.price_book.as_ref(), after.price_book.as_ref()) {
        Trigger::PriceChanged
    } else if before.demand != after.demand || before.demand_source != after.demand_source {
        Trigger::DemandChanged
    } else if before.throughput != after.throughput
        || (!previous.candidates.is_empty() && verdicts(previous) != verdicts(decision))
        || previous.reason == Reason::WaitingForGpu
    {
        Trigger::CapacityChanged
    } else if substitutes_named(view, previous) != substitutes_named(view, decision) {
        Trigger::ModelsChanged
    } else {
        previous.trigger
    }
}

/// What is chosen or wished for and no target of the spec.
fn substitutes_named<'a>(view: View<'_>, decision: &'a Decision) -> BTreeSet<&'a str> {
    let wished = decision.confirmation.iter().map(|it| it.target.as_str());
    let named = decision.target.as_deref().into_iter().chain(wished);
    let declared = &view.workload.targets;
    named
        .filter(|name| declared.iter().all(|target| target.name != *name))
        .collect()
}

/// Whether the same price book has another revision now, or prices came to where there were none.
fn new_revision(before: Option<&PriceBookRef>, after: Option<&PriceBookRef>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => {
            before.name == after.name && before.revision != after.revision
        }
        (None, None) => false,
        _ => true,
    }
}
