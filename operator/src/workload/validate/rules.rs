//! The parts of a spec that govern moves and pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use weir_crds::GPUTier;
use weir_crds::placement::Location;
use weir_crds::quantity;
use weir_crds::workload::{InferenceWorkloadSpec, Target};

use super::{SpecError, quantity_error};
use crate::workload::moves::{Rules, TargetRules};
use crate::workload::resource;

pub(super) fn rules(spec: &InferenceWorkloadSpec) -> Result<Rules, SpecError> {
    let traffic = &spec.traffic;
    let mut canary = Vec::with_capacity(traffic.canary.steps.len());
    for (at, step) in traffic.canary.steps.iter().enumerate() {
        let field = format!("traffic.canary.steps[{at}].pause");
        let pause = duration(&field, &step.pause)?;
        canary.push((step.weight.clamp(1, 99), pause));
    }
    Ok(Rules {
        targets: spec
            .targets
            .iter()
            .enumerate()
            .map(|(at, target)| target_rules(at, target))
            .collect::<Result<_, _>>()?,
        canary,
        max_error_micro_percent: quantity::micros(&traffic.canary.max_error_percent)
            .map_err(quantity_error("traffic.canary.maxErrorPercent"))?,
        drain: duration("traffic.drain.timeout", &traffic.drain.timeout)?,
        suspend: spec.suspend,
    })
}

fn target_rules(at: usize, target: &Target) -> Result<TargetRules, SpecError> {
    match (&target.local, &target.external) {
        (Some(local), None) => Ok(TargetRules {
            name: target.name.clone(),
            location: Location::Local,
            min_replicas: local.scaling.min_replicas.max(0),
            max_replicas: local.scaling.max_replicas.max(1),
            idle_after: duration(
                &format!("targets[{at}].local.scaling.idleAfter"),
                &local.scaling.idle_after,
            )?,
        }),
        (None, Some(_)) => Ok(TargetRules {
            name: target.name.clone(),
            location: Location::External,
            min_replicas: 0,
            max_replicas: 0,
            idle_after: SignedDuration::ZERO,
        }),
        _ => Err(SpecError::Target(target.name.clone())),
    }
}

fn duration(field: &str, text: &str) -> Result<SignedDuration, SpecError> {
    let duration: Duration = quantity::duration(text).map_err(quantity_error(field))?;
    Ok(SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX))
}

/// Kubernetes would refuse the whole Deployment for one resource that it cannot read.
pub(super) fn check_resources(spec: &InferenceWorkloadSpec) -> Result<(), SpecError> {
    for target in &spec.targets {
        let template = target
            .local
            .as_ref()
            .and_then(|local| local.pod_template.as_ref());
        let Some(resources) = template.and_then(|template| template.resources.as_ref()) else {
            continue;
        };
        for (kind, amounts) in [
            ("requests", &resources.requests),
            ("limits", &resources.limits),
        ] {
            check_amounts(&target.name, kind, amounts)?;
        }
    }
    Ok(())
}

/// Pods take the devices of their tier: others, which only extended resources are, would be another tier's and cost nothing.
pub(super) fn check_devices(
    spec: &InferenceWorkloadSpec,
    tiers: &BTreeMap<String, Arc<GPUTier>>,
) -> Result<(), SpecError> {
    for target in &spec.targets {
        let Some(local) = &target.local else {
            continue;
        };
        let template = local.pod_template.as_ref();
        let Some(resources) = template.and_then(|template| template.resources.as_ref()) else {
            continue;
        };
        let of_tiers = local
            .tiers
            .iter()
            .filter_map(|tier| tiers.get_key_value(tier));
        let of_tiers: Vec<_> = of_tiers.collect();
        for (kind, amounts) in [
            ("requests", &resources.requests),
            ("limits", &resources.limits),
        ] {
            for resource in amounts.keys().filter(|resource| resource.contains('/')) {
                let lacks = |tier: &GPUTier| tier.spec.resource.name != *resource;
                if let Some((tier, _)) = of_tiers.iter().find(|(_, tier)| lacks(tier)) {
                    let target = &target.name;
                    return Err(SpecError::ForeignDevice {
                        field: format!(
                            "targets[{target}].local.podTemplate.resources.{kind}[{resource}]"
                        ),
                        resource: resource.clone(),
                        tier: (*tier).clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

fn check_amounts(
    target: &str,
    kind: &str,
    amounts: &BTreeMap<String, String>,
) -> Result<(), SpecError> {
    let bad = amounts
        .iter()
        .find(|(_, value)| resource::nanos(value).is_none_or(|nanos| nanos < 0));
    match bad {
        None => Ok(()),
        Some((name, value)) => Err(SpecError::Resource {
            field: format!("targets[{target}].local.podTemplate.resources.{kind}[{name}]"),
            value: value.clone(),
        }),
    }
}
