//! What moves need to know of targets and gateways, from what was read. Pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use weir_crds::placement::Location;
use weir_crds::workload::Target;

use super::facts::Facts;
use super::failure::{self, Reason};
use super::moves::{Observed, TargetObserved, Usable};
use super::{labels, validate};

/// What is seen of every target.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// As moves see it.
    pub observed: Observed,
    /// Why local targets are not ready, by target.
    pub diagnoses: BTreeMap<String, (Reason, String)>,
    /// Ready replicas of local targets, by target.
    pub ready_replicas: BTreeMap<String, i32>,
}

/// Looks at every target of the spec, at the substitutes in use, and at what status still has.
pub fn observe(facts: &Facts) -> Observation {
    let mut diagnoses = BTreeMap::new();
    let mut ready_replicas = BTreeMap::new();
    let mut targets = BTreeMap::new();
    for target in &facts.targets() {
        let name = &target.name;
        let mut seen = traffic(facts, name);
        if let Some(external) = &target.external {
            let provider = facts.providers.get(&external.provider_ref.name);
            // Before the first probe nothing speaks against a provider; the canary finds out what does.
            let answers =
                provider.is_some_and(|provider| validate::healthy(provider) != Some(false));
            seen.usable = if answers { Usable::Yes } else { Usable::No };
        } else {
            let local = local(facts, target);
            seen.usable = local.usable;
            seen.failure = local.diagnosis.as_ref().map(failure::as_failure);
            seen.patience = local.patience;
            ready_replicas.insert(name.clone(), local.ready);
            if let Some(diagnosis) = local.diagnosis {
                diagnoses.insert(name.clone(), diagnosis);
            }
        }
        targets.insert(name.clone(), seen);
    }
    for name in facts.traffic.targets.keys() {
        targets
            .entry(name.clone())
            .or_insert_with(|| traffic(facts, name));
    }
    Observation {
        observed: Observed {
            targets,
            acknowledged: facts.traffic.acknowledged.clone(),
            settled: facts.traffic.settled.clone(),
        },
        diagnoses,
        ready_replicas,
    }
}

fn traffic(facts: &Facts, target: &str) -> TargetObserved {
    let seen = facts
        .traffic
        .targets
        .get(target)
        .cloned()
        .unwrap_or_default();
    TargetObserved {
        usable: Usable::No,
        failure: None,
        replicas: facts.existing_replicas(target),
        requests: seen.requests,
        errors: seen.errors,
        in_flight: seen.in_flight,
        woken: seen.woken,
        patience: SignedDuration::ZERO,
    }
}

struct Local {
    usable: Usable,
    ready: i32,
    diagnosis: Option<(Reason, String)>,
    /// What is added to the time that it may take, for nodes that are to come.
    patience: SignedDuration,
}

fn local(facts: &Facts, target: &Target) -> Local {
    let of_target = |meta| labels::is_of(meta, &target.name);
    let deployment = facts
        .children
        .deployments
        .iter()
        .find(|deployment| of_target(&deployment.metadata))
        .map(AsRef::as_ref);
    let pods: Vec<&Pod> = facts
        .children
        .pods
        .iter()
        .filter(|pod| of_target(&pod.metadata))
        .map(AsRef::as_ref)
        .collect();
    let wanted = deployment
        .and_then(|deployment| deployment.spec.as_ref()?.replicas)
        .unwrap_or(0);
    let ready = deployment.map_or(0, ready_replicas);
    let seen = facts.traffic.targets.get(&target.name);
    let without = seen.map_or_else(String::new, |seen| seen.without_engine.join(", "));
    let usable = if ready > 0 && !without.is_empty() {
        Usable::Unreached
    } else if ready > 0 && ready >= wanted && is_current(deployment) {
        Usable::Yes
    } else if ready > 0 {
        Usable::Partly
    } else {
        Usable::No
    };
    let diagnosis = (wanted > 0 && usable != Usable::Yes)
        .then(|| failure::diagnose(deployment, &pods, &facts.children.mount_failures))
        .flatten()
        .filter(|(reason, _)| usable != Usable::Unreached || reason.lasting());
    let pending = || {
        let message = format!("{without} has no endpoint of it");
        (usable == Usable::Unreached).then_some((Reason::EndpointPending, message))
    };
    let to_come = nodes_to_come(facts, target);
    let diagnosis = diagnosis.map(|(reason, message)| match &to_come {
        Some((_, nodes)) if reason.asks_for_a_node() => {
            (Reason::WaitingForNode, format!("{nodes}: {message}"))
        }
        _ => (reason, message),
    });
    Local {
        usable,
        ready,
        diagnosis: diagnosis.or_else(pending),
        patience: to_come.map_or(SignedDuration::ZERO, |(ready_after, _)| ready_after),
    }
}

/// How long nodes take that are provisioned for a target's pods, and what they are, where its tier says that some can be.
fn nodes_to_come(facts: &Facts, target: &Target) -> Option<(SignedDuration, String)> {
    let placement = facts.placement()?;
    let ongoing = placement.r#move.as_ref();
    let of_move = ongoing.filter(|ongoing| ongoing.to == target.name);
    let name = match of_move {
        Some(ongoing) => ongoing.tier.clone(),
        None if placement.target == target.name => placement.tier.clone(),
        None => facts.existing_tier(&target.name),
    }?;
    let tier = facts.tiers.get(&name)?;
    let stated = tier.spec.provisionable.as_ref()?;
    let ready_after = validate::ready_after(tier)?;
    let what = format!(
        "tier {name} can have {} devices, further ones within {}",
        stated.devices, stated.ready_after
    );
    Some((ready_after, what))
}

/// Those that the Deployment calls available.
fn ready_replicas(deployment: &Deployment) -> i32 {
    let status = deployment.status.as_ref();
    status
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// Whether what is ready is what was last applied, and not pods of the spec before.
fn is_current(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else {
        return false;
    };
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(0);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= wanted
    })
}

/// Where a target is.
pub fn location(target: &Target) -> Location {
    if target.external.is_some() {
        Location::External
    } else {
        Location::Local
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DeploymentStatus;

    #[test]
    fn a_replica_that_its_service_may_not_reach_yet_does_not_count() {
        let with = |available| Deployment {
            status: Some(DeploymentStatus {
                replicas: Some(2),
                ready_replicas: Some(2),
                available_replicas: available,
                ..DeploymentStatus::default()
            }),
            ..Deployment::default()
        };
        assert_eq!(ready_replicas(&with(None)), 0);
        assert_eq!(ready_replicas(&with(Some(1))), 1);
        assert_eq!(ready_replicas(&Deployment::default()), 0);
    }
}
