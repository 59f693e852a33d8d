//! Our own kinds on the simulated server: defaults, schema, CEL rules, status of two owners.

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use weir_crds::InferenceWorkload;
use weir_simapi::{ApiError, SimApi};

fn workload(egress: &str) -> Value {
    json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload", "metadata": {"name": "chat"},
        "spec": {"dataPolicy": {"egress": egress}, "targets": [{"name": "local", "local": {"modelRef": {"name": "m"}, "tiers": ["cpu"]}}]}})
}

fn server() -> (SimApi, Api<InferenceWorkload>) {
    let api = SimApi::builder().crds(weir_crds::all()).build();
    let workloads = Api::namespaced(api.client("team"), "default");
    (api, workloads)
}

fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[tokio::test]
async fn defaults_are_set_and_residency_cannot_be_loosened() {
    let (_, workloads) = server();
    let params = PatchParams::apply("team");
    let made = workloads
        .patch("chat", &params, &Patch::Apply(workload("Forbidden")))
        .await
        .unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(made.spec.traffic.drain.timeout, "300s");
    let refused = workloads
        .patch("chat", &params, &Patch::Apply(workload("Allowed")))
        .await
        .unwrap_err();
    assert!(message(refused).contains("immutable"));
}

#[tokio::test]
async fn a_field_that_the_schema_lacks_cannot_be_applied() {
    let (_, workloads) = server();
    let mut object = workload("Forbidden");
    object["spec"]["sometimes"] = json!(true);
    let refused = workloads
        .patch("chat", &PatchParams::apply("team"), &Patch::Apply(object))
        .await
        .unwrap_err();
    assert!(message(refused).contains(".spec.sometimes: field not declared in schema"));
}

#[tokio::test]
async fn two_owners_write_the_status_and_the_spec_stays() {
    let (api, workloads) = server();
    workloads
        .patch(
            "chat",
            &PatchParams::apply("team"),
            &Patch::Apply(workload("Forbidden")),
        )
        .await
        .unwrap();
    let status = |status: Value| {
        Patch::Apply(
            json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
        "metadata": {"name": "chat"}, "spec": {"suspend": true}, "status": status}),
        )
    };
    let placement = json!({"placement": {"target": "local", "location": "Local", "since": "2026-01-01T00:00:00Z", "decisionId": "d-1",
        "step": 0, "stepSince": "2026-01-01T00:00:00Z", "generation": 1, "weights": [{"target": "local", "weight": 100}]}});
    let one = PatchParams::apply("weir-operator-placement").force();
    let two = PatchParams::apply("weir-operator-status").force();
    workloads
        .patch_status("chat", &one, &status(placement))
        .await
        .unwrap();
    let both = workloads
        .patch_status("chat", &two, &status(json!({"observedGeneration": 1})))
        .await
        .unwrap();
    assert_eq!(both.metadata.generation, Some(1));
    assert!(!both.spec.suspend);
    let status = both.status.clone().unwrap();
    assert_eq!(status.placement.unwrap().target, "local");
    assert_eq!(status.observed_generation, Some(1));
    let before = api.revision();
    workloads
        .patch_status(
            "chat",
            &two,
            &Patch::Apply(
                json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
                "metadata": {"name": "chat"}, "status": {"observedGeneration": 1}}),
            ),
        )
        .await
        .unwrap();
    assert_eq!(api.revision(), before);
}

#[tokio::test]
async fn an_admission_hook_refuses_as_a_policy_does() {
    let (api, workloads) = server();
    api.on_admission(|request, new, _| match new["metadata"]["name"].as_str() {
        Some("chat") => Err(ApiError::denied(&request.resource, "chat", "not this name")),
        _ => Ok(()),
    });
    let object = serde_json::from_value(workload("Forbidden")).unwrap();
    let refused = workloads
        .create(&PostParams::default(), &object)
        .await
        .unwrap_err();
    assert!(message(refused).contains("not this name"));
    assert!(api.writes().is_empty());
    let mut other = object;
    other.metadata.name = Some("other".to_owned());
    let made = workloads
        .create(&PostParams::default(), &other)
        .await
        .unwrap();
    assert_eq!(made.name_any(), "other");
}
