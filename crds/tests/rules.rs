//! The CEL rules of the kinds, run without an API server.

use rstest::rstest;
use serde_json::{Value, json};
use weir_crds::{
    GPUTier, InferenceDemand, InferencePlacementPolicy, InferencePriceBook, InferenceProvider,
    InferenceWorkload, ModelProfile,
};

const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// A workload with a local and an external target that every rule admits.
fn workload() -> Value {
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
        "metadata": {"name": "chat", "namespace": "default"},
        "spec": {
            "dataPolicy": {"egress": "Allowed"},
            "demand": {"source": "Declared", "requestsPerMonth": 1000, "inputTokens": {"p50": 10, "p95": 20}},
            "targets": [
                {"name": "local", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}},
                {"name": "cloud", "external": {"providerRef": {"name": "p"}, "model": "x"}},
            ],
        },
    })
}

/// The object with the value at this pointer replaced; null removes it.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = object.pointer_mut(parent).expect("the parent is there");
    match (parent, value) {
        (Value::Object(fields), Value::Null) => drop(fields.remove(key)),
        (Value::Object(fields), value) => drop(fields.insert(key.to_owned(), value)),
        (Value::Array(items), value) => items[key.parse::<usize>().expect("an index")] = value,
        (other, _) => panic!("{other} has no fields"),
    }
    object
}

fn refusal(object: Value) -> Option<String> {
    let object: InferenceWorkload = serde_json::from_value(object).expect("a workload");
    object.validate_cel().err().map(|error| error.to_string())
}

#[test]
fn a_workload_that_breaks_no_rule_is_admitted() {
    assert_eq!(refusal(workload()), None);
}

#[rstest]
#[case::private_with_external("/spec/dataPolicy/egress", json!("Forbidden"), "no target may be external")]
#[case::no_policy_with_external("/spec/dataPolicy", Value::Null, "no target may be external")]
#[case::pinned_to_nothing("/spec/placement", json!({"mode": "Pinned"}), "needs placement.pinnedTarget")]
#[case::pinned_to_another("/spec/placement", json!({"mode": "Pinned", "pinnedTarget": "moon"}), "one of the targets")]
#[case::declared_without_figures("/spec/demand", json!({"source": "Declared"}), "needs demand.requestsPerMonth")]
#[case::quantiles_upside_down("/spec/demand/inputTokens", json!({"p50": 30, "p95": 20}), "p50 must not exceed p95")]
#[case::neither_side("/spec/targets/0", json!({"name": "local"}), "exactly one of local and external")]
#[case::both_sides("/spec/targets/0/external", json!({"providerRef": {"name": "p"}, "model": "x"}), "exactly one of local and external")]
#[case::scaling_upside_down("/spec/targets/0/local/scaling", json!({"minReplicas": 3, "maxReplicas": 2}), "must not exceed maxReplicas")]
#[case::long_name("/metadata/name", json!("n".repeat(64)), "at most 63")]
#[case::minutes_by_their_name("/spec/targets/0/local/scaling", json!({"idleAfter": "15min"}), "must be a duration such as 30s, 10m or 1h30m")]
#[case::a_number_without_a_unit("/spec/slo", json!({"ttft": "800"}), "must be a duration")]
#[case::words("/spec/traffic", json!({"canary": {"steps": [{"weight": 5, "pause": "5 minutes"}]}}), "must be a duration")]
#[case::a_window_of_nothing("/spec/operations", json!({"maintenanceWindow": {"schedule": "0 2 * * 6", "duration": "0h"}}), "at least 1s")]
#[case::four_fields("/spec/operations", json!({"maintenanceWindow": {"schedule": "0 2 * *", "duration": "1h"}}), "five cron fields")]
#[case::falling_canary("/spec/traffic", json!({"canary": {"steps": [{"weight": 50, "pause": "1m"}, {"weight": 20, "pause": "1m"}]}}), "must rise from step to step")]
#[case::level_canary("/spec/traffic", json!({"canary": {"steps": [{"weight": 20, "pause": "1m"}, {"weight": 20, "pause": "1m"}]}}), "must rise from step to step")]
#[case::more_errors_than_requests("/spec/traffic", json!({"canary": {"maxErrorPercent": "100.5"}}), "from 0 to 100")]
#[case::a_score_in_words("/spec/capability", json!({"minQuality": {"benchmark": "mmlu", "score": "good"}}), "must be a decimal number")]
#[case::a_name_with_a_space("/spec/servedModelName", json!("has space/slash"), "a URL's path can carry")]
#[case::a_name_with_a_percent("/spec/servedModelName", json!("a%2Fb"), "a URL's path can carry")]
#[case::a_name_that_climbs("/spec/servedModelName", json!("a/../b"), "a URL's path can carry")]
#[case::a_name_with_nothing_between("/spec/servedModelName", json!("a//b"), "a URL's path can carry")]
#[case::a_target_in_capitals("/spec/targets/0/name", json!("Local"), "lower-case letters")]
fn a_workload_that_breaks_a_rule_is_refused(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] message: &str,
) {
    let refused = refusal(with(workload(), pointer, value)).expect("refused");
    assert!(refused.contains(message), "{refused}");
    assert!(!refused.contains('^'), "a pattern is no help: {refused}");
}

