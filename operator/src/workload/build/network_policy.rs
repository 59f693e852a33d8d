//! The NetworkPolicy of a local target: who may reach its engines, and that they reach nobody.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_crds::{InferenceWorkload, names};

use super::{metadata, sealed};
use crate::cli::Plane;
use crate::workload::labels;

/// Label that the API server puts on every namespace: its name.
const LABEL_NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The NetworkPolicy of a local target. Its engines are reached by the gateways of the workload's plane and by the agents,
/// both of the release's namespace, and reach nobody themselves.
pub fn network_policy(
    workload: &InferenceWorkload,
    target: &str,
    release_namespace: &str,
) -> NetworkPolicy {
    let uid = workload.metadata.uid.as_deref().unwrap_or_default();
    let plane = Plane::from(workload.spec.data_policy.egress);
    let gateways = [
        (names::LABEL_COMPONENT, names::COMPONENT_GATEWAY),
        (names::LABEL_PLANE, plane.as_str()),
    ];
    let agents = [(names::LABEL_COMPONENT, names::COMPONENT_AGENT)];
    sealed(NetworkPolicy {
        metadata: metadata(workload, target),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(labels::selector(uid, target))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![
                    peer(release_namespace, &gateways),
                    peer(release_namespace, &agents),
                ]),
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(i32::from(names::ENGINE_PORT))),
                    protocol: Some("TCP".to_owned()),
                    end_port: None,
                }]),
            }]),
            egress: None,
        }),
    })
}

/// Pods of ours with these labels in a namespace.
fn peer(namespace: &str, labels: &[(&str, &str)]) -> NetworkPolicyPeer {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let of_weir = [&[(names::LABEL_NAME, "weir")], labels].concat();
    NetworkPolicyPeer {
        namespace_selector: Some(selector([owned(&(LABEL_NAMESPACE_NAME, namespace))].into())),
        pod_selector: Some(selector(of_weir.iter().map(owned).collect())),
        ip_block: None,
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}
