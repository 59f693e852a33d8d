//! Workloads that want the same device.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixtures::{Cluster, eventually, hybrid};

const DEAR: &str = "100";
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
