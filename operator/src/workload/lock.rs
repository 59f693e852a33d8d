//! Whether the engines of a target demand a key. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weir_crds::names;

use super::build::FLAG_KEY_ROOT;
use crate::cli::Plane;

/// Whether every gateway of a plane that may still send requests sends the key with them, by the mark on its pod. Pods of a
/// version from before the key have none.
pub fn all_send_keys(gateways: &[Arc<Pod>], plane: Plane) -> bool {
    let of_plane = gateways.iter().filter(|pod| {
        let label = |name| pod.labels().get(name).map(String::as_str);
        label(names::LABEL_COMPONENT) == Some(names::COMPONENT_GATEWAY)
            && label(names::LABEL_PLANE) == Some(plane.as_str())
    });
    of_plane.filter(|pod| may_send(pod)).all(|pod| {
        let mark = pod.annotations().get(names::ANNOTATION_SENDS_ENGINE_KEY);
        mark.is_some_and(|mark| mark == "true")
    })
}

fn may_send(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the engines of this Deployment demand a key already. Once they do they go on: to take the lock off again would
/// start them anew, and open them to everybody meanwhile.
pub fn is_locked(deployment: Option<&Deployment>) -> bool {
    let pod = deployment.and_then(|each| each.spec.as_ref()?.template.spec.as_ref());
    let containers = pod.into_iter().flat_map(|pod| &pod.containers);
    let mut args = containers.flat_map(|container| container.args.iter().flatten());
    args.any(|arg| {
        arg.split_once('=')
            .is_some_and(|(flag, _)| flag == FLAG_KEY_ROOT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn gateway(plane: &str, mark: Option<&str>, phase: &str) -> Arc<Pod> {
        let labels = json!({
            "app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": plane
        });
        let annotations = match mark {
            Some(mark) => json!({names::ANNOTATION_SENDS_ENGINE_KEY: mark}),
            None => json!({}),
        };
        let pod = json!({
            "metadata": {"name": "g", "labels": labels, "annotations": annotations,
                "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": phase}
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[rstest]
    #[case(vec![], true)]
    #[case(vec![gateway("local", Some("true"), "Running")], true)]
    #[case(vec![gateway("local", None, "Running")], false)]
    #[case(vec![gateway("local", Some("true"), "Running"), gateway("local", None, "Running")], false)]
    #[case(vec![gateway("local", Some("false"), "Running")], false)]
    #[case(vec![gateway("local", None, "Pending")], false)]
    #[case(vec![gateway("local", None, "Succeeded")], true)]
    #[case(vec![gateway("cloud", None, "Running")], true)]
    fn engines_are_locked_only_when_no_gateway_without_a_key_may_still_send_to_them(
        #[case] gateways: Vec<Arc<Pod>>,
        #[case] send: bool,
    ) {
        assert_eq!(all_send_keys(&gateways, Plane::Local), send);
    }
}
