//! What admission lets the operator write: the Deployments that its builder makes, and no others.

mod rendered;

use std::sync::LazyLock;

use kube_cel::{AdmissionRequest, VapEvaluator, VapExpression};
use rstest::rstest;
use serde_json::{Value, json};
use weir_crds::{GPUTier, InferenceWorkload, ModelProfile};
use weir_operator::workload::build::{Engine, Plan, build};

const OPERATOR: &str = "system:serviceaccount:weir-system:weir-operator";

/// Why a policy of the chart denies the operator an object; nothing where it is let through.
fn denied(policy: &str, object: &Value, old: &Value) -> Option<String> {
    static CHART: LazyLock<Vec<Value>> =
        LazyLock::new(|| rendered::documents(&rendered::chart(&json!({}))));
    let mut policies = CHART.iter().filter(|each| {
        each["kind"] == "ValidatingAdmissionPolicy" && each["metadata"]["name"] == policy
    });
    let policy = policies.next().expect("the policy");
    let request = AdmissionRequest {
        operation: "UPDATE".to_owned(),
        username: OPERATOR.to_owned(),
        ..AdmissionRequest::default()
    };
    let evaluator = VapEvaluator::builder()
        .object(object.clone())
        .old_object(old.clone())
        .request(request)
        .build();
    let validations = policy["spec"]["validations"].as_array().expect("rules");
    let expressions: Vec<VapExpression> = validations
        .iter()
        .map(|rule| VapExpression {
            expression: rule["expression"]
                .as_str()
                .expect("an expression")
                .to_owned(),
            message: rule["message"].as_str().map(str::to_owned),
            message_expression: None,
        })
        .collect();
    let results = evaluator.evaluate(&expressions);
    let failed = results.into_iter().find(|result| !result.passed)?;
    Some(failed.message.unwrap_or_default())
}

/// A Deployment as the operator builds it.
fn deployment() -> Value {
    let spec = json!({
        "targets": [{"name": "here", "local": {"modelRef": {"name": "m"}, "tiers": ["t"],
            "podTemplate": {"annotations": {"a": "b"}, "resources": {"limits": {"memory": "1Gi"}}}}}]
    });
    let mut workload =
        InferenceWorkload::new("chat", serde_json::from_value(spec).expect("a spec"));
    workload.metadata.namespace = Some("team".to_owned());
    workload.metadata.uid = Some("0f9c2b1e-55aa-4c11-9d21-0123456789ab".to_owned());
    let tier = json!({
        "nodeSelector": {"weir/tier": "t"}, "resource": {"name": "nvidia.com/gpu", "count": "1"},
        "sharing": "Exclusive", "memory": "24Gi", "runtimeClassName": "nvidia",
        "tolerations": [{"key": "gpu", "operator": "Exists"}], "cost": {"rented": {"usdPerHour": "1"}}
    });
    let tier = GPUTier::new("t", serde_json::from_value(tier).expect("a tier"));
    let model = json!({
        "source": "pvc://models/m.gguf", "sha256": "0".repeat(64), "contextTokens": 2048, "memory": "512Mi"
    });
    let model = ModelProfile::new("m", serde_json::from_value(model).expect("a model"));
    let engine = Engine {
        image: "ghcr.io/weir/engine:0.1.0".to_owned(),
        pull_policy: "IfNotPresent".to_owned(),
        isolated_for: Some("weir-system".to_owned()),
    };
    let children = build(&Plan {
        workload: &workload,
        target: "here",
        local: workload.spec.targets[0].local.as_ref().expect("local"),
        tier: &tier,
        model: &model,
        replicas: 1,
        engine: &engine,
        locked_by: None,
    });
    let children = children.expect("builds");
    for child in [json!(children.service), json!(children.network_policy)] {
        assert_eq!(denied("weir-operator-children", &child, &Value::Null), None);
    }
    json!(children.deployment)
}

#[test]
fn what_the_operator_builds_is_let_through() {
    let built = deployment();
    assert_eq!(denied("weir-operator-children", &built, &Value::Null), None);
    assert_eq!(denied("weir-operator-children", &built, &built), None);
    assert_eq!(
        denied("weir-operator-children", &Value::Null, &built),
        None,
        "deleted"
    );
    assert_eq!(denied("weir-operator-engines", &built, &Value::Null), None);
}

