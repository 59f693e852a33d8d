//! Whose figure it is: a model's throughput comes from engines of ours, and from enough of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir_operator::kinds;
use weir_proto::{AgentReport, EngineReading};

use super::fixtures::{Cluster, Operator, eventually, private};

const MODELS: &str = "modelprofiles.inference.weir.dev";

/// What the agent of a node says of engines, once a second.
fn agent(operator: &Operator, node: &'static str, engines: Arc<Mutex<Vec<(String, f64)>>>) {
    let telemetry = operator.context.telemetry.clone();
    tokio::spawn(async move {
        for seq in 1.. {
            let readings = engines.lock().expect("not poisoned").clone();
            let readings = readings.into_iter().map(|(pod_uid, rate)| EngineReading {
                pod_uid,
                reachable: true,
                benchmark_tokens_per_second: Some(rate),
                ..EngineReading::default()
            });
            let report = AgentReport {
                node_name: node.into(),
                boot_id: "b".into(),
                seq,
                monotonic_ms: seq * 1_000,
                engines: readings.collect(),
                ..AgentReport::default()
            };
            telemetry.agent_report(node, report);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"]
        .as_str()
        .expect("a UID")
        .to_owned()
}

/// A pod as somebody makes it who has seen one of ours.
fn stranger(of: &Value, namespace: &str, owned: bool) -> Value {
    let labels = of["metadata"]["labels"].clone();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("stranger-{owned}"), "namespace": namespace, "labels": labels},
        "spec": of["spec"], "status": of["status"]});
    if owned {
        pod["metadata"]["ownerReferences"] = of["metadata"]["ownerReferences"].clone();
    }
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_pod_that_claims_much_changes_no_other_objects_status() {
    let cluster = Cluster::new("100");
    let operator = cluster.operator("op").await;
    let stop = CancellationToken::new();
    let context = operator.context.clone();
    tokio::spawn(kinds::models::run(context, stop.clone()));
    cluster.api.seed(&private("chat")).expect("seeds");
    eventually("ready", || cluster.is("chat", "Ready", "True")).await;
    let own = cluster.api.objects("pods", "team").remove(0);
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    cluster.api.seed(&other).expect("seeds");
    let mut claims = Vec::new();
    for (namespace, owned) in [("other", true), ("other", false), ("team", false)] {
        let stranger = stranger(&own, namespace, owned);
        claims.push((uid(&cluster.api.seed(&stranger).expect("seeds")), 1e7));
    }
    let on_node = Arc::new(Mutex::new(claims));
    agent(&operator, "sim-node", Arc::clone(&on_node));
    // Another node's agent has nothing to say of our engine.
    agent(
        &operator,
        "elsewhere",
        Arc::new(Mutex::new(vec![(uid(&own), 1e7)])),
    );
    let statuses = || {
        let kinds = [
            MODELS,
            "gputiers.inference.weir.dev",
            super::fixtures::WORKLOADS,
        ];
        let objects = kinds.iter().flat_map(|kind| cluster.api.objects(kind, ""));
        objects
            .map(|object| object["status"].clone())
            .collect::<Vec<_>>()
    };
    let model = || cluster.api.object(MODELS, "", "smol").unwrap_or_default()["status"].clone();
    eventually("looked at", || model()["observedGeneration"] == 1).await;
    let before = statuses();
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(statuses(), before);

    // One measurement of our engine is told; with another one that agrees it counts.
    let told = |rate: f64| {
        let mut engines = on_node.lock().expect("not poisoned");
        engines.retain(|(pod, _)| *pod != uid(&own));
        engines.push((uid(&own), rate));
    };
    told(9_000.0);
    eventually("held", || {
        model()["held"][0]["outputTokensPerSecond"] == 9_000
    })
    .await;
    assert_eq!(model()["held"][0]["against"], 10_000);
    assert!(model()["measured"].is_null());
    told(9_100.0);
    eventually("counts", || {
        model()["measured"][0]["outputTokensPerSecond"] == 9_000
    })
    .await;
    assert!(model()["held"].is_null());
    stop.cancel();
    operator.end().await;
    cluster.stop();
}
