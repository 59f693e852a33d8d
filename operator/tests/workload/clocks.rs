//! Leaders whose clocks differ.

use std::time::Duration;

use serde_json::json;

use super::fixtures::{Cluster, eventually, hybrid};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_new_leader_whose_clock_is_an_hour_ahead_lets_a_dwell_that_it_finds_run_in_full() {
    let cluster = Cluster::timeless("100");
    let policy = ("inferenceplacementpolicies", "", "quick");
    cluster.ask("patch", policy, json!({"spec": {"minDwell": "10m"}}));
    let operator = cluster.operator("op").await;
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("placed", || cluster.settled_on("hybrid", "here")).await;
    operator.end().await;
    let ahead = cluster.clock_ahead(jiff::SignedDuration::from_hours(1));
    let operator = cluster.operator_by("next", ahead).await;
    cluster.set_price("0.1");
    tokio::time::sleep(9 * MINUTE).await;
    let status = &cluster.workload("hybrid")["status"];
    let placement = &status["placement"];
    assert_eq!(
        (&placement["target"], &placement["phase"]),
        (&json!("here"), &json!("Steady"))
    );
    assert_eq!(status["decision"]["outcome"], "Hold", "{status}");
    tokio::time::sleep(3 * MINUTE).await;
    eventually("moved", || cluster.settled_on("hybrid", "cloud")).await;
    operator.end().await;
    cluster.stop();
}
