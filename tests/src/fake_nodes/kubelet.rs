//! The kubelet of all fake nodes: one watch of the pods that are on nodes.

use super::{CONCURRENCY, FleetSpec, Shared, objects};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::sync::Arc;

/// Looks after pods until the task is aborted.
pub async fn run(client: Client, spec: FleetSpec, shared: Arc<Shared>) {
    let pods: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default()
        .fields("spec.nodeName!=")
        .timeout(60);
    let prefix = format!("{}-", spec.prefix);
    let stream = watcher(pods, config).default_backoff().applied_objects();
    stream
        .for_each_concurrent(CONCURRENCY, |pod| async {
            match pod {
                Ok(pod) if is_ours(&pod, &prefix, &shared) => {
                    look_after(&client, &spec, &shared, &pod).await
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "fake kubelet watch interrupted"),
            }
        })
        .await;
}

fn is_ours(pod: &Pod, prefix: &str, shared: &Shared) -> bool {
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    node.starts_with(prefix) && !shared.failed().contains(node)
}

/// Reports every pod of a node anew.
pub async fn catch_up(
    client: &Client,
    spec: &FleetSpec,
    shared: &Shared,
    node: &str,
) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    for pod in pods.list(&on_node).await? {
        let done = if pod.metadata.deletion_timestamp.is_some() {
            finish(client, &pod).await
        } else {
            report(client, spec, shared, &pod).await
        };
        note(&pod, done);
    }
    Ok(())
}

async fn look_after(client: &Client, spec: &FleetSpec, shared: &Shared, pod: &Pod) {
    if pod.metadata.deletion_timestamp.is_some() {
        note(pod, finish(client, pod).await);
    } else if is_pending(pod) {
        note(pod, report(client, spec, shared, pod).await);
    }
}

async fn finish(client: &Client, pod: &Pod) -> kube::Result<()> {
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: pod.uid(),
            resource_version: None,
        });
    let pods = neighbours(client, pod);
    pods.delete(&pod.name_any(), &params).await.map(drop)
}

/// Says that the pod runs and is ready, under the address that it has or a new one.
async fn report(client: &Client, spec: &FleetSpec, shared: &Shared, pod: &Pod) -> kube::Result<()> {
    let current = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref());
    let address = current
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| shared.next_address(spec.pod_range));
    let status = objects::pod_status(pod, address);
    // The uid keeps the status off a pod that took the name meanwhile.
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
    let params = PatchParams::default();
    let pods = neighbours(client, pod);
    pods.patch_status(&pod.name_any(), &params, &Patch::Merge(patch))
        .await
        .map(drop)
}

fn neighbours(client: &Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default())
}

/// A pod that went or changed meanwhile is looked after by its next event.
fn note(pod: &Pod, done: kube::Result<()>) {
    match done {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => tracing::warn!(pod = pod.name_any(), %error, "fake kubelet could not write"),
        Ok(()) => {}
    }
}

fn is_pending(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, None | Some("Pending"))
}
