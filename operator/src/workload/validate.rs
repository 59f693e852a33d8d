//! From what was read to what can be decided by: every quantity parsed, every reference resolved. Pure; what is wrong
//! becomes a problem with a reason, never a panic.

mod pod_template;
mod policy;
mod rules;
mod substitutes;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use weir_crds::decision::HistoryEntry;
use weir_crds::placement::{Phase, Placement};
use weir_crds::quantity::{self, QuantityError};
use weir_crds::workload::{
    DemandPattern, DemandSource as DeclaredSource, Egress as DeclaredEgress, InferenceWorkloadSpec,
    PlacementMode, SelfHosting as DeclaredHosting, Substitution as DeclaredSubstitution,
    TokenQuantiles,
};
use weir_crds::{InferenceWorkload, names};
use weir_placement::{
    Capability, CurrentPlacement, Demand, DemandFigures, DemandSource, Egress, MaintenanceWindow,
    Millis, MinQuality, Mode, Pattern, PendingMove, Percent, Policy, RequestsPerMonth, Score,
    Seconds, SelfHosting, Substitution, TierState, Tokens, UnitError, WindowError, WorkloadInput,
};

use super::facts::Facts;
use super::moves::Rules;

pub use substitutes::{claims_of, could_stand_in};
pub(crate) use targets::{fresh_until, healthy, is_fresh, ready_after, unhealthy_because};

/// How long a new workload waits for the objects that it refers to: they are often created in one go.
const REFERENCE_PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// What a workload is decided by.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// The workload as the decision sees it.
    pub input: WorkloadInput,
    /// The tiers that it names.
    pub tiers: BTreeMap<String, TierState>,
    /// How many devices those have, free or not; a tier is absent where that is unknown.
    pub devices: BTreeMap<String, u32>,
    /// The policy that governs it.
    pub policy: Policy,
    /// What the spec says about moves.
    pub rules: Rules,
    /// What is wrong with the objects that it refers to.
    pub unresolved: Vec<Problem>,
    /// What exists but was not looked at by its controller yet, or may be created in a moment.
    pub pending: Vec<String>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason, in one CamelCase word group.
    pub reason: &'static str,
    /// The reason in one sentence.
    pub message: String,
}

/// Why a spec cannot be acted on. The schema refuses most of these; what passes it must not be guessed at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A quantity that cannot be read.
    #[error("{field}: {source}")]
    Quantity {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        source: QuantityError,
    },
    /// A number that is out of range.
    #[error("{field}: {source}")]
    Unit {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        source: UnitError,
    },
    /// A resource quantity that Kubernetes would refuse.
    #[error("{field}: {value:?} is not a resource quantity")]
    Resource {
        /// Path of the field.
        field: String,
        /// The text that was given.
        value: String,
    },
    /// A device that the target's tier does not count, and so nobody pays for.
    #[error(
        "{field}: tier {tier} has no {resource}; take the entry out, or name a tier whose resource it is"
    )]
    ForeignDevice {
        /// Path of the field.
        field: String,
        /// Name of the extended resource.
        resource: String,
        /// The tier that does not have it.
        tier: String,
    },
    /// Something that reaches beyond the namespace, and that the target's tier does not allow.
    #[error(
        "{field}: tier {tier} does not allow it; take it out, or have it added to spec.allowedPodTemplate.{list} of the GPUTier"
    )]
    NotAllowed {
        /// Path of the field.
        field: String,
        /// The tier that does not allow it.
        tier: String,
        /// The list of the tier that would.
        list: &'static str,
    },
    /// A maintenance window that cannot be read.
    #[error("operations.maintenanceWindow: {0}")]
    Window(#[from] WindowError),
    /// Neither local nor external, or both.
    #[error("target {0} has not exactly one of local and external")]
    Target(String),
    /// A pinned workload without a pin.
    #[error("placement.mode Pinned needs placement.pinnedTarget")]
    PinMissing,
}

