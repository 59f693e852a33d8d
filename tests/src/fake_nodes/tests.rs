use super::{Fleet, FleetSpec};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::time::Duration;
use weir_simapi::SimApi;

async fn until(api: &SimApi, holds: impl Fn(&SimApi) -> bool) {
    let done = async {
        let mut revision = 0;
        while !holds(api) {
            revision = api.changed_since(revision).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), done)
        .await
        .expect("within 30 s");
}

fn phase(api: &SimApi) -> String {
    let pod = api.object("pods", "default", "p").unwrap_or_default();
    pod["status"]["phase"].as_str().unwrap_or("gone").to_owned()
}

#[tokio::test]
async fn pods_on_fake_nodes_run_until_they_are_deleted() {
    let api = SimApi::builder().build();
    let client = api.client("fleet");
    let spec = FleetSpec::default().in_range("10.128.0.0/16").unwrap();
    let fleet = Fleet::start(client.clone(), spec).await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    let list = nodes
        .list(&ListParams::default().labels("nvidia.com/gpu.count=8"))
        .await
        .unwrap();
    assert_eq!(list.items.len(), 100);
    let gpus =
        |node: &Node| node.status.clone().unwrap().allocatable.unwrap()["nvidia.com/gpu"].clone();
    assert_eq!(gpus(&list.items[0]).0, "8");
    api.seed(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": list.items[0].name_any(), "containers": [{"name": "c", "image": "i"}]}}))
        .unwrap();
    until(&api, |api| phase(api) == "Running").await;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod = pods.get("p").await.unwrap();
    assert_eq!(pod.status.unwrap().pod_ip.unwrap(), "10.128.0.1");
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    until(&api, |api| phase(api) == "gone").await;
    fleet.remove().await.unwrap();
    assert!(api.objects("nodes", "").is_empty());
    assert!(api.objects("leases.coordination.k8s.io", "").is_empty());
}

#[tokio::test]
async fn a_failed_node_neither_renews_its_lease_nor_starts_pods() {
    let api = SimApi::builder().build();
    let spec = FleetSpec {
        nodes: 2,
        renew_every: Duration::from_millis(20),
        ..FleetSpec::default()
    };
    let fleet = Fleet::start(api.client("fleet"), spec).await.unwrap();
    fleet.fail("gpu-000");
    let renewed = |name: &str| {
        let leases = api.writes();
        leases
            .iter()
            .filter(|record| record.request.name == name && record.request.resource == "leases")
            .count()
    };
    // A renewal that was under way may still land.
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (failed, alive) = (renewed("gpu-000"), renewed("gpu-001"));
    until(&api, |_| renewed("gpu-001") > alive + 3).await;
    assert_eq!(renewed("gpu-000"), failed);
    api.seed(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "gpu-000", "containers": [{"name": "c", "image": "i"}]}}),
    )
    .unwrap();
    let revision = api.revision();
    api.changed_since(revision).await;
    assert_eq!(phase(&api), "Pending");
}
