//! `InferencePlacementPolicy`: how decisions are governed.

use crate::quantity::{DECIMAL_LENGTH, DURATION_LENGTH, is_a_second, is_decimal, is_duration};
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
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub min_dwell: String,
    /// How often a wish to move must be seen before it is followed.
    #[serde(default)]
    pub confirmation: ConfirmationSpec,
    /// How long traffic must have been observed before it replaces declared demand. Default: 1h.
    #[serde(default = "an_hour")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub min_observation: String,
    /// USD a month that hosting one workload costs in work. Default: 200.
    #[serde(default = "two_hundred")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub operations_usd_per_month: String,
    /// Which costs of local targets are counted; the basis is named with every candidate.
    #[serde(default)]
    pub local_cost_basis: LocalCostBasis,
    /// What a move costs, and within which time its saving must have paid for it.
    #[serde(default)]
    pub switching: SwitchingSpec,
    /// How many of the policy's workloads cost may move in an hour. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub move_budget: Option<MoveBudgetSpec>,
    /// How full a tier may be before workloads leave it, and how empty before they come back. Default: nothing moves for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_band: Option<UtilizationBandSpec>,
    /// Whether the cluster can reach providers. Disconnected rejects external targets.
    #[serde(default)]
    pub connectivity: Connectivity,
}

/// How often a wish to move must be seen before it is followed.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmationSpec {
    /// Evaluations in a row that must wish for the same target. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub count: i32,
    /// Least time between two evaluations that count, at least a second. Default: 1m.
    #[serde(default = "a_minute")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration(), validation = is_a_second())]
    pub interval: String,
}

/// What a move costs, and within which time its saving must have paid for it.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SwitchingSpec {
    /// How long a new local replica is paid for before it serves. Default: 10m.
    #[serde(default = "ten_minutes")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub warm_up: String,
    /// USD that qualifying a workload for a model outside of its equivalence group costs, each time. Default: 0.
    #[serde(default = "nothing")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub requalification_usd: String,
    /// Time within which the saving must make up for both. Default: 30d.
    #[serde(default = "thirty_days")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub pay_back: String,
}

/// How many of the policy's workloads cost may move in an hour. Moves for other reasons count and are not held.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.movesPerHour) || has(self.percentPerHour)").message("moveBudget needs movesPerHour or percentPerHour"))]
#[serde(rename_all = "camelCase")]
pub struct MoveBudgetSpec {
    /// Most moves in an hour; the largest savings go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub moves_per_hour: Option<i32>,
    /// Most moves in an hour in percent of the policy's workloads, rounded up. Where both are given the smaller holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent_per_hour: Option<i32>,
}

/// How full a tier may be before workloads leave it, and how empty before they come back. A tier is as full as its engines
/// are, and where none says so a tier of GPUs as its devices are. What is unknown moves nothing. Between both nothing moves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.pullBackBelowPercent < self.spillAbovePercent").message("utilizationBand.pullBackBelowPercent must be less than spillAbovePercent: the gap keeps workloads from going to and fro"))]
#[serde(rename_all = "camelCase")]
pub struct UtilizationBandSpec {
    /// Utilization in percent from which on workloads of the tier go to their cheapest other target, in the steps of ten that a tier's status has.
    #[schemars(range(min = 10, max = 100), extend("multipleOf" = 10))]
    pub spill_above_percent: i32,
    /// Utilization in percent down from which workloads may come back, as cost has it. In the steps of ten that a tier's status has.
    #[schemars(range(min = 0, max = 90), extend("multipleOf" = 10))]
    pub pull_back_below_percent: i32,
    /// How long a tier must be beyond one of both without a break before that counts. Default: 10m.
    #[serde(default = "ten_minutes")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub window: String,
}

/// Which costs of local targets are counted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalCostBasis {
    /// Of owned and committed devices that are otherwise idle what running them adds; of others everything.
    #[default]
    Auto,
    /// Of owned and committed devices what running them adds, idle or not; of others everything.
    Marginal,
    /// Everything that capacity costs, used or not.
    FullyLoaded,
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

fn ten_minutes() -> String {
    "10m".to_owned()
}

fn nothing() -> String {
    "0".to_owned()
}

fn thirty_days() -> String {
    "30d".to_owned()
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

impl Default for SwitchingSpec {
    fn default() -> Self {
        Self {
            warm_up: ten_minutes(),
            requalification_usd: nothing(),
            pay_back: thirty_days(),
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
            local_cost_basis: LocalCostBasis::default(),
            switching: SwitchingSpec::default(),
            move_budget: None,
            utilization_band: None,
            connectivity: Connectivity::default(),
        }
    }
}
