//! What the index is told of workloads.

use crate::policy::DataDemands;
use crate::policy::Egress;
use crate::policy::TrafficPolicy;
use crate::routing::keys::Keys;
use crate::routing::table::Uid;
use std::sync::Arc;

/// A workload as the API server has it.
#[derive(Clone, Debug)]
pub struct WorkloadInput {
    /// UID of the object.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Generation of the spec.
    pub generation: i64,
    /// Version of the object, where it is a number.
    pub resource_version: Option<u64>,
    /// When the object was made, in Unix seconds.
    pub created: u64,
    /// Whether its data may leave.
    pub egress: Egress,
    /// What it demands of those who get them.
    pub data: DataDemands,
    /// The served model's name.
    pub model: String,
    /// The client's keys.
    pub keys: Keys,
    /// Targets of the spec.
    pub targets: Vec<TargetInput>,
    /// What the operator ordered.
    pub placement: Option<PlacementInput>,
    /// When requests leave a target.
    pub traffic: TrafficPolicy,
}

/// A target of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInput {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: TargetKind,
}

/// What a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A Deployment of this cluster.
    Local,
    /// A model of a provider.
    External {
        /// Name of the InferenceProvider.
        provider: Arc<str>,
        /// The provider's name of the model.
        model: Arc<str>,
    },
}

/// What the operator ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementInput {
    /// The decision.
    pub decision_id: Arc<str>,
    /// The step.
    pub step: i64,
    /// The generation that it was decided for.
    pub generation: i64,
    /// The feasible targets.
    pub weights: Vec<WeightInput>,
}

/// A feasible target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightInput {
    /// Its name.
    pub target: Arc<str>,
    /// Its share.
    pub weight: u32,
    /// It has no replica, by order.
    pub asleep: bool,
    /// What a target at a provider was when it was decided about. An operator of an earlier release does not say.
    pub decided_for: Option<DecidedFor>,
}

/// A model of a provider, as it was decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedFor {
    /// Name of the InferenceProvider.
    pub provider: Arc<str>,
    /// The provider's name of the model.
    pub model: Arc<str>,
}

/// An object that cannot be decoded: it has no route.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// UID of the object.
    pub uid: Uid,
    /// Generation of the spec.
    pub generation: i64,
    /// Version of the object, where it is a number.
    pub resource_version: Option<u64>,
}
