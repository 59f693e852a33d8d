//! The kinds that the server knows: built-in ones by a table, ours from their CustomResourceDefinitions.

use crate::schema::{self, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use weir_schema::Schema;

/// One kind at one version.
#[derive(Clone, Debug)]
pub struct Kind {
    /// API group, empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Name in paths, such as `deployments`.
    pub plural: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether `/status` is apart from the object.
    pub status: bool,
    /// Whether `metadata.generation` counts changes of what is asked for.
    pub generation: bool,
    /// Whether a replace without resourceVersion is taken.
    pub unconditional: bool,
    /// Whether a replace creates what is absent.
    pub upsert: bool,
    /// Merge rules.
    pub node: Node,
    /// Structural schema and rules of a custom kind, or nothing.
    pub schema: Schema,
}

impl Kind {
    /// Such as `apps/v1`, or `v1` for the core.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Such as `deployments.apps`, or `pods` for the core.
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether the kind comes from a CustomResourceDefinition.
    pub fn is_custom(&self) -> bool {
        !self.schema.value().is_null()
    }

    /// What the server compares a new object with to record its first owners: the zero value of the kind's type.
    pub fn zero(&self) -> Value {
        let mut zero = json!({"apiVersion": self.api_version(), "kind": self.kind, "metadata": {}});
        if self.is_custom() {
            zero.as_object_mut()
                .and_then(|object| object.remove("metadata"));
            return zero;
        }
        let template = json!({"metadata": {}, "spec": {"containers": null}});
        match self.kind.as_str() {
            "Deployment" => {
                zero["spec"] = json!({"selector": null, "strategy": {}, "template": template})
            }
            "DaemonSet" => {
                zero["spec"] = json!({"selector": null, "updateStrategy": {}, "template": template})
            }
            "ReplicaSet" => zero["spec"] = json!({"selector": null, "template": template}),
            "Pod" => zero["spec"] = json!({"containers": null}),
            "PersistentVolumeClaim" => zero["spec"] = json!({"resources": {}}),
            "CertificateSigningRequest" => {
                zero["spec"] = json!({"request": null, "signerName": ""})
            }
            "Service" | "Lease" | "Node" | "Namespace" => zero["spec"] = json!({}),
            "NetworkPolicy" => zero["spec"] = json!({"podSelector": {}}),
            "EndpointSlice" => {
                zero["endpoints"] = Value::Null;
                zero["ports"] = Value::Null;
                zero["addressType"] = json!("");
            }
            "Event" if self.group == "events.k8s.io" => {
                zero["eventTime"] = Value::Null;
                zero["regarding"] = json!({});
                zero["deprecatedSource"] = json!({});
            }
            _ => {}
        }
        if self.status {
            zero["status"] = match self.kind.as_str() {
                "Service" => json!({"loadBalancer": {}}),
                _ => json!({}),
            };
        }
        zero
    }
}

/// Columns: path, kind, then flags: n namespaced, s status, g generation, c a replace needs a resourceVersion, u a replace creates.
const BUILT_IN: &str = "
    v1/namespaces Namespace s
    v1/nodes Node s
    v1/persistentvolumes PersistentVolume s
    v1/persistentvolumeclaims PersistentVolumeClaim ns
    v1/pods Pod nsg
    v1/services Service nsu
    v1/secrets Secret n
    v1/configmaps ConfigMap n
    v1/serviceaccounts ServiceAccount n
    v1/events Event nu
    events.k8s.io/v1/events Event nu
    apps/v1/deployments Deployment nsg
    apps/v1/daemonsets DaemonSet nsg
    apps/v1/replicasets ReplicaSet nsg
    coordination.k8s.io/v1/leases Lease ncu
    networking.k8s.io/v1/networkpolicies NetworkPolicy ng
    discovery.k8s.io/v1/endpointslices EndpointSlice ng
    certificates.k8s.io/v1/certificatesigningrequests CertificateSigningRequest s
    apiextensions.k8s.io/v1/customresourcedefinitions CustomResourceDefinition sg
";

/// The built-in kinds.
pub fn built_in() -> Vec<Kind> {
    BUILT_IN.lines().filter_map(built_in_line).collect()
}

fn built_in_line(line: &str) -> Option<Kind> {
    let mut columns = line.split_whitespace();
    let (path, kind, flags) = (columns.next()?, columns.next()?, columns.next()?);
    let mut parts = path.rsplitn(3, '/');
    let (plural, version) = (parts.next()?, parts.next()?);
    let has = |flag: char| flags.contains(flag);
    Some(Kind {
        group: parts.next().unwrap_or_default().to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        namespaced: has('n'),
        status: has('s'),
        generation: has('g'),
        unconditional: !has('c'),
        upsert: has('u'),
        node: schema::built_in(kind),
        schema: Schema::default(),
    })
}

/// The served versions of a CustomResourceDefinition.
pub fn custom(crd: &CustomResourceDefinition) -> Vec<Kind> {
    let spec = &crd.spec;
    let served = spec.versions.iter().filter(|version| version.served);
    served
        .map(|version| {
            let schema = Schema::of(crd, &version.name).unwrap_or_default();
            Kind {
                group: spec.group.clone(),
                version: version.name.clone(),
                kind: spec.names.kind.clone(),
                plural: spec.names.plural.clone(),
                namespaced: spec.scope == "Namespaced",
                status: version
                    .subresources
                    .as_ref()
                    .is_some_and(|sub| sub.status.is_some()),
                generation: true,
                unconditional: false,
                upsert: false,
                node: schema::custom(schema.value()),
                schema,
            }
        })
        .collect()
}
