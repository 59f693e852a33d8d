//! What a source of readings is, and the values it may read.

/// Where values come from. Reading blocks; the sampler calls it on a thread of its own.
pub trait Source: Send {
    /// A short name for logs and metrics.
    fn name(&self) -> &'static str;

    /// Reads once. What cannot be read is absent.
    fn read(&mut self) -> Reading;
}

/// What one source read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Processors and memory of the host.
    pub cpu: Option<CpuValues>,
    /// GPUs and MIG slices.
    pub devices: Vec<DeviceValues>,
    /// Version of the NVIDIA driver.
    pub driver_version: Option<String>,
    /// Highest CUDA version that the driver supports, such as 13.0.
    pub cuda_version: Option<String>,
}

/// Processors and memory of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuValues {
    /// Name of the processor, as the kernel gives it.
    pub model: Option<String>,
    /// Logical processors.
    pub logical_processors: Option<u32>,
    /// Share of processor time that was not idle since the reading before, 0 to 100.
    pub utilization_percent: Option<f64>,
    /// Memory of the host.
    pub memory_total_bytes: Option<u64>,
    /// Memory that can be had without swapping.
    pub memory_available_bytes: Option<u64>,
    /// Load average of the last minute.
    pub load_1m: Option<f64>,
}

/// A GPU or a MIG slice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceValues {
    /// UUID, as the driver gives it.
    pub uuid: String,
    /// Product name, as the driver gives it.
    pub model: String,
    /// UUID of the GPU that a MIG slice is part of.
    pub parent: Option<String>,
    /// CUDA compute capability, such as 9.0.
    pub compute_capability: Option<String>,
    /// Share of time in which a kernel ran, 0 to 100.
    pub utilization_percent: Option<f64>,
    /// Memory of the device.
    pub memory_total_bytes: Option<u64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Power drawn.
    pub power_watts: Option<f64>,
    /// Temperature of the chip.
    pub temperature_celsius: Option<f64>,
    /// Uncorrected memory errors since the driver was loaded.
    pub uncorrected_ecc_errors: Option<u64>,
}
