//! Lives of workloads without an interruption.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use weir_simapi::Outcome;

use super::fixtures::{Cluster, eventually, hybrid, private};

const DEAR: &str = "100";
const CHEAP: &str = "0.1";

#[tokio::test(flavor = "multi_thread")]
async fn a_private_workload_gets_pods_a_key_and_an_endpoint_and_then_nothing_is_written() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("private")).expect("seeds");
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    let workload = cluster.workload("private");
    let uid = workload["metadata"]["uid"].as_str().expect("a UID");
    let status = &workload["status"];
    let url = format!("http://weir-gateway-local.weir-system.svc/w/{uid}/v1");
    assert_eq!(status["endpoint"]["url"], url.as_str());
    let secret = status["clientKey"]["secretName"]
        .as_str()
        .expect("a Secret");
    let secret = cluster
        .api
        .object("secrets", "team", secret)
        .expect("exists");
    assert_eq!(secret["type"], "inference.weir.dev/client-key");
    assert_eq!(secret["metadata"]["ownerReferences"][0]["uid"], uid);
    assert_eq!(status["history"][0]["to"], "here");
    assert_eq!(cluster.replicas("here"), Some(1));
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.api.clear_history();
    // Every trigger there is, and still nothing to write.
    cluster.api.cut_watches();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let writes: Vec<_> = writes_of(&cluster, "op");
    assert!(writes.is_empty(), "{writes:?}");
    operator.end().await;
    // Another one finds everything done; only that the Secret is there has to be tried.
    let operator = cluster.operator("next").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = writes_of(&cluster, "next");
    assert!(
        writes.iter().all(|write| write.contains("secrets")),
        "{writes:?}"
    );
    operator.end().await;
    cluster.stop();
}

/// Mutating requests, those that changed nothing among them: each costs the API server a write's work.
pub fn writes_of(cluster: &Cluster, actor: &str) -> Vec<String> {
    let requests = cluster.api.history();
    requests
        .iter()
        .filter(|record| record.request.actor == actor && record.request.is_mutating())
        .map(|record| {
            format!(
                "{} {} {} {}",
                record.request.verb,
                record.request.resource,
                record.request.name,
                record.request.body
            )
        })
        .collect()
}

/// A hybrid workload begins in the cluster, and leaves it for the cloud when the price falls.
async fn moves_to_the_cloud(cluster: &Cluster) {
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("on the local target", || {
        cluster.settled_on("hybrid", "here")
    })
    .await;
    cluster.set_price(CHEAP);
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;
    eventually("asleep", || cluster.replicas("here") == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fall_of_the_price_moves_the_workload_to_the_cloud_and_a_rise_brings_it_back() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    moves_to_the_cloud(&cluster).await;
    cluster.set_price(DEAR);
    eventually("back", || cluster.settled_on("hybrid", "here")).await;
    let history = cluster.workload("hybrid")["status"]["history"].clone();
    let way: Vec<&Value> = history
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["to"])
        .collect();
    assert_eq!(way, ["here", "cloud", "here"]);
    let events = cluster.events();
    for reason in [
        "PlacementSelected",
        "MoveStarted",
        "CanaryStep",
        "DrainStarted",
        "DrainCompleted",
        "PlacementMoved",
        "ScaledToZero",
    ] {
        assert!(
            events.iter().any(|event| event == reason),
            "{reason}: {events:?}"
        );
    }
    check_recorded_history(&cluster);
    operator.end().await;
    cluster.stop();
}

