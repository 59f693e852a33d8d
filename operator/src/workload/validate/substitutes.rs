//! Substitutes: what other models the providers and claims of a workload's targets have, as far as they may stand in.

use std::collections::BTreeSet;

use weir_crds::ModelProfile;
use weir_crds::workload::{InferenceWorkloadSpec, Substitution, Target as Declared};
use weir_placement::{Substitute, Target, TargetKind, WorkloadInput, may_stand_in};

use super::targets;
use crate::workload::facts::Facts;

/// Every substitute that capability, substitution and quality let stand in, by target in the spec's order and by name.
/// Those in use are among them whatever these gates say, so that the decision can tell why it leaves them.
pub(super) fn substitutes(facts: &Facts, input: &WorkloadInput) -> Vec<Substitute> {
    let spec = &facts.workload.spec;
    if spec.capability.substitution == Substitution::Forbidden {
        return Vec::new();
    }
    let placement = facts.placement();
    let used = placement.map(crate::workload::facts::names_in);
    let is_used = |name: &str| used.as_ref().is_some_and(|used| used.contains(name));
    let mut substitutes = Vec::new();
    for declared in &spec.targets {
        let mut models = other_models(facts, declared);
        models.sort_unstable();
        for model in models {
            let Some(derived) = declared.serving(model) else {
                continue;
            };
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

/// Models that the target's provider lists beside its own, or profiles on the claim of its own.
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
    others.into_iter().filter(|model| *model != own).collect()
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
