//! How server-side apply merges each field: list keys, sets, atomic values.

use serde_json::Value;
use std::collections::BTreeMap;

/// How a value merges.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Relation {
    /// By its shape: an object field by field, a list as a whole.
    #[default]
    Inferred,
    /// As a whole.
    Atomic,
    /// An object whose keys are not declared, such as labels: entry by entry.
    Map,
    /// A list whose items are known by these keys; a key that an item lacks has the default.
    Keyed(Vec<(String, Option<Value>)>),
    /// A list of unlike scalars.
    Set,
}

/// The merge rules of a value and of what is in it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// How the value itself merges.
    pub relation: Relation,
    fields: BTreeMap<String, Node>,
    item: Option<Box<Node>>,
}

static UNDECLARED: Node = Node {
    relation: Relation::Inferred,
    fields: BTreeMap::new(),
    item: None,
};

impl Node {
    /// Rules of a field or map entry.
    pub fn field(&self, name: &str) -> &Self {
        self.fields.get(name).unwrap_or_else(|| self.item())
    }

    /// Rules of a list's items, or of a map's values.
    pub fn item(&self) -> &Self {
        self.item.as_deref().unwrap_or(&UNDECLARED)
    }

    /// Whether keys of this object are declared fields rather than free entries.
    pub fn is_struct(&self) -> bool {
        self.relation == Relation::Inferred
    }

    /// Rules from lines of a path, two spaces or more, and a rule: `atomic`, `map`, `set`, or `keys a,b`.
    /// `[]` stands for a list's items. A key's default is written `key=default`.
    fn declare(&mut self, prefix: &str, table: &str) {
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (path, rule) = line.split_once(' ').unwrap_or((line, "map"));
            let mut node = &mut *self;
            for part in prefix
                .split('.')
                .chain(path.split('.'))
                .filter(|part| !part.is_empty())
            {
                node = node
                    .fields
                    .entry(part.trim_end_matches("[]").to_owned())
                    .or_default();
                if part.ends_with("[]") {
                    node = node.item.get_or_insert_default();
                }
            }
            node.relation = relation(rule.trim());
        }
    }
}

fn relation(rule: &str) -> Relation {
    match rule {
        "atomic" => Relation::Atomic,
        "map" => Relation::Map,
        "set" => Relation::Set,
        keys => Relation::Keyed(
            keys.trim_start_matches("keys ")
                .split(',')
                .map(key_and_default)
                .collect(),
        ),
    }
}

fn key_and_default(key: &str) -> (String, Option<Value>) {
    match key.split_once('=') {
        Some((key, default)) => (key.to_owned(), Some(Value::from(default))),
        None => (key.to_owned(), None),
    }
}

const OBJECT_META: &str = "
    annotations map
    finalizers set
    labels map
    ownerReferences keys uid
    ownerReferences[] atomic";

const CONTAINER: &str = "
    env keys name
    env[].valueFrom.configMapKeyRef atomic
    env[].valueFrom.fieldRef atomic
    env[].valueFrom.resourceFieldRef atomic
    env[].valueFrom.secretKeyRef atomic
    ports keys containerPort,protocol=TCP
    resources.claims keys name
    resources.limits map
    resources.requests map
    volumeDevices keys devicePath
    volumeMounts keys mountPath";

const POD_SPEC: &str = "
    affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution atomic
    containers keys name
    initContainers keys name
    hostAliases keys ip
    imagePullSecrets keys name
    imagePullSecrets[] atomic
    nodeSelector atomic
    overhead map
    resourceClaims keys name
    resources.limits map
    resources.requests map
    schedulingGates keys name
    topologySpreadConstraints keys topologyKey,whenUnsatisfiable
    topologySpreadConstraints[].labelSelector atomic
    volumes keys name
    volumes[].csi.nodePublishSecretRef atomic
    volumes[].csi.volumeAttributes map";

fn with_pod_spec(node: &mut Node, prefix: &str) {
    node.declare(prefix, POD_SPEC);
    node.declare(&format!("{prefix}.containers[]"), CONTAINER);
    node.declare(&format!("{prefix}.initContainers[]"), CONTAINER);
}

/// The rules of a built-in kind, as Kubernetes 1.36 publishes them.
pub fn built_in(kind: &str) -> Node {
    let mut node = Node::default();
    node.declare("metadata", OBJECT_META);
    let table = match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            node.declare("spec.template.metadata", OBJECT_META);
            with_pod_spec(&mut node, "spec.template.spec");
            "spec.selector atomic
             status.conditions keys type"
        }
        "Pod" => {
            with_pod_spec(&mut node, "spec");
            "status.conditions keys type
             status.podIPs keys ip"
        }
        "Service" => {
            "spec.ports keys port,protocol=TCP
             spec.selector atomic
             status.conditions keys type"
        }
        "NetworkPolicy" => "spec.podSelector atomic",
        "Secret" => {
            "data map
             stringData map"
        }
        "ConfigMap" => {
            "binaryData map
             data map"
        }
        "Event" => {
            "regarding atomic
             related atomic"
        }
        "Node" => {
            "spec.podCIDRs set
             status.addresses keys type
             status.allocatable map
             status.capacity map
             status.conditions keys type"
        }
        "CertificateSigningRequest" => {
            "spec.extra map
             status.conditions keys type"
        }
        "PersistentVolumeClaim" => {
            "spec.dataSource atomic
             spec.resources.limits map
             spec.resources.requests map
             spec.selector atomic
             status.allocatedResources map
             status.capacity map
             status.conditions keys type"
        }
        _ => "",
    };
    node.declare("", table);
    node
}

/// The rules of a custom kind, from its structural schema.
pub fn custom(schema: &Value) -> Node {
    let mut node = from_schema(schema);
    node.relation = Relation::Inferred;
    node.fields.remove("metadata");
    node.declare("metadata", OBJECT_META);
    node
}

fn from_schema(schema: &Value) -> Node {
    let mut node = Node::default();
    if let Some(properties) = schema["properties"].as_object() {
        node.fields = properties
            .iter()
            .map(|(name, schema)| (name.clone(), from_schema(schema)))
            .collect();
    }
    if schema["items"].is_object() {
        node.item = Some(Box::new(from_schema(&schema["items"])));
    }
    if schema["additionalProperties"].is_object() {
        node.item = Some(Box::new(from_schema(&schema["additionalProperties"])));
        node.relation = Relation::Map;
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true && node.fields.is_empty() {
        node.relation = Relation::Map;
    }
    if schema["x-kubernetes-map-type"] == "atomic" {
        node.relation = Relation::Atomic;
    }
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => node.relation = Relation::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten();
            let with_default = |key: &Value| {
                let key = key.as_str().unwrap_or_default();
                (
                    key.to_owned(),
                    schema["items"]["properties"][key].get("default").cloned(),
                )
            };
            node.relation = Relation::Keyed(keys.map(with_default).collect());
        }
        _ => {}
    }
    node
}
