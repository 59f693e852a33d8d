//! `InferenceWorkload`: what an inference workload needs.

use crate::quantity::{
    DECIMAL_LENGTH, DURATION_LENGTH, is_a_second, is_cron, is_decimal, is_dns_label, is_duration,
    is_model_name, is_percent,
};
use crate::workload_status::InferenceWorkloadStatus;
use k8s_openapi::api::core::v1::{Affinity, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an inference workload needs. Weir decides where it runs, makes it so, and says why in the status.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "InferenceWorkload",
    namespaced,
    status = "InferenceWorkloadStatus",
    shortname = "iwl",
    category = "inference",
    derive = "PartialEq",
    doc = "An inference workload: what it needs, where Weir runs it, and why.",
    cel,
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name becomes a label: at most 63 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Status", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Placement", type_ = "string", json_path = ".status.placement.location"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.placement.target"),
    printcolumn(name = "Tier", type_ = "string", json_path = ".status.placement.tier"),
    printcolumn(name = "$/1M", type_ = "string", json_path = ".status.decision.costPerMillionTokensUsd"),
    printcolumn(name = "BreakEven", type_ = "integer", json_path = ".status.decision.breakEvenRequestsPerMonth"),
    printcolumn(name = "Util%", type_ = "integer", json_path = ".status.decision.inputs.utilizationPercent"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.decision.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.placement.mode", priority = 1),
    printcolumn(name = "Savings%", type_ = "integer", json_path = ".status.decision.savingsPercent", priority = 1),
    printcolumn(name = "Local%", type_ = "integer", json_path = ".status.usage.localSharePercent", priority = 1),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.placement.since", priority = 1),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.decision.nextEvaluationTime", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint.url", priority = 1)
)]
#[x_kube(
    validation = Rule::new("self.dataPolicy.egress == oldSelf.dataPolicy.egress").message("dataPolicy.egress is immutable: delete the workload and create it again; its URL and client key change with it"),
    validation = Rule::new("self.dataPolicy.egress == 'Allowed' || self.targets.all(t, !has(t.external))").message("dataPolicy.egress is Forbidden (the default), so no target may be external: remove the external targets, or create the workload with egress: Allowed"),
    validation = Rule::new("self.placement.mode != 'Pinned' || has(self.placement.pinnedTarget)").message("placement.mode Pinned needs placement.pinnedTarget"),
    validation = Rule::new("!has(self.placement.pinnedTarget) || self.targets.exists(t, t.name == self.placement.pinnedTarget)").message("placement.pinnedTarget must be the name of one of the targets"),
    validation = Rule::new("self.demand.source != 'Declared' || has(self.demand.requestsPerMonth)").message("demand.source Declared needs demand.requestsPerMonth")
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceWorkloadSpec {
    /// Name of the model in the OpenAI API, the `model` field of requests. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = is_model_name())]
    pub served_model_name: Option<String>,
    /// Where prompts and answers may go. An omitted block forbids every external target.
    #[serde(default)]
    pub data_policy: DataPolicy,
    /// How much traffic is expected. Observed traffic replaces it once enough has been seen.
    #[serde(default)]
    pub demand: Demand,
    /// Latency that the workload needs. A target known to be slower is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// What the model must be able to do. A target whose model lacks it is rejected.
    #[serde(default)]
    pub capability: Capability,
    /// How much operation the team will bear.
    #[serde(default)]
    pub operations: Operations,
    /// Where the workload may run. The order breaks ties, and is that of spill: the first external target that can serve takes it.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub targets: Vec<Target>,
    /// Who decides among the targets.
    #[serde(default)]
    pub placement: PlacementSpec,
    /// How traffic is shared, spilled, failed over and moved.
    #[serde(default)]
    pub traffic: Traffic,
    /// Stops moves and scaling; traffic goes on as it is.
    #[serde(default)]
    pub suspend: bool,
}

