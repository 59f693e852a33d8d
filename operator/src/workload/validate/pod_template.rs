//! What a target's pod template may ask for: amounts that Kubernetes can read, devices of its tiers alone, and of what
//! reaches beyond the workload's namespace only what its tiers allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Toleration;
use weir_crds::GPUTier;
use weir_crds::resource;
use weir_crds::tier::AllowedPodTemplate;
use weir_crds::workload::{InferenceWorkloadSpec, PodTemplate, Resources};

use super::SpecError;

/// Checks the pod template of every local target against its tiers, of which those that are missing refuse nothing.
pub(super) fn check(
    spec: &InferenceWorkloadSpec,
    tiers: &BTreeMap<String, Arc<GPUTier>>,
) -> Result<(), SpecError> {
    for target in &spec.targets {
        let Some(local) = &target.local else {
            continue;
        };
        let Some(template) = &local.pod_template else {
            continue;
        };
        let path = format!("targets[{}].local.podTemplate", target.name);
        let resources = template.resources.as_ref();
        resources.map_or(Ok(()), |resources| check_amounts(&path, resources))?;
        let of_tiers = local
            .tiers
            .iter()
            .filter_map(|tier| tiers.get_key_value(tier));
        for (name, tier) in of_tiers {
            let tier = Tier { name, tier };
            resources.map_or(Ok(()), |resources| tier.has_devices(&path, resources))?;
            tier.allows(&path, template)?;
        }
    }
    Ok(())
}

/// Kubernetes would refuse the whole Deployment for one resource that it cannot read.
fn check_amounts(path: &str, resources: &Resources) -> Result<(), SpecError> {
    let unreadable = |value: &str| resource::nanos(value).is_none_or(|nanos| nanos < 0);
    match amounts(resources).find(|(_, _, value)| unreadable(value)) {
        None => Ok(()),
        Some((kind, name, value)) => Err(SpecError::Resource {
            field: format!("{path}.resources.{kind}[{name}]"),
            value: value.to_owned(),
        }),
    }
}

/// Kind (requests or limits), name and value of each.
fn amounts(resources: &Resources) -> impl Iterator<Item = (&'static str, &str, &str)> {
    let kinds = [
        ("requests", &resources.requests),
        ("limits", &resources.limits),
    ];
    kinds.into_iter().flat_map(|(kind, amounts)| {
        let amounts = amounts.iter();
        amounts.map(move |(name, value)| (kind, name.as_str(), value.as_str()))
    })
}

struct Tier<'a> {
    name: &'a str,
    tier: &'a GPUTier,
}

impl Tier<'_> {
    /// Pods take the devices of their tier: others, which only extended resources are, would be another tier's and cost
    /// nothing.
    fn has_devices(&self, path: &str, resources: &Resources) -> Result<(), SpecError> {
        let own = self.tier.spec.resource.name.as_str();
        let foreign = |resource: &str| resource.contains('/') && resource != own;
        match amounts(resources).find(|(_, resource, _)| foreign(resource)) {
            None => Ok(()),
            Some((kind, resource, _)) => Err(SpecError::ForeignDevice {
                field: format!("{path}.resources.{kind}[{resource}]"),
                resource: resource.to_owned(),
                tier: self.name.to_owned(),
            }),
        }
    }

    /// Annotations, priority classes and tolerations reach beyond a namespace (they instruct the node's runtime and network,
    /// evict others' pods, reach nodes that are kept for something else), so that a cluster's administrator allows them.
    fn allows(&self, path: &str, template: &PodTemplate) -> Result<(), SpecError> {
        let nothing = AllowedPodTemplate::default();
        let allowed = self.tier.spec.allowed_pod_template.as_ref();
        let allowed = allowed.unwrap_or(&nothing);
        let refused = |field: String, list: &'static str| {
            Err(SpecError::NotAllowed {
                field: format!("{path}.{field}"),
                tier: self.name.to_owned(),
                list,
            })
        };
        let annotated = |key: &str| allowed.annotations.iter().any(|of| covers(of, key));
        if let Some(key) = template.annotations.keys().find(|key| !annotated(key)) {
            return refused(format!("annotations[{key}]"), "annotations");
        }
        let class = template.priority_class_name.as_ref();
        if class.is_some_and(|class| !allowed.priority_class_names.contains(class)) {
            return refused("priorityClassName".to_owned(), "priorityClassNames");
        }
        let own = &self.tier.spec.tolerations;
        let tolerated = |asked: &Toleration| {
            let mut allowed = allowed.tolerations.iter().chain(own);
            allowed.any(|allowed| tolerates_as_much(allowed, asked))
        };
        let tolerations = template.tolerations.iter();
        match tolerations.clone().position(|asked| !tolerated(asked)) {
            Some(at) => refused(format!("tolerations[{at}]"), "tolerations"),
            None => Ok(()),
        }
    }
}

/// Whether a key is the pattern's, which may end in `*` for all that begin so.
fn covers(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => key.starts_with(prefix),
        None => key == pattern,
    }
}

/// Whether every taint that `asked` tolerates, and for as long, is tolerated by `allowed` too.
fn tolerates_as_much(allowed: &Toleration, asked: &Toleration) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let operator = |of: &Toleration| of.operator.clone().unwrap_or_else(|| "Equal".to_owned());
    let any = operator(allowed) == "Exists";
    let keys = allowed.key == asked.key || (any && text(&allowed.key).is_empty());
    let same = operator(allowed) == operator(asked) && text(&allowed.value) == text(&asked.value);
    let effects = allowed.effect == asked.effect || text(&allowed.effect).is_empty();
    let lasts = match (allowed.toleration_seconds, asked.toleration_seconds) {
        (None, _) => true,
        (Some(most), Some(asked)) => asked <= most,
        (Some(_), None) => false,
    };
    keys && (any || same) && effects && lasts
}

#[cfg(test)]
mod tests;
