//! Commands on a cluster: a simulated API server with a fleet in it.

use std::fs;

use serde_json::{Value, json};
use weir_simapi::{Fault, RequestInfo, SimApi};

use super::support::online;

const GROUP_VERSION: &str = "inference.weir.dev/v1alpha1";

fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
    json!({"apiVersion": GROUP_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec, "status": status})
}

fn fleet() -> Vec<Value> {
    vec![
        object(
            "GPUTier",
            "l4",
            json!({"nodeSelector": {"gpu": "l4"}, "resource": {"name": "nvidia.com/gpu", "count": "1"}, "sharing": "Exclusive",
                "memory": "24Gi", "cost": {"rented": {"usdPerHour": "0.8"}}}),
            json!({"observedGeneration": 1, "nodes": 2, "devices": 8, "free": 7, "utilizationPercent": 40, "hourlyCostUsd": "0.8"}),
        ),
        object(
            "GPUTier",
            "uncounted",
            json!({"nodeSelector": {"gpu": "h100"}, "resource": {"name": "nvidia.com/mig-1g.10gb", "count": "1"}, "sharing": "MIG",
                "memory": "80Gi", "cost": {"rented": {"usdPerHour": "3"}}}),
            json!({}),
        ),
        object(
            "ModelProfile",
            "llama-8b",
            json!({"source": "pvc://models/llama.gguf", "sha256": "0".repeat(64), "contextTokens": 8192, "memory": "9Gi"}),
            json!({"measured": [{"tier": "l4", "outputTokensPerSecond": 1500, "observed": "2026-02-27T12:00:00Z"}]}),
        ),
        object(
            "InferenceProvider",
            "acme",
            json!({"endpoint": "https://acme.example/v1", "jurisdiction": "EU", "priceBookRef": {"name": "prices"},
                "models": [{"name": "mini", "contextTokens": 8192}, {"name": "max", "contextTokens": 8192}]}),
            json!({"observedGeneration": 1, "circuit": "Closed"}),
        ),
        object(
            "InferencePriceBook",
            "prices",
            json!({"source": {"http": {"url": "https://prices.example/feed.json", "format": "LiteLLM"}}}),
            book_status("0.8"),
        ),
        object(
            "InferencePlacementPolicy",
            "default",
            json!({"minDwell": "1h", "operationsUsdPerMonth": "100"}),
            json!({}),
        ),
    ]
}

fn book_status(price: &str) -> Value {
    json!({"observedGeneration": 1, "revision": "r1", "asOf": "2026-03-01T09:00:00Z", "prices": [
        {"model": "max", "inputUsdPerMillionTokens": "3", "outputUsdPerMillionTokens": "15"},
        {"model": "mini", "inputUsdPerMillionTokens": price, "outputUsdPerMillionTokens": price},
    ]})
}

fn chat() -> Value {
    json!({
        "apiVersion": GROUP_VERSION, "kind": "InferenceWorkload", "metadata": {"name": "chat", "namespace": "team"},
        "spec": {
            "dataPolicy": {"egress": "Allowed", "allowedJurisdictions": ["EU"]},
            "demand": {"requestsPerMonth": 900_000, "inputTokens": {"p50": 900}, "outputTokens": {"p50": 180}},
            "placement": {"policyRef": {"name": "default"}},
            "targets": [
                {"name": "here", "local": {"modelRef": {"name": "llama-8b"}, "tiers": ["l4"], "scaling": {"maxReplicas": 4}}},
                {"name": "mini", "external": {"providerRef": {"name": "acme"}, "model": "mini"}},
                {"name": "max", "external": {"providerRef": {"name": "acme"}, "model": "max"}},
                {"name": "unknown", "external": {"providerRef": {"name": "acme"}, "model": "unknown"}},
            ],
        },
    })
}

fn cluster() -> SimApi {
    let api = SimApi::builder()
        .crds(weir_crds::all())
        .namespace("team")
        .namespace("other")
        .build();
    for object in fleet() {
        api.seed(&object).expect("seeds");
    }
    api
}

fn set_status(api: &SimApi, resource: &str, namespace: &str, name: &str, status: &Value) {
    let request = RequestInfo {
        actor: "controller".into(),
        verb: "patch".into(),
        group: "inference.weir.dev".into(),
        version: "v1alpha1".into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        subresource: "status".into(),
        content_type: "application/merge-patch+json".into(),
        body: json!({"status": status}),
        ..RequestInfo::default()
    };
    api.handle(&request).expect("is accepted");
}