pub(super) fn quantity_error(field: &str) -> impl Fn(QuantityError) -> SpecError + '_ {
    move |source| SpecError::Quantity {
        field: field.to_owned(),
        source,
    }
}

fn unit_error(field: &str) -> impl Fn(UnitError) -> SpecError + '_ {
    move |source| SpecError::Unit {
        field: field.to_owned(),
        source,
    }
}

/// Reads everything that a decision needs.
///
/// # Errors
/// When the spec itself cannot be understood. Problems of what it refers to are part of the result.
pub fn validate(facts: &Facts) -> Result<Validated, SpecError> {
    let spec = &facts.workload.spec;
    let rules = rules::rules(spec)?;
    pod_template::check(spec, &facts.tiers)?;
    let mut unresolved = Vec::new();
    let mut pending = Vec::new();
    let policy = policy::policy(facts, &mut unresolved);
    let targets = targets::targets(facts, &mut unresolved, &mut pending)?;
    let tiers = targets::tiers(facts, &mut unresolved, &mut pending);
    let mut input = WorkloadInput {
        generation: facts.generation(),
        egress: match spec.data_policy.egress {
            DeclaredEgress::Forbidden => Egress::Forbidden,
            DeclaredEgress::Allowed => Egress::Allowed,
        },
        allowed_jurisdictions: set(&spec.data_policy.allowed_jurisdictions),
        require_zero_retention: spec.data_policy.require_zero_retention,
        demand: demand(facts)?,
        spills: spec.traffic.spillover.enabled,
        capability: capability(spec)?,
        slo_ttft: slo(spec)?,
        self_hosting: match spec.operations.self_hosting {
            DeclaredHosting::Forbidden => SelfHosting::Forbidden,
            DeclaredHosting::Costed => SelfHosting::Costed,
            DeclaredHosting::Free => SelfHosting::Free,
        },
        max_moves_per_week: Some(
            spec.operations
                .max_moves_per_week
                .and_then(|most| u32::try_from(most).ok())
                .unwrap_or(DEFAULT_MOVES_PER_WEEK),
        ),
        maintenance_window: maintenance_window(spec)?,
        mode: mode(spec)?,
        suspend: spec.suspend,
        policy: spec
            .placement
            .policy_ref
            .as_ref()
            .map(|policy| policy.name.clone()),
        targets,
        substitutes: Vec::new(),
        current: facts.placement().map(|placement| current(facts, placement)),
        moves: moves(&facts.workload),
    };
    input.substitutes = substitutes::substitutes(facts, &input);
    Ok(Validated {
        input,
        tiers,
        devices: targets::devices(facts),
        policy,
        rules,
        unresolved,
        pending,
    })
}

/// As the field's documentation says.
const DEFAULT_MOVES_PER_WEEK: u32 = 2;

fn set(items: &[String]) -> BTreeSet<String> {
    items.iter().cloned().collect()
}

fn mode(spec: &InferenceWorkloadSpec) -> Result<Mode, SpecError> {
    match (spec.placement.mode, &spec.placement.pinned_target) {
        (PlacementMode::Auto, _) => Ok(Mode::Auto),
        (PlacementMode::Advisory, _) => Ok(Mode::Advisory),
        (PlacementMode::Pinned, Some(target)) => Ok(Mode::Pinned(target.clone())),
        (PlacementMode::Pinned, None) => Err(SpecError::PinMissing),
    }
}

fn maintenance_window(
    spec: &InferenceWorkloadSpec,
) -> Result<Option<MaintenanceWindow>, SpecError> {
    let Some(window) = &spec.operations.maintenance_window else {
        return Ok(None);
    };
    let duration = quantity::duration(&window.duration)
        .map_err(quantity_error("operations.maintenanceWindow.duration"))?;
    let duration = Seconds::clamped(duration.as_secs().into());
    let read = MaintenanceWindow::parse(&window.schedule, duration, &window.time_zone)?;
    Ok(Some(read))
}

