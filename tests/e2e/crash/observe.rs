//! The state in which a move ends, without what differs from move to move by its nature.

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fmt::Debug;
use weir_crds::InferenceWorkload;
use weir_tests::stack::Stack;

/// The workload's status and every object of its namespace that the operator may write.
pub async fn state(stack: &Stack, (namespace, name): (&str, &str)) -> Result<Value> {
    let workload = stack.workload(namespace, name).await?;
    let pods = crate::look::engine_pods(stack, namespace).await?;
    Ok(json!({
        "status": status(&workload)?,
        "deployments": all::<Deployment>(stack, namespace).await?,
        "services": all::<Service>(stack, namespace).await?,
        "secrets": all::<Secret>(stack, namespace).await?,
        "configMaps": all::<ConfigMap>(stack, namespace).await?,
        "pods": pods.len(),
    }))
}

/// Objects by name: labels, owners and specification.
async fn all<K>(stack: &Stack, namespace: &str) -> Result<Map<String, Value>>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(stack.client.clone(), namespace);
    let list = api.list(&ListParams::default()).await?;
    let seen = list.iter().map(|object| {
        let whole = serde_json::to_value(object)?;
        let kept = json!({
            "labels": object.labels(),
            "owners": object.owner_references(),
            "spec": whole["spec"],
            "data": whole["data"],
            "type": whole["type"],
        });
        Ok((object.name_any(), kept))
    });
    seen.collect()
}

/// Status without what came before, times, identities of decisions, counts of steps and what is measured.
fn status(workload: &InferenceWorkload) -> Result<Value> {
    let mut status = serde_json::to_value(&workload.status)?;
    drop_fields(&mut status, &["history", "earlierMoves", "usage"]);
    drop_fields(
        &mut status["placement"],
        &["since", "decisionId", "step", "stepSince"],
    );
    drop_fields(
        &mut status["decision"],
        &["id", "time", "nextEvaluationTime", "holdUntil", "trigger"],
    );
    let measured = [
        "utilizationPercent",
        "utilizationState",
        "tokensPerSecond",
        "throughputSource",
        "priceBook",
    ];
    drop_fields(&mut status["decision"]["inputs"], &measured);
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        drop_fields(condition, &["lastTransitionTime", "message"]);
    }
    Ok(status)
}

fn drop_fields(value: &mut Value, names: &[&str]) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !names.contains(&name.as_str()));
    }
}

/// Where two states differ, one line for each place.
pub fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", expected, found, &mut lines);
    lines
}

fn compare(path: &str, expected: &Value, found: &Value, lines: &mut Vec<String>) {
    if expected == found {
        return;
    }
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let (left, right) = (left.get(name), right.get(name));
                let path = format!("{path}.{name}");
                let null = &Value::Null;
                compare(&path, left.unwrap_or(null), right.unwrap_or(null), lines);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{index}]"), left, right, lines);
            }
        }
        _ => lines.push(format!("{path}: {found} instead of {expected}")),
    }
}
