//! An operator and gateways that are new: nothing that was well is told as ill before they have heard each other.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::fixtures::{Cluster, eventually, private};
use super::lives::writes_of;

/// A workload whose route every gateway acknowledged long ago, and no operator.
async fn served_for_long() -> Cluster {
    let cluster = Cluster::new("100");
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("private")).expect("seeds");
    eventually("ready", || {
        cluster.is("private", "Ready", "True") && cluster.is("private", "RouteProgrammed", "True")
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    operator.end().await;
    let long_ago = json!({"placement": {"stepSince": "2026-01-01T00:00:00Z"}});
    cluster.set_status("inferenceworkloads", "team", "private", long_ago);
    cluster.gateways.silent.store(true, Ordering::Relaxed);
    cluster.api.clear_history();
    cluster
}

fn written(cluster: &Cluster, actor: &str) -> Vec<String> {
    let writes = writes_of(cluster, actor);
    let of_workloads = |write: &String| write.contains("inferenceworkloads");
    writes.into_iter().filter(of_workloads).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_has_not_heard_the_gateways_yet_leaves_every_condition_as_it_was() {
    let cluster = served_for_long().await;
    let before = cluster.workload("private")["status"].clone();
    let operator = cluster.operator("next").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(written(&cluster, "next"), Vec::<String>::new());
    assert_eq!(cluster.workload("private")["status"], before);
    cluster.gateways.silent.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(written(&cluster, "next"), Vec::<String>::new());
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_stay_unheard_are_told_after_a_stated_time() {
    let cluster = served_for_long().await;
    cluster.gateways.hours_listened.store(1, Ordering::Relaxed);
    let operator = cluster.operator("next").await;
    let told = || cluster.condition("private", "RouteProgrammed")["reason"] == "AckTimeout";
    eventually("told", told).await;
    assert!(cluster.is("private", "Stalled", "True"));
    operator.end().await;
    cluster.stop();
}
