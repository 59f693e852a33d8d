//! Status of an `InferenceWorkload`.

use crate::decision::{Decision, HistoryEntry};
use crate::placement::Placement;
use crate::usage::Usage;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the workload runs, why, and whether it is served.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InferenceWorkloadStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where clients send requests; constant for the object's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The key that clients present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<ClientKey>,
    /// Where the workload runs; gateways route by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The last decision with its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Completed moves, the newest first, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<HistoryEntry>,
    /// When moves of the last seven days ended that the history no longer lists, the newest first; they count against operations.maxMovesPerWeek.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub earlier_moves: Vec<Time>,
    /// What the gateways have metered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Conditions of the workload, each with positive polarity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where clients send requests.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Base URL for OpenAI clients, with the workload's UID in it.
    pub url: String,
    /// The `model` that requests name.
    pub model: String,
}

/// The key that clients present.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientKey {
    /// Name of the Secret, beside the workload, that holds the key.
    pub secret_name: String,
    /// SHA-256 of the key, in hexadecimal; gateways compare with it.
    pub sha256: String,
    /// How many times the key was rotated.
    pub counter: i64,
    /// Keys before it that gateways still accept, or whose Secrets are still there; the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub former: Vec<FormerKey>,
}

/// A key that was replaced.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FormerKey {
    /// Name of the Secret, beside the workload, that holds the key.
    pub secret_name: String,
    /// SHA-256 of the key, in hexadecimal; gateways compare with it.
    pub sha256: String,
    /// How many times the key had been rotated.
    pub counter: i64,
    /// Until when gateways accept the key; its Secret is deleted after that.
    pub valid_until: Time,
}