/// A cluster whose operator has placed `chat` by the decision that a plan gives.
async fn placed() -> SimApi {
    let api = cluster();
    api.seed(&chat()).expect("seeds");
    let plan = online(&api, "plan chat -o json")
        .await
        .expect("plans")
        .output;
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let mut decision = plan[0]["decision"].clone();
    decision["time"] = json!("2026-03-01T10:30:00Z");
    decision["nextEvaluationTime"] = json!("2026-03-01T12:05:00Z");
    let id = decision["id"].clone();
    let status = json!({
        "observedGeneration": 1,
        "endpoint": {"url": "http://weir-gateway-cloud.weir-system.svc/w/u/v1", "model": "chat"},
        "clientKey": {"secretName": "chat-key", "sha256": "0".repeat(64), "counter": 0},
        "placement": {"target": "here", "location": "Local", "tier": "l4", "since": "2026-02-26T12:00:00Z",
            "weights": [{"target": "here", "weight": 100, "replicas": 1}, {"target": "mini", "weight": 0}, {"target": "max", "weight": 0}],
            "decisionId": id, "step": 3, "stepSince": "2026-02-26T12:00:00Z", "generation": 1, "phase": "Steady"},
        "decision": decision,
        "history": [
            {"id": "d-2", "time": "2026-02-26T12:00:00Z", "from": "mini", "to": "here", "reason": "LowerCost"},
            {"id": "d-1", "time": "2026-02-20T12:00:00Z", "to": "mini", "reason": "LowerCost"},
        ],
        "usage": {"since": "2026-02-20T12:00:00Z", "updated": "2026-03-01T11:58:00Z", "requests": 250_000, "errors": 12,
            "inputTokens": 225_000_000, "cachedInputTokens": 0, "outputTokens": 45_000_000, "localSharePercent": 71},
        "conditions": [
            {"type": "Placed", "status": "True", "reason": "Placed", "message": "on here", "observedGeneration": 1, "lastTransitionTime": "2026-02-20T12:00:00Z"},
            {"type": "Ready", "status": "True", "reason": "Serving", "message": "requests are served", "observedGeneration": 1, "lastTransitionTime": "2026-02-26T12:00:00Z"},
        ],
    });
    set_status(&api, "inferenceworkloads", "team", "chat", &status);
    let mut waiting = chat();
    waiting["metadata"] = json!({"name": "waiting", "namespace": "other"});
    api.seed(&waiting).expect("seeds");
    api
}

async fn output(api: &SimApi, line: &str) -> String {
    online(api, line).await.expect("answers").output
}

#[tokio::test]
async fn status_has_a_line_for_each_workload_and_one_in_full() {
    let api = placed().await;
    insta::assert_snapshot!("status", output(&api, "status").await);
    insta::assert_snapshot!("status_of_all_namespaces", output(&api, "status -A").await);
    insta::assert_snapshot!("status_of_one", output(&api, "status chat").await);
}

#[tokio::test]
async fn explain_has_the_whole_decision_and_makes_it_again() {
    let api = placed().await;
    let text = output(&api, "explain chat").await;
    insta::assert_snapshot!("explain", text);
    assert!(text.contains("live objects: the same."), "{text}");
}

#[tokio::test]
async fn explain_tells_what_has_changed_since_the_decision() {
    let api = placed().await;
    set_status(
        &api,
        "inferencepricebooks",
        "",
        "prices",
        &book_status("0.1"),
    );
    let text = output(&api, "explain chat").await;
    let at = text.find("Decided again").expect("is decided again");
    insta::assert_snapshot!("explain_after_a_price_change", &text[at..]);
}

#[tokio::test]
async fn explain_does_not_repeat_what_was_lost_to_other_workloads() {
    let api = placed().await;
    let workloads = "inferenceworkloads.inference.weir.dev";
    let mut status = api.object(workloads, "team", "chat").expect("exists")["status"].clone();
    let decision = &mut status["decision"];
    decision["reason"] = json!("OthersSaveMore");
    decision["target"] = json!("mini");
    decision["candidates"][0]["rejectedBy"] =
        json!([{"gate": "Capacity", "reason": "NoFreeDevice", "message": "others save more"}]);
    set_status(&api, "inferenceworkloads", "team", "chat", &status);
    let text = output(&api, "explain chat").await;
    assert!(text.contains("live objects: the same."), "{text}");
    let told = "not repeated: what other workloads save with the same devices";
    assert!(text.contains(told), "{text}");
}

