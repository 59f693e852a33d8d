//! Workloads that want the same device.

use std::time::Duration;

use serde_json::{Value, json};

use weir_simapi::Outcome;

use super::fixtures::{Cluster, eventually, hybrid};

const DEAR: &str = "100";
const CHEAP: &str = "0.01";
const LITTLE: [&str; 3] = ["little-a", "little-b", "little-c"];

/// The workload, with a policy under which a workload stays for some time, so that what is tested is where it is placed.
fn with_demand(name: &str, requests: u64) -> Value {
    let mut workload = hybrid(name);
    workload["spec"]["demand"]["requestsPerMonth"] = requests.into();
    workload["spec"]["placement"]["policyRef"]["name"] = "settled".into();
    workload
}

/// With one device. Its tier is counted when a test says so, which is later than pods come, as in a real cluster.
fn cluster() -> Cluster {
    let cluster = Cluster::new(DEAR);
    let policy = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePlacementPolicy",
        "metadata": {"name": "settled"},
        "spec": {"minDwell": "4s", "confirmation": {"count": 1, "interval": "1s"}, "operationsUsdPerMonth": "0"},
    });
    cluster.api.seed(&policy).expect("seeds");
    cluster.set_devices(1, 1);
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_goes_to_the_workload_that_saves_most_with_it_and_then_to_the_next() {
    let cluster = cluster();
    let demands = [("much", 1_000_000), ("little-c", 40_000)];
    for (name, requests) in [("little-a", 20_000), ("little-b", 30_000)]
        .into_iter()
        .chain(demands)
    {
        let workload = with_demand(name, requests);
        cluster.api.seed(&workload).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    eventually("the one that saves most has it", || {
        cluster.settled_on("much", "here")
    })
    .await;
    let metrics = operator.metrics.render();
    let proved = r#"weir_operator_assignment_gap_ratio_bucket{goal="save",le="0"} "#;
    let proved = metrics.lines().find_map(|line| line.strip_prefix(proved));
    assert!(proved.is_some_and(|count| count != "0"), "{metrics}");
    cluster.set_devices(1, 0);
    for name in LITTLE {
        eventually("the others are on the cloud", || {
            cluster.settled_on(name, "cloud")
        })
        .await;
        let placed = &cluster.workload(name)["status"]["history"][0]["reason"];
        // Whoever is decided about once the device is taken finds no other target.
        assert!(
            ["OthersSaveMore", "OnlyFeasibleTarget"].contains(&placed.as_str().unwrap_or_default()),
            "{name}: {placed}"
        );
    }
    // Past their dwell they would go, but nothing is free.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for name in LITTLE {
        assert!(cluster.settled_on(name, "cloud"), "{name}");
    }
    cluster.delete("much");
    cluster.set_devices(1, 1);
    eventually("the next one has it", || {
        cluster.settled_on("little-c", "here")
    })
    .await;
    assert!(cluster.settled_on("little-a", "cloud"));
    assert!(cluster.settled_on("little-b", "cloud"));
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn losers_of_a_competition_rest_while_the_winner_waits_for_its_pod() {
    let cluster = Cluster::new(CHEAP);
    let policy = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePlacementPolicy",
        "metadata": {"name": "settled"},
        "spec": {"minDwell": "1s", "confirmation": {"count": 2, "interval": "1s"}, "operationsUsdPerMonth": "0"},
    });
    cluster.api.seed(&policy).expect("seeds");
    cluster.set_devices(1, 1);
    let names = ["one", "two", "three"];
    for (name, requests) in names.into_iter().zip([1_000_000, 900_000, 800_000]) {
        let workload = with_demand(name, requests);
        cluster.api.seed(&workload).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    for name in names {
        eventually("all are on the cloud", || cluster.settled_on(name, "cloud")).await;
    }
    let full = "0/1 nodes are available: 1 Insufficient cpu.";
    cluster
        .deployments
        .set("", Outcome::Unschedulable(full.into()));
    cluster.set_price(DEAR);
    let moves = |name: &str| cluster.workload(name)["status"]["placement"]["phase"] == "Preparing";
    let winner = || names.into_iter().find(|name| moves(name));
    eventually("one moves", || winner().is_some()).await;
    let winner = winner().expect("one");
    cluster.api.clear_history();
    tokio::time::sleep(Duration::from_secs(12)).await;
    for name in names.into_iter().filter(|name| *name != winner) {
        let writes = cluster.api.writes().into_iter().filter(|record| {
            let request = &record.request;
            request.actor == "op" && request.name == name && request.subresource == "status"
        });
        let decisions = writes.map(|record| record.request.body["status"]["decision"].to_string());
        let decisions: Vec<_> = decisions.collect();
        assert!(decisions.len() <= 3, "{name}: {decisions:#?}");
        let decision = &cluster.workload(name)["status"]["decision"];
        assert_eq!(decision["confirmation"]["count"], 2, "{decision:#}");
    }
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_whose_nodes_were_taken_away_is_asked_for_one_bridged_used_and_given_back() {
    let cluster = Cluster::new(CHEAP);
    let spec = json!({"spec": {"provisionable": {"devices": 4, "readyAfter": "3m"}}});
    cluster.ask("patch", ("gputiers", "", "cpu"), spec);
    let counted = |there: u32| {
        let status =
            json!({"nodes": there, "devices": there, "free": there, "provisionable": 4 - there});
        cluster.set_status("gputiers", "", "cpu", status);
    };
    counted(0);
    let none = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.";
    cluster
        .deployments
        .set("", Outcome::Unschedulable(none.into()));
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;
    cluster.set_price(DEAR);
    let placement = || cluster.workload("hybrid")["status"]["placement"].clone();
    eventually("its pod waits for a node", || {
        let told = cluster.events();
        placement()["phase"] == "Preparing" && told.iter().any(|it| it == "WaitingForNode")
    })
    .await;
    // The cloud serves until the node is there.
    assert_eq!(placement()["target"], "cloud");
    assert!(cluster.is("hybrid", "Ready", "True"));
    let deployment = cluster.deployment("here").expect("a Deployment");
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["karpenter.sh/do-not-disrupt"], "true");
    let evict = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    assert_eq!(annotations[evict], "false");
    counted(4);
    cluster.deployments.set("", Outcome::Ready);
    cluster.deployments.step();
    eventually("used", || cluster.settled_on("hybrid", "here")).await;
    cluster.set_price(CHEAP);
    eventually("left", || cluster.settled_on("hybrid", "cloud")).await;
    eventually("given back", || cluster.replicas("here") == Some(0)).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_begins_on_nodes_to_come_waits_for_them_and_has_not_failed() {
    let cluster = Cluster::new(DEAR);
    let spec = json!({"spec": {"provisionable": {"devices": 4, "readyAfter": "3m"}}});
    cluster.ask("patch", ("gputiers", "", "cpu"), spec);
    let status = json!({"nodes": 0, "devices": 0, "free": 0, "provisionable": 4});
    cluster.set_status("gputiers", "", "cpu", status);
    let none = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.";
    cluster
        .deployments
        .set("", Outcome::Unschedulable(none.into()));
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("it waits", || {
        cluster.condition("hybrid", "LocalReady")["reason"] == "WaitingForNode"
    })
    .await;
    let workload = cluster.workload("hybrid");
    assert_eq!(workload["status"]["placement"]["target"], "here");
    // The gateways may bridge the start there.
    let mut weights = workload["status"]["placement"]["weights"]
        .as_array()
        .cloned()
        .unwrap_or_default()
        .into_iter();
    let beside = weights.find(|weight| weight["target"] == "cloud");
    assert_eq!(beside.expect("the cloud beside it")["weight"], 0);
    assert!(cluster.is("hybrid", "Stalled", "False"));
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_only_run_here_goes_before_savings() {
    let cluster = cluster();
    let mut private = with_demand("private", 10_000);
    private["spec"]["dataPolicy"] = json!({"egress": "Forbidden"});
    private["spec"]["targets"]
        .as_array_mut()
        .expect("targets")
        .truncate(1);
    for workload in [
        with_demand("much", 1_000_000),
        with_demand("more", 2_000_000),
        private,
    ] {
        cluster.api.seed(&workload).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    eventually("the one without a choice has it", || {
        cluster.settled_on("private", "here")
    })
    .await;
    cluster.set_devices(1, 0);
    for name in ["much", "more"] {
        eventually("the others are on the cloud", || {
            cluster.settled_on(name, "cloud")
        })
        .await;
    }
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_device_that_goes_to_another_orders_no_pods() {
    let cluster = cluster();
    let private = |name: &str, requests| {
        let mut workload = with_demand(name, requests);
        workload["spec"]["dataPolicy"] = json!({"egress": "Forbidden"});
        let targets = workload["spec"]["targets"].as_array_mut();
        targets.expect("targets").truncate(1);
        workload
    };
    let names = ["one", "two", "three"];
    for name in names {
        cluster.api.seed(&private(name, 10_000)).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    let reason = |name: &str| cluster.workload(name)["status"]["decision"]["reason"].clone();
    let served = || {
        names
            .into_iter()
            .find(|name| cluster.settled_on(name, "here"))
    };
    eventually("one of them has it", || {
        let waiting = names.iter().filter(|name| reason(name) == "WaitingForGPU");
        served().is_some() && waiting.count() == 2
    })
    .await;
    let first = served().expect("is served");
    cluster.set_devices(1, 0);
    cluster.delete(first);
    cluster.set_devices(1, 1);
    let next = || served().filter(|name| *name != first);
    eventually("another has it", || next().is_some()).await;
    operator.end().await;
    cluster.stop();
}
