//! The cluster that is measured.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_simapi::{ApiError, RequestInfo, SimApi};

pub const WORKLOADS: &str = "inferenceworkloads.inference.weir.dev";
const GROUP: &str = "inference.weir.dev";
const NAMESPACES: usize = 50;
const NODES: usize = 500;

pub fn server() -> SimApi {
    let namespaces = (0..NAMESPACES).map(|at| format!("team-{at}"));
    let builder = SimApi::builder()
        .crds(weir_crds::all())
        .namespace("weir-system");
    let builder = namespaces.fold(builder, |builder, name| builder.namespace(&name));
    builder.build()
}

fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
    let mut object = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": {"name": name}, "spec": spec});
    if !status.is_null() {
        object["status"] = status;
    }
    object
}

fn tier(label: &str, cost: &str) -> Value {
    json!({"nodeSelector": {"weir/tier": label}, "resource": {"name": "cpu", "count": "250m"}, "sharing": "CPU",
        "memory": "2Gi", "cost": {"rented": {"usdPerHour": cost}}})
}

/// What workloads refer to. One replica is 730 USD a month; 900,000 requests of 1,000 tokens are 900 in the cloud at 1 USD.
pub fn surroundings() -> Vec<Value> {
    let nodes = (0..8).map(|at| node(&format!("n{at}"), "here"));
    let mut all: Vec<Value> = nodes.collect();
    all.extend([
        object("GPUTier", "here", tier("here", "1"), Value::Null),
        object(
            "ModelProfile",
            "smol",
            json!({"source": "pvc://models/smol.gguf", "sha256": "0".repeat(64), "contextTokens": 2048, "memory": "512Mi",
                "assumedThroughput": [{"tier": "here", "outputTokensPerSecond": 10_000}]}),
            Value::Null,
        ),
        object(
            "InferenceProvider",
            "acme",
            json!({"endpoint": "https://acme.example/v1", "priceBookRef": {"name": "prices"},
                "models": [{"name": "mini", "contextTokens": 8192}]}),
            json!({"observedGeneration": 1, "circuit": "Closed"}),
        ),
        object("InferencePriceBook", "prices", prices("1"), Value::Null),
        object(
            "InferencePlacementPolicy",
            "quick",
            json!({"minDwell": "1s", "confirmation": {"count": 1, "interval": "1s"}, "operationsUsdPerMonth": "0"}),
            Value::Null,
        ),
    ]);
    all
}

fn prices(price: &str) -> Value {
    json!({"source": {"inline": {"entries": [{"model": "mini", "inputUsdPerMillionTokens": price,
        "outputUsdPerMillionTokens": price}]}}})
}

fn node(name: &str, tier: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"weir/tier": tier}}, "spec": {},
        "status": {"allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

pub fn name(at: usize) -> String {
    format!("w{at}")
}

fn namespace(at: usize) -> String {
    format!("team-{}", at % NAMESPACES)
}

/// In the cloud, or in the cluster as well.
pub fn workload(at: usize, hybrid: bool) -> Value {
    let mut targets = vec![
        json!({"name": "cloud", "external": {"providerRef": {"name": "acme"}, "model": "mini"}}),
    ];
    if hybrid {
        targets.insert(
            0,
            json!({"name": "here", "local": {"modelRef": {"name": "smol"}, "tiers": ["here"]}}),
        );
    }
    json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "InferenceWorkload",
        "metadata": {"name": name(at), "namespace": namespace(at)},
        "spec": {
            "dataPolicy": {"egress": "Allowed"},
            "demand": {"source": "Declared", "requestsPerMonth": 900_000,
                "inputTokens": {"p50": 500}, "outputTokens": {"p50": 500}},
            "operations": {"selfHosting": "Free", "maxMovesPerWeek": 1000},
            "placement": {"policyRef": {"name": "quick"}},
            "targets": targets,
        }
    })
}

fn ask(
    api: &SimApi,
    resource: &str,
    namespace: &str,
    name: &str,
    body: Value,
) -> Result<(), ApiError> {
    let (group, version) = match resource {
        "pods" => ("", "v1"),
        _ => (GROUP, "v1alpha1"),
    };
    let request = RequestInfo {
        actor: "user".into(),
        verb: "patch".into(),
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        content_type: "application/merge-patch+json".into(),
        body,
        ..RequestInfo::default()
    };
    api.handle(&request).map(drop)
}

pub fn set_price(api: &SimApi, price: &str) -> Result<(), ApiError> {
    ask(
        api,
        "inferencepricebooks",
        "",
        "prices",
        json!({"spec": prices(price)}),
    )
}

/// The revision of prices that workloads are to tell.
pub fn revision(api: &SimApi) -> Value {
    let book = api.object("inferencepricebooks.inference.weir.dev", "", "prices");
    book.unwrap_or_default()["status"]["revision"].clone()
}

pub fn edit(api: &SimApi, name: &str, body: Value) -> Result<(), ApiError> {
    let at = name.trim_start_matches('w').parse().unwrap_or(0);
    ask(api, "inferenceworkloads", &namespace(at), name, body)
}

fn pod_name(at: usize) -> String {
    format!("p{at}")
}

pub fn seed_tiers(api: &SimApi, tiers: usize, pods: usize) -> Result<(), ApiError> {
    for at in 0..tiers {
        let name = format!("t{at}");
        api.seed(&object("GPUTier", &name, tier(&name, "1"), Value::Null))?;
    }
    for at in 0..NODES {
        api.seed(&node(&format!("n{at}"), &format!("t{}", at % tiers.max(1))))?;
    }
    for at in 0..pods {
        api.seed(&json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod_name(at), "namespace": namespace(at)},
            "spec": {"nodeName": format!("n{}", at % NODES), "containers": [{"name": "c", "image": "i",
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}]},
            "status": {"phase": "Running"}}))?;
    }
    Ok(())
}

/// So many pods change in a second.
pub async fn change_pods(api: &SimApi, per_second: u64, seconds: u64) -> Result<(), ApiError> {
    let begun = Instant::now();
    let every = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
    let mut ticks = tokio::time::interval(every);
    let mut at = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        ticks.tick().await;
        at += 1;
        let body = json!({"metadata": {"annotations": {"beat": at.to_string()}}});
        ask(
            api,
            "pods",
            &namespace(at % NODES),
            &pod_name(at % NODES),
            body,
        )?;
    }
    Ok(())
}
