//! What the server says of itself: version, health, groups and kinds.

use crate::kinds::Kind;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The answer to a path that is no object's, if there is one.
pub fn answer(kinds: &[Arc<Kind>], path: &str) -> Option<Value> {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64"}),
        ),
        ["readyz" | "livez" | "healthz"] => Some(json!("ok")),
        ["api"] => Some(
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ),
        ["api", version] => resources(kinds, "", version),
        ["apis"] => Some(groups(kinds)),
        ["apis", group] => groups(kinds)["groups"]
            .as_array()?
            .iter()
            .find(|found| found["name"] == *group)
            .cloned(),
        ["apis", group, version] => resources(kinds, group, version),
        _ => None,
    }
}

fn groups(kinds: &[Arc<Kind>]) -> Value {
    let names: BTreeSet<_> = kinds
        .iter()
        .filter(|kind| !kind.group.is_empty())
        .map(|kind| (&kind.group, &kind.version))
        .collect();
    let group = |(name, version): (&String, &String)| {
        let version = json!({"groupVersion": format!("{name}/{version}"), "version": version});
        json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version})
    };
    let groups: Vec<_> = names.into_iter().map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let verbs = [
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];
    let mut resources = Vec::new();
    for kind in kinds
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let resource = |name: String, verbs: &[&str]| json!({"name": name, "singularName": kind.kind.to_lowercase(), "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs});
        resources.push(resource(kind.plural.clone(), &verbs));
        if kind.status {
            resources.push(resource(
                format!("{}/status", kind.plural),
                &["get", "patch", "update"],
            ));
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources});
    (!resources.is_empty()).then_some(list)
}
