//! What a decision is: the result and its explanation are one value, from which status and events are rendered.

use std::collections::BTreeMap;

mod candidate;
mod competition;

pub use candidate::*;
pub use competition::*;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::snapshot::{
    DemandFigures, Location, PriceBookRef, ThroughputSource, UtilizationState, WorkloadId,
};
use crate::units::{MilliTokensPerSecond, Percent, RequestsPerMonth};

/// A decision for every workload of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// By workload.
    #[serde(default)]
    pub decisions: BTreeMap<WorkloadId, Decision>,
    /// Who competed for devices that are short, and how well they were given away: workloads that can only run in the
    /// cluster first, then the others, each ordered by their first workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub competitions: Vec<Competition>,
}

/// What follows for one workload, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// `d-` and eight hexadecimal digits of a digest of what is material: the wished target, what holds it, the inputs, the
    /// candidates. Placing, moving to and keeping a target on the same grounds is one decision.
    pub id: String,
    /// What brought the decision about; kept while the id is.
    pub trigger: Trigger,
    /// What follows.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// Why, in one sentence with the numbers compared.
    pub message: String,
    /// The wished target. While a cost-driven wish is held it is still the current one. `None`: nothing may serve.
    pub target: Option<String>,
    /// Whether the wished target is in the cluster.
    pub location: Option<Location>,
    /// The tier of a local wished target.
    pub tier: Option<String>,
    /// Every target that no gate rejects, in the spec's order, and the substitute that is wished for or in use: 100 for the
    /// wished one, 0 for the others.
    pub weights: Vec<TargetWeight>,
    /// The numbers that went in.
    pub inputs: DecisionInputs,
    /// Every target of the spec, in its order, then at most four substitutes for each that could serve, and those in use.
    pub candidates: Vec<Candidate>,
    /// Least requests per month at which the best local target costs no more than the best external one; `None` when a side is missing or it never happens.
    pub break_even: Option<RequestsPerMonth>,
    /// How much the wished target saves against the best costed target of the other side; negative when it costs more.
    pub savings_percent: Option<i64>,
    /// What would make another target worth a move.
    pub flip_conditions: Vec<FlipCondition>,
    /// A wish to move and how often it was seen.
    pub confirmation: Option<Confirmation>,
    /// Where the tiers of the workload's targets stand in the policy's utilization band; absent where they are below it, and
    /// not on their way above.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bands: BTreeMap<String, TierBand>,
    /// Until when governance holds a wish to move; `None` when there is no wish, or no known time.
    pub hold_until: Option<Timestamp>,
    /// When time alone may change the decision; `None` when it cannot.
    pub next_evaluation: Option<Timestamp>,
}

/// A target that traffic may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetWeight {
    /// Name of the target.
    pub target: String,
    /// Share of the traffic once the decision is carried out; 0 means spill and failover only.
    pub weight: Percent,
    /// Replicas wished for; `None` for an external target.
    pub replicas: Option<u32>,
}

/// What brought a decision about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// The workload is new.
    Initial,
    /// The workload's spec changed.
    SpecChanged,
    /// The policy changed.
    PolicyChanged,
    /// A price that the workload depends on changed.
    PriceChanged,
    /// Observed demand changed by more than a tenth, or took over from the declared prior.
    DemandChanged,
    /// Nodes, devices, throughput or a provider's health changed.
    CapacityChanged,
    /// A model that no target names came to stand in for another, or went.
    ModelsChanged,
    /// Nothing but time passed, or what was known before is lost.
    Periodic,
}

/// What follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// First placement on `target`.
    Place,
    /// Stay: the current target is the right one.
    Keep,
    /// Stay although something else is wished or cannot be judged; `reason` says what holds.
    Hold,
    /// Move to `target`; also while that move is in progress.
    Move,
    /// Every target is rejected by a gate: nothing may serve.
    Infeasible,
}

/// Why a decision is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The target costs least.
    LowerCost,
    /// No other target passes the gates.
    OnlyFeasibleTarget,
    /// No other target's cost is known.
    OnlyKnownCost,
    /// Costs are unknown or equal: the first target in the spec's order.
    TargetOrder,
    /// The spec pins the target.
    Pinned,
    /// A gate rejects the target that the workload was on.
    CurrentTargetRejected,
    /// The target that the workload was on has no capacity, misses its SLO, or its provider does not answer.
    CurrentTargetUnavailable,
    /// The spec no longer has the target that the workload was on, or nobody offers the model that stood in there.
    TargetRemoved,
    /// The target has to wait for a node or a free device, and there is no other.
    #[serde(rename = "WaitingForGPU")]
    WaitingForGpu,
    /// The target of a move in progress is no longer possible.
    MoveAbandoned,
    /// A move is in progress whose own decision is no longer known.
    MoveInProgress,
    /// Another target is cheaper, but by less than the policy asks for.
    SavingsTooSmall,
    /// Another target is cheaper, but the saving does not pay for the move in the policy's time.
    SwitchNotPaidBack,
    /// The workload is suspended.
    Suspended,
    /// The workload is in advisory mode: the message says what would be done.
    AdvisoryRecommendation,
    /// The workload came to its target too short a time ago.
    MinDwell,
    /// The week's moves are used up.
    MoveBudgetSpent,
    /// The hour's moves of all of the policy's workloads are used up.
    FleetMoveBudgetSpent,
    /// Cost moves the workload within its maintenance window only.
    OutsideMaintenanceWindow,
    /// The free devices of the tier that is wished for go to workloads that save more there.
    OthersSaveMore,
    /// The wish to move has to be seen again.
    AwaitingConfirmation,
    /// A price is missing.
    PriceMissing,
    /// A price is too old.
    PriceStale,
    /// A suspect price is held back.
    PriceHeld,
    /// The price of the external target that takes overflow is missing, too old or held back.
    OverflowPriceUnsure,
    /// Telemetry of a GPU tier was lost.
    UtilizationUnknown,
    /// A tier was used above the policy's band for its window, and is until it was used below it for as long.
    UtilizationAboveBand,
    /// A tier's hourly cost is unknown.
    TierCostUnknown,
    /// How many replicas are needed is unknown.
    ThroughputUnknown,
    /// Demand is unknown.
    DemandUnknown,
    /// The workload names a policy that does not exist.
    PolicyMissing,
    /// A gate rejects the pinned target.
    PinnedTargetRejected,
    /// Gates reject every target.
    NoFeasibleTarget,
}

