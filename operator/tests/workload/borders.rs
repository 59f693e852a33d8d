//! A namespace is a border: what lies in another one with a workload's UID, names and owner references is not its own.

use serde_json::{Value, json};

use super::fixtures::{Cluster, eventually, hybrid};

/// What one life came to.
struct Life {
    /// Objects of the workload while it ran in the cluster.
    children: Vec<Value>,
    /// Requests that change children, in order.
    writes: Vec<String>,
    /// The end.
    state: Value,
}

/// A workload is placed, edited and moved to the cloud, with these objects beside it.
async fn life(beside: &[Value]) -> Life {
    let cluster = Cluster::new("100");
    let created = cluster.api.seed(&hybrid("victim")).expect("seeds");
    for object in beside {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": object["metadata"]["namespace"]}});
        drop(cluster.api.seed(&namespace));
        // It is there then, whoever is faster with its status: its controller, or the garbage collector.
        drop(cluster.api.seed(object));
    }
    let operator = cluster.operator("op").await;
    eventually("placed", || cluster.settled_on("victim", "here")).await;
    let children = ["deployments.apps", "services", "pods"];
    let children = children
        .iter()
        .flat_map(|resource| cluster.api.objects(resource, "team"))
        .collect();
    let template = json!({"labels": {"team": "a"}});
    let mut targets = hybrid("victim")["spec"]["targets"].clone();
    targets[0]["local"]["podTemplate"] = template;
    cluster.edit("victim", json!({"spec": {"targets": targets}}));
    eventually("edited", || {
        let deployment = cluster.deployment("here").unwrap_or_default();
        deployment["spec"]["template"]["metadata"]["labels"]["team"] == "a"
            && cluster.settled_on("victim", "here")
    })
    .await;
    cluster.set_price("0.1");
    eventually("moved and asleep", || {
        cluster.settled_on("victim", "cloud") && cluster.replicas("here") == Some(0)
    })
    .await;
    let conditions = cluster.workload("victim")["status"]["conditions"].clone();
    let mut conditions = conditions.as_array().cloned().unwrap_or_default();
    for condition in &mut conditions {
        condition["lastTransitionTime"] = Value::Null;
    }
    let state = json!({
        "uid": created["metadata"]["uid"],
        "conditions": conditions,
        "template": cluster.deployment("here").unwrap_or_default()["spec"]["template"],
    });
    operator.end().await;
    let requests = cluster.api.history();
    let of_children = requests.iter().filter(|record| {
        let children = ["deployments", "services", "secrets"];
        let request = &record.request;
        // An apply upon a version that its controller has just changed is tried again, as in any namespace.
        let done = record.code < 300;
        request.actor == "op"
            && done
            && request.is_mutating()
            && children.contains(&&*request.resource)
    });
    let writes = of_children.map(|record| {
        let request = &record.request;
        let (verb, resource) = (&request.verb, &request.resource);
        let (namespace, name) = (&request.namespace, &request.name);
        format!("{verb} {resource} {namespace}/{name}: {}", record.code)
    });
    let writes = writes.collect();
    cluster.stop();
    Life {
        children,
        writes,
        state,
    }
}

/// A copy as `kubectl get -o yaml` and another namespace make it.
fn copy(object: &Value, namespace: &str, owned: bool) -> Value {
    let mut copy = object.clone();
    let metadata = copy["metadata"].as_object_mut().expect("metadata");
    for made in [
        "uid",
        "resourceVersion",
        "generation",
        "managedFields",
        "creationTimestamp",
        "annotations",
    ] {
        metadata.remove(made);
    }
    metadata["namespace"] = json!(namespace);
    if owned {
        // The garbage collector would heal it otherwise.
        metadata.insert("finalizers".into(), json!(["example.com/held"]));
    } else {
        metadata.remove("ownerReferences");
    }
    match copy["kind"].as_str() {
        Some("Deployment") => {
            copy["spec"]["replicas"] = json!(0);
            // Its controller writes that one.
            copy["status"] = Value::Null;
        }
        Some("Service") => {
            copy["spec"]["clusterIP"] = Value::Null;
            copy["spec"]["clusterIPs"] = Value::Null;
        }
        _ => {
            copy["status"]["containerStatuses"][0]["state"] =
                json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        }
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_workloads_children_in_other_namespaces_change_nothing_for_it() {
    let reference = life(&[]).await;
    assert_eq!(reference.children.len(), 3);
    let copies: Vec<Value> = (0..5)
        .flat_map(|at| {
            let namespace = format!("other-{at}");
            let copied = reference.children.iter();
            copied.map(move |child| copy(child, &namespace, at % 2 == 0))
        })
        .collect();
    let copied = life(&copies).await;
    assert_eq!(copied.state, reference.state);
    assert_eq!(copied.writes, reference.writes);
}
