//! Substitutes: what other models the providers and claims of a workload's targets have, as far as they may stand in.

use std::collections::BTreeSet;

use weir_crds::ModelProfile;
use weir_crds::workload::{InferenceWorkloadSpec, Substitution, Target as Declared};
use weir_placement::{Substitute, Target, TargetKind, WorkloadInput, may_stand_in};

use super::targets;
use crate::workload::facts::Facts;

/// Every substitute that capability, substitution and quality let stand in, by target in the spec's order and by name. A
/// model of a provider stands in once. Those in use are among them whatever these gates say, so that the decision can
/// tell why it leaves them; where none may stand in at all there are none.
pub(super) fn substitutes(facts: &Facts, input: &WorkloadInput) -> Vec<Substitute> {
    let spec = &facts.workload.spec;
    if spec.capability.substitution == Substitution::Forbidden {
        return Vec::new();
    }
    let placement = facts.placement();
    let used = placement.map(crate::workload::facts::names_in);
    let is_used = |name: &str| used.as_ref().is_some_and(|used| used.contains(name));
    let some_may = some_may_stand_in(input);
    let mut seen = BTreeSet::new();
    let mut substitutes = Vec::new();
    for declared in &spec.targets {
        let mut models = other_models(facts, declared);
        models.sort_unstable();
        for model in models {
            let Some(derived) = declared.serving(model) else {
                continue;
            };
            let external = declared.external.as_ref();
            let provider = external.map(|external| external.provider_ref.name.as_str());
            let twin = provider.is_some_and(|provider| !seen.insert((provider, model)));
            if !is_used(&derived.name) && (twin || !some_may) {
                continue;
            }
            let Some(kind) = read(facts, &derived) else {
                continue;
            };
            let substitute = Substitute {
                of: declared.name.clone(),
                target: Target {
                    name: derived.name,
                    kind,
                },
            };
            if is_used(&substitute.target.name) || may_stand_in(input, &substitute) {
                substitutes.push(substitute);
            }
        }
    }
    substitutes
}

/// Whether any model can pass the gate: the cheap part of it, for most specs let none.
fn some_may_stand_in(input: &WorkloadInput) -> bool {
    let capability = &input.capability;
    let says_what_is_capable = !capability.required.is_empty() || capability.min_quality.is_some();
    let any = capability.substitution == weir_placement::Substitution::AnyCapable;
    let mut models = input
        .targets
        .iter()
        .filter_map(|target| target.kind.model());
    let has_group = models
        .next()
        .is_some_and(|model| model.equivalence_group.is_some());
    (any && says_what_is_capable) || has_group
}

/// Models that the target's provider lists, or profiles on the claim of its own, but for those that targets of the spec
/// have.
fn other_models<'a>(facts: &'a Facts, declared: &Declared) -> Vec<&'a str> {
    let own = declared.model().unwrap_or_default();
    let others: Vec<&str> = if let Some(external) = &declared.external {
        let provider = facts.providers.get(&external.provider_ref.name);
        let models = provider.iter().flat_map(|provider| &provider.spec.models);
        models.map(|model| model.name.as_str()).collect()
    } else {
        let profile = facts.models.get(own);
        let claim = profile.and_then(|profile| profile.spec.claim());
        let beside = |profile: &ModelProfile| claim.is_some() && profile.spec.claim() == claim;
        let profiles = facts.models.iter();
        profiles
            .filter(|(_, profile)| beside(profile))
            .map(|(name, _)| name.as_str())
            .collect()
    };
    let is_declared = |model: &str| {
        facts.workload.spec.targets.iter().any(|target| {
            let same = match (&target.external, &declared.external) {
                (Some(one), Some(other)) => one.provider_ref == other.provider_ref,
                (None, None) => true,
                _ => false,
            };
            same && target.model() == Some(model)
        })
    };
    let others = others.into_iter();
    others.filter(|model| !is_declared(model)).collect()
}

/// What cannot be read does not stand in, and is no problem of the workload.
fn read(facts: &Facts, derived: &Declared) -> Option<TargetKind> {
    if let Some(local) = &derived.local {
        return targets::local(facts, &derived.name, local).ok();
    }
    let external = derived.external.as_ref()?;
    targets::external(facts, &derived.name, external, &mut Vec::new()).ok()
}

/// The claims of the profiles that local targets name; empty where no other model may stand in.
pub fn claims_of<'a>(
    spec: &InferenceWorkloadSpec,
    profile: impl Fn(&str) -> Option<&'a ModelProfile>,
) -> BTreeSet<String> {
    if spec.capability.substitution == Substitution::Forbidden {
        return BTreeSet::new();
    }
    let locals = spec
        .targets
        .iter()
        .filter_map(|target| target.local.as_ref());
    let claims = locals.filter_map(|local| profile(&local.model_ref.name)?.spec.claim());
    claims.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