/// Where prompts and answers may go.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DataPolicy {
    /// Whether data may leave the cluster. Immutable. Forbidden admits no external target.
    #[serde(default)]
    pub egress: Egress,
    /// Jurisdictions that an external provider must be in, such as EU or DE. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 32)))]
    pub allowed_jurisdictions: Vec<String>,
    /// Whether an external provider must keep nothing of what it is sent.
    #[serde(default)]
    pub require_zero_retention: bool,
}

impl Default for DataPolicy {
    fn default() -> Self {
        Self {
            egress: Egress::Forbidden,
            allowed_jurisdictions: Vec::new(),
            require_zero_retention: false,
        }
    }
}

/// Whether data may leave the cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// Requests are served in the cluster or not at all.
    #[default]
    Forbidden,
    /// External targets may serve requests.
    Allowed,
}

/// How much traffic is expected.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// Whether observed traffic replaces the figures declared here.
    #[serde(default)]
    pub source: DemandSource,
    /// How requests come: how far the busiest hour is above the mean, and whether requests may wait.
    #[serde(default)]
    pub pattern: DemandPattern,
    /// Requests in a month of 730 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_i64))]
    pub requests_per_month: Option<i64>,
    /// Tokens of a request's prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<TokenQuantiles>,
    /// Tokens of a request's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<TokenQuantiles>,
    /// Share of prompt tokens that a provider's prompt cache answers, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub cached_input_percent: Option<i32>,
}

/// How requests come.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DemandPattern {
    /// With the working day: the busiest hour has twice the mean.
    #[default]
    Interactive,
    /// In a few busy hours: the busiest has six times the mean.
    Bursty,
    /// Whenever there is room: requests wait. They are billed as any: no batch interface is used, and no discount is counted.
    Batch,
}

/// Where the demand that decisions use comes from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DemandSource {
    /// Declared figures count until the gateways have observed enough.
    #[default]
    Observed,
    /// Declared figures count always.
    Declared,
}

/// Quantiles of a number of tokens.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("!has(self.p95) || self.p50 <= self.p95").message("p50 must not exceed p95"))]
#[serde(rename_all = "camelCase")]
pub struct TokenQuantiles {
    /// Half of the requests have at most this many tokens.
    #[schemars(range(min = 0, max = 100_000_000))]
    pub p50: i64,
    /// 95 percent of the requests have at most this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub p95: Option<i64>,
}

/// Latency that the workload needs.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Slo {
    /// Time to first token at the 95th percentile, such as 800ms.
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub ttft: String,
}

/// What the model must be able to do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Capability {
    /// Capabilities that the model must have, by the names that profiles and providers list, such as Tools or Vision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64)))]
    pub required: Vec<String>,
    /// Context length that the model must have, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub min_context_tokens: Option<i64>,
    /// Score that the model must reach on a benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_quality: Option<MinQuality>,
    /// Which models may stand in for the one that the workload was qualified with: that of its first target. Also which models become candidates that no target names: another model of an external target's provider, or another ModelProfile on the claim of a local target's. Cost may move the workload to such a substitute, `<target>@<model>`; it is never placed there first.
    #[serde(default)]
    pub substitution: Substitution,
}

/// Which models may stand in for the one that a workload was qualified with.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Substitution {
    /// None: every target must serve the very model, by name.
    Forbidden,
    /// Those of its equivalence group.
    EquivalentOnly,
    /// Every one that has what the workload requires; a move to another model costs the policy's requalification. Of models that no target names, those outside of the equivalence group count only where `required` or `minQuality` says what capable is.
    #[default]
    AnyCapable,
}

/// A score on a benchmark.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MinQuality {
    /// Name of the benchmark, as profiles and providers spell it, such as mmlu-pro.
    #[schemars(length(min = 1, max = 64))]
    pub benchmark: String,
    /// Lowest score that will do, a decimal such as 55 or 71.5.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub score: String,
}

/// How much operation the team will bear.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Operations {
    /// Whether the team hosts models itself, and whether that counts as cost.
    #[serde(default)]
    pub self_hosting: SelfHosting,
    /// Most moves between targets in seven days. A move that ended before it moved any traffic, or for a cause in the cluster, spends none; a target that cannot serve is left all the same. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_moves_per_week: Option<i32>,
    /// When cost may move the workload. What may not serve, or cannot, is left at any time. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_window: Option<MaintenanceWindow>,
}