/// The numbers that went into a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionInputs {
    /// Generation of the spec.
    pub generation: i64,
    /// Digest of the policy.
    pub policy: Option<String>,
    /// The demand that costs were computed for. Observed figures move in steps of a tenth, so that noise decides nothing.
    pub demand: DemandFigures,
    /// Where the demand comes from.
    pub demand_source: DemandOrigin,
    /// How far it can be relied on; `None` for declared and unknown demand.
    pub demand_confidence: Option<Confidence>,
    /// Throughput of a replica of the wished local target, or else of the best local one.
    pub throughput: Option<MilliTokensPerSecond>,
    /// How that is known.
    pub throughput_source: Option<ThroughputSource>,
    /// Utilization of that target's tier, in steps of ten. Not part of the decision's identity.
    pub utilization: Option<Percent>,
    /// Whether that could be told; `None` without a local target. Not part of the decision's identity either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_state: Option<UtilizationState>,
    /// The price book of the wished external target, or else of the best external one.
    pub price_book: Option<PriceBookRef>,
}

/// Where demand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DemandOrigin {
    /// The spec's prior.
    Declared,
    /// The gateways' metering.
    Observed,
    /// Neither.
    Unknown,
}

/// How far observed demand can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confidence {
    /// The last observed figures are carried on, because too little was observed since.
    Low,
    /// Observed for as long as the policy asks, but for less than a week.
    Medium,
    /// Observed for a week or more.
    High,
}

/// A comparison that, once true, makes another target worth a move by the policy's own measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlipCondition {
    /// What is compared.
    pub quantity: FlipQuantity,
    /// On which side of the threshold the flip lies; the threshold itself does not flip.
    pub comparison: Comparison,
    /// Requests per month, or micro-USD per million tokens.
    pub threshold: u64,
    /// The target that would be chosen then.
    pub to: String,
    /// As a sentence part, such as `requestsPerMonth < 228000`.
    pub text: String,
}

/// What a flip condition compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlipQuantity {
    /// Demand.
    RequestsPerMonth,
    /// The price of prompt tokens of a target.
    InputPrice(String),
    /// The price of answer tokens of a target.
    OutputPrice(String),
}

/// On which side of a threshold a flip lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Strictly below it.
    Below,
    /// Strictly above it.
    Above,
}

/// A wish to move and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// The target that is wished for.
    pub target: String,
    /// How many evaluations in a row wished for it; it stops at what the policy asks for.
    pub count: u32,
    /// When it was first wished for.
    pub since: Timestamp,
    /// The last evaluation that counted.
    pub last: Timestamp,
}

/// Where a tier stands in a policy's utilization band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierBand {
    /// It was above the band for its window, and not below it for as long since.
    pub busy: bool,
    /// Since when it is beyond the side of the band that would change that.
    pub beyond_since: Option<Timestamp>,
}

/// What a caller must remember of a decision, for when only its status is left: `recall` makes a decision of it that
/// `decide` takes as the previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// `Decision::id`.
    pub id: String,
    /// `Decision::trigger`.
    pub trigger: Trigger,
    /// `Decision::outcome`.
    pub outcome: Outcome,
    /// `Decision::reason`.
    pub reason: Reason,
    /// `Decision::message`.
    pub message: String,
    /// `Decision::target`.
    pub target: Option<String>,
    /// `Decision::inputs`, with what the status has of them.
    pub inputs: DecisionInputs,
    /// Names of `Decision::weights`.
    pub weighted_targets: Vec<String>,
    /// `Decision::confirmation`.
    pub confirmation: Option<Confirmation>,
    /// `Decision::bands`.
    pub bands: BTreeMap<String, TierBand>,
}

impl Remembered {
    /// A decision that serves as the previous one. Its costs and candidates are empty: `decide` does not look back at them.
    pub fn recall(self) -> Decision {
        let weight = |target: String| TargetWeight {
            weight: Percent::clamped(if Some(&target) == self.target.as_ref() {
                100
            } else {
                0
            }),
            target,
            replicas: None,
        };
        Decision {
            id: self.id,
            trigger: self.trigger,
            outcome: self.outcome,
            reason: self.reason,
            message: self.message,
            weights: self.weighted_targets.into_iter().map(weight).collect(),
            target: self.target,
            location: None,
            tier: None,
            inputs: self.inputs,
            candidates: Vec::new(),
            break_even: None,
            savings_percent: None,
            flip_conditions: Vec::new(),
            confirmation: self.confirmation,
            bands: self.bands,
            hold_until: None,
            next_evaluation: None,
        }
    }
}
