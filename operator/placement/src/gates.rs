//! The gates that no cost can outvote: what a target may not do is said here, with the values compared.

use crate::demand::EffectiveDemand;
use crate::plan::{Gate, Rejection, RejectionReason};
use crate::policy::{Connectivity, PlacementPolicy};
use crate::snapshot::{
    Egress, ExternalTarget, Location, ModelFacts, SelfHosting, Substitute, Substitution, Target,
    TargetKind, WorkloadInput,
};
use crate::units::Tokens;
use weir_terms::{Breach, Demands, Terms};

/// Every gate up to Context that a target of the spec fails, in their order. Memory and what follows depend on a tier.
pub(crate) fn rejections(
    workload: &WorkloadInput,
    policy: &PlacementPolicy,
    demand: &EffectiveDemand,
    target: &Target,
) -> Vec<Rejection> {
    rejections_by(substitution, workload, (policy, demand), target)
}

/// Those that a substitute fails.
pub(crate) fn rejections_of_substitute(
    workload: &WorkloadInput,
    policy: &PlacementPolicy,
    demand: &EffectiveDemand,
    substitute: &Target,
) -> Vec<Rejection> {
    rejections_by(standing_in, workload, (policy, demand), substitute)
}

/// The gate that looks at whose model this is.
type SubstitutionGate = fn(&WorkloadInput, &Target, &ModelFacts) -> Option<Rejection>;

fn rejections_by(
    substitution: SubstitutionGate,
    workload: &WorkloadInput,
    (policy, demand): (&PlacementPolicy, &EffectiveDemand),
    target: &Target,
) -> Vec<Rejection> {
    let mut failed = Vec::new();
    failed.extend(residency(workload, target));
    match &target.kind {
        TargetKind::Unresolved { message, .. } => {
            failed.push(rejection(
                Gate::References,
                RejectionReason::ReferenceMissing,
                message.clone(),
            ));
        }
        TargetKind::External(external) => {
            provider_terms(workload, external, &mut failed);
            failed.extend(connectivity(policy));
            capability(workload, &external.model, &mut failed);
            failed.extend(substitution(workload, target, &external.model));
            failed.extend(quality(workload, &external.model));
            failed.extend(context(workload, demand, &external.model));
        }
        TargetKind::Local(local) => {
            failed.extend(self_hosting(workload));
            capability(workload, &local.model, &mut failed);
            failed.extend(substitution(workload, target, &local.model));
            failed.extend(quality(workload, &local.model));
            failed.extend(context(workload, demand, &local.model));
        }
    }
    failed
}

/// Whether a gate speaks about where data may go. Such a gate holds for suspended workloads too.
pub(crate) fn protects_data(gate: Gate) -> bool {
    matches!(gate, Gate::Residency | Gate::ProviderTerms)
}

pub(crate) fn rejection(gate: Gate, reason: RejectionReason, message: String) -> Rejection {
    Rejection {
        gate,
        reason,
        message,
    }
}

fn residency(workload: &WorkloadInput, target: &Target) -> Option<Rejection> {
    let leaves = target.kind.location() == Location::External;
    (leaves && workload.egress == Egress::Forbidden).then(|| {
        let message = format!("egress is Forbidden and {} is external", target.name);
        rejection(Gate::Residency, RejectionReason::EgressForbidden, message)
    })
}

fn provider_terms(
    workload: &WorkloadInput,
    external: &ExternalTarget,
    failed: &mut Vec<Rejection>,
) {
    let demands = Demands {
        allowed_jurisdictions: &workload.allowed_jurisdictions,
        require_zero_retention: workload.require_zero_retention,
    };
    let terms = Terms {
        jurisdiction: external.jurisdiction.as_deref(),
        zero_retention: external.zero_retention,
        admits_namespace: external.namespace_allowed,
    };
    let provider = &external.provider;
    let allowed = || list(workload.allowed_jurisdictions.iter());
    for breach in weir_terms::breaches(demands, terms) {
        let (reason, message) = match breach {
            Breach::JurisdictionUnknown => (
                RejectionReason::JurisdictionUnknown,
                format!(
                    "the jurisdiction of provider {provider} is unknown; allowed: {}",
                    allowed()
                ),
            ),
            Breach::JurisdictionNotAllowed => (
                RejectionReason::JurisdictionNotAllowed,
                format!(
                    "provider {provider} is in {}; allowed: {}",
                    external.jurisdiction.as_deref().unwrap_or_default(),
                    allowed()
                ),
            ),
            Breach::RetentionNotZero => (
                RejectionReason::RetentionNotZero,
                format!("provider {provider} retains data; zero retention is required"),
            ),
            Breach::RetentionUnknown => (
                RejectionReason::RetentionUnknown,
                format!(
                    "the retention of provider {provider} is unknown; zero retention is required"
                ),
            ),
            Breach::NamespaceNotAllowed => (
                RejectionReason::NamespaceNotAllowed,
                format!("provider {provider} does not admit the workload's namespace"),
            ),
        };
        failed.push(rejection(Gate::ProviderTerms, reason, message));
    }
}

fn connectivity(policy: &PlacementPolicy) -> Option<Rejection> {
    (policy.connectivity == Connectivity::Disconnected).then(|| {
        let message = "the policy's connectivity is Disconnected".to_owned();
        rejection(Gate::Connectivity, RejectionReason::Disconnected, message)
    })
}

fn self_hosting(workload: &WorkloadInput) -> Option<Rejection> {
    (workload.self_hosting == SelfHosting::Forbidden).then(|| {
        let message = "operations.selfHosting is Forbidden".to_owned();
        rejection(
            Gate::SelfHosting,
            RejectionReason::SelfHostingForbidden,
            message,
        )
    })
}

