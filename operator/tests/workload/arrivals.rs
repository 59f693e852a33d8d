//! Models that no target names: they come, are moved to where the contract allows it, and go.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixtures::{Cluster, eventually, hybrid, private};
use super::lives::writes_of;

const NANO: &str = "cloud@org/nano:free";
/// Models of the provider and their prices, USD per million tokens.
const ALONE: [(&str, &str); 1] = [("mini", "1")];
const BESIDE_NANO: [(&str, &str); 2] = [("mini", "1"), ("org/nano:free", "0.1")];

/// Sets the prices of the models, as the book's controller would.
fn price(cluster: &Cluster, models: &[(&str, &str)]) {
    let prices: Vec<Value> = models
        .iter()
        .map(|(name, price)| {
            json!({"model": name, "inputUsdPerMillionTokens": price, "outputUsdPerMillionTokens": price})
        })
        .collect();
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let status = json!({
        "observedGeneration": 1, "revision": revision(models), "asOf": now, "prices": prices,
    });
    cluster.set_status("inferencepricebooks", "", "prices", status);
}

fn revision(models: &[(&str, &str)]) -> String {
    format!("r{}", models.len())
}

/// Sets the provider's models, all of one group.
fn list(cluster: &Cluster, models: &[(&str, &str)]) {
    let listed: Vec<Value> = models
        .iter()
        .map(|(name, _)| json!({"name": name, "contextTokens": 8192, "equivalenceGroup": "chat"}))
        .collect();
    let provider = ("inferenceproviders", "", "acme");
    cluster.ask("patch", provider, json!({"spec": {"models": listed}}));
}

fn cloud_only(substitution: &str) -> Value {
    let mut workload = hybrid("chat");
    let cloud = workload["spec"]["targets"][1].clone();
    workload["spec"]["targets"] = json!([cloud]);
    workload["spec"]["capability"] = json!({"substitution": substitution});
    workload
}

fn candidates(cluster: &Cluster) -> Vec<String> {
    let decision = &cluster.workload("chat")["status"]["decision"];
    let candidates = decision["candidates"].as_array().cloned();
    let name = |candidate: Value| candidate["name"].as_str().unwrap_or_default().to_owned();
    candidates
        .unwrap_or_default()
        .into_iter()
        .map(name)
        .collect()
}

fn route(cluster: &Cluster) -> Vec<(String, i64)> {
    let placement = &cluster.workload("chat")["status"]["placement"];
    let weights = placement["weights"].as_array().cloned().unwrap_or_default();
    let weight = |weight: Value| {
        let target = weight["target"].as_str().unwrap_or_default().to_owned();
        (target, weight["weight"].as_i64().unwrap_or_default())
    };
    weights.into_iter().map(weight).collect()
}