/// Times at which cost may move a workload.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindow {
    /// When a window opens, as cron has it: minute, hour, day of month, month, day of week, such as 0 2 * * 6.
    #[schemars(length(max = 128))]
    #[x_kube(validation = is_cron())]
    pub schedule: String,
    /// How long a window stays open, such as 4h; at least a second.
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration(), validation = is_a_second())]
    pub duration: String,
    /// Time zone of the schedule by its IANA name, such as Europe/Berlin. Default: UTC.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Whether the team hosts models itself.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfHosting {
    /// Local targets are rejected.
    Forbidden,
    /// The policy's operations cost is added to local targets.
    #[default]
    Costed,
    /// Local targets carry no operations cost.
    Free,
}

/// One place where the workload may run: local or external.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.local) != has(self.external)").message("a target has exactly one of local and external"))]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Name of the target, unique within the workload; part of the names of its Deployment and Service.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = is_dns_label())]
    pub name: String,
    /// A model served on nodes of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalTarget>,
    /// A model of a cloud provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalTarget>,
}

/// A model served on nodes of this cluster by Weir's own engine.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LocalTarget {
    /// The ModelProfile to serve, by its name.
    pub model_ref: NameRef,
    /// GPUTiers to run on, by name, the preferred one first.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 253)))]
    pub tiers: Vec<String>,
    /// How many replicas there may be.
    #[serde(default)]
    pub scaling: Scaling,
    /// What the engine's pods need beside what the tier and the model give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// How many replicas a local target has.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not exceed maxReplicas"))]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Replicas that are kept even when the target serves nothing. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// Most replicas there may be. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// How long a target that no longer carries traffic keeps its replicas. Default: 15m.
    #[serde(default = "fifteen_minutes")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub idle_after: String,
}

fn one() -> i32 {
    1
}

fn fifteen_minutes() -> String {
    "15m".to_owned()
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: 0,
            max_replicas: one(),
            idle_after: fifteen_minutes(),
        }
    }
}

/// What the engine's pods need. ServiceAccount, token, security context and the engine's container are Weir's.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels that are added to the pods; Weir's own win.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations that are added to the pods, of those that allowedPodTemplate of the target's tiers allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
    /// Node labels that the pods need beside the tier's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate beside the tier's, of those that allowedPodTemplate of the target's tiers allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Scheduling constraints of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Resources of the engine's container; the tier's own resource is added to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// PriorityClass of the pods, by its name, of those that allowedPodTemplate of the target's tiers allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
}

/// Requests and limits of a container.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the container is guaranteed, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, String>,
    /// What the container may not exceed, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, String>,
}

/// A model of a cloud provider.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExternalTarget {
    /// The InferenceProvider that serves it, by its name.
    pub provider_ref: NameRef,
    /// Name of the model at that provider; it must be among the provider's models.
    #[schemars(length(min = 1, max = 128))]
    pub model: String,
}

/// A reference to a cluster-scoped object of this group.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Name of the object that is referred to.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Who decides among the targets.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpec {
    /// The InferencePlacementPolicy that governs decisions. Default: built-in defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<NameRef>,
    /// Whether Weir chooses the target.
    #[serde(default)]
    pub mode: PlacementMode,
    /// The target to use in mode Pinned. Gates hold for it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pinned_target: Option<String>,
}

/// Whether Weir chooses the target.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlacementMode {
    /// Weir chooses and moves.
    #[default]
    Auto,
    /// Weir decides and says what it would do, but moves nothing that may stay where it is. A new workload is placed.
    Advisory,
    /// The target named in `pinnedTarget` is used.
    Pinned,
}

/// How traffic is shared, spilled, failed over and moved.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// What happens when the local target is busy or asleep.
    #[serde(default)]
    pub spillover: Spillover,
    /// What happens when a target fails before its first byte.
    #[serde(default)]
    pub failover: Failover,
    /// How a move shifts traffic to its new target.
    #[serde(default)]
    pub canary: Canary,
    /// How a move leaves its old target.
    #[serde(default)]
    pub drain: Drain,
}

