//! Fake GPU nodes under the real scheduler and controllers.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::{Duration, Instant};
use weir_tests::cluster::{Cluster, UpOptions};
use weir_tests::fake_nodes::{Fleet, FleetSpec};

fn deployment(replicas: i32) -> Deployment {
    serde_json::from_value(json!({"metadata": {"name": "engines"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "engines"}},
        "template": {"metadata": {"labels": {"app": "engines"}}, "spec": {
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S"},
            "containers": [{"name": "engine", "image": "none:1", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}}}))
    .expect("a deployment")
}

async fn until<F, T>(what: &str, limit: Duration, mut probe: F) -> Result<Duration>
where
    F: FnMut() -> T,
    T: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    while !tokio::time::timeout(Duration::from_secs(20), probe())
        .await
        .with_context(|| format!("{what}: no answer"))??
    {
        ensure!(start.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(start.elapsed())
}

async fn ready(client: &Client) -> Result<i32> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let deployment = deployments.get("engines").await?;
    Ok(deployment
        .status
        .and_then(|status| status.ready_replicas)
        .unwrap_or_default())
}

async fn is_ready(client: &Client, node: &str) -> Result<bool> {
    let nodes: Api<Node> = Api::all(client.clone());
    let status = nodes.get(node).await?.status.context("no status")?;
    let conditions = status.conditions.unwrap_or_default();
    Ok(conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

#[tokio::test]
async fn eight_hundred_gpus_fill_up_and_a_silent_node_is_lost() -> Result<()> {
    let options = UpOptions {
        fresh: true,
        control_plane_only: false,
        keep: false,
    };
    let cluster = Cluster::up("fake-nodes", options)?;
    let client = cluster.client().await?;
    let start = Instant::now();
    let spec = FleetSpec::default().in_range(&cluster.facts.fake_pods)?;
    let fleet = Fleet::start(client.clone(), spec).await?;
    println!("100 nodes of 8 GPUs in {:?}", start.elapsed());
    let service_account = || async {
        Ok(
            Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(
                client.clone(),
                "default",
            )
            .get_opt("default")
            .await?
            .is_some(),
        )
    };
    until(
        "the default service account",
        Duration::from_secs(30),
        service_account,
    )
    .await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments
        .create(&PostParams::default(), &deployment(801))
        .await?;
    let took = until("800 pods ready", Duration::from_secs(120), || async {
        Ok(ready(&client).await? == 800)
    })
    .await?;
    println!("800 pods ready in {took:?}");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let pending = pods
        .list(&ListParams::default().fields("status.phase=Pending"))
        .await?;
    ensure!(
        pending.items.len() == 1,
        "one GPU too many was asked for, {} pods wait",
        pending.items.len()
    );
    let name = fleet.node_names().remove(0);
    fleet.fail(&name);
    let took = until("the silent node lost", Duration::from_secs(90), || async {
        Ok(!is_ready(&client, &name).await?)
    })
    .await?;
    println!("silent node lost in {took:?}");
    fleet.recover(&name).await?;
    until("the node back", Duration::from_secs(30), || {
        is_ready(&client, &name)
    })
    .await?;
    deployments
        .delete("engines", &DeleteParams::default())
        .await?;
    let gone = || async {
        let left = pods.list(&ListParams::default()).await?.items;
        let deleting = left
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_some());
        println!(
            "{} pods left, {} of them being deleted",
            left.len(),
            deleting.count()
        );
        Ok(left.is_empty())
    };
    let took = until("pods gone", Duration::from_secs(120), gone).await?;
    println!("800 pods gone in {took:?}");
    fleet.remove().await
}
