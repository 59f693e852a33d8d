//! `plan` of the chart's examples, without a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use kubectl_weir::files;
use serde_json::{Value, json};
use weir_crds::{GPUTier, InferencePriceBook};
use weir_operator::workload::decide::{Considered, render};
use weir_operator::workload::facts::{Children, Facts, Traffic};
use weir_operator::workload::validate::validate;

use super::support::{EXAMPLES, PRICES, now, offline};

async fn plan(rest: &str) -> kubectl_weir::Answer {
    offline(&format!("plan -f {EXAMPLES} {rest}"))
        .await
        .expect("plans")
}

#[tokio::test]
async fn the_examples_are_planned_without_a_cluster() {
    let answer = plan(PRICES).await;
    assert!(answer.complete, "{:?}", answer.warnings);
    assert_eq!(answer.warnings, Vec::<String>::new());
    insta::assert_snapshot!("plan_of_the_examples", answer.output);
    let wide = |line: &&str| line.chars().count() > 80;
    assert_eq!(
        answer.output.lines().filter(wide).collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
    assert!(
        !answer.output.contains('\u{1b}'),
        "colour where no terminal is"
    );
}

#[tokio::test]
async fn a_plan_without_prices_says_what_is_missing_and_how_to_give_it() {
    let answer = plan("").await;
    assert!(!answer.complete);
    insta::assert_snapshot!("plan_without_prices", answer.output);
    insta::assert_snapshot!("plan_without_prices_warnings", answer.warnings.join("\n"));
}

#[tokio::test]
async fn a_plan_as_json_is_the_decision() {
    let answer = plan(&format!("hybrid -o json {PRICES}")).await;
    let mut plans: Value = serde_json::from_str(&answer.output).expect("JSON");
    let points = plans[0]["curve"]["points"]
        .as_array()
        .expect("points")
        .len();
    assert_eq!(points, 68);
    plans[0]["curve"]["points"] = json!("68 of them");
    insta::assert_json_snapshot!("plan_as_json", plans);
}

#[tokio::test]
async fn prices_of_a_catalogue_are_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prices.json");
    let catalogue = json!({
        "sample_spec": {"input_cost_per_token": 0.0},
        "acme-small": {"input_cost_per_token": 2.8e-07, "output_cost_per_token": 1.1e-06},
        "acme-frontier": {"input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05},
    });
    fs::write(&file, catalogue.to_string()).expect("writes");
    let by_file = plan(&format!("--prices {}", file.display())).await;
    assert_eq!(by_file.output, plan(PRICES).await.output);
}

#[tokio::test]
async fn a_price_that_the_guard_would_hold_is_planned_with_and_told() {
    let answer = plan(&format!("hybrid {PRICES} --price acme-small=2.80:1.10")).await;
    assert!(
        answer.output.contains("price guard would hold acme-small"),
        "{}",
        answer.output
    );
}

#[tokio::test]
async fn an_object_that_is_nowhere_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("private.yaml");
    fs::copy(format!("{EXAMPLES}/private.yaml"), &copy).expect("copies");
    let answer = offline(&format!("plan -f {}", copy.display()))
        .await
        .expect("plans");
    assert!(!answer.complete);
    insta::assert_snapshot!("plan_without_its_objects", answer.output);
    let told = answer.warnings.join("\n");
    assert!(told.contains("GPUTier cpu does not exist"), "{told}");
    assert!(told.contains("no cluster can be reached"), "{told}");
}

#[tokio::test]
async fn wrong_prices_are_usage_errors_that_name_the_models() {
    for (price, named) in [
        ("huge=1:2", "acme/acme-small"),
        ("acme-small=1", "acme-small=1:OUTPUT"),
    ] {
        let failure = offline(&format!("plan -f {EXAMPLES} --price {price}"))
            .await
            .expect_err("is refused");
        assert_eq!(failure.exit_status(), 2);
        assert!(failure.to_string().contains(named), "{failure}");
    }
}

#[tokio::test]
async fn files_without_a_workload_are_a_usage_error() {
    let failure = offline(&format!("plan -f {EXAMPLES}/fleet.yaml"))
        .await
        .expect_err("nothing to plan");
    assert_eq!(failure.exit_status(), 2);
    assert!(
        failure.to_string().contains("InferenceWorkload"),
        "{failure}"
    );
}

