//! The world that a decision sees: all workloads and tiers at one moment. What is unknown is `None`, never zero.

mod load;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
pub use load::*;
use serde::{Deserialize, Serialize};
pub use target::*;

use crate::units::{
    Bytes, MicroUsdPerHour, Millis, PeakPercent, Percent, RequestsPerMonth, Score, Seconds, Tokens,
};
use crate::window::MaintenanceWindow;

/// Identity of a workload: its UID, never its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadId(pub String);

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for WorkloadId {
    fn from(uid: &str) -> Self {
        Self(uid.to_owned())
    }
}

/// Everything that one call of `decide` sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetSnapshot {
    /// Every workload of the fleet.
    #[serde(default)]
    pub workloads: BTreeMap<WorkloadId, WorkloadInput>,
    /// Every GPU or CPU tier, by name.
    #[serde(default)]
    pub tiers: BTreeMap<String, TierState>,
    /// What counts against the move budgets of policies beside the workloads above.
    #[serde(default)]
    pub elsewhere: Vec<MovesElsewhere>,
}

/// Workloads of a policy that are not in the snapshot, as far as its move budget needs them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MovesElsewhere {
    /// The policy that governs them; `None` is the default one.
    #[serde(default)]
    pub policy: Option<String>,
    /// How many there are.
    pub workloads: u32,
    /// How many of them are on the move.
    pub moving: u32,
    /// When their moves ended; an hour of them is enough.
    #[serde(default)]
    pub moves: Vec<Timestamp>,
}

/// One workload: what it needs, where it may run, where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadInput {
    /// Generation of the spec that these inputs were read from.
    pub generation: i64,
    /// Whether data may leave the cluster.
    pub egress: Egress,
    /// Jurisdictions an external provider must be in; empty means any.
    #[serde(default)]
    pub allowed_jurisdictions: BTreeSet<String>,
    /// Whether an external provider must keep nothing of what it is sent.
    #[serde(default)]
    pub require_zero_retention: bool,
    /// Declared and observed demand.
    #[serde(default)]
    pub demand: Demand,
    /// Whether the gateways send an external target what the replicas of a local one cannot take at once.
    #[serde(default)]
    pub spills: bool,
    /// What the model must be able to do.
    #[serde(default)]
    pub capability: Capability,
    /// Time to first token that a target must reach at the 95th percentile.
    #[serde(default)]
    pub slo_ttft: Option<Millis>,
    /// Whether the team hosts models itself, and whether that counts as cost.
    #[serde(default)]
    pub self_hosting: SelfHosting,
    /// Most moves in seven days; `None` is no limit.
    #[serde(default)]
    pub max_moves_per_week: Option<u32>,
    /// When cost may move the workload; `None` is always.
    #[serde(default)]
    pub maintenance_window: Option<MaintenanceWindow>,
    /// Whether Weir chooses.
    #[serde(default)]
    pub mode: Mode,
    /// Stops moves and scaling.
    #[serde(default)]
    pub suspend: bool,
    /// Name of the policy that governs the workload; `None` takes the default one.
    #[serde(default)]
    pub policy: Option<String>,
    /// Where the workload may run, in the order that breaks ties.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Other models that may stand in at these targets, in the order that breaks ties among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub substitutes: Vec<Substitute>,
    /// Where it is; `None` before its first placement.
    #[serde(default)]
    pub current: Option<CurrentPlacement>,
    /// When moves ended, rolled-back ones among them, in any order; a week of them is enough.
    #[serde(default)]
    pub moves: BTreeSet<Timestamp>,
}

impl WorkloadInput {
    /// Every target of the spec, then the substitutes.
    pub fn places(&self) -> impl Iterator<Item = &Target> {
        let substitutes = self.substitutes.iter();
        self.targets
            .iter()
            .chain(substitutes.map(|substitute| &substitute.target))
    }
}

/// Whether data may leave the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Egress {
    /// No external target is ever used.
    #[default]
    Forbidden,
    /// External targets may be used.
    Allowed,
}

/// Declared and observed demand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Demand {
    /// Whether observation may replace what is declared.
    pub source: DemandSource,
    /// How requests come.
    pub pattern: Pattern,
    /// What the team expects.
    pub declared: DemandFigures,
    /// What the gateways metered.
    pub observed: Option<ObservedDemand>,
}

