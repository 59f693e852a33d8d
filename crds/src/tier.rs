//! `GPUTier`: a kind of access to accelerators (or CPUs), what it costs, and how much of it there is.

use crate::quantity::{
    COUNT_LENGTH, DECIMAL_LENGTH, DURATION_LENGTH, MEMORY_LENGTH, is_count, is_decimal,
    is_duration, is_memory, is_one_at_least,
};
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A kind of access to accelerators: which nodes have it, what one replica takes, what it costs.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "GPUTier",
    status = "GPUTierStatus",
    shortname = "gput",
    category = "inference",
    derive = "PartialEq",
    doc = "A kind of access to accelerators, what it costs and how much of it is free.",
    cel,
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Sharing", type_ = "string", json_path = ".spec.sharing"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Devices", type_ = "integer", json_path = ".status.devices"),
    printcolumn(name = "Free", type_ = "integer", json_path = ".status.free"),
    printcolumn(
        name = "Util%",
        type_ = "integer",
        json_path = ".status.utilizationPercent"
    ),
    printcolumn(name = "$/h", type_ = "string", json_path = ".status.hourlyCostUsd"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(validation = Rule::new("self.sharing != 'CPU' || self.resource.name == 'cpu'").message("sharing CPU needs resource.name cpu"),
         validation = Rule::new("self.sharing == 'CPU' || !self.resource.count.endsWith('m')").message("accelerators are counted whole: resource.count must not end in m"),
         validation = Rule::new("self.sharing != 'MIG' || self.resource.name != 'nvidia.com/gpu'").message("sharing MIG needs the resource of a slice such as nvidia.com/mig-1g.10gb: nvidia.com/gpu is a whole device, or any slice where nodes have one profile alone, which is sharing Exclusive"))]
#[serde(rename_all = "camelCase")]
pub struct GPUTierSpec {
    /// Labels that a node of this tier has.
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of the tier's nodes that engine pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// What one replica takes of a node.
    pub resource: TierResource,
    /// How a device is shared.
    pub sharing: Sharing,
    /// Memory for weights and KV cache that one replica gets, such as 24Gi.
    #[schemars(length(min = 1, max = MEMORY_LENGTH))]
    #[x_kube(validation = is_memory())]
    pub memory: String,
    /// RuntimeClass of the engine pods, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// What one replica costs.
    pub cost: TierCost,
    /// Devices that an autoscaler brings once pods ask for them. Without it a tier whose nodes were taken away has no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisionable: Option<ProvisionableDevices>,
    /// What the podTemplate of a workload may add to pods of this tier that reaches beyond its namespace. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_pod_template: Option<AllowedPodTemplate>,
}

/// What a workload's podTemplate may add to pods of a tier that reaches beyond its namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AllowedPodTemplate {
    /// Keys of annotations; one that ends in * stands for all keys that begin so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 317)))]
    pub annotations: Vec<String>,
    /// Names of PriorityClasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub priority_class_names: Vec<String>,
    /// Tolerations beside the tier's own; what tolerates no more than one of these is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
}

/// Devices that an autoscaler brings once pods ask for them.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProvisionableDevices {
    /// Replicas that the tier can run once its nodes are as many as they may be, those that exist among them.
    #[schemars(range(min = 1, max = 100_000))]
    pub devices: i64,
    /// How long it takes from a pod that asks until it can run on a new node, such as 3m.
    #[schemars(length(min = 1, max = DURATION_LENGTH))]
    #[x_kube(validation = is_duration())]
    pub ready_after: String,
    /// USD an hour that what one replica takes costs while it is provisioned so; never counted below what cost says, which is also the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub usd_per_hour: Option<String>,
}

/// What one replica takes of a node.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TierResource {
    /// Name of the extended resource, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb, or cpu.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// How much of it one replica takes: a whole number, or for cpu also thousandths such as 250m.
    #[schemars(length(min = 1, max = COUNT_LENGTH))]
    #[x_kube(validation = is_count())]
    pub count: String,
}

/// How a device is shared.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A replica has whole devices.
    Exclusive,
    /// A replica has a MIG slice.
    MIG,
    /// Replicas share a device through the multi-process service.
    MPS,
    /// Replicas take turns on a device.
    TimeSlicing,
    /// Replicas run on processors; there is no accelerator.
    CPU,
}

/// What one replica costs: exactly one of owned and rented, and power where it is paid apart.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.owned) != has(self.rented)").message("cost has exactly one of owned and rented"))]
#[serde(rename_all = "camelCase")]
pub struct TierCost {
    /// Hardware that was bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned: Option<OwnedCost>,
    /// Hardware that is paid by the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rented: Option<RentedCost>,
    /// Electricity, where it is not part of the rent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerCost>,
}

/// Hardware that was bought, by the replica.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OwnedCost {
    /// USD paid for what one replica takes, its share of the host included.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub purchase_usd: String,
    /// Months over which the purchase is written off.
    #[schemars(range(min = 1, max = 240))]
    pub amortization_months: i32,
    /// USD a month for maintenance, rack space and support of what one replica takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub maintenance_usd_per_month: Option<String>,
}

/// Hardware that is paid by the hour.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RentedCost {
    /// USD an hour for what one replica takes.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub usd_per_hour: String,
    /// Whether the rent is paid for a term, used or not, as for a reservation; idle devices then cost what running them adds. Default: false.
    #[serde(default)]
    pub committed: bool,
}

/// Electricity of what one replica takes.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PowerCost {
    /// USD for a kilowatt-hour.
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal())]
    pub usd_per_kilowatt_hour: String,
    /// Watts that one replica draws while it serves.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub watts: i64,
    /// Power usage effectiveness: power of the site over power of the devices, at least 1. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = DECIMAL_LENGTH))]
    #[x_kube(validation = is_decimal(), validation = is_one_at_least())]
    pub pue: Option<String>,
}

/// How much of the tier there is, how busy it is and what it costs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GPUTierStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes that are Ready and schedulable, have the tier's labels and resource, and no taint that the tier does not tolerate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,
    /// Replicas that the tier's nodes could run if nothing else did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<i64>,
    /// Replicas that could be added now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<i64>,
    /// Replicas that could be added once nodes for them are provisioned, beside those in free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisionable: Option<i64>,
    /// Tiers that have nodes in common with this one, so that a replica of theirs may take what is free here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["tier".into()]))]
    pub shared_with: Vec<SharedWith>,
    /// Mean utilization in percent, in steps of ten, written at most every minute; absent: unknown, because telemetry is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,
    /// How full the tier is for the utilization band of policies, in percent and steps of ten: the occupancy of its engines, or where that is not known and it has accelerators, their utilization. Absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupancy_percent: Option<i32>,
    /// What one replica costs in USD an hour, fully loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly_cost_usd: Option<String>,
    /// What running one more replica adds in USD an hour on hardware that is paid for anyway: energy; absent where nothing is paid for anyway, or where owned hardware has no power in its cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marginal_hourly_cost_usd: Option<String>,
    /// Conditions: Accepted, TelemetryFresh, UtilizationKnown, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A tier that has nodes in common with this one.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SharedWith {
    /// Name of the other tier.
    pub tier: String,
    /// Replicas of this tier that could be added on nodes in common.
    pub free: i64,
    /// How many of these one replica of the other tier takes at most.
    pub each: i64,
}
