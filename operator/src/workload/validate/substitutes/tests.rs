//! Which substitutes a workload's targets have.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_crds::{InferencePriceBook, InferenceProvider, InferenceWorkload};
use weir_placement::PriceState;

use super::*;
use crate::workload::facts::{Children, Traffic};
use crate::workload::validate::validate;

fn facts(capability: Value, status: Value) -> Facts {
    let workload = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
        "metadata": {"name": "chat", "namespace": "team", "uid": "u"},
        "spec": {
            "dataPolicy": {"egress": "Allowed"}, "capability": capability,
            "targets": [
                {"name": "here", "local": {"modelRef": {"name": "b"}, "tiers": ["t"]}},
                {"name": "cloud", "external": {"providerRef": {"name": "acme"}, "model": "mini"}},
                {"name": "gone", "external": {"providerRef": {"name": "nobody"}, "model": "mini"}},
            ],
        },
        "status": status,
    });
    let workload: InferenceWorkload = serde_json::from_value(workload).expect("a workload");
    Facts {
        witnessed: crate::clock::Witnessed::default(),
        now: Timestamp::UNIX_EPOCH,
        workload: Arc::new(workload),
        policy: None,
        models: [
            ("a", "models"),
            ("b", "models"),
            ("c", "others"),
            ("d", "models"),
        ]
        .map(|(name, claim)| (name.to_owned(), Arc::new(profile(name, claim))))
        .into(),
        providers: BTreeMap::from([("acme".to_owned(), Arc::new(provider()))]),
        price_books: BTreeMap::from([("prices".to_owned(), Arc::new(prices()))]),
        tiers: BTreeMap::new(),
        utilization: BTreeMap::new(),
        children: Children::default(),
        traffic: Traffic::unheard(),
    }
}

fn profile(name: &str, claim: &str) -> ModelProfile {
    let memory = if name == "d" { "a lot" } else { "512Mi" };
    let spec = json!({
        "source": format!("pvc://{claim}/{name}.gguf"), "sha256": "0".repeat(64), "contextTokens": 2048,
        "memory": memory, "equivalenceGroup": "chat",
    });
    ModelProfile::new(name, serde_json::from_value(spec).expect("a spec"))
}

fn provider() -> InferenceProvider {
    let spec = json!({
        "endpoint": "https://acme.example/v1", "priceBookRef": {"name": "prices"},
        "models": [
            {"name": "nano:free", "equivalenceGroup": "chat"},
            {"name": "mini", "equivalenceGroup": "chat"},
            {"name": "embed"},
            {"name": "wise", "capabilities": ["Tools"]},
            {"name": "org/Large v2", "equivalenceGroup": "chat", "priceKey": "large"},
            {"name": "\u{1f600}".repeat(100), "equivalenceGroup": "chat"},
        ],
    });
    InferenceProvider::new("acme", serde_json::from_value(spec).expect("a spec"))
}

fn prices() -> InferencePriceBook {
    let spec = json!({"source": {"inline": {"entries": []}}});
    let price = |model: &str| json!({"model": model, "inputUsdPerMillionTokens": "1", "outputUsdPerMillionTokens": "2"});
    let mut book = InferencePriceBook::new("prices", serde_json::from_value(spec).expect("a spec"));
    let status =
        json!({"revision": "r", "asOf": "1970-01-01T00:00:00Z", "prices": [price("large")]});
    book.status = serde_json::from_value(status).expect("a status");
    book
}

fn names(capability: Value, status: Value) -> Vec<String> {
    let validated = validate(&facts(capability, status)).expect("valid");
    // What cannot be read of other models is nobody's problem.
    assert_eq!(validated.unresolved.len(), 2, "{:?}", validated.unresolved);
    let substitutes = validated.input.substitutes.into_iter();
    substitutes
        .map(|substitute| substitute.target.name)
        .collect()
}

const LARGE: &str = "cloud@org/Large%20v2";