#[rstest]
#[case::rising_canary("/spec/traffic", json!({"canary": {"steps": [{"weight": 5, "pause": "0s"}, {"weight": 20, "pause": "1h30m"}], "maxErrorPercent": "100"}}))]
#[case::no_canary("/spec/traffic", json!({"canary": {"steps": [], "maxErrorPercent": "0.25"}}))]
#[case::days("/spec/targets/0/local/scaling", json!({"idleAfter": "7d"}))]
#[case::a_name_as_hubs_have_it("/spec/servedModelName", json!("meta-llama/Llama-3.1_8B:free"))]
#[case::a_window("/spec/operations", json!({"maintenanceWindow": {"schedule": "0 2 * * 6", "duration": "4h"}}))]
fn what_has_a_meaning_is_admitted(#[case] pointer: &str, #[case] value: Value) {
    assert_eq!(refusal(with(workload(), pointer, value)), None);
}

#[rstest]
#[case::loosened("Forbidden", "Allowed")]
#[case::tightened("Allowed", "Forbidden")]
fn egress_never_changes(#[case] before: &str, #[case] after: &str) {
    let local = with(
        workload(),
        "/spec/targets",
        json!([{"name": "local", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}}]),
    );
    let object = |egress: &str| -> InferenceWorkload {
        serde_json::from_value(with(
            local.clone(),
            "/spec/dataPolicy/egress",
            json!(egress),
        ))
        .expect("a workload")
    };
    let refused = object(after)
        .validate_cel_update(&object(before))
        .expect_err("refused")
        .to_string();
    assert!(refused.contains("immutable"), "{refused}");
    assert!(object(before).validate_cel_update(&object(before)).is_ok());
}

#[test]
fn an_omitted_data_policy_cannot_become_allowed_later() {
    let local = json!([{"name": "local", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}}]);
    let omitted = with(
        with(workload(), "/spec/targets", local),
        "/spec/dataPolicy",
        Value::Null,
    );
    let before: InferenceWorkload = serde_json::from_value(omitted.clone()).expect("a workload");
    let allowed = with(omitted, "/spec/dataPolicy", json!({"egress": "Allowed"}));
    let after: InferenceWorkload = serde_json::from_value(allowed).expect("a workload");
    assert!(after.validate_cel_update(&before).is_err());
}

#[rstest]
#[case("https://api.example.com/v1", true)]
#[case("http://api.example.com/v1", false)]
#[case("https://user@api.example.com/v1", false)]
#[case("https://api.example.com/v1?key=1", false)]
#[case("api.example.com", false)]
fn a_provider_is_reached_by_plain_https_urls_only(#[case] endpoint: &str, #[case] admitted: bool) {
    let provider = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceProvider", "metadata": {"name": "p"},
        "spec": {"endpoint": endpoint, "models": [{"name": "x"}]},
    });
    let provider: InferenceProvider = serde_json::from_value(provider).expect("a provider");
    assert_eq!(provider.validate_cel().is_ok(), admitted);
}

#[rstest]
#[case("pvc://models/a.gguf", true)]
#[case("pvc://models/folder/a.gguf", true)]
#[case("hf://org/model", false)]
#[case("pvc://models/../a.gguf", false)]
#[case("pvc://models/", false)]
#[case("pvc://models", false)]
fn a_model_comes_from_a_claim_only(#[case] source: &str, #[case] admitted: bool) {
    let profile = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "ModelProfile", "metadata": {"name": "m"},
        "spec": {"source": source, "sha256": SHA256, "contextTokens": 8192, "memory": "512Mi"},
    });
    let profile: ModelProfile = serde_json::from_value(profile).expect("a profile");
    assert_eq!(profile.validate_cel().is_ok(), admitted, "{source}");
}

