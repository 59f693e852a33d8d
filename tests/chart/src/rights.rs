//! Rights that the chart's roles grant against those that were used, by the API server's audit log. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Annotations of audit events, by which the authorizer tells what it decided and why.
const DECISION: &str = "authorization.k8s.io/decision";
const REASON: &str = "authorization.k8s.io/reason";
/// What makes a role one for people: it is a part of the roles that Kubernetes itself has for them.
const FOR_PEOPLE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// One verb on one resource, and where the rule names objects, on one object, by one role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Right {
    /// The role: `ClusterRole NAME`, or `Role NAMESPACE/NAME`.
    pub role: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Resource, with its subresource as in `gputiers/status`.
    pub resource: String,
    /// Verb.
    pub verb: String,
    /// Name of the object.
    pub name: Option<String>,
}

/// What an account asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Asked {
    /// A role allowed it.
    Allowed(Right),
    /// No role did.
    Forbidden(Refused),
}

/// What no role allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refused {
    /// Who asked.
    pub account: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Resource, with its subresource.
    pub resource: String,
    /// Verb.
    pub verb: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    impersonated_user: Option<User>,
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: Option<String>,
    name: Option<String>,
}

/// What a line of the audit log says that a ServiceAccount of the namespace asked of a resource; `None` where it speaks of
/// someone else, of someone who acts in its name, or of no resource.
///
/// # Errors
/// When the line is no audit event.
pub fn asked(line: &str, namespace: &str) -> Result<Option<Asked>, serde_json::Error> {
    let event: Event = serde_json::from_str(line)?;
    let account = event.user.username;
    let ours = account.starts_with(&format!("system:serviceaccount:{namespace}:"));
    let Some(object) = event.object_ref.filter(|_| ours) else {
        return Ok(None);
    };
    if event.impersonated_user.is_some() {
        return Ok(None);
    }
    let resource = match &object.subresource {
        Some(part) => format!("{}/{part}", object.resource),
        None => object.resource,
    };
    if event.annotations.get(DECISION).map(String::as_str) == Some("forbid") {
        return Ok(Some(Asked::Forbidden(Refused {
            account,
            group: object.api_group,
            resource,
            verb: event.verb,
        })));
    }
    let reason = event.annotations.get(REASON);
    let role = reason.and_then(|reason| role_of(reason));
    Ok(role.map(|role| {
        Asked::Allowed(Right {
            role,
            group: object.api_group,
            resource,
            verb: event.verb,
            name: object.name,
        })
    }))
}

/// The role in a reason such as `RBAC: allowed by RoleBinding "a/ns" of Role "b" to ServiceAccount "c/ns"`.
fn role_of(reason: &str) -> Option<String> {
    let mut parts = reason.strip_prefix("RBAC: allowed by ")?.split('"');
    let (_, binding, kind, role) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    match kind.trim() {
        "of ClusterRole" => Some(format!("ClusterRole {role}")),
        "of Role" => {
            let (_, namespace) = binding.split_once('/')?;
            Some(format!("Role {namespace}/{role}"))
        }
        _ => None,
    }
}

/// Every right that the roles for components grant, those for people apart.
///
/// # Errors
/// When a document is no YAML, or a role is not one.
pub fn granted(manifests: &str) -> Result<BTreeSet<Right>, serde_yaml_ng::Error> {
    let mut granted = BTreeSet::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifests) {
        let value = serde_yaml_ng::Value::deserialize(document)?;
        match value.get("kind").and_then(|kind| kind.as_str()) {
            Some("ClusterRole") => {
                let role: ClusterRole = serde_yaml_ng::from_value(value)?;
                let name = role.metadata.name.clone().unwrap_or_default();
                let rules = role.rules.unwrap_or_default();
                if !is_for_people(&role.metadata) {
                    granted.extend(rights(&format!("ClusterRole {name}"), &rules));
                }
            }
            Some("Role") => {
                let role: Role = serde_yaml_ng::from_value(value)?;
                let name = role.metadata.name.unwrap_or_default();
                let namespace = role.metadata.namespace.unwrap_or_default();
                let rules = role.rules.unwrap_or_default();
                granted.extend(rights(&format!("Role {namespace}/{name}"), &rules));
            }
            _ => {}
        }
    }
    Ok(granted)
}

fn is_for_people(metadata: &ObjectMeta) -> bool {
    let mut labels = metadata.labels.iter().flatten();
    labels.any(|(key, _)| key.starts_with(FOR_PEOPLE))
}

fn rights(role: &str, rules: &[PolicyRule]) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in rules {
        let names = rule.resource_names.clone().unwrap_or_default();
        let names: Vec<Option<String>> = match names.is_empty() {
            true => vec![None],
            false => names.into_iter().map(Some).collect(),
        };
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.extend(names.iter().map(|name| Right {
                        role: role.to_owned(),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    rights
}

/// What was refused, and that no role grants to anyone: while a release is installed or removed, roles come and go beside
/// those that use them.
pub fn never_granted(granted: &BTreeSet<Right>, asked: &BTreeSet<Asked>) -> Vec<Refused> {
    let is_granted = |refused: &Refused| {
        let wanted = (&refused.group, &refused.resource, &refused.verb);
        let mut rights = granted.iter();
        rights.any(|right| (&right.group, &right.resource, &right.verb) == wanted)
    };
    let refused = asked.iter().filter_map(|asked| match asked {
        Asked::Forbidden(refused) if !is_granted(refused) => Some(refused.clone()),
        _ => None,
    });
    refused.collect()
}

/// Rights that were granted, and that nothing was done with.
pub fn unused(granted: &BTreeSet<Right>, asked: &BTreeSet<Asked>) -> Vec<Right> {
    let used: Vec<&Right> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Allowed(right) => Some(right),
            Asked::Forbidden(_) => None,
        })
        .collect();
    let is_used = |right: &&Right| {
        used.iter().any(|used| {
            let same_object = right.name.is_none() || right.name == used.name;
            (&used.role, &used.group, &used.resource, &used.verb)
                == (&right.role, &right.group, &right.resource, &right.verb)
                && same_object
        })
    };
    let unused = granted.iter().filter(|right| !is_used(right));
    unused.cloned().collect()
}

#[cfg(test)]
mod tests;
