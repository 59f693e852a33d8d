//! The parts of a spec that govern moves.

use std::time::Duration;

use jiff::SignedDuration;
use weir_crds::placement::Location;
use weir_crds::quantity;
use weir_crds::workload::{InferenceWorkloadSpec, Target};

use super::{SpecError, quantity_error};
use crate::workload::moves::{Rules, TargetRules};

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
