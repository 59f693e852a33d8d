//! The children of a workload as they are to be: a Deployment, a Service and a NetworkPolicy for each local
//! target. Pure.

mod deployment;
mod network_policy;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use weir_crds::model::SourceError;
use weir_crds::workload::LocalTarget;
use weir_crds::{GPUTier, InferenceWorkload, ModelProfile, names};
use weir_engine_key::RootPublic;

use super::labels;

pub use deployment::{FLAG_KEY_ROOT, deployment};
pub use network_policy::network_policy;
pub use service::service;

/// Annotation on children: digest of what was applied, so that a field that is no longer wished for is noticed.
pub const ANNOTATION_APPLIED: &str = "inference.weir.dev/applied";

/// Annotation on Deployments: the GPUTier that the pods are for.
pub const ANNOTATION_TIER: &str = "inference.weir.dev/tier";

/// What the pods of one local target are built from.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The workload.
    pub workload: &'a InferenceWorkload,
    /// Name of the target.
    pub target: &'a str,
    /// The target.
    pub local: &'a LocalTarget,
    /// The tier that it runs on.
    pub tier: &'a GPUTier,
    /// The model that it serves.
    pub model: &'a ModelProfile,
    /// Replicas that are wished for.
    pub replicas: i32,
    /// How pods are started.
    pub engine: &'a Engine,
    /// What engines know of the root of the keys that open them; `None` where they are open.
    pub locked_by: Option<RootPublic>,
}

/// How engine pods are started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The image.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: String,
    /// The release's namespace, whose gateways and agents alone reach the engines; `None` where they are not isolated.
    pub isolated_for: Option<String>,
}

/// Children of one local target.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Runs the engines.
    pub deployment: Deployment,
    /// Gives them one address.
    pub service: Service,
    /// Says who reaches them; `None` where they are not isolated.
    pub network_policy: Option<NetworkPolicy>,
}

/// Why a target cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The model is not on a claim.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An amount of memory is none.
    #[error("memory of {of}: {source}")]
    Memory {
        /// The tier or the model.
        of: String,
        /// What is wrong.
        source: weir_crds::quantity::QuantityError,
    },
    /// The tier's count is not a count.
    #[error("tier {tier}: {source}")]
    Count {
        /// Name of the tier.
        tier: String,
        /// What is wrong.
        source: weir_crds::quantity::QuantityError,
    },
}

/// The children of a local target.
///
/// # Errors
/// When the model's source or the tier's resource cannot be used.
pub fn build(plan: &Plan<'_>) -> Result<Children, BuildError> {
    Ok(Children {
        deployment: deployment(plan)?,
        service: service(plan.workload, plan.target),
        network_policy: plan
            .engine
            .isolated_for
            .as_deref()
            .map(|namespace| network_policy(plan.workload, plan.target, namespace)),
    })
}

/// Name of the Deployment, the Service and the NetworkPolicy of a target.
pub fn child_name(workload: &InferenceWorkload, target: &str) -> String {
    let meta = &workload.metadata;
    names::child_name(
        meta.name.as_deref().unwrap_or_default(),
        target,
        meta.uid.as_deref().unwrap_or_default(),
    )
}

/// The reference that makes an object a child of the workload.
pub fn owner(workload: &InferenceWorkload) -> OwnerReference {
    OwnerReference {
        api_version: InferenceWorkload::api_version(&()).into_owned(),
        kind: InferenceWorkload::kind(&()).into_owned(),
        name: workload.metadata.name.clone().unwrap_or_default(),
        uid: workload.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        // To block a deletion takes a right on finalizers where the API server enforces that, and nothing here needs it.
        block_owner_deletion: None,
    }
}

/// Metadata that the children of a target share.
fn metadata(workload: &InferenceWorkload, target: &str) -> ObjectMeta {
    let meta = &workload.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    ObjectMeta {
        name: Some(child_name(workload, target)),
        namespace: meta.namespace.clone(),
        labels: Some(labels::all(name, uid, target)),
        annotations: labels::annotations(target),
        owner_references: Some(vec![owner(workload)]),
        ..ObjectMeta::default()
    }
}

/// The object with the digest of itself as an annotation. Replicas do not count: they change often and are compared.
fn sealed<K: Resource + Serialize>(mut object: K) -> K {
    let mut value = serde_json::to_value(&object).unwrap_or(Value::Null);
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    let digest = hex::encode(&Sha256::digest(canonical(&value))[..16]);
    object
        .meta_mut()
        .annotations
        .get_or_insert_with(BTreeMap::new)
        .insert(ANNOTATION_APPLIED.to_owned(), digest);
    object
}

/// JSON with sorted keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let fields: Vec<String> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

/// What a reconcile wishes for, by target.
pub type Wanted = BTreeMap<String, Arc<Children>>;

#[cfg(test)]
mod tests;
