//! A child that is refused: told with the words of who refused it, and nothing else is held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use weir_simapi::ApiError;

use super::fixtures::{Cluster, eventually, private};

const DENIED: &str = "admission webhook \"w.example\" denied the request: no engines today";
const UNREACHABLE: &str = "Internal error occurred: failed calling webhook \"w.example\": EOF";
const LATE: &str =
    "Internal error occurred: failed calling webhook \"w.example\": context deadline exceeded";

/// Two workloads are made while something refuses the Deployment of one of them; then it allows it.
async fn refused(code: u16, words: &str, reason: &str, stalled: &str) {
    let cluster = Cluster::new("100");
    let refuses = Arc::new(AtomicBool::new(true));
    let (asked, said) = (Arc::clone(&refuses), words.to_owned());
    cluster.api.on_admission(move |request, _, _| {
        let meant = request.resource == "deployments" && request.name.starts_with("refused-");
        if meant && request.actor == "op" && asked.load(Ordering::Relaxed) {
            return Err(ApiError::new(code, "InternalError", said.clone()));
        }
        Ok(())
    });
    let operator = cluster.operator("op").await;
    for name in ["refused", "other"] {
        cluster.api.seed(&private(name)).expect("seeds");
    }
    let told = || cluster.condition("refused", "LocalReady")["reason"] == reason;
    eventually("told", told).await;
    let message = cluster.condition("refused", "LocalReady")["message"].clone();
    let message = message.as_str().unwrap_or_default();
    assert!(message.contains(words), "{code}: {message}");
    assert!(cluster.is("refused", "Ready", "False"), "{code}");
    assert!(cluster.is("refused", "Stalled", stalled), "{code}");
    assert!(cluster.workload("refused")["status"]["endpoint"]["url"].is_string());
    // A write is seen before it is in the record of requests.
    eventually("recorded", || first_conditions(&cluster) == reason).await;
    eventually("the other is ready", || {
        cluster.is("other", "Ready", "True")
    })
    .await;
    let of_refused = |resource: &str| {
        let objects = cluster.api.objects(resource, "team");
        let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
        let names = objects.iter().filter_map(name);
        names.filter(|name| name.starts_with("refused-")).count()
    };
    assert_eq!((of_refused("services"), of_refused("secrets")), (1, 1));
    assert_eq!(of_refused("deployments.apps"), 0);
    refuses.store(false, Ordering::Relaxed);
    eventually("allowed", || cluster.is("refused", "Ready", "True")).await;
    operator.end().await;
    cluster.stop();
}

/// The reason of LocalReady in the first recorded status that had conditions.
fn first_conditions(cluster: &Cluster) -> Value {
    let writes = cluster.api.writes();
    let written = writes.iter().filter(|record| {
        let request = &record.request;
        request.resource == "inferenceworkloads" && request.name == "refused"
    });
    let mut lists =
        written.filter_map(|record| record.request.body["status"]["conditions"].as_array());
    let first = lists.next().cloned().unwrap_or_default();
    let mut found = first
        .iter()
        .filter(|condition| condition["type"] == "LocalReady");
    found
        .next()
        .map(|found| found["reason"].clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_refuses_a_child_is_told_at_once_and_others_are_served() {
    tokio::join!(
        refused(400, DENIED, "ChildRefused", "True"),
        refused(403, DENIED, "ChildRefused", "True"),
        refused(500, UNREACHABLE, "WebhookFailed", "False"),
        refused(500, LATE, "WebhookFailed", "False"),
        refused(
            504,
            "Timeout: request did not complete",
            "ChildFailed",
            "False"
        ),
    );
}