#[test]
fn what_belongs_to_no_workload_is_neither_written_nor_taken_over_nor_deleted() {
    let built = deployment();
    let mut foreign = built.clone();
    foreign["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet"}]);
    let mut orphan = built.clone();
    orphan["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("ownerReferences");
    for other in [foreign, orphan] {
        for (object, old) in [
            (&other, &Value::Null),
            (&built, &other),
            (&Value::Null, &other),
        ] {
            let why = denied("weir-operator-children", object, old);
            assert!(why.is_some_and(|why| why.contains("InferenceWorkload")));
        }
    }
}

#[rstest]
#[case::another_image("/containers/0/image", json!("docker.io/miner:1"), "engine's image")]
#[case::the_agents_image("/containers/0/image", json!("ghcr.io/weir/node-agent:1"), "engine's image")]
#[case::another_registry("/containers/0/image", json!("evil/weir/engine:1"), "engine's image")]
#[case::a_sidecar("/containers/1", json!({"name": "x", "image": "ghcr.io/weir/engine:1"}), "one container")]
#[case::an_init_container("/initContainers", json!([{"name": "x"}]), "one container")]
#[case::a_command("/containers/0/command", json!(["sh"]), "no command")]
#[case::a_secret_as_variable("/containers/0/env", json!([{"name": "k", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]), "variables from elsewhere")]
#[case::secrets_as_variables("/containers/0/envFrom", json!([{"secretRef": {"name": "s"}}]), "variables from elsewhere")]
#[case::privileged("/containers/0/securityContext/privileged", json!(true), "restricted")]
#[case::a_capability("/containers/0/securityContext/capabilities/add", json!(["NET_ADMIN"]), "restricted")]
#[case::escalation("/containers/0/securityContext/allowPrivilegeEscalation", json!(true), "restricted")]
#[case::root("/securityContext/runAsUser", json!(0), "other than root")]
#[case::no_seccomp("/securityContext/seccompProfile/type", json!("Unconfined"), "seccomp")]
#[case::a_service_account("/serviceAccountName", json!("admin"), "ServiceAccount")]
#[case::a_token("/automountServiceAccountToken", json!(true), "token")]
#[case::the_hosts_network("/hostNetwork", json!(true), "shares nothing")]
#[case::a_node_by_name("/nodeName", json!("control-plane"), "is scheduled")]
#[case::the_hosts_files("/volumes/0", json!({"name": "models", "hostPath": {"path": "/"}}), "mounts claims")]
#[case::a_secret("/volumes/0", json!({"name": "models", "secret": {"secretName": "s"}}), "mounts claims")]
#[case::a_claim_to_write("/volumes/0/persistentVolumeClaim/readOnly", json!(false), "mounts claims")]
fn no_other_pods_are_started(#[case] path: &str, #[case] value: Value, #[case] why: &str) {
    let mut changed = deployment();
    let pod = &mut changed["spec"]["template"]["spec"];
    let (parent, last) = path.rsplit_once('/').expect("a path");
    match pod.pointer_mut(parent).expect("is there") {
        Value::Array(items) if last.parse() == Ok(items.len()) => items.push(value),
        Value::Array(items) => items[last.parse::<usize>().expect("a number")] = value,
        parent => parent[last] = value,
    }
    let told = denied("weir-operator-engines", &changed, &Value::Null);
    assert!(
        told.as_ref().is_some_and(|told| told.contains(why)),
        "{told:?}"
    );
}

#[test]
fn what_others_add_to_pods_is_let_through() {
    let mut enriched = deployment();
    let pod = &mut enriched["spec"]["template"]["spec"];
    pod["containers"][0]["env"] = json!([{"name": "TZ", "value": "UTC"}]);
    pod["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
    pod["volumes"]
        .as_array_mut()
        .expect("volumes")
        .push(json!({"name": "x", "emptyDir": {}}));
    assert_eq!(
        denied("weir-operator-engines", &enriched, &Value::Null),
        None
    );
}
