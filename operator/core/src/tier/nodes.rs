//! Pure: nodes and pods as tiers count them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube_core::ResourceExt;
use weir_crds::resource::thousandths;

use super::NodeFacts;

type Amounts = BTreeMap<String, u64>;

/// Every node with what its pods have requested.
pub fn nodes(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Vec<NodeFacts> {
    let mut requested: HashMap<&str, Amounts> = HashMap::new();
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if let Some(node) = node {
            add_requests(requested.entry(node).or_default(), pod);
        }
    }
    let mut facts: Vec<NodeFacts> = nodes
        .iter()
        .map(|node| {
            let name = node.name_any();
            NodeFacts {
                usable: is_usable(node),
                labels: node.labels().clone(),
                taints: taints(node),
                allocatable: node
                    .status
                    .as_ref()
                    .and_then(|status| status.allocatable.as_ref())
                    .map(|allocatable| sum(amounts(allocatable)))
                    .unwrap_or_default(),
                requested: requested.remove(name.as_str()).unwrap_or_default(),
                name,
            }
        })
        .collect();
    facts.sort_by(|a, b| a.name.cmp(&b.name));
    facts
}

/// Taints that keep pods away; one that is only preferred keeps nobody away.
fn taints(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let taints = taints.into_iter().flatten();
    taints
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .cloned()
        .collect()
}

fn is_usable(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && !cordoned
}

/// Adds what a pod requests, as the scheduler counts it: containers and restartable init containers together, or the
/// largest of the other init containers, and the overhead.
fn add_requests(requested: &mut Amounts, pod: &Pod) {
    let Some(spec) = &pod.spec else {
        return;
    };
    let init = || spec.init_containers.iter().flatten();
    let is_plain = init().next().is_none() && spec.overhead.is_none();
    if is_plain {
        add(requested, spec.containers.iter().flat_map(requests));
        return;
    }
    let restarts = |it: &&Container| it.restart_policy.as_deref() == Some("Always");
    let together = spec.containers.iter().chain(init().filter(restarts));
    let mut total = sum(together.flat_map(requests));
    let mut largest_init = Amounts::new();
    for container in init().filter(|it| !restarts(it)) {
        for (resource, amount) in requests(container) {
            let largest = largest_init.entry(resource.to_owned()).or_default();
            *largest = amount.max(*largest);
        }
    }
    for (resource, amount) in largest_init {
        let total = total.entry(resource).or_default();
        *total = amount.max(*total);
    }
    add(&mut total, spec.overhead.iter().flat_map(amounts));
    add(
        requested,
        total
            .iter()
            .map(|(resource, amount)| (resource.as_str(), *amount)),
    );
}

fn requests(container: &Container) -> impl Iterator<Item = (&str, u64)> {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    requests.into_iter().flat_map(amounts)
}

/// What no tier counts, and every pod has.
const NOT_COUNTED: [&str; 2] = ["memory", "ephemeral-storage"];

/// Amounts in thousandths.
fn amounts(quantities: &BTreeMap<String, Quantity>) -> impl Iterator<Item = (&str, u64)> {
    let counted = quantities
        .iter()
        .filter(|(resource, _)| !NOT_COUNTED.contains(&resource.as_str()));
    counted.filter_map(|(resource, quantity)| Some((resource.as_str(), thousandths(&quantity.0)?)))
}

fn sum<'a>(more: impl Iterator<Item = (&'a str, u64)>) -> Amounts {
    let mut sum = Amounts::new();
    add(&mut sum, more);
    sum
}

fn add<'a>(sum: &mut Amounts, more: impl Iterator<Item = (&'a str, u64)>) {
    for (resource, amount) in more {
        match sum.get_mut(resource) {
            Some(sum) => *sum = sum.saturating_add(amount),
            None => drop(sum.insert(resource.to_owned(), amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(node: &str, spec: serde_json::Value) -> Arc<Pod> {
        let mut spec = spec;
        spec["nodeName"] = json!(node);
        let pod = json!({"metadata": {"name": "p"}, "spec": spec});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn container(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}})
    }

    #[test]
    fn requests_are_counted_as_the_scheduler_counts_them() {
        let node = json!({
            "metadata": {"name": "n", "labels": {"a": "b"}},
            "status": {"allocatable": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "4"},
                       "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let node: Arc<Node> = Arc::new(serde_json::from_value(node).expect("a node"));
        let pods = [
            pod(
                "n",
                json!({"containers": [container("250m"), container("250m")], "initContainers": [container("800m")]}),
            ),
            pod(
                "n",
                json!({"containers": [container("100m")], "overhead": {"cpu": "10m"}}),
            ),
            pod("elsewhere", json!({"containers": [container("1")]})),
        ];
        let facts = nodes(&[node], &pods);
        assert!(facts[0].usable);
        assert_eq!(facts[0].allocatable["cpu"], 2_000);
        assert_eq!(facts[0].allocatable["nvidia.com/gpu"], 4_000);
        assert_eq!(facts[0].requested["cpu"], 910);
    }

    #[test]
    fn only_taints_that_keep_pods_away_are_seen() {
        let taint = |effect: &str| json!({"key": "k", "effect": effect});
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": effects.map(taint)}});
        let node: Node = serde_json::from_value(node).expect("a node");
        let seen: Vec<String> = taints(&node)
            .into_iter()
            .map(|taint| taint.effect)
            .collect();
        assert_eq!(seen, ["NoSchedule", "NoExecute"]);
    }

    #[test]
    fn a_cordoned_or_unready_node_is_not_usable() {
        for (spec, ready) in [
            (json!({"unschedulable": true}), "True"),
            (json!({}), "False"),
            (json!({}), "Unknown"),
        ] {
            let node = json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            let node: Node = serde_json::from_value(node).expect("a node");
            assert!(!is_usable(&node), "{node:?}");
        }
    }
}
