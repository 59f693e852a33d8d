//! `ModelProfile`: a model that can be served in the cluster.

mod source;

pub use source::{ClaimPath, SourceError};

use crate::provider::QualityScore;
use crate::quantity::{MEMORY_LENGTH, SHA256, is_memory};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model that can be served in the cluster: where its weights are and what it can do.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "ModelProfile",
    status = "ModelProfileStatus",
    shortname = "mprof",
    category = "inference",
    derive = "PartialEq",
    doc = "A model that can be served in the cluster.",
    cel,
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Format", type_ = "string", json_path = ".spec.format"),
    printcolumn(name = "Context", type_ = "integer", json_path = ".spec.contextTokens"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".spec.memory"),
    printcolumn(
        name = "Tok/s",
        type_ = "integer",
        json_path = ".status.measured[0].outputTokensPerSecond"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".spec.source",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ModelProfileSpec {
    /// Where the weights are: pvc://CLAIM/PATH, a PersistentVolumeClaim in the workload's namespace and a path in it.
    #[schemars(length(min = 8, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('pvc://')").message("source must be pvc://CLAIM/PATH; other schemes are not supported"),
             validation = Rule::new("self.matches('^pvc://[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9._/-]+$') && !self.contains('/../') && !self.endsWith('/..') && !self.endsWith('/')").message("source must be pvc://CLAIM/PATH with a claim name and a file path without .."))]
    pub source: String,
    /// SHA-256 of the file, in lower-case hexadecimal; the engine is not ready before it has checked it.
    #[schemars(regex(pattern = SHA256))]
    pub sha256: String,
    /// Format of the weights. Default: GGUF.
    #[serde(default)]
    pub format: ModelFormat,
    /// Context length in tokens.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub context_tokens: i64,
    /// Memory that one replica needs for weights and KV cache, such as 512Mi.
    #[schemars(length(min = 1, max = MEMORY_LENGTH))]
    #[x_kube(validation = is_memory())]
    pub memory: String,
    /// Models of one group stand in for each other: a move between them needs no requalification. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub equivalence_group: Option<String>,
    /// What the model can do, such as Tools or Vision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub capabilities: Vec<String>,
    /// Scores of the model on benchmarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["benchmark".into()]))]
    pub quality: Vec<QualityScore>,
    /// Throughput to assume before an engine has reported its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["tier".into()]))]
    pub assumed_throughput: Vec<AssumedThroughput>,
}

/// Format of a model's weights.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelFormat {
    /// The format of llama.cpp: one file with weights, tokenizer and chat template.
    #[default]
    GGUF,
}

/// Throughput to assume on a tier.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AssumedThroughput {
    /// The GPUTier that the figure is for, by its name.
    #[schemars(length(min = 1, max = 253))]
    pub tier: String,
    /// Output tokens in a second of one replica with full batches.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub output_tokens_per_second: i64,
}

/// What engines that serve the model have reported.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelProfileStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Throughput that engines reported, by tier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["tier".into()]))]
    pub measured: Vec<MeasuredThroughput>,
    /// Throughput that engines measured and that does not count yet, by tier: too few measurements agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["tier".into()]))]
    pub held: Vec<HeldThroughput>,
    /// Workloads that serve the model at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<i32>,
    /// Conditions: Accepted, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Throughput that an engine reported after it had loaded the model.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MeasuredThroughput {
    /// The GPUTier that the engine ran on.
    pub tier: String,
    /// Output tokens in a second of one replica, measured by the engine's benchmark after load, rounded to two digits.
    pub output_tokens_per_second: i64,
    /// When enough engines had reported the figure.
    pub observed: Time,
    /// Since when no engine backs the figure; it is dropped a day after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbacked_since: Option<Time>,
}

/// Throughput that engines measured and that does not count yet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HeldThroughput {
    /// The GPUTier that the engines ran on.
    pub tier: String,
    /// Output tokens in a second of one replica, as the middle one of the engines measured it, rounded to two digits.
    pub output_tokens_per_second: i64,
    /// The figure that counts meanwhile: the measured one, or else the assumed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<i64>,
    /// Measurements that agree on the figure, each by a digest of engine and result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub measurements: Vec<String>,
    /// When the figure was measured first.
    pub observed: Time,
}
