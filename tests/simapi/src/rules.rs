//! Rules of single kinds: names, immutable fields, what a subresource may change, what counts as a new generation.

use crate::kinds::Kind;
use crate::mergeable;
use crate::request::RequestInfo;
use crate::status::ApiError;
use serde_json::{Map, Value, json};
use weir_schema::Cause;

/// Holds the body to the path: kind, name and namespace.
pub fn check_identity(
    kind: &Kind,
    request: &RequestInfo,
    object: &mut Value,
) -> Result<(), ApiError> {
    for (field, expected) in [
        ("kind", kind.kind.clone()),
        ("apiVersion", kind.api_version()),
    ] {
        let given = object[field].as_str().unwrap_or_default();
        if !given.is_empty() && given != expected {
            let why = format!(
                "the {field} in the data ({given}) does not match the expected {field} ({expected})"
            );
            return Err(ApiError::bad_request(why));
        }
        object[field] = json!(expected);
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !request.name.is_empty() && name != request.name {
        let expected = &request.name;
        let why = format!(
            "the name of the object ({name}) does not match the name on the URL ({expected})"
        );
        return Err(ApiError::bad_request(why));
    }
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if kind.namespaced && !namespace.is_empty() && namespace != request.namespace {
        let why =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    if kind.namespaced {
        object["metadata"]["namespace"] = json!(request.namespace);
    }
    Ok(())
}

/// Holds an applied configuration to the path and to what may be applied.
pub fn check_apply(kind: &Kind, request: &RequestInfo, config: &mut Value) -> Result<(), ApiError> {
    if request.parameter("fieldManager").is_empty() {
        let cause = json!([{"reason": "FieldValueRequired", "message": "Required value: is required for apply patch", "field": "fieldManager"}]);
        let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
        return Err(ApiError {
            details: Box::new(
                json!({"group": "meta.k8s.io", "kind": "PatchOptions", "causes": cause}),
            ),
            ..ApiError::new(422, "Invalid", why)
        });
    }
    if !config.is_object() {
        return Err(ApiError::bad_request(
            "error decoding YAML: the body is not an object",
        ));
    }
    if !config["metadata"].is_object() {
        config["metadata"] = json!({});
    }
    if config["metadata"]
        .get("managedFields")
        .is_some_and(|managed| !managed.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if config["kind"] != kind.kind.as_str() || config["apiVersion"] != kind.api_version().as_str() {
        let given = format!(
            "{}, Kind={}",
            text(&config["apiVersion"]),
            text(&config["kind"])
        );
        return Err(ApiError::bad_request(format!(
            "invalid object type: {given}"
        )));
    }
    if config["metadata"]["name"].is_null() {
        config["metadata"]["name"] = json!(request.name);
    }
    check_identity(kind, request, config)?;
    if let Some(obstacle) = mergeable::obstacle(kind, config).filter(|_| kind.is_custom()) {
        let message = format!(
            "failed to create typed patch object ({}/{}): {obstacle}",
            request.namespace, request.name
        );
        return Err(ApiError::new(500, "", message));
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Fields of metadata that requests cannot change.
const KEPT: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "resourceVersion",
];

/// The live object with the changes that a request to the subresource may make.
pub fn admissible(kind: &Kind, subresource: &str, live: &Value, mut object: Value) -> Value {
    if !subresource.is_empty() {
        let mut out = live.clone();
        match object.get_mut("status").map(Value::take) {
            Some(status) => out["status"] = status,
            None => drop(out.as_object_mut().and_then(|out| out.remove("status"))),
        }
        return out;
    }
    if kind.status {
        match live.get("status") {
            Some(status) => object["status"] = status.clone(),
            None => drop(
                object
                    .as_object_mut()
                    .and_then(|object| object.remove("status")),
            ),
        }
    }
    for field in KEPT {
        match live["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => drop(
                object["metadata"]
                    .as_object_mut()
                    .and_then(|metadata| metadata.remove(field)),
            ),
        }
    }
    if kind.kind == "Service" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if object["spec"][field].is_null() {
                object["spec"][field] = live["spec"][field].clone();
            }
        }
    }
    object
}

/// Whether the change asks for something else than before.
pub fn bumps_generation(kind: &Kind, live: &Value, new: &Value) -> bool {
    if kind.is_custom() {
        let asked = |object: &Value| -> Map<String, Value> {
            let fields = object.as_object().cloned().unwrap_or_default();
            fields
                .into_iter()
                .filter(|(name, _)| name != "metadata" && (name != "status" || !kind.status))
                .collect()
        };
        return asked(live) != asked(new);
    }
    let annotations = |object: &Value| object["metadata"]["annotations"].clone();
    let by_annotation = kind.kind == "Deployment" && annotations(live) != annotations(new);
    let asked = |object: &Value| match kind.kind.as_str() {
        "EndpointSlice" => json!([object["endpoints"], object["ports"]]),
        _ => object["spec"].clone(),
    };
    by_annotation || asked(live) != asked(new)
}

/// Whether two states differ in nothing but the times of their field managers.
pub fn equal_but_for_times(one: &Value, other: &Value) -> bool {
    let without_times = |object: &Value| {
        let mut object = object.clone();
        for entry in object["metadata"]["managedFields"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            entry.as_object_mut().and_then(|entry| entry.remove("time"));
        }
        object
    };
    without_times(one) == without_times(other)
}

/// What is wrong with the name.
pub fn name(kind: &Kind, object: &Value) -> Vec<Cause> {
    let name = text(&object["metadata"]["name"]);
    if name.is_empty() {
        let why = "Required value: name or generateName is required";
        return vec![Cause::new("FieldValueRequired", "metadata.name", why)];
    }
    let is_label = kind.kind == "Service" || kind.kind == "Namespace";
    let good = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (c == '.' && !is_label)
    };
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let starts = kind.kind != "Service" || name.starts_with(|c: char| c.is_ascii_lowercase());
    let limit = if is_label { 63 } else { 253 };
    if name.len() <= limit
        && starts
        && name.chars().all(good)
        && edge(name.chars().next())
        && edge(name.chars().last())
    {
        return Vec::new();
    }
    vec![Cause::new(
        "FieldValueInvalid",
        "metadata.name",
        format!("Invalid value: {name:?}: a lowercase RFC 1123 name"),
    )]
}

