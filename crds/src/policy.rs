//! `InferencePlacementPolicy`: how decisions are governed.

use crate::quantity::{DECIMAL, DURATION};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How decisions are governed. Workloads that name no policy use the defaults given here.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "InferencePlacementPolicy",
    shortname = "ippol",
    category = "inference",
    derive = "PartialEq",
    doc = "How placement decisions are governed.",
    cel,
    printcolumn(
        name = "Savings%",
        type_ = "integer",
        json_path = ".spec.minSavingsPercent"
    ),
    printcolumn(name = "Dwell", type_ = "string", json_path = ".spec.minDwell"),
    printcolumn(
        name = "Connectivity",
        type_ = "string",
        json_path = ".spec.connectivity"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct InferencePlacementPolicySpec {
    /// Savings in percent that a move must bring. Default: 15.
    #[serde(default = "fifteen")]
    #[schemars(range(min = 0, max = 100))]
    pub min_savings_percent: i32,
    /// How long a workload stays on a target at least. Default: 30m.
    #[serde(default = "half_an_hour")]
    #[schemars(regex(pattern = DURATION))]
    pub min_dwell: String,
    /// How often a wish to move must be seen before it is followed.
    #[serde(default)]
    pub confirmation: ConfirmationSpec,
    /// How long traffic must have been observed before it replaces declared demand. Default: 1h.
    #[serde(default = "an_hour")]
    #[schemars(regex(pattern = DURATION))]
    pub min_observation: String,
    /// USD a month that hosting one workload costs in work. Default: 200.
    #[serde(default = "two_hundred")]
    #[schemars(regex(pattern = DECIMAL))]
    pub operations_usd_per_month: String,
    /// Whether the cluster can reach providers. Disconnected rejects external targets.
    #[serde(default)]
    pub connectivity: Connectivity,
}

/// How often a wish to move must be seen before it is followed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmationSpec {
    /// Evaluations in a row that must wish for the same target. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub count: i32,
    /// Least time between two evaluations that count. Default: 1m.
    #[serde(default = "a_minute")]
    #[schemars(regex(pattern = DURATION))]
    pub interval: String,
}

/// Whether the cluster can reach providers.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connectivity {
    /// Providers can be reached.
    #[default]
    Connected,
    /// Providers cannot be reached: external targets are rejected.
    Disconnected,
}

fn fifteen() -> i32 {
    15
}

fn three() -> i32 {
    3
}

fn half_an_hour() -> String {
    "30m".to_owned()
}

fn a_minute() -> String {
    "1m".to_owned()
}

fn an_hour() -> String {
    "1h".to_owned()
}

fn two_hundred() -> String {
    "200".to_owned()
}

impl Default for ConfirmationSpec {
    fn default() -> Self {
        Self {
            count: three(),
            interval: a_minute(),
        }
    }
}

impl Default for InferencePlacementPolicySpec {
    fn default() -> Self {
        Self {
            min_savings_percent: fifteen(),
            min_dwell: half_an_hour(),
            confirmation: ConfirmationSpec::default(),
            min_observation: an_hour(),
            operations_usd_per_month: two_hundred(),
            connectivity: Connectivity::default(),
        }
    }
}
