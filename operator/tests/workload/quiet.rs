//! A fleet at rest: hours on tokio's paused clock, in which nothing happens and nothing may be written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::fixtures::{Cluster, Operator, WORKLOADS, eventually, hybrid, private};
use super::lives::writes_of;

const DEAR: &str = "100";
const MINUTE: Duration = Duration::from_secs(60);

/// In the cloud alone.
fn cloud(name: &str) -> Value {
    let mut workload = hybrid(name);
    let targets = workload["spec"]["targets"].as_array_mut().expect("targets");
    targets.remove(0);
    workload
}

/// As many, some of them in the cluster.
fn fleet(size: usize, local: usize) -> Vec<Value> {
    let name = |at| format!("w{at}");
    let fleet = (0..size).map(|at| match at < local {
        true => private(&name(at)),
        false => cloud(&name(at)),
    });
    fleet.collect()
}

fn ready(cluster: &Cluster) -> usize {
    let is_ready = |workload: &Value| {
        let conditions = workload["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|each| each["type"] == "Ready" && each["status"] == "True")
    };
    let workloads = cluster.api.objects(WORKLOADS, "team");
    workloads.iter().filter(|each| is_ready(each)).count()
}

/// Mutating requests by verb and kind.
fn counted(cluster: &Cluster, actor: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for write in writes_of(cluster, actor) {
        let kind = write.split(' ').take(2).collect::<Vec<_>>().join(" ");
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// Secrets that were asked for by a create that is a dry run.
fn asked(cluster: &Cluster, actor: &str) -> usize {
    let requests = cluster.api.history();
    let asked = requests.iter().filter(|record| {
        let request = &record.request;
        request.actor == actor && request.resource == "secrets" && request.is_dry_run()
    });
    asked.count()
}

/// A fleet of this size that has come to rest.
async fn at_rest(size: usize, local: usize) -> (Cluster, Operator) {
    let cluster = Cluster::timeless(DEAR);
    // It would look at every object after every write, and nothing is deleted.
    cluster.api.set_garbage_collection(false);
    cluster.set_devices(100, 100);
    for workload in fleet(size, local) {
        cluster.api.seed(&workload).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    while ready(&cluster) < size {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    tokio::time::sleep(MINUTE).await;
    cluster.api.clear_history();
    (cluster, operator)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_workloads_at_rest_cost_no_write_in_half_an_hour() {
    let (cluster, operator) = at_rest(1_000, 10).await;
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(counted(&cluster, "op"), BTreeMap::new());
    operator.end().await;
    cluster.stop();
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_starts_tries_every_key_once_one_after_the_other_and_then_rests() {
    let size = 60;
    let (cluster, operator) = at_rest(size, 3).await;
    operator.end().await;
    let operator = cluster.operator("next").await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(counted(&cluster, "next"), BTreeMap::new());
    let (mut most, mut before) = (0, 0);
    for _ in 0..11 {
        tokio::time::sleep(MINUTE).await;
        let all = asked(&cluster, "next");
        most = most.max(all - before);
        before = all;
    }
    assert_eq!(asked(&cluster, "next"), size);
    assert_eq!(counted(&cluster, "next"), BTreeMap::new());
    assert!(most <= size / 3, "{most} in a minute");
    cluster.api.clear_history();
    tokio::time::sleep(30 * MINUTE).await;
    assert_eq!(asked(&cluster, "next"), 0);
    assert_eq!(counted(&cluster, "next"), BTreeMap::new());
    operator.end().await;
    cluster.stop();
}

fn key_of(cluster: &Cluster, name: &str) -> Option<Value> {
    let status = &cluster.workload(name)["status"];
    let secret = status["clientKey"]["secretName"].as_str()?;
    cluster.api.object("secrets", "team", secret)
}

/// As a user deletes what the operator made.
fn delete(cluster: &Cluster, (group, resource): (&str, &str), name: &str) {
    let request = weir_simapi::RequestInfo {
        actor: "user".into(),
        verb: "delete".into(),
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: "team".into(),
        name: name.into(),
        ..weir_simapi::RequestInfo::default()
    };
    cluster.api.handle(&request).expect("is deleted");
}

fn lose_key(cluster: &Cluster, name: &str) {
    let secret = key_of(cluster, name).expect("a key");
    let secret = secret["metadata"]["name"].as_str().expect("a name");
    delete(cluster, ("", "secrets"), secret);
    assert_eq!(key_of(cluster, name), None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_key_comes_back_by_an_edit_by_a_loss_beside_it_and_by_a_new_operator() {
    let cluster = Cluster::timeless(DEAR);
    cluster.api.seed(&private("here")).expect("seeds");
    let mut invalid = cloud("invalid");
    invalid["spec"]["operations"]["maintenanceWindow"] =
        json!({"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Europe/Atlantis"});
    cluster.api.seed(&invalid).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("ready", || cluster.is("here", "Ready", "True")).await;
    eventually("told", || cluster.is("invalid", "Accepted", "False")).await;
    lose_key(&cluster, "invalid");
    let annotation = json!({"metadata": {"annotations": {"please": "again"}}});
    cluster.edit("invalid", annotation);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_ne!(key_of(&cluster, "invalid"), None);
    tokio::time::sleep(15 * MINUTE).await;
    for name in ["here", "invalid"] {
        lose_key(&cluster, name);
    }
    let deployment = cluster.deployment("here").expect("one");
    let deployment = deployment["metadata"]["name"].as_str().expect("a name");
    delete(&cluster, ("apps", "deployments"), deployment);
    tokio::time::sleep(11 * MINUTE).await;
    for name in ["here", "invalid"] {
        assert_ne!(key_of(&cluster, name), None, "{name}");
    }
    operator.end().await;
    for name in ["here", "invalid"] {
        lose_key(&cluster, name);
    }
    let operator = cluster.operator("next").await;
    tokio::time::sleep(12 * MINUTE).await;
    for name in ["here", "invalid"] {
        assert_ne!(key_of(&cluster, name), None, "{name}");
    }
    operator.end().await;
    cluster.stop();
}

#[tokio::test(start_paused = true)]
async fn after_a_change_of_prices_moves_begin_before_all_costs_are_told() {
    let (clouds, hybrids) = (300, 4);
    let cluster = Cluster::timeless(DEAR);
    // It would look at every object after every write, and nothing is deleted.
    cluster.api.set_garbage_collection(false);
    cluster.set_devices(100, 100);
    let hybrid_name = |at: usize| format!("hybrid-{at}");
    for at in 0..hybrids {
        cluster.api.seed(&hybrid(&hybrid_name(at))).expect("seeds");
    }
    for workload in fleet(clouds, 0) {
        cluster.api.seed(&workload).expect("seeds");
    }
    // Ten a second, and a burst of 40.
    let operator = cluster.operator_within("op", 10).await;
    while ready(&cluster) < clouds + hybrids {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    tokio::time::sleep(2 * MINUTE).await;
    cluster.set_price("0.1");
    tokio::time::sleep(Duration::from_secs(8)).await;
    let begun = |at: &usize| {
        let placement = &cluster.workload(&hybrid_name(*at))["status"]["placement"];
        placement["target"] == "cloud" || placement["move"].is_object()
    };
    assert_eq!((0..hybrids).filter(begun).count(), hybrids);
    let told = || {
        let is_told = |workload: &Value| {
            workload["status"]["decision"]["inputs"]["priceBook"]["revision"] == "r0.1"
        };
        cluster.api.count_where(WORKLOADS, "team", is_told)
    };
    assert!(told() < clouds / 2, "{}", told());
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(told(), clouds + hybrids);
    operator.end().await;
    cluster.stop();
}
