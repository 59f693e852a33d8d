//! A gateway that starts between any two writes routes to nothing that was not decided for.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use weir_gateway::external::{ExternalTimeouts, Providers, provider_input};
use weir_gateway::routing::{Index, Target, convert};

use super::fixtures::{Cluster, WORKLOADS, eventually, hybrid};

/// Provider and model of every target that requests could reach outside of the cluster, through a gateway that starts now.
fn reached(providers: &[Value], workload: &Value) -> BTreeSet<(String, String)> {
    let mut known = Providers::new(ExternalTimeouts {
        connect: Duration::from_secs(1),
    });
    let declared = providers.iter().map(|provider| {
        let provider = serde_json::from_value(provider.clone()).expect("a provider");
        let input = provider_input(&provider).expect("an input");
        (input.name.clone(), Some(input))
    });
    known.set_providers(declared.collect());
    let mut index = Index::new(known);
    let workload = serde_json::from_value(workload.clone()).expect("a workload");
    index.apply(convert::workload(&workload));
    let table = index.build();
    let targets = table.workloads().flat_map(|route| &route.targets);
    let permits = targets.filter_map(|target| match &target.target {
        Target::External(permit) => Some(permit),
        Target::Local(_) => None,
    });
    permits
        .map(|permit| {
            (
                permit.provider().name.to_string(),
                permit.model().to_owned(),
            )
        })
        .collect()
}

/// The object as it is when somebody has just pointed its target elsewhere.
fn edited(workload: &Value, external: &Value) -> Value {
    let mut edited = workload.clone();
    let generation = workload["metadata"]["generation"].as_i64().unwrap_or(0);
    edited["metadata"]["generation"] = (generation + 1).into();
    edited["spec"]["targets"][1]["external"] = external.clone();
    edited
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_restarts_between_two_writes_of_a_move_opens_nothing_that_was_not_decided_for()
 {
    let cluster = Cluster::new("100");
    let closed = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceProvider", "metadata": {"name": "closed"},
        "spec": {"endpoint": "https://closed.example/v1", "allowedNamespaces": ["nobody"], "models": [{"name": "mini"}]},
    });
    cluster.api.seed(&closed).expect("seeds");
    let operator = cluster.operator("op").await;
    cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    eventually("on the local target", || {
        cluster.settled_on("hybrid", "here")
    })
    .await;
    cluster.set_price("0.1");
    eventually("on the cloud", || cluster.settled_on("hybrid", "cloud")).await;

    // An edit that no operator accepts: the placement stays that of the generation before, for good.
    let mut targets = cluster.workload("hybrid")["spec"]["targets"].clone();
    targets[1]["external"]["providerRef"]["name"] = "closed".into();
    targets[0]["local"]["podTemplate"] = json!({"resources": {"requests": {"cpu": "banana"}}});
    cluster.edit("hybrid", json!({"spec": {"targets": targets}}));
    eventually("refused", || cluster.is("hybrid", "Accepted", "False")).await;
    let refused = cluster.workload("hybrid");
    operator.end().await;

    let mut providers = cluster
        .api
        .objects("inferenceproviders.inference.weir.dev", "");
    assert_eq!(providers.len(), 2);
    assert!(reached(&providers, &refused).is_empty());
    // The terms of the other one open; still nobody decided for it.
    for provider in &mut providers {
        provider["spec"]["allowedNamespaces"] = json!([]);
    }
    assert!(reached(&providers, &refused).is_empty());

    let decided = BTreeSet::from([("acme".to_owned(), "mini".to_owned())]);
    let mut phases = BTreeSet::new();
    let history = cluster.api.history();
    let versions = history.iter().filter(|record| {
        record.committed.is_some()
            && format!("{}.inference.weir.dev", record.request.resource) == WORKLOADS
    });
    for record in versions {
        let workload = &record.answer;
        let placement = &workload["status"]["placement"];
        if placement.is_null() || workload["spec"] == refused["spec"] {
            assert!(reached(&providers, workload).is_empty());
            continue;
        }
        phases.insert(placement["phase"].to_string());
        assert_eq!(reached(&providers, workload), decided, "{placement}");
        for elsewhere in [
            json!({"providerRef": {"name": "closed"}, "model": "mini"}),
            json!({"providerRef": {"name": "acme"}, "model": "large"}),
        ] {
            let edited = edited(workload, &elsewhere);
            assert!(reached(&providers, &edited).is_empty(), "{placement}");
        }
    }
    let moved = ["Preparing", "Canary", "Draining", "Steady"];
    assert_eq!(phases.len(), moved.len(), "{phases:?}");
    cluster.stop();
}
