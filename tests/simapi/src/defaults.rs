//! Defaults that the API server sets in built-in kinds when it decodes them.

use crate::quantity;
use serde_json::{Map, Value, json};

/// Sets a field unless it is there.
fn set(object: &mut Value, name: &str, value: Value) {
    if object.get(name).is_none_or(Value::is_null) {
        object[name] = value;
    }
}

fn each(list: &mut Value, mut change: impl FnMut(&mut Value)) {
    list.as_array_mut()
        .into_iter()
        .flatten()
        .for_each(&mut change);
}

/// Runs on a field that is there.
fn within(object: &mut Value, name: &str, change: impl FnOnce(&mut Value)) {
    if let Some(value) = object.get_mut(name).filter(|value| !value.is_null()) {
        change(value);
    }
}

/// Drops the empty collections that metadata does not keep.
pub fn metadata(metadata: &mut Value) {
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match metadata.get(field) {
            Some(Value::Object(entries)) => entries.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

/// Drops the empty texts that conditions of built-in kinds do not keep.
fn conditions(object: &mut Value) {
    let conditions = object.pointer_mut("/status/conditions");
    for condition in conditions
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(condition) = condition.as_object_mut() {
            condition.retain(|name, value| {
                !matches!(name.as_str(), "message" | "reason") || *value != ""
            });
        }
    }
}

/// Sets the defaults of an object of this kind and drops nulls, which its type cannot hold.
pub fn decode(kind: &str, object: &mut Value) {
    drop_nulls(object);
    conditions(object);
    match kind {
        "Deployment" => deployment(object),
        "ReplicaSet" => {
            within(object, "spec", |spec| {
                set(spec, "replicas", json!(1));
                within(spec, "template", pod_template);
            });
            set(object, "status", json!({"replicas": 0}));
        }
        "DaemonSet" => daemon_set(object),
        "Pod" => {
            within(object, "spec", |spec| {
                pod_spec(spec);
                set(spec, "enableServiceLinks", json!(true));
            });
            set(object, "status", json!({}));
        }
        "Service" => service(object),
        "Secret" => secret(object),
        "NetworkPolicy" => within(object, "spec", network_policy),
        "EndpointSlice" => within(object, "ports", |ports| {
            each(ports, |port| {
                set(port, "name", json!(""));
                set(port, "protocol", json!("TCP"));
            });
        }),
        "PersistentVolumeClaim" => {
            within(object, "spec", |spec| {
                set(spec, "volumeMode", json!("Filesystem"));
                set(spec, "resources", json!({}));
                resources(&mut spec["resources"]);
            });
            set(object, "status", json!({"phase": "Pending"}));
        }
        "Node" => {
            set(object, "spec", json!({}));
            set(object, "status", json!({}));
            within(object, "status", |status| {
                for list in ["capacity", "allocatable"] {
                    within(status, list, quantities);
                }
                set(
                    status,
                    "daemonEndpoints",
                    json!({"kubeletEndpoint": {"Port": 0}}),
                );
                set(status, "nodeInfo", node_info());
                // The server fills in allocatable from capacity.
                let capacity = status.get("capacity").cloned();
                if let Some(capacity) = capacity {
                    set(status, "allocatable", capacity);
                }
            });
        }
        "Namespace" => {
            set(object, "spec", json!({}));
            set(object, "status", json!({"phase": "Active"}));
        }
        "CertificateSigningRequest" => set(object, "status", json!({})),
        _ => {}
    }
}

fn node_info() -> Value {
    let names = [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), json!("")))
        .collect::<Map<_, _>>()
        .into()
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, child| !child.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn deployment(object: &mut Value) {
    within(object, "spec", |spec| {
        set(spec, "replicas", json!(1));
        set(spec, "revisionHistoryLimit", json!(10));
        set(spec, "progressDeadlineSeconds", json!(600));
        set(spec, "strategy", json!({}));
        let strategy = &mut spec["strategy"];
        set(strategy, "type", json!("RollingUpdate"));
        if strategy["type"] == "RollingUpdate" {
            set(strategy, "rollingUpdate", json!({}));
            set(
                &mut strategy["rollingUpdate"],
                "maxUnavailable",
                json!("25%"),
            );
            set(&mut strategy["rollingUpdate"], "maxSurge", json!("25%"));
        }
        within(spec, "template", pod_template);
    });
    set(object, "status", json!({}));
}

fn daemon_set(object: &mut Value) {
    within(object, "spec", |spec| {
        set(spec, "revisionHistoryLimit", json!(10));
        set(spec, "updateStrategy", json!({}));
        let strategy = &mut spec["updateStrategy"];
        set(strategy, "type", json!("RollingUpdate"));
        if strategy["type"] == "RollingUpdate" {
            set(strategy, "rollingUpdate", json!({}));
            set(&mut strategy["rollingUpdate"], "maxUnavailable", json!(1));
            set(&mut strategy["rollingUpdate"], "maxSurge", json!(0));
        }
        within(spec, "template", pod_template);
    });
    let counts = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
    set(object, "status", counts);
}

fn pod_template(template: &mut Value) {
    set(template, "metadata", json!({}));
    metadata(&mut template["metadata"]);
    within(template, "spec", pod_spec);
}

