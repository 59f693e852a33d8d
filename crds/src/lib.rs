//! API types of `inference.weir.dev/v1alpha1`: what a team declares, what Weir reports.
#![forbid(unsafe_code)]
#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns of one kind share a type or priority, which the lint takes for a repetition"
)]

pub mod condition;
pub mod decision;
pub mod demand;
pub mod model;
pub mod names;
pub mod node;
pub mod placement;
pub mod policy;
pub mod price_book;
pub mod provider;
pub mod quantity;
pub mod resource;
mod status_schema;
mod substitute;
pub mod text;
pub mod tier;
pub mod usage;
pub mod workload;
pub mod workload_status;

pub use condition::{ConditionStatus, Conditions};
pub use demand::{InferenceDemand, InferenceDemandSpec, InferenceDemandStatus};
pub use model::{ModelProfile, ModelProfileSpec, ModelProfileStatus};
pub use node::{GPUNode, GPUNodeSpec, GPUNodeStatus};
pub use policy::{InferencePlacementPolicy, InferencePlacementPolicySpec};
pub use price_book::{InferencePriceBook, InferencePriceBookSpec, InferencePriceBookStatus};
pub use provider::{InferenceProvider, InferenceProviderSpec, InferenceProviderStatus};
pub use tier::{GPUTier, GPUTierSpec, GPUTierStatus};
pub use workload::{InferenceWorkload, InferenceWorkloadSpec};
pub use workload_status::InferenceWorkloadStatus;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CustomResourceDefinition of the group, in the order of their names; their statuses without rules.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        GPUNode::crd(),
        GPUTier::crd(),
        InferenceDemand::crd(),
        InferencePlacementPolicy::crd(),
        InferencePriceBook::crd(),
        InferenceProvider::crd(),
        InferenceWorkload::crd(),
        ModelProfile::crd(),
    ];
    crds.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    crds.iter_mut().for_each(status_schema::without_rules);
    crds
}
