//! How busy a tier is: where it cannot be measured cost goes on, where it was lost cost waits, and a policy's band moves.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixtures::{Cluster, eventually, hybrid};

const DEAR: &str = "100";
const CHEAP: &str = "0.01";

/// With a tier of GPUs.
fn cluster(price: &str) -> Cluster {
    let cluster = Cluster::new(price);
    let spec = json!({"spec": {"sharing": "Exclusive", "resource": {"name": "nvidia.com/gpu", "count": "1"}}});
    cluster.ask("patch", ("gputiers", "", "cpu"), spec);
    cluster
}

/// Says of the tier what its controller would.
fn told(cluster: &Cluster, known: &str, reason: &str) {
    let condition = json!({
        "type": "UtilizationKnown", "status": known, "reason": reason, "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    cluster.set_status("gputiers", "", "cpu", json!({"conditions": [condition]}));
}

fn decision(cluster: &Cluster) -> Value {
    cluster.workload("hybrid")["status"]["decision"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_cannot_be_measured_is_moved_to_and_left_by_cost() {
    let cluster = cluster(CHEAP);
    told(&cluster, "False", "NotMeasurable");
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;
    cluster.set_price(DEAR);
    eventually("on the tier", || cluster.settled_on("hybrid", "here")).await;
    assert_eq!(
        decision(&cluster)["inputs"]["utilizationState"],
        "NotMeasurable"
    );
    cluster.set_price(CHEAP);
    eventually("on the cloud again", || {
        cluster.settled_on("hybrid", "cloud")
    })
    .await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_to_a_tier_whose_telemetry_was_lost() {
    let cluster = cluster(CHEAP);
    told(&cluster, "Unknown", "TelemetryLost");
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;
    cluster.set_price(DEAR);
    eventually("held", || {
        decision(&cluster)["reason"] == "UtilizationUnknown"
    })
    .await;
    assert!(cluster.settled_on("hybrid", "cloud"));
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_above_the_band_for_its_window_is_left_and_below_it_come_back_to() {
    let cluster = cluster(DEAR);
    let policy = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePlacementPolicy",
        "metadata": {"name": "banded"},
        "spec": {
            "minDwell": "1s", "confirmation": {"count": 1, "interval": "1s"}, "operationsUsdPerMonth": "0",
            "utilizationBand": {"spillAbovePercent": 80, "pullBackBelowPercent": 40, "window": "3s"},
        },
    });
    cluster.api.seed(&policy).expect("seeds");
    let mut workload = hybrid("hybrid");
    workload["spec"]["placement"]["policyRef"]["name"] = "banded".into();
    cluster.api.seed(&workload).expect("seeds");
    let occupied = |percent: u32| {
        let status = json!({"occupancyPercent": percent});
        cluster.set_status("gputiers", "", "cpu", status);
    };
    occupied(60);
    let operator = cluster.operator("op").await;
    eventually("on the tier", || cluster.settled_on("hybrid", "here")).await;
    occupied(90);
    eventually("on its way above", || {
        decision(&cluster)["utilizationBand"][0]["beyondSince"].is_string()
    })
    .await;
    eventually("left", || cluster.settled_on("hybrid", "cloud")).await;
    let left = &cluster.workload("hybrid")["status"]["history"][0]["reason"];
    assert_eq!(left, "UtilizationAboveBand");
    // The cluster is far cheaper, and still it stays.
    occupied(60);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(cluster.settled_on("hybrid", "cloud"));
    assert_eq!(decision(&cluster)["reason"], "UtilizationAboveBand");
    occupied(20);
    eventually("back", || cluster.settled_on("hybrid", "here")).await;
    operator.end().await;
    cluster.stop();
}
