//! The objects and states that fake nodes write.

use super::FleetSpec;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// A node as its kubelet would register it, with the labels of GPU feature discovery.
pub fn node(spec: &FleetSpec, name: &str) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "weir.test/fake": "true",
    });
    if spec.gpus > 0 {
        labels["nvidia.com/gpu.present"] = json!("true");
        labels["nvidia.com/gpu.product"] = json!(spec.product);
        labels["nvidia.com/gpu.memory"] = json!(spec.gpu_memory_mib.to_string());
        labels["nvidia.com/gpu.count"] = json!(spec.gpus.to_string());
    }
    for (name, value) in &spec.labels {
        labels[name] = json!(value);
    }
    let taints: Vec<_> = spec
        .taint
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value, "effect": "NoSchedule"}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}})
}

/// The status of a node that is ready.
pub fn node_status(spec: &FleetSpec, name: &str) -> Value {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "a fake node",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let resources = json!({
        "cpu": spec.cpus.to_string(),
        "memory": format!("{}Gi", spec.memory_gib),
        "pods": spec.pods.to_string(),
        "ephemeral-storage": "1Ti",
        "nvidia.com/gpu": spec.gpus.to_string(),
    });
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "Hostname", "address": name}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {"architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.3", "containerRuntimeVersion": "fake://1",
            "kernelVersion": "fake", "osImage": "fake", "machineID": name, "systemUUID": name, "bootID": name, "kubeProxyVersion": ""},
    })
}

/// The status of a pod whose containers all run and are ready.
pub fn pod_status(pod: &Pod, address: Ipv4Addr) -> Value {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let conditions: Vec<_> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .collect();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let statuses: Vec<_> = containers
        .map(|container| {
            json!({"name": container.name, "image": container.image.as_deref().unwrap_or_default(), "imageID": "", "ready": true,
                "started": true, "restartCount": 0, "state": {"running": {"startedAt": now}}})
        })
        .collect();
    json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
        "conditions": conditions, "containerStatuses": statuses})
}
