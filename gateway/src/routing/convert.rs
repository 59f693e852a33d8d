//! From the kinds of the API to what the index takes. The only place that knows both.

use crate::policy::{DataDemands, Egress, FailoverPolicy, SpillPolicy, TrafficPolicy};
use crate::routing::endpoints::{SliceId, SliceInput, TargetKey};
use crate::routing::index::input::{
    DecidedFor, PlacementInput, TargetInput, TargetKind, Undecodable, WeightInput, WorkloadInput,
};
use crate::routing::keys::{KeyHash, Keys};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use std::net::SocketAddr;
use std::sync::Arc;
use weir_crds::InferenceWorkload;
use weir_crds::names;
use weir_crds::placement::Placement;
use weir_crds::quantity;
use weir_crds::workload::{self, FailoverTrigger, OnColdStart, Traffic};
use weir_crds::workload_status::ClientKey;

/// Label of EndpointSlices that says who keeps them.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The controller that makes them of Services.
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// Reads a workload. One whose values do not parse has no route, like one that does not decode.
///
/// # Errors
/// The object's identity, when it cannot be routed.
pub fn workload(object: &InferenceWorkload) -> Result<WorkloadInput, Undecodable> {
    let broken = || {
        undecodable(&object.metadata).unwrap_or_else(|| Undecodable {
            uid: "".into(),
            generation: 0,
            resource_version: None,
        })
    };
    let metadata = &object.metadata;
    let uid = metadata.uid.as_deref().ok_or_else(broken)?;
    let namespace = metadata.namespace.as_deref().ok_or_else(broken)?;
    let name = metadata.name.as_deref().ok_or_else(broken)?;
    let traffic = traffic(&object.spec.traffic).ok_or_else(broken)?;
    let targets: Option<Vec<_>> = object.spec.targets.iter().map(target).collect();
    let status = object.status.as_ref();
    let allowed = &object.spec.data_policy.allowed_jurisdictions;
    Ok(WorkloadInput {
        uid: uid.into(),
        namespace: namespace.into(),
        name: name.into(),
        generation: metadata.generation.unwrap_or(0),
        resource_version: resource_version(metadata),
        created: metadata
            .creation_timestamp
            .as_ref()
            .and_then(|time| u64::try_from(time.0.as_second()).ok())
            .unwrap_or(0),
        egress: match object.spec.data_policy.egress {
            workload::Egress::Forbidden => Egress::Forbidden,
            workload::Egress::Allowed => Egress::Allowed,
        },
        data: DataDemands {
            allowed_jurisdictions: allowed.iter().cloned().collect(),
            require_zero_retention: object.spec.data_policy.require_zero_retention,
        },
        model: object
            .spec
            .served_model_name
            .clone()
            .unwrap_or_else(|| object.name_any()),
        keys: status
            .and_then(|status| status.client_key.as_ref())
            .map(keys)
            .unwrap_or_default(),
        targets: targets.ok_or_else(broken)?,
        placement: status
            .and_then(|status| status.placement.as_ref())
            .map(placement),
        traffic,
    })
}

/// The identity of an object that does not decode; `None` without a UID.
pub(crate) fn undecodable(metadata: &ObjectMeta) -> Option<Undecodable> {
    Some(Undecodable {
        uid: metadata.uid.as_deref()?.into(),
        generation: metadata.generation.unwrap_or(0),
        resource_version: resource_version(metadata),
    })
}

fn resource_version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

fn keys(key: &ClientKey) -> Keys {
    let former = key.former.iter();
    let former =
        former.filter_map(|it| Some((key_hash(&it.sha256)?, it.valid_until.0.as_second())));
    Keys {
        current: key_hash(&key.sha256),
        former: former.collect(),
    }
}

fn key_hash(text: &str) -> Option<KeyHash> {
    hex::decode(text).ok()?.try_into().ok()
}

fn target(target: &workload::Target) -> Option<TargetInput> {
    let kind = match (&target.local, &target.external) {
        (Some(_), None) => TargetKind::Local,
        (None, Some(external)) => TargetKind::External {
            provider: external.provider_ref.name.as_str().into(),
            model: external.model.as_str().into(),
        },
        _ => return None,
    };
    Some(TargetInput {
        name: target.name.as_str().into(),
        kind,
    })
}

