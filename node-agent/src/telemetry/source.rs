//! What a source of readings is, and the values it may read.

use super::unmeasured::Unmeasured;

/// Where values come from. Reading blocks; the sampler calls it on a thread of its own.
pub trait Source: Send {
    /// A short name for logs and metrics.
    fn name(&self) -> &'static str;

    /// Reads once. What cannot be read is absent.
    fn read(&mut self) -> Reading;

    /// What is said in its place once it panicked and is not asked again.
    fn given_up(&self) -> Reading {
        Reading::default()
    }
}

/// What one source read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Processors and memory of the host.
    pub cpu: Option<CpuValues>,
    /// GPUs and MIG slices, those that were lost among them.
    pub devices: Vec<DeviceValues>,
    /// Why no accelerator can be measured, whichever it is.
    pub unmeasured: Option<Unmeasured>,
    /// NVIDIA devices on the PCI bus.
    pub installed_devices: Option<u32>,
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
    /// Why its utilization cannot be read; `None` when it was.
    pub unmeasured: Option<Unmeasured>,
}

impl DeviceValues {
    /// What does not change, of a device that cannot be asked for this reason.
    pub fn without_values(&self, why: Unmeasured) -> Self {
        Self {
            uuid: self.uuid.clone(),
            model: self.model.clone(),
            parent: self.parent.clone(),
            compute_capability: self.compute_capability.clone(),
            memory_total_bytes: self.memory_total_bytes,
            unmeasured: Some(why),
            ..Self::default()
        }
    }

    /// UUID of the GPU that this is, or is part of.
    pub fn gpu(&self) -> &str {
        self.parent.as_deref().unwrap_or(&self.uuid)
    }
}