/// The examples as the operator would read them from a cluster that has one node for each tier and those prices.
fn facts(name: &str) -> Facts {
    let objects = files::objects(&[PathBuf::from(EXAMPLES)]).expect("readable");
    let mut workload = objects.workload(name, None).expect("an example").clone();
    workload.metadata.namespace = Some("default".to_owned());
    let hourly = BTreeMap::from([("cpu", "0.04"), ("a100-mig-2g", "0.251763")]);
    let counted = |(name, tier): (&String, &GPUTier)| {
        let status = json!({"nodes": 1, "hourlyCostUsd": hourly[name.as_str()]});
        let status = serde_json::from_value(status).expect("a status");
        let tier = GPUTier {
            status: Some(status),
            ..tier.clone()
        };
        (name.clone(), Arc::new(tier))
    };
    let prices = json!({"asOf": now(), "revision": "r", "prices": [
        {"model": "acme-frontier", "inputUsdPerMillionTokens": "3", "outputUsdPerMillionTokens": "15"},
        {"model": "acme-small", "inputUsdPerMillionTokens": "0.28", "outputUsdPerMillionTokens": "1.1"},
    ]});
    let prices = serde_json::from_value(prices).expect("a status");
    let book = InferencePriceBook {
        status: Some(prices),
        ..objects.price_books["acme"].clone()
    };
    let all = |(name, object): (&String, _)| (name.clone(), object);
    Facts {
        witnessed: weir_operator::clock::Witnessed::default(),
        now: now(),
        policy: Some(Arc::new(objects.policies["default"].clone())),
        models: objects
            .models
            .iter()
            .map(|(name, object)| all((name, Arc::new(object.clone()))))
            .collect(),
        providers: objects
            .providers
            .iter()
            .map(|(name, object)| (name.clone(), Arc::new(object.clone())))
            .collect(),
        price_books: BTreeMap::from([("acme".to_owned(), Arc::new(book))]),
        tiers: objects.tiers.iter().map(counted).collect(),
        utilization: BTreeMap::new(),
        children: Children::default(),
        traffic: Traffic::unheard(),
        workload: Arc::new(workload),
    }
}

#[tokio::test]
async fn a_plan_of_an_example_is_what_the_operator_decides() {
    let answer = plan(&format!("-o json {PRICES}")).await;
    let plans: Value = serde_json::from_str(&answer.output).expect("JSON");
    let plans = plans.as_array().expect("a list");
    let names: Vec<&Value> = plans.iter().map(|plan| &plan["name"]).collect();
    assert_eq!(names, ["frontier", "hybrid", "private"]);
    for plan in plans {
        let name = plan["name"].as_str().expect("a name");
        let validated = validate(&facts(name)).expect("valid");
        assert_eq!(validated.unresolved, Vec::new());
        // An object that was never stored has no UID: the plan tells workloads apart by their names.
        let identity = format!("default/{name}");
        let decision = Considered::new(&identity, &validated, None)
            .decide_alone(now())
            .expect("decides");
        let mut decided = json!(render(&decision, None, now()));
        let mut planned = plan["decision"].clone();
        for decision in [&mut decided, &mut planned] {
            if let Some(book) = decision["inputs"].get_mut("priceBook") {
                book["revision"] = Value::Null;
            }
        }
        assert_eq!(planned, decided, "{name}");
    }
}

#[tokio::test]
async fn a_cause_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chat.yaml");
    let example = fs::read_to_string(format!("{EXAMPLES}/private.yaml")).expect("an example");
    fs::write(
        &file,
        example.replace("requestsPerMonth: ", "requestsPerMonth: -"),
    )
    .expect("writes");
    let failure = offline(&format!("plan -f {}", file.display()))
        .await
        .expect_err("is refused");
    let text = kubectl_weir::described(&failure);
    assert!(text.contains("requestsPerMonth"), "{text}");
    assert!(text.matches("because:").count() <= 1, "{text}");
    assert!(!text.contains("18446744073709551615"), "{text}");
}