#[rstest]
#[case(json!({"inline": {"entries": [{"model": "x", "inputUsdPerMillionTokens": "1", "outputUsdPerMillionTokens": "2"}]}}), true)]
#[case(json!({"http": {"url": "https://prices.example.com/p.json"}}), true)]
#[case(json!({"http": {"url": "http://prices.example.com/p.json"}}), false)]
#[case(json!({}), false)]
#[case(json!({"http": {"url": "https://prices.example.com/p.json"}, "configMapRef": {"name": "a", "key": "b"}}), false)]
fn a_price_book_has_exactly_one_source(#[case] source: Value, #[case] admitted: bool) {
    let book = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePriceBook", "metadata": {"name": "b"},
        "spec": {"source": source},
    });
    let book: InferencePriceBook = serde_json::from_value(book).expect("a book");
    assert_eq!(book.validate_cel().is_ok(), admitted);
}

#[rstest]
#[case("CPU", "cpu", "250m", json!({"rented": {"usdPerHour": "1"}}), true)]
#[case("CPU", "nvidia.com/gpu", "1", json!({"rented": {"usdPerHour": "1"}}), false)]
#[case("Exclusive", "nvidia.com/gpu", "250m", json!({"rented": {"usdPerHour": "1"}}), false)]
#[case("Exclusive", "nvidia.com/gpu", "1", json!({}), false)]
#[case("MIG", "nvidia.com/mig-1g.10gb", "1", json!({"rented": {"usdPerHour": "1"}}), true)]
#[case("MIG", "nvidia.com/mig-1g.10gb", "0", json!({"rented": {"usdPerHour": "1"}}), false)]
#[case("MIG", "nvidia.com/gpu", "1", json!({"rented": {"usdPerHour": "1"}}), false)]
#[case("CPU", "cpu", "0m", json!({"rented": {"usdPerHour": "1"}}), false)]
#[case("CPU", "cpu", "1", json!({"rented": {"usdPerHour": "$1"}}), false)]
#[case("CPU", "cpu", "1", json!({"rented": {"usdPerHour": "1"}, "power": {"usdPerKilowattHour": "0.2", "watts": 10, "pue": "0.9"}}), false)]
#[case("CPU", "cpu", "1", json!({"rented": {"usdPerHour": "1"}, "power": {"usdPerKilowattHour": "0.2", "watts": 10, "pue": "1.2"}}), true)]
#[case("Exclusive", "nvidia.com/gpu", "1", json!({"rented": {"usdPerHour": "1"}, "owned": {"purchaseUsd": "1", "amortizationMonths": 1}}), false)]
fn a_tier_is_consistent(
    #[case] sharing: &str,
    #[case] resource: &str,
    #[case] count: &str,
    #[case] cost: Value,
    #[case] admitted: bool,
) {
    let tier = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUTier", "metadata": {"name": "t"},
        "spec": {"nodeSelector": {}, "resource": {"name": resource, "count": count}, "sharing": sharing, "memory": "1Gi", "cost": cost},
    });
    let tier: GPUTier = serde_json::from_value(tier).expect("a tier");
    assert_eq!(tier.validate_cel().is_ok(), admitted);
}

/// Every property with a pattern or a rule that is asked for a value it refuses says what it wants in words.
#[rstest]
#[case::a_price_per_token("0.00000035", "USD per million tokens")]
#[case::a_price_with_a_currency("$0.35", "USD per million tokens")]
#[case::an_exponent("1e-6", "USD per million tokens")]
fn a_price_that_cannot_be_read_is_refused_in_words(#[case] price: &str, #[case] words: &str) {
    let entry = |input: &str| json!({"model": "x", "inputUsdPerMillionTokens": input, "outputUsdPerMillionTokens": "2"});
    let book = |entry: Value| {
        let book = json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePriceBook", "metadata": {"name": "b"},
            "spec": {"source": {"inline": {"entries": [entry]}}},
        });
        let book: InferencePriceBook = serde_json::from_value(book).expect("a book");
        book.validate_cel().map_err(|refused| refused.to_string())
    };
    assert_eq!(book(entry("0.35")), Ok(()));
    let refused = book(entry(price)).expect_err("refused");
    assert!(refused.contains(words), "{refused}");
    let mut tiered = entry("0.35");
    tiered["contextTiers"] = json!([{"aboveInputTokens": 1, "inputUsdPerMillionTokens": price, "outputUsdPerMillionTokens": "2"}]);
    assert!(book(tiered).is_err());
}