fn slo(spec: &InferenceWorkloadSpec) -> Result<Option<Millis>, SpecError> {
    let Some(slo) = &spec.slo else {
        return Ok(None);
    };
    let field = "slo.ttft";
    let ttft = quantity::duration(&slo.ttft).map_err(quantity_error(field))?;
    let millis = u64::try_from(ttft.as_millis()).unwrap_or(u64::MAX);
    Millis::new(millis).map(Some).map_err(unit_error(field))
}

fn capability(spec: &InferenceWorkloadSpec) -> Result<Capability, SpecError> {
    let capability = &spec.capability;
    let min_quality = match &capability.min_quality {
        None => None,
        Some(least) => Some(MinQuality {
            benchmark: least.benchmark.clone(),
            score: Score::parse_decimal(&least.score)
                .map_err(unit_error("capability.minQuality.score"))?,
        }),
    };
    Ok(Capability {
        required: set(&capability.required),
        min_context: capability.min_context_tokens.map(tokens),
        min_quality,
        substitution: match capability.substitution {
            DeclaredSubstitution::Forbidden => Substitution::Forbidden,
            DeclaredSubstitution::EquivalentOnly => Substitution::EquivalentOnly,
            DeclaredSubstitution::AnyCapable => Substitution::AnyCapable,
        },
    })
}

fn tokens(count: i64) -> Tokens {
    Tokens::clamped(u128::try_from(count).unwrap_or(0))
}

fn demand(facts: &Facts) -> Result<Demand, SpecError> {
    let declared = &facts.workload.spec.demand;
    let p50 = |quantiles: &Option<TokenQuantiles>| quantiles.as_ref().map(|of| tokens(of.p50));
    let p95 =
        |quantiles: &Option<TokenQuantiles>| quantiles.as_ref().and_then(|of| of.p95).map(tokens);
    let percent = |percent: i32| {
        Percent::from_signed(percent.into()).map_err(unit_error("demand.cachedInputPercent"))
    };
    let requests = |requests: i64| {
        RequestsPerMonth::from_signed(requests).map_err(unit_error("demand.requestsPerMonth"))
    };
    Ok(Demand {
        source: match declared.source {
            DeclaredSource::Observed => DemandSource::Observed,
            DeclaredSource::Declared => DemandSource::Declared,
        },
        pattern: match declared.pattern {
            DemandPattern::Interactive => Pattern::Interactive,
            DemandPattern::Bursty => Pattern::Bursty,
            DemandPattern::Batch => Pattern::Batch,
        },
        declared: DemandFigures {
            requests_per_month: declared.requests_per_month.map(requests).transpose()?,
            input_p50: p50(&declared.input_tokens),
            input_p95: p95(&declared.input_tokens),
            output_p50: p50(&declared.output_tokens),
            output_p95: p95(&declared.output_tokens),
            cached_input: declared.cached_input_percent.map(percent).transpose()?,
            ..DemandFigures::default()
        },
        observed: facts.traffic.demand.clone(),
    })
}

fn current(facts: &Facts, placement: &Placement) -> CurrentPlacement {
    let replicas = placement.weights.iter().filter_map(|weight| {
        let replicas = u32::try_from(weight.replicas?).ok()?;
        Some((weight.target.clone(), replicas))
    });
    let ongoing = placement.r#move.as_ref();
    let is_going_on = is_going_on(placement);
    let mut held = held(facts, placement);
    let all = by_tier(held.values());
    let mut current = CurrentPlacement {
        target: placement.target.clone(),
        tier: placement.tier.clone(),
        since: placement.since.0,
        replicas: replicas.collect(),
        held: all,
        standby: BTreeMap::new(),
        pending: ongoing.filter(|_| is_going_on).map(|ongoing| PendingMove {
            to: ongoing.to.clone(),
            tier: ongoing.tier.clone(),
            decision_id: placement.decision_id.clone(),
        }),
    };
    held.retain(|target, _| !current.uses(target));
    current.standby = held;
    current
}

