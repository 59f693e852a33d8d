//! A gateway of each plane that has every step within a second.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use weir_crds::{InferenceWorkload, names};
use weir_operator::stores::Stores;
use weir_operator::telemetry::Telemetry;
use weir_proto::{Acknowledgement, GatewayReport, Reachable};

const PLANES: [&str; 2] = ["local", "cloud"];

/// Reports what is in force until it is aborted.
pub async fn acknowledge(stores: Stores, telemetry: Telemetry) {
    let pods = PLANES.map(pod);
    telemetry.set_gateway_pods(&pods);
    for plane in PLANES {
        telemetry.gateway_connected(&format!("g-{plane}"), true);
    }
    let (mut seq, mut seen) = (0, 0);
    loop {
        let changed = stores.workloads.state_filter(|it| version(it) > seen);
        let last = changed.iter().map(|it| version(it)).max();
        seen = last.unwrap_or(seen);
        let rows = changed.iter().filter_map(|it| in_force(it));
        let rows: Vec<Acknowledgement> = rows.collect();
        if !rows.is_empty() || seq == 0 {
            seq += 1;
            for plane in PLANES {
                let pod_uid = format!("g-{plane}");
                let report = GatewayReport {
                    pod_uid: pod_uid.clone(),
                    boot_id: "b".into(),
                    seq,
                    full: seq == 1,
                    acknowledgements: rows.clone(),
                    ..GatewayReport::default()
                };
                telemetry.gateway_report(&pod_uid, report);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn version(workload: &InferenceWorkload) -> u64 {
    let version = workload.resource_version();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

fn pod(plane: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": format!("gateway-{plane}"), "uid": format!("g-{plane}"), "labels": {
            "app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": plane}},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    });
    serde_json::from_value(pod).expect("a pod")
}

fn in_force(workload: &InferenceWorkload) -> Option<Acknowledgement> {
    let status = workload.status.as_ref()?;
    let placement = status.placement.as_ref()?;
    let targets = workload.spec.targets.iter();
    let key = status.client_key.as_ref();
    Some(Acknowledgement {
        uid: workload.metadata.uid.clone()?,
        generation: placement.generation,
        decision_id: placement.decision_id.clone(),
        step: placement.step,
        removed: false,
        reachable: Some(Reachable {
            targets: targets
                .map(|target| names::target_label(&target.name))
                .collect(),
        }),
        key: key
            .and_then(|key| hex::decode(&key.sha256).ok())
            .unwrap_or_default(),
    })
}
