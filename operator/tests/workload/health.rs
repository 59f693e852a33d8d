//! A provider that is down: it is told once, nobody is Ready for it, and then it is quiet.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_crds::condition::types;
use weir_crds::provider::{Circuit, InferenceProviderSpec, InferenceProviderStatus};
use weir_gateway::external::{Cause, CircuitState, ProviderHealth};
use weir_operator::provider::{self, Book, Observation};

use super::fixtures::{Cluster, eventually, hybrid};

/// Every status that is written of a provider that is asked for half an hour and never answers.
fn statuses_of_half_an_hour() -> Vec<InferenceProviderStatus> {
    let spec: InferenceProviderSpec = serde_json::from_value(json!({
        "endpoint": "https://acme.example/v1", "priceBookRef": {"name": "prices"}, "models": [{"name": "mini"}],
    }))
    .expect("a spec");
    let health = ProviderHealth::default();
    let start = Instant::now();
    let mut written: Vec<InferenceProviderStatus> = Vec::new();
    let mut heard = Observation::default();
    for second in 0..30 * 60 {
        let previous = written.last().cloned().unwrap_or_default();
        let book = Book::Found {
            unpriced: Some(Vec::new()),
        };
        let at = Timestamp::from_second(1_700_000_000 + second).expect("a time");
        let next = provider::status(&spec, &previous, &heard, book, (1, at));
        if next != previous {
            written.push(next);
        }
        let now = start + Duration::from_secs(second.unsigned_abs());
        if health.needs_probe(now) {
            health.record_start(now);
            health.record_cause(&Cause::PrivateAddress);
            health.record_failure(now);
        }
        let report = health.report(now);
        heard = Observation {
            circuit: report.circuit.map(|circuit| match circuit {
                CircuitState::Closed => Circuit::Closed,
                CircuitState::Open => Circuit::Open,
            }),
            ttft_ms: report.ttft_ms,
            error_percent: report.error_percent,
            unusable: None,
            failure: report.cause.map(|cause| cause.to_string()),
        };
    }
    written
}

fn told(status: &Value, type_: &str) -> Value {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == type_);
    found.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_for_half_an_hour_makes_nobody_ready_and_few_writes() {
    let statuses = statuses_of_half_an_hour();
    assert!((2..=4).contains(&statuses.len()), "{statuses:#?}");
    let cluster = Cluster::new("1");
    let set = |status: &InferenceProviderStatus| {
        let mut status = json!(status);
        assert_ne!(told(&status, types::READY)["status"], "True");
        if status.get("circuit").is_none() {
            status["circuit"] = Value::Null;
        }
        cluster.set_status("inferenceproviders", "", "acme", status);
    };
    set(&statuses[0]);
    let operator = cluster.operator("op").await;
    let mut external = hybrid("external");
    let targets = external["spec"]["targets"].as_array_mut();
    targets.expect("targets").remove(0);
    cluster.api.seed(&external).expect("seeds");
    eventually("placed and acknowledged", || {
        cluster.is("external", "RouteProgrammed", "True")
    })
    .await;
    let ready = cluster.condition("external", types::EXTERNAL_READY);
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("Unknown"), &json!("NotMeasured"))
    );
    for status in &statuses[1..] {
        set(status);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    eventually("told", || {
        cluster.is("external", types::EXTERNAL_READY, "False")
    })
    .await;
    let why = cluster.condition("external", types::READY);
    let message = why["message"].as_str().unwrap_or_default();
    assert!(message.contains("allowPrivateAddresses"), "{why}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let history = cluster.api.history();
    let writes: Vec<&Value> = history
        .iter()
        .filter(|record| record.request.actor == "op" && record.committed.is_some())
        .filter(|record| record.request.resource == "inferenceworkloads")
        .map(|record| &record.answer["status"])
        .collect();
    assert!(writes.len() <= 4, "{}: {writes:#?}", writes.len());
    let ready = |status: &&&Value| told(status, types::READY)["status"] == "True";
    assert_eq!(writes.iter().find(ready), None);
    operator.end().await;
    cluster.stop();
}