fn capability(workload: &WorkloadInput, model: &ModelFacts, failed: &mut Vec<Rejection>) {
    let missing: Vec<_> = workload
        .capability
        .required
        .difference(&model.capabilities)
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "the model lacks {}; it has {}",
            list(missing.into_iter()),
            list(model.capabilities.iter())
        );
        failed.push(rejection(
            Gate::Capability,
            RejectionReason::CapabilityMissing,
            message,
        ));
    }
}

/// Whether the gates that look at the model alone let it stand in, whatever it costs and where it is.
pub fn may_stand_in(workload: &WorkloadInput, substitute: &Substitute) -> bool {
    let Some(model) = substitute.target.kind.model() else {
        return false;
    };
    let mut failed = Vec::new();
    capability(workload, model, &mut failed);
    failed.extend(standing_in(workload, &substitute.target, model));
    failed.extend(quality(workload, model));
    failed.is_empty()
}

/// The model that the workload was qualified with is that of the first target whose model is known.
fn qualified(workload: &WorkloadInput) -> Option<&ModelFacts> {
    workload
        .targets
        .iter()
        .find_map(|target| target.kind.model())
}

fn substitution(workload: &WorkloadInput, _: &Target, model: &ModelFacts) -> Option<Rejection> {
    let qualified = qualified(workload)?;
    let (reason, allowed) = match workload.capability.substitution {
        Substitution::AnyCapable => return None,
        Substitution::EquivalentOnly => (
            RejectionReason::NotEquivalent,
            model.is_equivalent(qualified),
        ),
        Substitution::Forbidden => (
            RejectionReason::SubstitutionForbidden,
            model.is_same(qualified),
        ),
    };
    // The model is itself, whatever is unknown of it.
    if allowed || std::ptr::eq(model, qualified) {
        return None;
    }
    let message = format!(
        "the model is {}; the workload is qualified with {}",
        with_group(model),
        with_group(qualified)
    );
    Some(rejection(Gate::Substitution, reason, message))
}

/// No target of the spec names the model, so it has to be known to stand in: by its group, or by what the workload says
/// that it needs. A substitute that serves already is not left because the qualified model is no longer known.
fn standing_in(
    workload: &WorkloadInput,
    substitute: &Target,
    model: &ModelFacts,
) -> Option<Rejection> {
    let capability = &workload.capability;
    let says_what_is_capable = !capability.required.is_empty() || capability.min_quality.is_some();
    let (reason, rule) = match capability.substitution {
        Substitution::Forbidden => (
            RejectionReason::SubstitutionForbidden,
            "and no other may stand in",
        ),
        Substitution::AnyCapable if says_what_is_capable => return None,
        Substitution::AnyCapable => (
            RejectionReason::NotEquivalent,
            "and states no capability or quality that another group's would have to have",
        ),
        Substitution::EquivalentOnly => (
            RejectionReason::NotEquivalent,
            "and only one of its group may stand in",
        ),
    };
    let qualified = qualified(workload);
    let is_there = || {
        let current = workload.current.as_ref();
        current.is_some_and(|current| current.target == substitute.name)
    };
    let allowed = reason == RejectionReason::NotEquivalent
        && qualified.map_or_else(is_there, |qualified| model.is_equivalent(qualified));
    (!allowed).then(|| {
        let qualified = qualified.map_or_else(|| "an unknown model".to_owned(), with_group);
        let message = format!(
            "the model is {}; the workload is qualified with {qualified}, {rule}",
            with_group(model)
        );
        rejection(Gate::Substitution, reason, message)
    })
}

fn with_group(model: &ModelFacts) -> String {
    let name = model.name.as_deref().unwrap_or("unknown");
    match &model.equivalence_group {
        Some(group) => format!("{name} of group {group}"),
        None => name.to_owned(),
    }
}

fn quality(workload: &WorkloadInput, model: &ModelFacts) -> Option<Rejection> {
    let least = workload.capability.min_quality.as_ref()?;
    let (reason, message) = match model.quality.get(&least.benchmark) {
        None => (
            RejectionReason::QualityUnknown,
            format!(
                "the model has no score on {}; at least {} is required",
                least.benchmark, least.score
            ),
        ),
        Some(score) if *score < least.score => (
            RejectionReason::QualityTooLow,
            format!(
                "the model scores {score} on {}; at least {} is required",
                least.benchmark, least.score
            ),
        ),
        Some(_) => return None,
    };
    Some(rejection(Gate::Quality, reason, message))
}

/// The needed context is the larger of what is declared and what long prompts with long answers take.
fn needed_context(workload: &WorkloadInput, demand: &EffectiveDemand) -> Option<Tokens> {
    let long = |tokens: Option<Tokens>| tokens.map_or(0, Tokens::get);
    let used = long(demand.figures.input_p95) + long(demand.figures.output_p95);
    let declared = long(workload.capability.min_context);
    let needed = Tokens::clamped(used.max(declared).into());
    (needed > Tokens::MIN).then_some(needed)
}

fn context(
    workload: &WorkloadInput,
    demand: &EffectiveDemand,
    model: &ModelFacts,
) -> Option<Rejection> {
    let needed = needed_context(workload, demand)?;
    let (reason, message) = match model.context {
        None => (
            RejectionReason::ContextUnknown,
            format!("the model's context is unknown; {needed} are needed"),
        ),
        Some(context) if context < needed => (
            RejectionReason::ContextTooShort,
            format!("the model's context is {context}; {needed} are needed"),
        ),
        Some(_) => return None,
    };
    Some(rejection(Gate::Context, reason, message))
}

fn list<'a>(items: impl Iterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.map(String::as_str).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}
