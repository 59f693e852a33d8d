//! `status.placement`: the piece of status that gateways act on. It has a field manager of its own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the workload runs, and how far a move has come. Gateways route by it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The target that the workload is on; during a move the old one until it is complete.
    pub target: String,
    /// Whether that target is in the cluster.
    pub location: Location,
    /// The GPUTier of a local target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// When the workload came to this target.
    pub since: Time,
    /// Every feasible target with its share of the traffic; 0 means spill and failover only. A target that is absent is never used. A substitute is here only while the workload is on it, or moves to or from it.
    #[serde(default)]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["target".into()]))]
    pub weights: Vec<TargetWeight>,
    /// The decision that ordered these weights.
    pub decision_id: String,
    /// Counts every change of the weights over the object's life.
    pub step: i64,
    /// When the present step was ordered.
    pub step_since: Time,
    /// The generation of the spec that this was decided for.
    pub generation: i64,
    /// How far a move has come; Steady when there is none.
    #[serde(default)]
    pub phase: Phase,
    /// The move in progress, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#move: Option<MoveInProgress>,
    /// The last move that was rolled back; its target is left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
}

/// Whether a target is in the cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// Served by pods of this cluster.
    Local,
    /// Served by a cloud provider.
    External,
}

impl Location {
    /// As the API and the gateway's header spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "Local",
            Self::External => "External",
        }
    }
}

/// A target's share of the traffic.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetWeight {
    /// Name of the target in the spec, or `<target>@<model>` where another model stands in there.
    pub target: String,
    /// Share of the traffic in percent; 0 means spill and failover only.
    pub weight: i32,
    /// Replicas of a local target that are wished for; 0 means asleep. Absent for an external target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What an external target was when the decision let it pass every gate. Gateways give it no route while the spec names something else. Absent for a target in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_for: Option<DecidedFor>,
}

/// What an external target was when it was decided about.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DecidedFor {
    /// Name of the InferenceProvider that requests may go to.
    pub provider: String,
    /// The provider's name of the model that requests may ask for.
    pub model: String,
}

/// How far a move has come.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No move is in progress.
    #[default]
    Steady,
    /// The new target is being deployed or woken up, until it is ready and probed.
    Preparing,
    /// The new target gets a part of the traffic.
    Canary,
    /// The new target has all of the traffic; requests on the old one end.
    Draining,
    /// The canary failed: the old target has all of the traffic again, requests on the new one end.
    RollingBack,
}

/// A move from one target to another.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MoveInProgress {
    /// The target that is left.
    pub from: String,
    /// The target that is moved to.
    pub to: String,
    /// The GPUTier of a local new target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Why, as the decision's reason.
    pub reason: String,
    /// When the move began.
    pub started: Time,
    /// Index of the canary step that is in force, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_step: Option<i32>,
    /// When every gateway had acknowledged the present step; pauses count from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Time>,
}

/// A move that was rolled back.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// The target that failed.
    pub target: String,
    /// When the roll-back was ordered.
    pub time: Time,
    /// Why the move was rolled back.
    pub reason: String,
    /// How many times in a row a move to this target was rolled back.
    pub attempts: i32,
    /// Whether that spends nothing of operations.maxMovesPerWeek: the move ended before any traffic was moved, or for a cause in the cluster. Absent: it spends one move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<bool>,
}
