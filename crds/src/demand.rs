//! `InferenceDemand`: the hours of a workload's traffic that are known; written by the operator alone, to outlive it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Highest count of an hour: a number that every reader of JSON takes exactly.
pub const MOST_COUNT: i64 = 1_000_000_000_000_000;

/// The observed demand of a workload. It has no settings: the operator writes its status.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "InferenceDemand",
    namespaced,
    status = "InferenceDemandStatus",
    shortname = "idem",
    category = "inference",
    derive = "PartialEq",
    derive = "Default",
    doc = "Observed demand of the workload that owns it, by the hour: counts only, never content.",
    cel,
    printcolumn(
        name = "Workload",
        type_ = "string",
        json_path = ".metadata.ownerReferences[0].name"
    ),
    printcolumn(
        name = "Requests/Month",
        type_ = "integer",
        json_path = ".status.requestsPerMonth"
    ),
    printcolumn(
        name = "Active%",
        type_ = "integer",
        json_path = ".status.activeHoursPercent"
    ),
    printcolumn(
        name = "Peak%",
        type_ = "integer",
        json_path = ".status.peakToMeanPercent"
    ),
    printcolumn(name = "Hours", type_ = "integer", json_path = ".status.knownHours"),
    printcolumn(name = "Newest", type_ = "date", json_path = ".status.newestHour"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceDemandSpec {}

/// What the gateways metered in the hours that are known, and what those say of demand.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InferenceDemandStatus {
    /// Requests in a month of 730 hours, by the newest week of known hours; absent before a day of hours is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<i64>,
    /// Work of the busy hour in percent of the mean hour's: 100 is flat. Absent before a day of hours is known, and without traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_to_mean_percent: Option<i32>,
    /// Share of the hours in which a request came, in percent; absent before a day of hours is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_hours_percent: Option<i32>,
    /// How many hours are known, those without traffic among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hours: Option<i32>,
    /// When the newest known hour begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_hour: Option<Time>,
    /// The known hours of the last ten days, oldest first. An hour without traffic is here with zeros; one that is not here is unknown.
    // Replaced as a whole: with keys, the managed fields would be longer than the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 240))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub runs: Vec<HourRun>,
}

/// Known hours in a row. Each list has an entry for each of them, which takes a quarter of what an object for each hour would.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.start.getMinutes() == 0 && self.start.getSeconds() == 0").message("start must be the beginning of an hour"),
    validation = Rule::new("[size(self.inputTokens), size(self.cachedInputTokens), size(self.outputTokens)].all(n, n == size(self.requests))").message("every list must have an entry for each hour")
)]
pub struct HourRun {
    /// When the first of these hours begins, in UTC.
    pub start: Time,
    /// Requests of clients, by the hour.
    #[schemars(
        length(min = 1, max = 240),
        inner(range(min = 0, max = MOST_COUNT))
    )]
    pub requests: Vec<i64>,
    /// Tokens of the prompts, by the hour.
    #[schemars(
        length(min = 1, max = 240),
        inner(range(min = 0, max = MOST_COUNT))
    )]
    pub input_tokens: Vec<i64>,
    /// Tokens of the prompts that a prompt cache answered, by the hour; no more than there were.
    #[schemars(
        length(min = 1, max = 240),
        inner(range(min = 0, max = MOST_COUNT))
    )]
    pub cached_input_tokens: Vec<i64>,
    /// Tokens of the answers, by the hour.
    #[schemars(
        length(min = 1, max = 240),
        inner(range(min = 0, max = MOST_COUNT))
    )]
    pub output_tokens: Vec<i64>,
}
