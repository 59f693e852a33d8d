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
    let mut seen = BTreeSet::new();
    let mut substitutes = Vec::new();
    for declared in &spec.targets {
        let mut models = other_models(facts, declared);
        models.sort_unstable();
        for (model, group) in models {
            let Some(derived) = declared.serving(model) else {
                continue;
            };
            let external = declared.external.as_ref();
            let provider = external.map(|external| external.provider_ref.name.as_str());
            let twin = provider.is_some_and(|provider| !seen.insert((provider, model)));
            if !is_used(&derived.name) && (twin || !could_stand_in(spec, model, group)) {
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

/// Whether the gate for substitution could let a model of this name and group in: as an equal, or as one that is capable of
/// what is required. This much is told without reading the model, and most specs let none in.
pub fn could_stand_in(spec: &InferenceWorkloadSpec, model: &str, group: Option<&str>) -> bool {
    let capability = &spec.capability;
    let says_what_is_capable = !capability.required.is_empty() || capability.min_quality.is_some();
    match capability.substitution {
        Substitution::Forbidden => false,
        Substitution::AnyCapable if says_what_is_capable => true,
        Substitution::AnyCapable | Substitution::EquivalentOnly => {
            let mut targets = spec.targets.iter();
            group.is_some() || targets.any(|target| target.model() == Some(model))
        }
    }
}

/// Models that the target's provider lists, or profiles on the claim of its own, but for those that targets of the spec
/// have; with their equivalence groups.
fn other_models<'a>(facts: &'a Facts, declared: &Declared) -> Vec<(&'a str, Option<&'a str>)> {
    let own = declared.model().unwrap_or_default();
    let others: Vec<_> = if let Some(external) = &declared.external {
        let provider = facts.providers.get(&external.provider_ref.name);
        let models = provider.iter().flat_map(|provider| &provider.spec.models);
        models
            .map(|model| (model.name.as_str(), model.equivalence_group.as_deref()))
            .collect()
    } else {
        let profile = facts.models.get(own);
        let claim = profile.and_then(|profile| profile.spec.claim());
        let beside = |profile: &ModelProfile| claim.is_some() && profile.spec.claim() == claim;
        let profiles = facts.models.iter();
        profiles
            .filter(|(_, profile)| beside(profile))
            .map(|(name, profile)| (name.as_str(), profile.spec.equivalence_group.as_deref()))
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
    others.filter(|(model, _)| !is_declared(model)).collect()
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