fn pod_spec(spec: &mut Value) {
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "securityContext", json!({}));
    set(spec, "schedulerName", json!("default-scheduler"));
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        set(spec, "serviceAccount", account);
    }
    for list in ["containers", "initContainers"] {
        within(spec, list, |list| each(list, container));
    }
    within(spec, "volumes", |volumes| each(volumes, volume));
    within(spec, "overhead", quantities);
}

/// A field that is no pointer in the server's type is left out of its JSON when it is false.
fn omit_false(object: &mut Value, name: &str) {
    if object[name] == json!(false) {
        object
            .as_object_mut()
            .and_then(|fields| fields.remove(name));
    }
}

fn container(container: &mut Value) {
    set(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    set(container, "terminationMessagePolicy", json!("File"));
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let floating =
        !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    set(
        container,
        "imagePullPolicy",
        json!(if floating { "Always" } else { "IfNotPresent" }),
    );
    set(container, "resources", json!({}));
    resources(&mut container["resources"]);
    within(container, "ports", |ports| {
        each(ports, |port| set(port, "protocol", json!("TCP")))
    });
    within(container, "volumeMounts", |mounts| {
        each(mounts, |mount| omit_false(mount, "readOnly"))
    });
    within(container, "env", |env| {
        each(env, |variable| {
            within(variable, "valueFrom", |from| {
                within(from, "fieldRef", |field| {
                    set(field, "apiVersion", json!("v1"))
                });
                within(from, "resourceFieldRef", |field| {
                    set(field, "divisor", json!("0"))
                });
            });
        });
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["preStop", "postStart"] {
            within(lifecycle, hook, |hook| within(hook, "httpGet", http_get));
        }
    });
}

fn resources(resources: &mut Value) {
    within(resources, "limits", quantities);
    within(resources, "requests", quantities);
}

fn quantities(map: &mut Value) {
    for value in map.as_object_mut().into_iter().flat_map(Map::values_mut) {
        let text = match &*value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        *value = json!(quantity::canonical(&text).unwrap_or(text));
    }
}

fn http_get(get: &mut Value) {
    set(get, "path", json!("/"));
    set(get, "scheme", json!("HTTP"));
}

fn probe(probe: &mut Value) {
    set(probe, "timeoutSeconds", json!(1));
    set(probe, "periodSeconds", json!(10));
    set(probe, "successThreshold", json!(1));
    set(probe, "failureThreshold", json!(3));
    within(probe, "httpGet", http_get);
    within(probe, "grpc", |grpc| set(grpc, "service", json!("")));
}

fn volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|volume| volume.len() == 1) {
        volume["emptyDir"] = json!({});
    }
    for name in ["secret", "configMap", "projected", "downwardAPI"] {
        within(volume, name, |source| {
            set(source, "defaultMode", json!(420))
        });
    }
    within(volume, "projected", |projected| {
        within(projected, "sources", |sources| {
            each(sources, |source| {
                within(source, "serviceAccountToken", |token| {
                    set(token, "expirationSeconds", json!(3600))
                });
            });
        });
    });
    within(volume, "hostPath", |path| set(path, "type", json!("")));
    within(volume, "emptyDir", |dir| {
        if let Some(Ok(limit)) = dir["sizeLimit"]
            .as_str()
            .map(|limit| quantity::canonical(limit).ok_or(()))
        {
            dir["sizeLimit"] = json!(limit);
        }
    });
}

fn service(object: &mut Value) {
    within(object, "spec", |spec| {
        set(spec, "sessionAffinity", json!("None"));
        set(spec, "type", json!("ClusterIP"));
        set(spec, "internalTrafficPolicy", json!("Cluster"));
        within(spec, "ports", |ports| {
            each(ports, |port| {
                set(port, "protocol", json!("TCP"));
                let number = port["port"].clone();
                set(port, "targetPort", number);
            });
        });
    });
    set(object, "status", json!({}));
    set(&mut object["status"], "loadBalancer", json!({}));
}

fn network_policy(spec: &mut Value) {
    set(spec, "podSelector", json!({}));
    let mut types = vec!["Ingress"];
    if !spec["egress"].is_null() {
        types.push("Egress");
    }
    set(spec, "policyTypes", json!(types));
    for direction in ["ingress", "egress"] {
        within(spec, direction, |rules| {
            each(rules, |rule| {
                within(rule, "ports", |ports| {
                    each(ports, |port| set(port, "protocol", json!("TCP")));
                });
            });
        });
    }
}

fn secret(object: &mut Value) {
    set(object, "type", json!("Opaque"));
    let Some(Value::Object(texts)) = object
        .as_object_mut()
        .and_then(|object| object.remove("stringData"))
    else {
        return;
    };
    set(object, "data", json!({}));
    for (name, text) in texts {
        object["data"][name] = json!(quantity::base64(
            text.as_str().unwrap_or_default().as_bytes()
        ));
    }
}

/// The address fields that the server gives a new Service, from the n-th address of its range.
pub fn allocate_address(object: &mut Value, n: u64) {
    let spec = &mut object["spec"];
    if spec["type"] == "ExternalName" {
        return;
    }
    set(
        spec,
        "clusterIP",
        json!(format!("10.96.{}.{}", (n >> 8) & 0xff, n & 0xff)),
    );
    let address = spec["clusterIP"].clone();
    set(spec, "clusterIPs", json!([address]));
    set(spec, "ipFamilies", json!(["IPv4"]));
    set(spec, "ipFamilyPolicy", json!("SingleStack"));
}