fn invalid(field: &str, why: &str) -> Cause {
    Cause::new("FieldValueInvalid", field, format!("Invalid value: {why}"))
}

/// Changes that the kind does not take.
pub fn immutable(kind: &Kind, live: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let finalizers = |object: &Value| {
        object["metadata"]["finalizers"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let held = finalizers(live);
    let deleting = live["metadata"]["deletionTimestamp"].is_string();
    if deleting
        && finalizers(new)
            .iter()
            .any(|finalizer| !held.contains(finalizer))
    {
        let why = "Forbidden: no new finalizers can be added if the object is being deleted";
        causes.push(Cause::new(
            "FieldValueForbidden",
            "metadata.finalizers",
            why,
        ));
    }
    let mut fixed = |field: &str, live: &Value, new: &Value| {
        if live != new {
            causes.push(invalid(field, "field is immutable"));
        }
    };
    match kind.kind.as_str() {
        "Deployment" | "DaemonSet" | "ReplicaSet" => fixed(
            "spec.selector",
            &live["spec"]["selector"],
            &new["spec"]["selector"],
        ),
        "Secret" => {
            fixed("type", &live["type"], &new["type"]);
            causes.extend(sealed(live, new));
        }
        "ConfigMap" => causes.extend(sealed(live, new)),
        "Service" => fixed(
            "spec.clusterIPs[0]",
            &live["spec"]["clusterIP"],
            &new["spec"]["clusterIP"],
        ),
        "CertificateSigningRequest" => fixed("spec", &live["spec"], &new["spec"]),
        _ => {}
    }
    causes
}

/// Changes of a Secret or ConfigMap that says it is immutable.
fn sealed(live: &Value, new: &Value) -> Vec<Cause> {
    let fields = ["immutable", "data"]
        .iter()
        .filter(|field| live["immutable"] == true && live[**field] != new[**field]);
    let why = "Forbidden: field is immutable when `immutable` is set";
    fields
        .map(|field| Cause::new("FieldValueForbidden", field, why))
        .collect()
}

/// What the built-in kind refuses, as far as operators meet it.
pub fn built_in(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if matches!(
        kind.kind.as_str(),
        "Deployment" | "DaemonSet" | "ReplicaSet"
    ) {
        let selector = object["spec"]["selector"]["matchLabels"].as_object();
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        let matches = selector
            .is_some_and(|selector| selector.iter().all(|(name, value)| labels[name] == *value));
        if selector.is_none() && object["spec"]["selector"]["matchExpressions"].is_null() {
            causes.push(Cause::new(
                "FieldValueRequired",
                "spec.selector",
                "Required value",
            ));
        }
        if !matches {
            causes.push(invalid(
                "spec.template.metadata.labels",
                "`selector` does not match template `labels`",
            ));
        }
        let strategy = &object["spec"]["strategy"];
        if strategy["type"] == "Recreate" && strategy["rollingUpdate"].is_object() {
            let why = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
            causes.push(Cause::new(
                "FieldValueForbidden",
                "spec.strategy.rollingUpdate",
                why,
            ));
        }
        let containers = &object["spec"]["template"]["spec"]["containers"];
        if containers.as_array().is_none_or(Vec::is_empty) {
            causes.push(Cause::new(
                "FieldValueRequired",
                "spec.template.spec.containers",
                "Required value",
            ));
        }
        if object["spec"]["replicas"]
            .as_i64()
            .is_some_and(|replicas| replicas < 0)
        {
            causes.push(invalid(
                "spec.replicas",
                "must be greater than or equal to 0",
            ));
        }
    }
    if kind.kind == "Service"
        && object["spec"]["clusterIP"] != "None"
        && object["spec"]["ports"].as_array().is_none_or(Vec::is_empty)
    {
        causes.push(Cause::new(
            "FieldValueRequired",
            "spec.ports",
            "Required value",
        ));
    }
    causes
}

/// Quality of service of a pod: Guaranteed, Burstable or BestEffort.
pub fn qos_class(spec: &Value) -> &'static str {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let resources: Vec<_> = containers
        .map(|container| &container["resources"])
        .collect();
    let stated = |of: &Value| of.as_object().is_some_and(|of| !of.is_empty());
    let full = |of: &&Value| {
        ["cpu", "memory"].iter().all(|name| {
            of["limits"][name].is_string() && of["limits"][name] == of["requests"][name]
        })
    };
    if resources.iter().all(full) && !resources.is_empty() {
        "Guaranteed"
    } else if resources
        .iter()
        .any(|of| stated(&of["limits"]) || stated(&of["requests"]))
    {
        "Burstable"
    } else {
        "BestEffort"
    }
}