#[rstest]
#[case(json!({"interval": "0s"}), json!({}), "at least 1s")]
#[case(json!({"interval": "900ms"}), json!({}), "at least 1s")]
#[case(json!({"interval": "1 hour"}), json!({}), "must be a duration")]
#[case(json!({}), json!({"maxChangeRatio": "0.5"}), "at least 1")]
fn what_would_be_corrected_in_silence_is_refused(
    #[case] http: Value,
    #[case] guard: Value,
    #[case] words: &str,
) {
    let mut source = json!({"url": "https://prices.example.com/p.json"});
    for (key, value) in http.as_object().expect("fields") {
        source[key] = value.clone();
    }
    let book = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePriceBook", "metadata": {"name": "b"},
        "spec": {"source": {"http": source}, "guard": guard},
    });
    let book: InferencePriceBook = serde_json::from_value(book).expect("a book");
    let refused = book.validate_cel().expect_err("refused").to_string();
    assert!(refused.contains(words), "{refused}");
}

#[rstest]
#[case("1s", true)]
#[case("1m0s", true)]
#[case("1500ms", true)]
#[case("0s", false)]
#[case("0m0s", false)]
#[case("999ms", false)]
fn evaluations_are_a_second_apart_at_least(#[case] interval: &str, #[case] admitted: bool) {
    let policy = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePlacementPolicy", "metadata": {"name": "p"},
        "spec": {"confirmation": {"interval": interval}},
    });
    let policy: InferencePlacementPolicy = serde_json::from_value(policy).expect("a policy");
    assert_eq!(policy.validate_cel().is_ok(), admitted, "{interval}");
}

/// The rules and the parsers agree: what the schema admits can be read.
#[rstest]
#[case("1h30m")]
#[case("1d2h3m4s")]
#[case("15min")]
#[case("1h 30m")]
#[case("")]
#[case("h")]
#[case("0s")]
fn a_duration_is_admitted_where_it_can_be_read(#[case] text: &str) {
    let object = with(workload(), "/spec/slo", json!({"ttft": text}));
    let admitted = refusal(object).is_none();
    assert_eq!(
        admitted,
        weir_crds::quantity::duration(text).is_ok(),
        "{text}"
    );
}

#[rstest]
#[case(json!({"movesPerHour": 5}), true)]
#[case(json!({"percentPerHour": 5}), true)]
#[case(json!({}), false)]
fn a_move_budget_has_a_limit(#[case] budget: Value, #[case] admitted: bool) {
    let policy = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePlacementPolicy", "metadata": {"name": "p"},
        "spec": {"moveBudget": budget},
    });
    let policy: InferencePlacementPolicy = serde_json::from_value(policy).expect("a policy");
    assert_eq!(policy.validate_cel().is_ok(), admitted);
}

#[rstest]
#[case("2026-11-25T13:00:00Z", json!([5, 0]), true)]
#[case("2026-11-25T13:00:00Z", json!([5]), false)]
#[case("2026-11-25T13:01:00Z", json!([5, 0]), false)]
fn recorded_hours_are_whole_and_have_every_count(
    #[case] start: &str,
    #[case] output: Value,
    #[case] admitted: bool,
) {
    let run = json!({"start": start, "requests": [1, 0], "inputTokens": [10, 0], "cachedInputTokens": [10, 0],
        "outputTokens": output});
    let record = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceDemand", "metadata": {"name": "d"}, "spec": {},
        "status": {"runs": [run]},
    });
    let record: InferenceDemand = serde_json::from_value(record).expect("a record");
    assert_eq!(record.validate_cel().is_ok(), admitted);
}

#[test]
fn a_status_has_bounds_and_no_rules_that_could_refuse_it() {
    for crd in weir_crds::all() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let crd = serde_json::to_value(&crd).expect("JSON");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        relaxed(&format!("{name}.status"), &schema["properties"]["status"]);
    }
}

fn relaxed(path: &str, schema: &Value) {
    for rule in ["pattern", "minLength", "default"] {
        assert!(schema[rule].is_null(), "{path} has {rule}");
    }
    let free_text = schema["type"] == "string" && schema["enum"].is_null();
    if free_text && schema["format"].is_null() {
        assert!(schema["maxLength"].is_u64(), "{path} has no bound");
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        relaxed(&format!("{path}.{key}"), property);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            relaxed(&format!("{path}.{inner}"), &schema[inner]);
        }
    }
}

#[test]
fn every_property_is_explained_and_no_key_is_a_yaml_boolean() {
    for crd in weir_crds::all() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let crd = serde_json::to_value(&crd).expect("JSON");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        visit(&name, schema);
    }
}

fn visit(path: &str, schema: &Value) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        let description = property["description"].as_str().unwrap_or_default();
        assert!(description.len() >= 20, "{path}: {description:?}");
        let yaml_boolean = ["y", "n", "yes", "no", "on", "off", "true", "false"]
            .contains(&key.to_lowercase().as_str());
        assert!(!yaml_boolean, "{path} is a boolean to YAML 1.1");
        visit(&path, property);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            visit(&format!("{path}.{inner}"), &schema[inner]);
        }
    }
}