/// Objects that are applied together arrive one by one; deciding on half of them would place and then move.
pub(super) fn waits_for_references(facts: &Facts, validated: &Validated) -> bool {
    let created = facts.workload.metadata.creation_timestamp.as_ref();
    let age = created.map(|created| facts.now.duration_since(created.0));
    facts.placement().is_none()
        && !validated.pending.is_empty()
        && age.is_some_and(|age| age < REFERENCE_PATIENCE)
}

/// Whether a move is in progress and not going back.
pub(super) fn is_going_on(placement: &Placement) -> bool {
    matches!(
        placement.phase,
        Phase::Preparing | Phase::Canary | Phase::Draining
    )
}

/// Devices that the workload's pods hold, by the target that they are of and the tier that they were made for: one for each
/// pod that has a node and has not ended.
fn held(facts: &Facts, placement: &Placement) -> BTreeMap<String, BTreeMap<String, u32>> {
    let mut held: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    let ended = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Failed" | "Succeeded"))
    };
    let scheduled = |pod: &Pod| {
        let node = pod.spec.as_ref().map(|spec| spec.node_name.is_some());
        node.unwrap_or(false)
    };
    let mut targets: BTreeSet<&str> = super::facts::names_in(placement);
    let declared = facts.workload.spec.targets.iter();
    targets.extend(declared.map(|target| target.name.as_str()));
    let pods = facts.children.pods.iter();
    for pod in pods.filter(|pod| !ended(pod) && scheduled(pod)) {
        let of = targets
            .iter()
            .find(|name| super::labels::is_of(&pod.metadata, name));
        let Some(target) = of else { continue };
        if let Some(tier) = tier_of(facts, placement, pod, target) {
            let of_target = held.entry((*target).to_owned()).or_default();
            *of_target.entry(tier).or_default() += 1;
        }
    }
    held
}

/// The tier that a pod was made for; what it does not say itself, the placement does.
fn tier_of(facts: &Facts, placement: &Placement, pod: &Pod, target: &str) -> Option<String> {
    let ongoing = placement.r#move.as_ref();
    let label = pod
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::LABEL_TIER));
    let Some(label) = label else {
        let of_move = ongoing.filter(|ongoing| ongoing.to == target);
        return match of_move {
            _ if placement.target == target => placement.tier.clone(),
            of_move => of_move.and_then(|ongoing| ongoing.tier.clone()),
        };
    };
    let ordered = placement.tier.iter();
    let ordered = ordered.chain(ongoing.and_then(|ongoing| ongoing.tier.as_ref()));
    let mut known = facts.tiers.keys().chain(ordered);
    let named = known.find(|name| names::label_value(name) == *label);
    Some(named.unwrap_or(label).clone())
}

/// By tier, whatever the target.
fn by_tier<'a>(held: impl IntoIterator<Item = &'a BTreeMap<String, u32>>) -> BTreeMap<String, u32> {
    let mut by_tier = BTreeMap::new();
    for (tier, devices) in held.into_iter().flatten() {
        *by_tier.entry(tier.clone()).or_default() += devices;
    }
    by_tier
}

/// When moves ended that count, those that returned among them.
pub(super) fn moves(workload: &InferenceWorkload) -> BTreeSet<Timestamp> {
    let Some(status) = &workload.status else {
        return BTreeSet::new();
    };
    let ended = status.history.iter().filter(|entry| counts(entry));
    let ended = ended.map(|entry| &entry.time);
    ended
        .chain(&status.earlier_moves)
        .map(|time| time.0)
        .collect()
}

/// Whether an entry of the history is a move that counts against the week's: the first placement is none.
pub(super) fn counts(entry: &HistoryEntry) -> bool {
    entry.from.is_some() && entry.uncounted != Some(true)
}

#[cfg(test)]
mod tests;
