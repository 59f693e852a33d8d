//! `status.decision`: the whole decision with its numbers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::placement::Location;

/// The last decision: what was chosen, what it was compared with, and what would change it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Identity of this one decision of this workload; it stays while the same is decided. Gateways answer with it as x-weir-decision-id.
    pub id: String,
    /// What brought the decision about, such as PriceChanged or ModelsChanged.
    pub trigger: String,
    /// What follows: Place, Keep, Hold, Move or Infeasible.
    pub outcome: String,
    /// Why, in one CamelCase word group, such as LowerCost.
    pub reason: String,
    /// Why, in one sentence with the numbers that were compared.
    pub message: String,
    /// When this decision was first taken.
    pub time: Time,
    /// The target that the decision wishes for; absent when none is feasible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The numbers that went in.
    pub inputs: DecisionInputs,
    /// Every target with its cost, or with the gates that rejected it, and after them the substitutes that could serve, at most four for a target: those worth a move first, then the cheapest.
    #[serde(default)]
    #[schemars(length(max = 96))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub candidates: Vec<Candidate>,
    /// Cost of the wished target in USD per million tokens, on the basis that its candidate names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_million_tokens_usd: Option<String>,
    /// Requests in a month at which the cheapest local and the cheapest external target cost the same; absent when only one side is feasible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_even_requests_per_month: Option<i64>,
    /// How much the wished target saves over the best other side, in whole percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savings_percent: Option<i32>,
    /// What would flip the decision, each as a readable comparison.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub flip_conditions: Vec<String>,
    /// How the target's work is split in this hour; absent for an external target, and until a day of hours was metered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// A wish to move that waits to be seen again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// Tiers that are above the policy's utilization band, or beyond a side of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub utilization_band: Vec<TierBand>,
    /// Until when the placement is held, whatever the prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<Time>,
    /// When the next decision is due if nothing changes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_evaluation_time: Option<Time>,
}

/// How many replicas serve the base load of this hour, and where the rest goes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Replicas that the local target holds in this hour.
    pub replicas: i32,
    /// The external target that takes what the replicas do not serve; absent when that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow_target: Option<String>,
}

/// The numbers that went into a decision. What is unknown is absent, never 0.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DecisionInputs {
    /// Requests in a month of 730 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<i64>,
    /// Mean tokens of a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<i64>,
    /// Mean tokens of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<i64>,
    /// Share of prompt tokens answered from a prompt cache, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_percent: Option<i32>,
    /// Observed work of the busy hour in percent of the mean hour's: 100 is flat. 95 % of the work comes in hours no busier. Absent while the pattern's own figure counts: before a day of hours is known, for Batch, and for declared demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_to_mean_percent: Option<i32>,
    /// How the observed work lies on the hours: the work is cut into twenty equal shares, that of the quietest hours first, and for the middle of each stands the work of its hour in percent of the mean hour's. Absent before a day of hours is known, for Batch, and for declared demand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub hourly_load_percent: Vec<i32>,
    /// Share of the observed hours in which a request came, in percent; absent before a day of hours is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_hours_percent: Option<i32>,
    /// Whether the demand was Declared or Observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand_source: Option<String>,
    /// How far observed demand can be relied on: Low, Medium or High.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand_confidence: Option<String>,
    /// Output tokens in a second that one replica of the local target gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<i64>,
    /// Whether that throughput was Measured or Assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_source: Option<String>,
    /// Utilization of the local target's tier in percent, in steps of ten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,
    /// Whether that could be told: Known, NotMeasurable or Lost; absent where no agent ever reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_state: Option<String>,
    /// The price book that gave the external prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_book: Option<PriceBookInput>,
}

/// A state of a price book.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PriceBookInput {
    /// Name of the InferencePriceBook.
    pub name: String,
    /// Its revision, which changes with every accepted price.
    pub revision: String,
    /// When its prices were last confirmed by their source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Time>,
}

/// One target with its cost, or with the gates that rejected it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Name of the target in the spec, or `<target>@<model>` where another model stands in there.
    pub name: String,
    /// Whether the target is in the cluster.
    pub location: Location,
    /// Whether the target passed every gate.
    pub feasible: bool,
    /// The GPUTier that a local target would use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Replicas that a local target would need; with overflow, for the base of the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Cost in USD per million tokens; absent for a rejected target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_million_tokens_usd: Option<String>,
    /// Cost in USD per month; absent for a rejected target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_cost_usd: Option<String>,
    /// Which costs are counted: FullyLoaded, Marginal (idle devices that are paid for anyway) or Mixed for local targets, PerToken for external ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_basis: Option<String>,
    /// Work that the replicas of a local target would leave to an external one, because that costs less than more of them or because there may not be more; within the costs above. Absent where all of it stays, where spillover is off or has no price, and wherever the inputs have no hourlyLoadPercent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<Overflow>,
    /// The gates that rejected the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rejected_by: Vec<Rejection>,
}

/// Work that the replicas of a local target leave to an external one.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Overflow {
    /// The external target that takes it: the first of the spec that can serve.
    pub target: String,
    /// Its share of the work in percent.
    pub percent: i32,
    /// What it takes for that in USD per month.
    pub monthly_cost_usd: String,
}

/// Why a gate rejected a target.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The gate, such as Residency or Capability.
    pub gate: String,
    /// The reason, in one CamelCase word group.
    pub reason: String,
    /// The reason in one sentence with the values that were compared.
    pub message: String,
}

/// A wish to move that waits to be seen again.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// The target that is wished for.
    pub target: String,
    /// How many evaluations in a row have wished for it.
    pub count: i32,
    /// When it was wished for first.
    pub since: Time,
    /// When the last evaluation that counted was.
    pub last: Time,
}

/// Where a tier stands in the policy's utilization band.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TierBand {
    /// Name of the tier that stands so.
    pub tier: String,
    /// Whether it was above the band for its window, and not below it for as long since.
    pub busy: bool,
    /// Since when it is beyond the side of the band that would change that, without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond_since: Option<Time>,
}

/// A completed move.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The decision that ordered the move.
    pub id: String,
    /// When the move was complete.
    pub time: Time,
    /// The target that was left; absent for the first placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The target that was moved to.
    pub to: String,
    /// Why, as the decision's reason; RolledBack for a move that returned.
    pub reason: String,
    /// Whether the move spends nothing of operations.maxMovesPerWeek: it ended before any traffic was moved, or for a cause in the cluster. Absent: it spends one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<bool>,
}