/// In every recorded version: weights of 100 in all, never on a sleeping target, steps in order.
fn check_recorded_history(cluster: &Cluster) {
    let mut step = 0;
    for record in cluster.api.writes() {
        let placement = &record.request.body["status"]["placement"];
        if record.committed.is_none() || placement.is_null() {
            continue;
        }
        let weights = placement["weights"].as_array().expect("weights");
        let sum: i64 = weights
            .iter()
            .filter_map(|weight| weight["weight"].as_i64())
            .sum();
        assert_eq!(sum, 100, "{placement}");
        for weight in weights.iter().filter(|weight| weight["weight"] != 0) {
            assert_ne!(weight["replicas"], 0, "{placement}");
        }
        let next = placement["step"].as_i64().expect("a step");
        assert!(next == step || next == step + 1, "{step} to {next}");
        step = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_new_target_fails_returns() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("on the local target", || {
        cluster.settled_on("hybrid", "here")
    })
    .await;
    *cluster.gateways.errors_on.lock().expect("not poisoned") = Some("cloud".into());
    cluster.set_price(CHEAP);
    eventually("rolled back", || {
        let status = &cluster.workload("hybrid")["status"];
        status["history"][0]["reason"] == "RolledBack" && status["placement"]["phase"] == "Steady"
    })
    .await;
    let placement = &cluster.workload("hybrid")["status"]["placement"];
    assert_eq!(placement["target"], "here");
    assert_eq!(placement["rolledBack"]["reason"], "ErrorsAboveLimit");
    assert_eq!(cluster.replicas("here"), Some(1));
    eventually("held", || {
        cluster.workload("hybrid")["status"]["decision"]["outcome"] == "Hold"
    })
    .await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgements_a_move_stays_where_it_is() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("on the local target", || {
        cluster.settled_on("hybrid", "here")
    })
    .await;
    cluster.gateways.silent.store(true, Ordering::Relaxed);
    cluster.set_price(CHEAP);
    eventually("in its first step", || {
        cluster.workload("hybrid")["status"]["placement"]["phase"] == "Canary"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let placement = &cluster.workload("hybrid")["status"]["placement"];
    assert_eq!(placement["move"]["canaryStep"], 0);
    assert!(cluster.is("hybrid", "RouteProgrammed", "False"));
    assert_eq!(cluster.replicas("here"), Some(1));
    cluster.gateways.silent.store(false, Ordering::Relaxed);
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_ready_when_its_gateways_have_an_endpoint_of_it() {
    let cluster = Cluster::new(DEAR);
    cluster.gateways.blind.store(true, Ordering::Relaxed);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("private")).expect("seeds");
    let waits = || cluster.condition("private", "LocalReady")["reason"] == "EndpointPending";
    eventually("its pods are ready and nobody reaches them", waits).await;
    let message = cluster.condition("private", "LocalReady")["message"].clone();
    assert_eq!(message, "here: gateway-local has no endpoint of it");
    assert!(cluster.is("private", "Ready", "False") && cluster.is("private", "Stalled", "False"));
    assert_eq!(
        cluster.condition("private", "Ready")["reason"],
        "EndpointPending"
    );
    cluster.gateways.blind.store(false, Ordering::Relaxed);
    eventually("it is reached", || cluster.is("private", "Ready", "True")).await;

    moves_to_the_cloud(&cluster).await;
    cluster.gateways.blind.store(true, Ordering::Relaxed);
    cluster.set_price(DEAR);
    eventually("the way back waits for an endpoint", || {
        cluster.condition("hybrid", "LocalReady")["reason"] == "EndpointPending"
    })
    .await;
    let placement = &cluster.workload("hybrid")["status"]["placement"];
    assert_eq!(placement["phase"], "Preparing");
    cluster.gateways.blind.store(false, Ordering::Relaxed);
    eventually("back", || cluster.settled_on("hybrid", "here")).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_child_has_a_reason_that_clears() {
    let cluster = Cluster::new(DEAR);
    cluster.deployments.set(
        "",
        Outcome::Waiting("ImagePullBackOff".into(), "no such image".into()),
    );
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("private")).expect("seeds");
    eventually("told", || {
        cluster.condition("private", "LocalReady")["reason"] == "ImagePullFailed"
    })
    .await;
    assert!(cluster.is("private", "Ready", "False"));
    assert!(cluster.is("private", "Stalled", "True"));
    cluster.deployments.set(
        "",
        Outcome::Unschedulable("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.".into()),
    );
    cluster.deployments.step();
    eventually("told", || {
        cluster.condition("private", "LocalReady")["reason"] == "WaitingForGPU"
    })
    .await;
    cluster.deployments.set("", Outcome::Ready);
    cluster.deployments.step();
    eventually("cleared", || cluster.is("private", "Ready", "True")).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_object_of_the_same_name_is_left_alone() {
    let cluster = Cluster::new(DEAR);
    let created = cluster.api.seed(&private("private")).expect("seeds");
    let uid = created["metadata"]["uid"].as_str().expect("a UID");
    let name = weir_crds::names::child_name("private", "here", uid);
    let foreign = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "team"},
        "spec": {"ports": [{"port": 1234}]}});
    let before = cluster.api.seed(&foreign).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("told", || {
        cluster.condition("private", "LocalReady")["reason"] == "ForeignObject"
    })
    .await;
    let after = cluster
        .api
        .object("services", "team", &name)
        .expect("exists");
    assert_eq!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_taken_out_of_the_spec_is_left_and_its_children_are_deleted() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("on the local target", || {
        cluster.settled_on("hybrid", "here")
    })
    .await;
    let targets = hybrid("hybrid")["spec"]["targets"][1].clone();
    cluster.edit("hybrid", json!({"spec": {"targets": [targets]}}));
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;
    eventually("deleted", || cluster.deployment("here").is_none()).await;
    eventually("deleted", || {
        cluster.api.objects("services", "team").is_empty()
    })
    .await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_and_found_when_it_comes() {
    let cluster = Cluster::new(DEAR);
    let mut workload = private("private");
    workload["spec"]["targets"][0]["local"]["modelRef"]["name"] = "late".into();
    let operator = cluster.operator("op").await;
    cluster.api.seed(&workload).expect("seeds");
    eventually("named", || cluster.is("private", "ResolvedRefs", "False")).await;
    assert!(cluster.is("private", "Feasible", "False"));
    assert!(cluster.workload("private")["status"]["placement"].is_null());
    let model = cluster
        .api
        .object("modelprofiles.inference.weir.dev", "", "smol")
        .expect("exists");
    let late = json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "ModelProfile",
        "metadata": {"name": "late"}, "spec": model["spec"]});
    cluster.api.seed(&late).expect("seeds");
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_kubernetes_would_refuse_is_reported_and_nothing_panics() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    let mut workload = private("private");
    workload["spec"]["targets"][0]["local"]["podTemplate"] =
        json!({"resources": {"limits": {"memory": "a lot"}}});
    cluster.api.seed(&workload).expect("seeds");
    eventually("reported", || cluster.is("private", "Accepted", "False")).await;
    assert!(cluster.is("private", "Stalled", "True"));
    cluster.edit(
        "private",
        json!({"spec": {"targets": private("private")["spec"]["targets"]}}),
    );
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_goes_on_where_its_tier_allows_its_pod_template_no_more() {
    let cluster = Cluster::new(DEAR);
    let allowing = json!({"spec": {"allowedPodTemplate": {"annotations": ["example.com/*"]}}});
    cluster.ask("patch", ("gputiers", "", "cpu"), allowing);
    let mut workload = private("private");
    workload["spec"]["targets"][0]["local"]["podTemplate"] =
        json!({"annotations": {"example.com/a": "b"}});
    cluster.api.seed(&workload).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    let before = cluster.deployment("here").expect("it runs");
    let tightened = json!({"spec": {"allowedPodTemplate": null}});
    cluster.ask("patch", ("gputiers", "", "cpu"), tightened);
    eventually("told", || cluster.is("private", "Accepted", "False")).await;
    let told = cluster.condition("private", "Accepted")["message"].clone();
    let told = told.as_str().unwrap_or_default();
    assert!(
        told.contains("annotations[example.com/a]: tier cpu does not allow it"),
        "{told}"
    );
    let placement = &cluster.workload("private")["status"]["placement"];
    assert_eq!(placement["target"], "here");
    let after = cluster.deployment("here").expect("it still runs");
    assert_eq!(after["spec"], before["spec"]);
    operator.end().await;
    cluster.stop();
}
