use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A workload's only target on a tier.
fn checked(template: Value, tier: Value) -> Result<(), String> {
    let local = json!({"modelRef": {"name": "m"}, "tiers": ["t"], "podTemplate": template});
    let spec = json!({"targets": [{"name": "here", "local": local}]});
    let spec: InferenceWorkloadSpec = serde_json::from_value(spec).expect("a spec");
    let tier: GPUTier = serde_json::from_value(tier).expect("a tier");
    check(&spec, &[("t".to_owned(), Arc::new(tier))].into()).map_err(|refused| refused.to_string())
}

fn tier(resource: &str) -> Value {
    json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUTier", "metadata": {"name": "t"},
        "spec": {"nodeSelector": {"a": "b"}, "resource": {"name": resource, "count": "1"}, "sharing": "CPU",
            "memory": "1Gi", "cost": {"rented": {"usdPerHour": "1"}}}})
}

fn tier_that_allows(allowed: Value) -> Value {
    let mut tier = tier("cpu");
    tier["spec"]["allowedPodTemplate"] = allowed;
    tier
}

#[test]
fn a_pod_template_takes_no_devices_of_another_tier() {
    let asks = |resource: &str| json!({"resources": {"limits": {resource: "3", "memory": "1Gi"}}});
    let checked = |asked, of_tier| checked(asks(asked), tier(of_tier));
    assert_eq!(checked("nvidia.com/gpu", "nvidia.com/gpu"), Ok(()));
    assert_eq!(checked("cpu", "nvidia.com/gpu"), Ok(()));
    assert_eq!(
        checked("nvidia.com/gpu", "cpu").expect_err("another tier's"),
        "targets[here].local.podTemplate.resources.limits[nvidia.com/gpu]: tier t has no nvidia.com/gpu; take the \
         entry out, or name a tier whose resource it is"
    );
}

#[rstest]
#[case::an_annotation(json!({"annotations": {"example.com/a": "b"}}), "annotations[example.com/a]", "annotations")]
#[case::a_priority(json!({"priorityClassName": "system-node-critical"}), "priorityClassName", "priorityClassNames")]
#[case::a_toleration(json!({"tolerations": [{"operator": "Exists"}]}), "tolerations[0]", "tolerations")]
fn what_reaches_beyond_a_namespace_needs_the_tier_to_allow_it(
    #[case] template: Value,
    #[case] field: &str,
    #[case] list: &str,
) {
    for tier in [tier("cpu"), tier_that_allows(json!({}))] {
        let refused = checked(template.clone(), tier).expect_err("not allowed");
        let expected = format!(
            "targets[here].local.podTemplate.{field}: tier t does not allow it; take it out, or have it added to \
             spec.allowedPodTemplate.{list} of the GPUTier"
        );
        assert_eq!(refused, expected);
    }
}

#[rstest]
#[case::the_same_key(json!(["example.com/a"]), "example.com/a", true)]
#[case::another_key(json!(["example.com/a"]), "example.com/ab", false)]
#[case::a_prefix(json!(["example.com/*"]), "example.com/a", true)]
#[case::another_prefix(json!(["example.com/*"]), "example.org/a", false)]
#[case::every_key(json!(["*"]), "a", true)]
fn annotations_are_allowed_by_key_or_prefix(
    #[case] allowed: Value,
    #[case] key: &str,
    #[case] expected: bool,
) {
    let template = json!({"annotations": {key: "b"}});
    let checked = checked(template, tier_that_allows(json!({"annotations": allowed})));
    assert_eq!(checked.is_ok(), expected);
}

#[rstest]
#[case("batch", true)]
#[case("batch-high", false)]
fn priority_classes_are_allowed_by_name(#[case] class: &str, #[case] expected: bool) {
    let allowed = tier_that_allows(json!({"priorityClassNames": ["batch"]}));
    let checked = checked(json!({"priorityClassName": class}), allowed);
    assert_eq!(checked.is_ok(), expected);
}

#[rstest]
#[case::the_same(json!({"key": "a", "value": "b", "effect": "NoSchedule"}), json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}), true)]
#[case::another_value(json!({"key": "a", "value": "b"}), json!({"key": "a", "value": "c"}), false)]
#[case::any_value_of_one(json!({"key": "a", "value": "b"}), json!({"key": "a", "operator": "Exists"}), false)]
#[case::one_of_any_value(json!({"key": "a", "operator": "Exists"}), json!({"key": "a", "value": "c"}), true)]
#[case::any_key(json!({"key": "a", "operator": "Exists"}), json!({"operator": "Exists"}), false)]
#[case::a_key_of_any(json!({"operator": "Exists"}), json!({"key": "a", "value": "c"}), true)]
#[case::another_effect(json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}), json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false)]
#[case::every_effect(json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"}), json!({"key": "a", "operator": "Exists"}), false)]
#[case::an_effect_of_every(json!({"key": "a", "operator": "Exists"}), json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), true)]
#[case::longer(json!({"key": "a", "operator": "Exists", "tolerationSeconds": 60}), json!({"key": "a", "operator": "Exists", "tolerationSeconds": 61}), false)]
#[case::for_ever(json!({"key": "a", "operator": "Exists", "tolerationSeconds": 60}), json!({"key": "a", "operator": "Exists"}), false)]
#[case::shorter(json!({"key": "a", "operator": "Exists"}), json!({"key": "a", "operator": "Exists", "tolerationSeconds": 1}), true)]
#[case::a_number(json!({"key": "a", "operator": "Gt", "value": "5"}), json!({"key": "a", "operator": "Lt", "value": "5"}), false)]
fn a_toleration_is_allowed_that_tolerates_no_more(
    #[case] allowed: Value,
    #[case] asked: Value,
    #[case] expected: bool,
) {
    let template = json!({"tolerations": [asked]});
    let named = tier_that_allows(json!({"tolerations": [allowed]}));
    assert_eq!(
        checked(template.clone(), named).is_ok(),
        expected,
        "of the list"
    );
    let mut own = tier("cpu");
    own["spec"]["tolerations"] = json!([allowed]);
    assert_eq!(
        checked(template, own).is_ok(),
        expected,
        "of the tier's own"
    );
}
