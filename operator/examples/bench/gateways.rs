//! A gateway of each plane that has every step within a second.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use weir_crds::names;
use weir_operator::telemetry::Telemetry;
use weir_proto::{Acknowledgement, GatewayReport, Reachable};
use weir_simapi::SimApi;

use super::objects::WORKLOADS;

const PLANES: [&str; 2] = ["local", "cloud"];

/// Reports what is in force until it is aborted.
pub async fn acknowledge(api: SimApi, telemetry: Telemetry) {
    let pods = PLANES.map(pod);
    telemetry.set_gateway_pods(&pods);
    for plane in PLANES {
        telemetry.gateway_connected(&format!("g-{plane}"), true);
    }
    let (mut seq, mut seen) = (0, 0);
    loop {
        let changed = |it: &Value| version(it) > seen && it["status"]["placement"].is_object();
        let changed = api.objects_where(WORKLOADS, "", changed);
        seen = changed.iter().map(version).max().unwrap_or(seen);
        let rows: Vec<Acknowledgement> = changed.iter().filter_map(in_force).collect();
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

fn version(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str();
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

fn in_force(workload: &Value) -> Option<Acknowledgement> {
    let placement = workload["status"].get("placement")?;
    let targets = workload["spec"]["targets"].as_array()?;
    let names = targets.iter().filter_map(|it| it["name"].as_str());
    Some(Acknowledgement {
        uid: workload["metadata"]["uid"].as_str()?.to_owned(),
        generation: placement["generation"].as_i64()?,
        decision_id: placement["decisionId"].as_str()?.to_owned(),
        step: placement["step"].as_i64()?,
        removed: false,
        reachable: Some(Reachable {
            targets: names.map(names::target_label).collect(),
        }),
        key: workload["status"]["clientKey"]["sha256"]
            .as_str()
            .and_then(|digest| hex::decode(digest).ok())
            .unwrap_or_default(),
    })
}
