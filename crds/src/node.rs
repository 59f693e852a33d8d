//! `GPUNode`: what the agent on a node reports; written by that agent alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node as its agent sees it. It has no settings: the agent of the node writes its status.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "inference.weir.dev",
    version = "v1alpha1",
    kind = "GPUNode",
    status = "GPUNodeStatus",
    shortname = "gpun",
    category = "inference",
    derive = "PartialEq",
    derive = "Default",
    doc = "A node as its agent sees it; the name is the node's.",
    cel,
    printcolumn(name = "GPUs", type_ = "integer", json_path = ".status.deviceCount"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.accelerators.state"
    ),
    printcolumn(
        name = "Model",
        type_ = "string",
        json_path = ".status.devices[0].model"
    ),
    printcolumn(
        name = "GPU%",
        type_ = "integer",
        json_path = ".status.gpuUtilizationPercent"
    ),
    printcolumn(
        name = "CPU%",
        type_ = "integer",
        json_path = ".status.cpu.utilizationPercent"
    ),
    printcolumn(name = "Driver", type_ = "string", json_path = ".status.driverVersion"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.accelerators.reason",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GPUNodeSpec {}

/// What the agent reads on its node. What cannot be read is absent.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GPUNodeStatus {
    /// Version of the agent that wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Version of the NVIDIA driver, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// Highest CUDA version that the driver supports, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<String>,
    /// When the agent last changed this status; it does so on material change alone, at most once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
    /// Whether the node's accelerators can be measured, and why not. Each device has its own besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerators: Option<Measurement>,
    /// NVIDIA devices that the kernel shows on the PCI bus, whether the driver answers for them or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_devices: Option<i32>,
    /// How many GPUs and MIG slices there are, those that were lost among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_count: Option<i32>,
    /// Mean utilization of the GPUs in percent, in steps of ten; absent where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_utilization_percent: Option<i32>,
    /// The GPUs and MIG slices of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["uuid".into()]))]
    pub devices: Vec<Device>,
    /// The processors and memory of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

/// Whether something can be measured, and why not.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// What is known of the device, or of the whole node.
    pub state: MeasurementState,
    /// Why it is not Measured, in one CamelCase word group such as UtilizationUnsupported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The reason in words, with what mends it where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// What is known of an accelerator, or of all of a node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasurementState {
    /// Of a device: its utilization is read. Of a node: that of one device at least.
    Measured,
    /// The devices work as far as is known, and the agent cannot read how busy they are: there is no library in its pod,
    /// the driver gives no utilization of MIG slices, a permission is missing. It stays so until somebody changes
    /// something, so decisions go on without the figure.
    NotMeasurable,
    /// The devices do not answer, or the driver and its library do not fit together: no new replica can count on them.
    Lost,
    /// Of a node alone: there is no sign of an accelerator.
    Absent,
}

impl MeasurementState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "Measured",
            Self::NotMeasurable => "NotMeasurable",
            Self::Lost => "Lost",
            Self::Absent => "Absent",
        }
    }
}

/// A GPU or a MIG slice.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// UUID of the device as the driver gives it, or index:N for one that the driver counts and gives no UUID of.
    pub uuid: String,
    /// Product name, as the driver gives it.
    pub model: String,
    /// Memory of the device in bytes; absent where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// Whether the device can be measured, and why not. One that was lost stays in the list until it returns or the agent
    /// starts anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement: Option<Measurement>,
    /// CUDA compute capability, such as 9.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// UUID of the GPU that a MIG slice is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// The processors and memory of a node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Name of the processor, as the kernel gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Logical processors of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_processors: Option<i32>,
    /// Memory of the node in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    /// Utilization in percent, in steps of ten; absent where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,
}