/// What happens when the local target is busy or asleep. Only feasible external targets are ever used.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Spillover {
    /// Whether requests go to an external target while the local queue is longer than `queueWait`. Once a day of hours is known, a local target is then costed and sized for the base of the work, with the external target's price for the rest (`status.decision.candidates[].overflow`).
    #[serde(default)]
    pub enabled: bool,
    /// Longest expected wait in the local queue. Default: 500ms.
    #[serde(default = "half_a_second")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub queue_wait: String,
    /// What happens to a request whose local target has no ready replica.
    #[serde(default)]
    pub on_cold_start: OnColdStart,
}

fn half_a_second() -> String {
    "500ms".to_owned()
}

impl Default for Spillover {
    fn default() -> Self {
        Self {
            enabled: false,
            queue_wait: half_a_second(),
            on_cold_start: OnColdStart::default(),
        }
    }
}

/// What happens to a request whose local target has no ready replica.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnColdStart {
    /// An external target answers until the local one is ready.
    #[default]
    Spill,
    /// The client gets 503 with Retry-After while the local target starts.
    Wait,
}

/// What happens when a target fails before its first byte.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Failures of a local target after which another target is tried. A paid target is left only after a failed connection or a whole 429 or 503 answer.
    #[serde(default = "all_failures")]
    #[schemars(length(max = 4))]
    pub triggers: Vec<FailoverTrigger>,
    /// Failures in a row after which a target is not tried for `ejectFor`. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_failures: i32,
    /// How long a failing target is left out. Default: 30s.
    #[serde(default = "thirty_seconds")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration(), validation = is_a_second())]
    pub eject_for: String,
}

fn all_failures() -> Vec<FailoverTrigger> {
    vec![
        FailoverTrigger::Connect,
        FailoverTrigger::Timeout,
        FailoverTrigger::TooManyRequests,
        FailoverTrigger::ServerError,
    ]
}

fn three() -> i32 {
    3
}

fn thirty_seconds() -> String {
    "30s".to_owned()
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            triggers: all_failures(),
            consecutive_failures: three(),
            eject_for: thirty_seconds(),
        }
    }
}

/// A kind of failure before the first byte.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum FailoverTrigger {
    /// No connection could be made.
    Connect,
    /// No answer came in time.
    Timeout,
    /// The answer was 429.
    #[serde(rename = "429")]
    TooManyRequests,
    /// The answer was 500 to 599.
    #[serde(rename = "5xx")]
    ServerError,
}

/// How a move shifts traffic to its new target.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Shares of the new target on the way to all of the traffic, each larger than the one before. Default: 5 percent for 10m.
    #[serde(default = "default_steps")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.map(step, step.weight).isSorted() && self.all(step, self.exists_one(other, other.weight == step.weight))").message("the weights of canary steps must rise from step to step"))]
    pub steps: Vec<CanaryStep>,
    /// Share of failed requests on the new target above which the move is rolled back, in percent, at most 100. Default: 1.
    #[serde(default = "one_percent")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_percent())]
    pub max_error_percent: String,
}

fn default_steps() -> Vec<CanaryStep> {
    vec![CanaryStep {
        weight: 5,
        pause: "10m".to_owned(),
    }]
}

fn one_percent() -> String {
    "1".to_owned()
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            steps: default_steps(),
            max_error_percent: one_percent(),
        }
    }
}

/// One step of a move.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStep {
    /// Share of the traffic that the new target gets in this step, in percent.
    #[schemars(range(min = 1, max = 99))]
    pub weight: i32,
    /// How long the step lasts after every gateway has it.
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub pause: String,
}

/// How a move leaves its old target.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long requests that run on the old target may take to end before it is released. Default: 300s.
    #[serde(default = "five_minutes")]
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub timeout: String,
}

fn five_minutes() -> String {
    "300s".to_owned()
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            timeout: five_minutes(),
        }
    }
}

impl InferenceWorkload {
    /// The `model` that clients name.
    pub fn served_model_name(&self) -> &str {
        self.spec
            .served_model_name
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}