#[test]
fn targets_have_the_models_of_their_provider_or_claim_that_may_stand_in() {
    let equal = ["here@a", "cloud@nano:free", LARGE];
    assert_eq!(
        names(json!({"substitution": "EquivalentOnly"}), Value::Null),
        equal
    );
    assert_eq!(
        names(json!({}), Value::Null),
        equal,
        "nothing says what is capable"
    );
    let capable = json!({"substitution": "AnyCapable", "required": ["Tools"]});
    assert_eq!(names(capable, Value::Null), ["cloud@wise"]);
    let forbidden = json!({"substitution": "Forbidden"});
    assert!(names(forbidden, Value::Null).is_empty());
}

#[test]
fn a_substitute_in_use_is_there_for_the_gates_to_judge() {
    let placement = json!({"placement": {
        "target": "cloud@embed", "location": "External", "since": "2026-01-01T00:00:00Z", "weights": [],
        "decisionId": "d", "step": 1, "stepSince": "2026-01-01T00:00:00Z", "generation": 1,
    }});
    let strict = json!({"substitution": "EquivalentOnly", "required": ["Tools"]});
    assert_eq!(names(strict, placement), ["cloud@embed"]);
}

#[test]
fn a_substitute_has_the_price_of_its_model_or_none() {
    let facts = facts(json!({"substitution": "EquivalentOnly"}), Value::Null);
    let validated = validate(&facts).expect("valid");
    let price = |name: &str| {
        let mut substitutes = validated.input.substitutes.iter();
        let substitute = substitutes
            .find(|it| it.target.name == name)
            .expect("is there");
        match &substitute.target.kind {
            TargetKind::External(external) => external
                .price
                .as_ref()
                .map(|price| (price.output.get(), price.state)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(price(LARGE), Some((2_000_000, PriceState::Fresh)));
    assert_eq!(price("cloud@nano:free"), None);
}

#[test]
fn claims_are_those_of_named_profiles_where_others_may_stand_in() {
    let claims = |capability: Value| {
        let facts = facts(capability, Value::Null);
        let profile = |name: &str| facts.models.get(name).map(AsRef::as_ref);
        claims_of(&facts.workload.spec, profile)
    };
    assert_eq!(claims(json!({})), BTreeSet::from(["models".to_owned()]));
    assert!(claims(json!({"substitution": "Forbidden"})).is_empty());
}

#[test]
fn a_model_of_a_provider_stands_in_once_and_not_where_a_target_has_it() {
    let mut facts = facts(json!({"substitution": "EquivalentOnly"}), Value::Null);
    let workload = Arc::make_mut(&mut facts.workload);
    let large = json!({"name": "large", "external": {"providerRef": {"name": "acme"}, "model": "org/Large v2"}});
    let second = serde_json::from_value(large).expect("a target");
    workload.spec.targets.push(second);
    let validated = validate(&facts).expect("valid");
    let substitutes = validated.input.substitutes.iter();
    let names: Vec<&str> = substitutes.map(|it| it.target.name.as_str()).collect();
    assert_eq!(names, ["here@a", "cloud@nano:free"]);
}

#[test]
fn devices_of_pods_that_ended_are_not_held() {
    let placement = json!({"placement": {
        "target": "here", "location": "Local", "tier": "t", "since": "2026-01-01T00:00:00Z", "weights": [],
        "decisionId": "d", "step": 1, "stepSince": "2026-01-01T00:00:00Z", "generation": 1,
    }});
    let mut facts = facts(json!({}), placement);
    let pod = |phase: &str| {
        let pod = json!({
            "metadata": {"labels": {weir_crds::names::LABEL_TARGET: "here"}},
            "spec": {"nodeName": "n", "containers": []}, "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    };
    facts.children.pods = ["Running", "Failed", "Succeeded", "Pending"]
        .map(pod)
        .into();
    let current = validate(&facts).expect("valid").input.current;
    let held = current.expect("is placed").held;
    assert_eq!(held, BTreeMap::from([("t".to_owned(), 2)]));
}

#[test]
fn the_qualified_model_itself_stands_in_where_its_name_is_listed_without_a_group() {
    let mut facts = facts(json!({}), Value::Null);
    let provider = facts.providers.get_mut("acme").expect("is there");
    let same = serde_json::from_value(json!({"name": "b"})).expect("a model");
    Arc::make_mut(provider).spec.models.push(same);
    let validated = validate(&facts).expect("valid");
    let mut substitutes = validated.input.substitutes.iter();
    assert!(substitutes.any(|it| it.target.name == "cloud@b"));
}