/// Whether observation may replace what is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DemandSource {
    /// Declared figures are a prior until enough was observed.
    #[default]
    Observed,
    /// Declared figures count always.
    Declared,
}

/// How requests come, which says how far the busiest hour is above the mean and whether requests may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Pattern {
    /// With the working day; nobody waits.
    #[default]
    Interactive,
    /// In a few busy hours; nobody waits.
    Bursty,
    /// Whenever there is room: requests wait. They are billed as any.
    Batch,
}

/// Figures of demand; each may be unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DemandFigures {
    /// Requests in a month of 730 hours; zero is no traffic, `None` is unknown.
    pub requests_per_month: Option<RequestsPerMonth>,
    /// Median tokens of a prompt.
    pub input_p50: Option<Tokens>,
    /// Tokens of a prompt at the 95th percentile.
    pub input_p95: Option<Tokens>,
    /// Median tokens of an answer.
    pub output_p50: Option<Tokens>,
    /// Tokens of an answer at the 95th percentile.
    pub output_p95: Option<Tokens>,
    /// Share of prompt tokens that a prompt cache answers.
    pub cached_input: Option<Percent>,
    /// Busy hour over the mean hour. `None`: the pattern says what is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_to_mean: Option<PeakPercent>,
    /// How the work lies on the hours. `None`: unknown, so that nothing can be said of sharing it with the cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadCurve>,
    /// Share of hours in which a request came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_hours: Option<Percent>,
}

/// What the gateways metered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedDemand {
    /// The figures, extrapolated to a month.
    pub figures: DemandFigures,
    /// How long was observed.
    pub span: Seconds,
}

/// What the model must be able to do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Capability {
    /// Capabilities that the model must have.
    pub required: BTreeSet<String>,
    /// Context that the model must have.
    pub min_context: Option<Tokens>,
    /// Score that the model must reach.
    pub min_quality: Option<MinQuality>,
    /// Which models may stand in for that of the first target.
    pub substitution: Substitution,
}

/// Which models may stand in for the one that a workload was qualified with: that of the first target whose model is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Substitution {
    /// None.
    Forbidden,
    /// Those of its equivalence group.
    EquivalentOnly,
    /// Every one that passes the other gates.
    #[default]
    AnyCapable,
}

/// A score on a benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinQuality {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Lowest score that will do.
    pub score: Score,
}

/// Whether the team hosts models itself, and whether that counts as cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SelfHosting {
    /// Local targets are rejected.
    Forbidden,
    /// The policy's operations cost is added to local targets.
    #[default]
    Costed,
    /// Local targets carry no operations cost.
    Free,
}

/// Whether Weir chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Weir chooses and moves.
    #[default]
    Auto,
    /// Weir decides and says so, but moves nothing that may stay where it is.
    Advisory,
    /// This target is used; gates hold for it too.
    Pinned(String),
}

/// Where a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurrentPlacement {
    /// The target that it is on; during a move the old one until the move is complete.
    pub target: String,
    /// The tier of a local target.
    #[serde(default)]
    pub tier: Option<String>,
    /// When it came there.
    pub since: Timestamp,
    /// Replicas that are ordered now, by local target.
    #[serde(default)]
    pub replicas: BTreeMap<String, u32>,
    /// Devices that the workload's pods hold now, by tier.
    #[serde(default)]
    pub held: BTreeMap<String, u32>,
    /// Of these the ones that pods of targets hold which it neither is on nor moves to, by target and tier.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub standby: BTreeMap<String, BTreeMap<String, u32>>,
    /// The move in progress.
    #[serde(default)]
    pub pending: Option<PendingMove>,
}

impl CurrentPlacement {
    /// Whether the workload is on a target or moves there.
    pub fn uses(&self, target: &str) -> bool {
        let pending = self.pending.as_ref();
        self.target == target || pending.is_some_and(|pending| pending.to == target)
    }

