use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const ROLES: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: op}
rules:
- {apiGroups: [apps], resources: [deployments, deployments/status], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: op, namespace: ours}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [a, b], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: people, labels: {rbac.authorization.k8s.io/aggregate-to-view: "true"}}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [list]}
"#;

fn event(verb: &str, object: Value, annotations: Value) -> Value {
    json!({"verb": verb, "user": {"username": "system:serviceaccount:ours:op"}, "objectRef": object, "annotations": annotations})
}

fn allowed(by: &str) -> Value {
    json!({DECISION: "allow", REASON: format!("RBAC: allowed by {by} to ServiceAccount \"op/ours\"")})
}

fn by_cluster_role() -> Value {
    allowed("ClusterRoleBinding \"op\" of ClusterRole \"op\"")
}

fn of(event: &Value) -> Option<Asked> {
    asked(&event.to_string(), "ours").expect("an event")
}

fn told(rights: &[Right]) -> Vec<String> {
    let told = |it: &Right| {
        let name = it.name.as_deref().unwrap_or("*");
        format!(
            "{}: {} {}/{} {name}",
            it.role, it.verb, it.group, it.resource
        )
    };
    rights.iter().map(told).collect()
}

#[test]
fn a_right_is_used_by_its_verb_on_its_resource_through_its_role() {
    let deployment =
        json!({"apiGroup": "apps", "resource": "deployments", "namespace": "x", "name": "d"});
    let status = json!({"apiGroup": "apps", "resource": "deployments", "subresource": "status", "namespace": "x", "name": "d"});
    let secret =
        json!({"apiVersion": "v1", "resource": "secrets", "namespace": "ours", "name": "a"});
    let by_role = allowed("RoleBinding \"op/ours\" of Role \"op\"");
    let asked = [
        event("get", deployment, by_cluster_role()),
        event("patch", status, by_cluster_role()),
        event("get", secret, by_role),
    ];
    let asked = asked.iter().filter_map(of).collect();
    let granted = granted(ROLES).expect("roles");
    assert_eq!(granted.len(), 6, "those for people apart");
    assert_eq!(
        told(&unused(&granted, &asked)),
        [
            "ClusterRole op: patch apps/deployments *",
            "ClusterRole op: get apps/deployments/status *",
            "Role ours/op: get /secrets b",
        ]
    );
}

#[test]
fn what_no_role_allows_is_told() {
    let refused = |verb: &str| {
        let object = json!({"resource": "secrets", "namespace": "x", "name": "s"});
        of(&event(
            verb,
            object,
            json!({DECISION: "forbid", REASON: ""}),
        ))
    };
    let granted = granted(ROLES).expect("roles");
    let asked = [refused("get"), refused("list")].into_iter().flatten();
    let never = never_granted(&granted, &asked.collect());
    let expected = Refused {
        account: "system:serviceaccount:ours:op".to_owned(),
        group: String::new(),
        resource: "secrets".to_owned(),
        verb: "list".to_owned(),
    };
    assert_eq!(never, [expected]);
}

#[rstest]
#[case::a_person("user", json!({"username": "admin"}))]
#[case::an_account_of_another_namespace("user", json!({"username": "system:serviceaccount:ours-not:op"}))]
#[case::someone_in_its_name("impersonatedUser", json!({"username": "admin"}))]
#[case::no_resource("objectRef", Value::Null)]
fn others_use_none_of_its_rights(#[case] field: &str, #[case] value: Value) {
    let object = json!({"apiGroup": "apps", "resource": "deployments", "name": "d"});
    let mut event = event("get", object, by_cluster_role());
    assert!(of(&event).is_some());
    event[field] = value;
    assert_eq!(of(&event), None);
}