fn placement(placement: &Placement) -> PlacementInput {
    PlacementInput {
        decision_id: placement.decision_id.as_str().into(),
        step: placement.step,
        generation: placement.generation,
        weights: placement
            .weights
            .iter()
            .map(|weight| WeightInput {
                target: Arc::from(weight.target.as_str()),
                weight: u32::try_from(weight.weight).unwrap_or(0),
                asleep: weight.replicas == Some(0),
                decided_for: weight.decided_for.as_ref().map(|of| DecidedFor {
                    provider: of.provider.as_str().into(),
                    model: of.model.as_str().into(),
                }),
            })
            .collect(),
    }
}

fn traffic(traffic: &Traffic) -> Option<TrafficPolicy> {
    let on = |failure| traffic.failover.triggers.contains(&failure);
    Some(TrafficPolicy {
        spill: SpillPolicy {
            enabled: traffic.spillover.enabled,
            queue_wait: quantity::duration(&traffic.spillover.queue_wait).ok()?,
            bridges_cold_start: traffic.spillover.on_cold_start == OnColdStart::Spill,
        },
        failover: FailoverPolicy {
            on_connect: on(FailoverTrigger::Connect),
            on_timeout: on(FailoverTrigger::Timeout),
            on_too_many_requests: on(FailoverTrigger::TooManyRequests),
            on_server_error: on(FailoverTrigger::ServerError),
            consecutive_failures: u32::try_from(traffic.failover.consecutive_failures).ok()?,
            eject_for: quantity::duration(&traffic.failover.eject_for).ok()?,
        },
    })
}

/// Which EndpointSlices are followed: those of local targets that the cluster's own controller keeps. What somebody made
/// by hand is not among them.
pub(crate) fn engine_slices() -> String {
    format!(
        "{},{},{SLICE_MANAGED_BY}={SLICE_CONTROLLER}",
        names::LABEL_WORKLOAD_UID,
        names::LABEL_TARGET
    )
}

/// Namespace and name of an EndpointSlice.
pub(crate) fn slice_id(metadata: &ObjectMeta) -> Option<SliceId> {
    Some((
        metadata.namespace.as_deref()?.into(),
        metadata.name.as_deref()?.into(),
    ))
}

/// Reads an EndpointSlice: of its endpoints those that are pods, by the first of their addresses, as the API says they
/// are to be read. `None` for one that is not of a local target.
pub fn slice(object: &EndpointSlice) -> Option<SliceInput> {
    let labels = object.metadata.labels.as_ref()?;
    let key = TargetKey {
        namespace: object.metadata.namespace.as_deref()?.into(),
        uid: labels.get(names::LABEL_WORKLOAD_UID)?.as_str().into(),
        label: labels.get(names::LABEL_TARGET)?.as_str().into(),
    };
    let mut slice = SliceInput {
        key,
        ready: Vec::new(),
        ending: Vec::new(),
    };
    let ports = object.ports.iter().flatten();
    let ports = ports.filter(|port| port.name.as_deref() == Some(names::SERVICE_PORT_NAME));
    let port = ports
        .filter_map(|port| u16::try_from(port.port?).ok())
        .next();
    let Some(port) = port else {
        return Some(slice);
    };
    for endpoint in &object.endpoints {
        let of_pod = endpoint.target_ref.as_ref();
        let of_pod = of_pod.is_some_and(|target| target.kind.as_deref() == Some("Pod"));
        let address = endpoint.addresses.first().and_then(|ip| ip.parse().ok());
        let Some(address) = address.filter(|_| of_pod) else {
            continue;
        };
        let address = SocketAddr::new(address, port);
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        // The API has unknown read as ready.
        if conditions.ready.unwrap_or(true) {
            slice.ready.push(address);
        } else if conditions.serving == Some(true) {
            slice.ending.push(address);
        }
    }
    Some(slice)
}