    /// Devices of a tier that are there for a target: its own, or, where the workload is on it or moves there, all that do
    /// not stand by elsewhere.
    pub fn held_for(&self, target: &str, tier: &str) -> u32 {
        let stands_by = |of: &BTreeMap<String, u32>| of.get(tier).copied().unwrap_or(0);
        if !self.uses(target) {
            return self.standby.get(target).map_or(0, stands_by);
        }
        let elsewhere: u32 = self.standby.values().map(stands_by).sum();
        let held = self.held.get(tier).copied().unwrap_or(0);
        held.saturating_sub(elsewhere)
    }
}

/// A move in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingMove {
    /// The target that is moved to.
    pub to: String,
    /// The tier of a local new target.
    #[serde(default)]
    pub tier: Option<String>,
    /// The decision that ordered it.
    pub decision_id: String,
}

/// One tier of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierState {
    /// What the devices are.
    pub kind: DeviceKind,
    /// Nodes that belong to the tier and can run pods.
    pub nodes: u32,
    /// Devices that no pod holds; one device carries one replica. `None` is unknown.
    #[serde(default)]
    pub free_devices: Option<u32>,
    /// Memory that one replica may use.
    #[serde(default)]
    pub device_memory: Option<Bytes>,
    /// Fully loaded cost of one replica.
    #[serde(default)]
    pub hourly_cost: Option<MicroUsdPerHour>,
    /// What running a device adds that is paid for anyway: energy. `None`: nothing is paid for anyway, or unknown.
    #[serde(default)]
    pub marginal_hourly_cost: Option<MicroUsdPerHour>,
    /// What the full cost is made of.
    pub cost_kind: CostKind,
    /// How busy the devices are.
    #[serde(default)]
    pub utilization: Utilization,
    /// How full the devices are that workloads use, as a policy's utilization band sees it; `None` is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupancy: Option<Percent>,
    /// Tiers that have nodes in common with this one, so that a device of one is taken from the other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<String, SharedDevices>,
    /// Devices that do not exist yet and can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisionable: Option<Provisionable>,
}

impl TierState {
    /// Devices that a workload may count on: those that are free, and those that can be provisioned. `None` is unknown.
    pub(crate) fn available(&self) -> Option<u32> {
        Some(self.free_devices?.saturating_add(self.to_come()))
    }

    /// Devices that can be provisioned beside those that exist.
    pub(crate) fn to_come(&self) -> u32 {
        self.provisionable.map_or(0, |to_come| to_come.devices)
    }
}

impl Utilization {
    /// Which of these it is.
    pub fn state(self) -> UtilizationState {
        match self {
            Self::NotReported => UtilizationState::NotReported,
            Self::Known(_) => UtilizationState::Known,
            Self::NotMeasurable => UtilizationState::NotMeasurable,
            Self::Lost => UtilizationState::Lost,
        }
    }
}

/// Whether it can be told how busy the devices of a tier are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UtilizationState {
    /// No agent ever reported.
    NotReported,
    /// It is known.
    Known,
    /// Agents report and cannot read it.
    NotMeasurable,
    /// Agents reported and went silent.
    Lost,
}

/// Devices of a tier on nodes that another tier has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SharedDevices {
    /// How many of this tier's free devices are on such nodes.
    pub free: u32,
    /// How many of them a device of the other tier takes at most.
    pub each: u32,
}

/// Devices that do not exist yet: nodes come for them once pods ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provisionable {
    /// How many.
    pub devices: u32,
    /// How long it takes until a pod can run on one.
    pub ready_after: Seconds,
    /// What one costs by the hour; `None`: what the tier's others cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly_cost: Option<MicroUsdPerHour>,
}

/// What the devices of a tier are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Graphics processors or slices of them.
    Gpu,
    /// Shares of processors; their utilization is recorded and never acted on, for it includes whoever sends the load.
    Cpu,
}

/// What a tier's hourly cost is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CostKind {
    /// Bought: purchase over its months, maintenance and power.
    Owned,
    /// Rented for a term: paid for whether it is used or not.
    Committed,
    /// Rented by the hour.
    Rented,
}

/// How busy the devices of a tier are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Utilization {
    /// No agent ever reported.
    #[default]
    NotReported,
    /// As agents report it now.
    Known(Percent),
    /// Agents report and cannot read it, as of MIG slices or without a driver: no device counts as idle, and decisions go on.
    NotMeasurable,
    /// Agents reported and went silent: whether the devices are busy or idle is unknown, so nothing moves to or from a tier of GPUs.
    Lost,
}
