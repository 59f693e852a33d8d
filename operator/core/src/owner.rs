//! Whose child an object is. A label can be copied into any namespace, and so can an owner reference: a child has its
//! workload's namespace as well as its workload as its controller. Pure.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube_core::{Resource, ResourceExt};
use weir_crds::{InferenceWorkload, names};

/// Label that the Deployment controller gives to a ReplicaSet and its pods; the ReplicaSet's name ends with it.
const LABEL_TEMPLATE_HASH: &str = "pod-template-hash";

/// A workload as the owner of its children.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
}

impl Owner {
    /// The workload itself.
    pub fn new(workload: &InferenceWorkload) -> Self {
        Self {
            namespace: workload.namespace().unwrap_or_default(),
            uid: workload.uid().unwrap_or_default(),
        }
    }

    /// The workload that is the controller of an object.
    pub fn of<K: Resource>(object: &K) -> Option<Self> {
        let controller = controller(object)?;
        let (group, _) = controller.api_version.split_once('/')?;
        let is_workload = group == names::GROUP && controller.kind == "InferenceWorkload";
        is_workload.then(|| Self {
            namespace: object.namespace().unwrap_or_default(),
            uid: controller.uid.clone(),
        })
    }

    /// The workload that an engine pod serves. Its controller is the ReplicaSet of a Deployment, which is named for the
    /// workload whose UID stands in the pod's labels.
    pub fn of_pod(pod: &Pod) -> Option<Self> {
        let uid = pod.labels().get(names::LABEL_WORKLOAD_UID)?;
        let suffix = format!("-{}", names::uid8(uid));
        deployment_of(pod)?.ends_with(&suffix).then(|| Self {
            namespace: pod.namespace().unwrap_or_default(),
            uid: uid.clone(),
        })
    }

    /// Whether the workload is the controller of an object.
    pub fn owns<K: Resource>(&self, object: &K) -> bool {
        Self::of(object).as_ref() == Some(self)
    }
}

/// Name of the Deployment whose ReplicaSet made a pod.
pub fn deployment_of(pod: &Pod) -> Option<&str> {
    let controller = controller(pod)?;
    let is_set = controller.kind == "ReplicaSet" && controller.api_version.starts_with("apps/");
    let hash = pod.labels().get(LABEL_TEMPLATE_HASH)?;
    let name = controller.name.strip_suffix(hash.as_str())?;
    name.strip_suffix('-').filter(|_| is_set)
}

fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const UID: &str = "0f9c2b1e-55aa-4c11-9d21-0123456789ab";

    fn chat(namespace: &str) -> Owner {
        Owner {
            namespace: namespace.into(),
            uid: UID.into(),
        }
    }

    fn service(owner: Value) -> Service {
        let service = json!({"metadata": {"name": "s", "namespace": "team", "ownerReferences": [owner],
            "labels": {names::LABEL_WORKLOAD_UID: UID}}});
        serde_json::from_value(service).expect("a Service")
    }

    #[test]
    fn a_child_is_its_controllers_in_that_namespace_alone() {
        let owner = json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload", "name": "chat",
            "uid": UID, "controller": true});
        let child = service(owner.clone());
        assert!(chat("team").owns(&child));
        assert!(!chat("other").owns(&child));
        for (field, value) in [
            ("controller", json!(false)),
            ("kind", json!("Deployment")),
            ("apiVersion", json!("apps/v1")),
        ] {
            let mut owner = owner.clone();
            owner[field] = value;
            assert_eq!(Owner::of(&service(owner)), None, "{field}");
        }
    }

    #[rstest]
    #[case("chat-here-0f9c2b1e-7d4b", "7d4b", "ReplicaSet", true)]
    #[case("chat-here-0f9c2b1e-7d4b", "7d4c", "ReplicaSet", false)]
    #[case("chat-here-0f9c2b1e-7d4b", "7d4b", "StatefulSet", false)]
    #[case("another-7d4b", "7d4b", "ReplicaSet", false)]
    fn a_pod_is_of_the_deployment_whose_replica_set_made_it(
        #[case] set: &str,
        #[case] hash: &str,
        #[case] kind: &str,
        #[case] is_one: bool,
    ) {
        let pod = json!({"metadata": {"name": "p", "namespace": "team",
            "labels": {names::LABEL_WORKLOAD_UID: UID, LABEL_TEMPLATE_HASH: hash},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": set, "uid": "u", "controller": true}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        assert_eq!(Owner::of_pod(&pod), is_one.then(|| chat("team")));
    }

    #[test]
    fn a_pod_with_labels_alone_is_nobodys() {
        let pod = json!({"metadata": {"name": "p", "namespace": "team", "labels": {names::LABEL_WORKLOAD_UID: UID}}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        assert_eq!(Owner::of_pod(&pod), None);
    }
}