/// Reasons of moves, the newest first.
fn reasons(cluster: &Cluster) -> Vec<String> {
    let history = cluster.workload("chat")["status"]["history"].clone();
    let entries = history.as_array().cloned().unwrap_or_default().into_iter();
    let moves = entries.filter(|entry| !entry["from"].is_null());
    moves
        .map(|entry| entry["reason"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheaper_equal_at_the_provider_is_moved_to_and_left_when_it_is_withdrawn() {
    let cluster = Cluster::new("1");
    price(&cluster, &ALONE);
    list(&cluster, &ALONE);
    let operator = cluster.operator("op").await;
    cluster
        .api
        .seed(&cloud_only("EquivalentOnly"))
        .expect("seeds");
    eventually("on the cloud", || cluster.settled_on("chat", "cloud")).await;
    assert_eq!(candidates(&cluster), ["cloud"]);
    price(&cluster, &BESIDE_NANO);
    eventually("the new prices are seen", || {
        let decision = &cluster.workload("chat")["status"]["decision"];
        decision["inputs"]["priceBook"]["revision"] == revision(&BESIDE_NANO)
    })
    .await;
    list(&cluster, &BESIDE_NANO);
    eventually("on the new model", || cluster.settled_on("chat", NANO)).await;
    assert_eq!(candidates(&cluster), ["cloud", NANO]);
    assert_eq!(
        route(&cluster),
        [("cloud".to_owned(), 0), (NANO.to_owned(), 100)]
    );
    let decision = cluster.workload("chat")["status"]["decision"].clone();
    assert_eq!(decision["trigger"], "ModelsChanged");
    let placement = cluster.workload("chat")["status"]["placement"].clone();
    assert_eq!(placement["location"], "External");
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.api.clear_history();
    cluster.api.cut_watches();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = writes_of(&cluster, "op");
    assert!(writes.is_empty(), "nothing changed: {writes:?}");
    list(&cluster, &ALONE);
    eventually("back", || cluster.settled_on("chat", "cloud")).await;
    assert_eq!(candidates(&cluster), ["cloud"]);
    assert_eq!(route(&cluster), [("cloud".to_owned(), 100)]);
    assert_eq!(reasons(&cluster), ["TargetRemoved", "LowerCost"]);
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_to_substitute_a_cheaper_equal_changes_nothing() {
    let cluster = Cluster::new("1");
    price(&cluster, &ALONE);
    list(&cluster, &ALONE);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&cloud_only("Forbidden")).expect("seeds");
    eventually("on the cloud", || cluster.settled_on("chat", "cloud")).await;
    price(&cluster, &BESIDE_NANO);
    list(&cluster, &BESIDE_NANO);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cluster.settled_on("chat", "cloud"));
    assert_eq!(candidates(&cluster), ["cloud"]);
    // That the arrival was seen: with leave it is moved to.
    let leave = json!({"spec": {"capability": {"substitution": "EquivalentOnly"}}});
    cluster.edit("chat", leave);
    eventually("on the new model", || cluster.settled_on("chat", NANO)).await;
    operator.end().await;
    cluster.stop();
}

/// Five replicas of the first, one of the second.
fn profile(name: &str, tokens_per_second: u32) -> Value {
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "ModelProfile", "metadata": {"name": name},
        "spec": {"source": format!("pvc://models/{name}.gguf"), "sha256": "0".repeat(64), "contextTokens": 2048,
            "memory": "512Mi", "equivalenceGroup": "chat",
            "assumedThroughput": [{"tier": "cpu", "outputTokensPerSecond": tokens_per_second}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faster_equal_on_the_same_claim_is_deployed_and_removed_with_its_profile() {
    let cluster = Cluster::new("1");
    cluster.api.seed(&profile("slow", 10_000)).expect("seeds");
    let mut workload = private("chat");
    workload["spec"]["demand"]["requestsPerMonth"] = json!(80_000_000);
    workload["spec"]["capability"] = json!({"substitution": "EquivalentOnly"});
    workload["spec"]["targets"][0]["local"] = json!({
        "modelRef": {"name": "slow"}, "tiers": ["cpu"], "scaling": {"maxReplicas": 8, "idleAfter": "1s"},
    });
    let operator = cluster.operator("op").await;
    cluster.api.seed(&workload).expect("seeds");
    eventually("on the first", || cluster.settled_on("chat", "here")).await;
    assert_eq!(cluster.replicas("here"), Some(4));
    // Another claim is another place.
    let mut elsewhere = profile("elsewhere", 200_000);
    elsewhere["spec"]["source"] = json!("pvc://others/elsewhere.gguf");
    cluster.api.seed(&elsewhere).expect("seeds");
    cluster.api.seed(&profile("fast", 100_000)).expect("seeds");
    let fast = "here@fast";
    eventually("on the faster", || cluster.settled_on("chat", fast)).await;
    assert_eq!(candidates(&cluster), ["here", fast]);
    let label = weir_crds::names::target_label(fast);
    let deployment = cluster.deployment(&label).expect("exists");
    assert_eq!(deployment["spec"]["replicas"], 1);
    let annotations = &deployment["metadata"]["annotations"];
    assert_eq!(annotations["inference.weir.dev/target"], fast);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"][2], "/models/fast.gguf");
    eventually("the first sleeps", || cluster.replicas("here") == Some(0)).await;
    cluster.ask("delete", ("modelprofiles", "", "fast"), Value::Null);
    eventually("back", || cluster.settled_on("chat", "here")).await;
    eventually("removed", || cluster.deployment(&label).is_none()).await;
    eventually("removed", || {
        cluster.api.objects("services", "team").len() == 1
    })
    .await;
    assert_eq!(reasons(&cluster), ["TargetRemoved", "LowerCost"]);
    operator.end().await;
    cluster.stop();
}
