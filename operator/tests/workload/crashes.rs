//! The operator is killed before or after each of its writes, and another one takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::sync::Notify;
use weir_simapi::Fault;

use super::fixtures::{Cluster, eventually, hybrid};

/// The move has this many writes, or a few less.
const POINTS: usize = 14;
const AT_ONCE: usize = 7;

/// Runs one move, with the first operator killed at its write of that number. Gives the end state.
async fn move_with_a_crash(point: usize, after_commit: bool) -> Value {
    let cluster = Cluster::new("100");
    let first = cluster.operator("first").await;
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("on the local target", || {
        cluster.settled_on("hybrid", "here")
    })
    .await;
    let seen = Arc::new(AtomicUsize::new(0));
    let crashed = Arc::new(Notify::new());
    let (count, signal) = (Arc::clone(&seen), Arc::clone(&crashed));
    cluster.api.on_request(move |request| {
        let reads = matches!(request.verb.as_str(), "get" | "list" | "watch");
        if request.actor != "first" || reads || request.resource == "events" {
            return Fault::Pass;
        }
        let at = count.fetch_add(1, Ordering::SeqCst);
        if at == point {
            signal.notify_one();
        }
        match at {
            at if at < point => Fault::Pass,
            at if at == point && after_commit => Fault::HangAfterCommit,
            _ => Fault::Hang,
        }
    });
    cluster.set_price("0.1");
    let moved = async {
        while !(cluster.settled_on("hybrid", "cloud") && cluster.replicas("here") == Some(0)) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = crashed.notified() => {}
        () = moved => {}
    }
    first.kill();
    let second = cluster.operator("second").await;
    eventually("on the cloud", || {
        cluster.settled_on("hybrid", "cloud") && cluster.replicas("here") == Some(0)
    })
    .await;
    let workload = cluster.workload("hybrid");
    let status = &workload["status"];
    let targets = |of: &Value| -> Vec<Value> {
        let entries = of.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["to"].clone()).collect()
    };
    let end = serde_json::json!({
        "weights": status["placement"]["weights"], "target": status["placement"]["target"],
        "phase": status["placement"]["phase"], "step": status["placement"]["step"],
        "decision": what_was_decided(&status["placement"]["decisionId"]), "history": targets(&status["history"]),
        "deployments": cluster.api.objects("deployments.apps", "team").len(),
        "services": cluster.api.objects("services", "team").len(),
        "secrets": cluster.api.objects("secrets", "team").len(),
    });
    second.end().await;
    cluster.stop();
    end
}

/// The part of an identity that other lives share: what follows it tells the workload and the moment.
fn what_was_decided(id: &Value) -> String {
    let id = id.as_str().expect("an identity");
    let (what, _) = id.rsplit_once('-').expect("two parts");
    what.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_comes_to_the_same_end_wherever_the_operator_is_killed() {
    let undisturbed = move_with_a_crash(usize::MAX, false).await;
    assert_eq!(undisturbed["history"], serde_json::json!(["cloud", "here"]));
    let cases = (0..POINTS).flat_map(|point| [(point, false), (point, true)]);
    let cases: Vec<_> = cases.collect();
    let runs = cases
        .iter()
        .map(|(point, after)| move_with_a_crash(*point, *after));
    let ends: Vec<Value> = stream::iter(runs).buffered(AT_ONCE).collect().await;
    for (case, end) in cases.iter().zip(ends) {
        assert_eq!(end, undisturbed, "killed at {case:?}");
    }
}