#[tokio::test]
async fn models_that_stand_in_are_candidates_by_name() {
    let api = cluster();
    let spec = |models: Value| {
        json!({"endpoint": "https://acme.example/v1", "jurisdiction": "EU", "priceBookRef": {"name": "prices"},
            "models": models})
    };
    let models = json!([
        {"name": "mini", "contextTokens": 8192, "equivalenceGroup": "chat"},
        {"name": "max", "contextTokens": 8192, "equivalenceGroup": "chat"},
        {"name": "other", "contextTokens": 8192},
    ]);
    let apply = |object: Value| api.seed(&object).map(drop).expect("seeds");
    apply(object(
        "InferenceProvider",
        "equals",
        spec(models),
        json!({"circuit": "Closed"}),
    ));
    for (name, group) in [
        ("llama-8b-b", "chat"),
        ("llama-8b-c", "chat"),
        ("llama-8b-d", "code"),
    ] {
        let spec = json!({"source": format!("pvc://models/{name}.gguf"), "sha256": "0".repeat(64), "contextTokens": 8192,
            "memory": "9Gi", "equivalenceGroup": group,
            "assumedThroughput": [{"tier": "l4", "outputTokensPerSecond": 1500}]});
        apply(object("ModelProfile", name, spec, json!({})));
    }
    let mut equals = chat();
    equals["spec"]["capability"] = json!({"substitution": "EquivalentOnly"});
    equals["spec"]["targets"] = json!([
        {"name": "here", "local": {"modelRef": {"name": "llama-8b-b"}, "tiers": ["l4"]}},
        {"name": "cloud", "external": {"providerRef": {"name": "equals"}, "model": "max"}},
    ]);
    api.seed(&equals).expect("seeds");
    let text = output(&api, "plan chat").await;
    let names = ["here", "cloud", "here@llama-8b-c", "cloud@mini"];
    for name in names {
        assert!(text.contains(name), "{name}: {text}");
    }
    for name in ["llama-8b-d", "cloud@other", "cloud@max"] {
        assert!(!text.contains(name), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_workload_without_a_decision_is_told_as_such() {
    let api = cluster();
    api.seed(&chat()).expect("seeds");
    insta::assert_snapshot!(
        "explain_before_the_first_decision",
        output(&api, "explain chat").await
    );
    let full = output(&api, "status chat").await;
    insta::assert_snapshot!("status_before_the_first_decision", full);
}

#[tokio::test]
async fn top_has_tiers_and_workloads_by_cost() {
    let api = placed().await;
    insta::assert_snapshot!("top", output(&api, "top -A").await);
    let empty = SimApi::builder()
        .crds(weir_crds::all())
        .namespace("team")
        .build();
    insta::assert_snapshot!("top_of_nothing", output(&empty, "top").await);
}

#[tokio::test]
async fn a_placed_workload_is_planned_from_where_it_is() {
    let api = placed().await;
    let text = output(&api, "plan chat --price mini=0.05:0.05").await;
    insta::assert_snapshot!("plan_of_a_placed_workload", text);
}

#[tokio::test]
async fn what_files_do_not_hold_is_read_from_the_cluster() {
    let api = cluster();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chat.json");
    fs::write(&file, chat().to_string()).expect("writes");
    let of_file = online(&api, &format!("plan -f {} -o json", file.display()))
        .await
        .expect("plans");
    api.seed(&chat()).expect("seeds");
    let of_cluster = online(&api, "plan chat -o json").await.expect("plans");
    assert_eq!(decision(&of_file.output), decision(&of_cluster.output));
}

/// The decision of a plan but for what the spec's generation makes of its identity.
fn decision(output: &str) -> Value {
    let plans: Value = serde_json::from_str(output).expect("JSON");
    let mut decision = plans[0]["decision"].clone();
    decision["id"] = Value::Null;
    decision
}

#[tokio::test]
async fn no_command_writes() {
    let api = placed().await;
    api.clear_history();
    for line in [
        "status -A",
        "status chat",
        "explain chat",
        "plan chat",
        "top -A",
        "price diff book/prices book/prices",
    ] {
        online(&api, line).await.expect("answers");
    }
    assert_eq!(api.writes().len(), 0);
    assert!(!api.history().is_empty());
}

#[tokio::test]
async fn a_live_price_book_is_compared_with_a_feed() {
    let api = cluster();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("feed.json");
    let feed = json!({
        "mini": {"input_cost_per_token": 6e-7, "output_cost_per_token": 8e-7},
        "foreign": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6},
    });
    fs::write(&file, feed.to_string()).expect("writes");
    let text = output(&api, &format!("price diff book/prices {}", file.display())).await;
    insta::assert_snapshot!("price_diff_of_a_live_book", text);
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let api = cluster();
    let failure = |line: &'static str| {
        let api = api.clone();
        async move {
            let failure = online(&api, line).await.expect_err("fails");
            assert_eq!(failure.exit_status(), 1);
            failure.to_string()
        }
    };
    let mut told = vec![
        failure("explain nobody").await,
        failure("price diff book/none book/none").await,
    ];
    api.on_request(|_| Fault::RespondBefore(403));
    told.push(failure("status").await);
    let bare = SimApi::builder().namespace("team").build();
    told.push(online(&bare, "top").await.expect_err("fails").to_string());
    insta::assert_snapshot!("failures", told.join("\n"));
}

/// A book that holds a price back, one that is gone, and one that cannot be read.
fn holding() -> SimApi {
    let api = cluster();
    let since = "2026-03-01T11:00:00Z";
    let mut status = book_status("0.8");
    status["held"] = json!([
        {"model": "max", "found": "Unreadable", "reason": "the row cannot be read", "revision": "r-max", "since": since, "confirmations": 0},
        {"model": "mini", "found": "Price", "reason": "input price 2.4 USD per 1M tokens against 0.8 before: more than 2 times",
            "revision": "r-mini", "since": since, "confirmations": 0,
            "read": {"model": "mini", "inputUsdPerMillionTokens": "2.4", "outputUsdPerMillionTokens": "2.4"}},
    ]);
    set_status(&api, "inferencepricebooks", "", "prices", &status);
    api
}

fn confirmed(api: &SimApi) -> Value {
    let books = "inferencepricebooks.inference.weir.dev";
    let book = api.object(books, "", "prices").expect("exists");
    book["metadata"]["annotations"]["inference.weir.dev/confirm-prices"].clone()
}

#[tokio::test]
async fn a_held_price_is_confirmed_by_its_revision_with_both_numbers() {
    let api = holding();
    let text = output(&api, "price confirm prices").await;
    for told in [
        "mini",
        "0.8/0.8",
        "2.4/2.4",
        "more than 2 times",
        "Not max",
        "Confirmed 1 change",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert_eq!(confirmed(&api), json!("r-mini"));
    let by_provider = output(&api, "price confirm prices --provider acme --model mini").await;
    assert!(by_provider.contains("0.8/0.8"), "{by_provider}");
    assert_eq!(confirmed(&api), json!("r-mini"));
}

#[tokio::test]
async fn where_nothing_is_held_nothing_is_confirmed() {
    let api = holding();
    for (line, told) in [
        (
            "price confirm prices --model other",
            "holds nothing of model other",
        ),
        ("price confirm prices --model max", "cannot be read"),
        (
            "price confirm none",
            "InferencePriceBook none does not exist",
        ),
        (
            "price confirm prices --provider none",
            "InferenceProvider none does not exist",
        ),
    ] {
        let failure = online(&api, line).await.expect_err("is refused");
        assert!(failure.to_string().contains(told), "{failure}");
    }
    let quiet = cluster();
    let failure = online(&quiet, "price confirm prices")
        .await
        .expect_err("is refused");
    assert!(failure.to_string().contains("holds nothing"), "{failure}");
    assert_eq!(
        (confirmed(&api), confirmed(&quiet)),
        (Value::Null, Value::Null)
    );
}

/// Whoever may read workloads of a namespace and nothing of the cluster.
fn viewer(api: &SimApi) {
    api.on_request(|request| match request.resource.as_str() {
        "inferenceworkloads" | "pods" => Fault::Pass,
        _ => Fault::RespondBefore(403),
    });
}

#[tokio::test]
async fn what_may_not_be_read_is_never_said_not_to_exist() {
    let api = placed().await;
    viewer(&api);
    let failure = online(&api, "plan chat")
        .await
        .expect_err("is refused")
        .to_string();
    assert!(
        failure.contains("InferencePlacementPolicy default"),
        "{failure}"
    );
    assert!(failure.contains("may not read"), "{failure}");
    assert!(!failure.contains("does not exist"), "{failure}");
}

#[tokio::test]
async fn top_shows_the_workloads_of_who_may_not_read_tiers() {
    let api = placed().await;
    viewer(&api);
    let answer = online(&api, "top").await.expect("answers");
    assert!(answer.output.contains("chat"), "{}", answer.output);
    assert!(!answer.complete);
    assert_eq!(answer.warnings.len(), 1);
    assert!(answer.warnings[0].contains("you may not read gputiers"));
}
