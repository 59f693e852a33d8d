//! Readings of GPUs and MIG slices from NVIDIA's management library, where there is one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::cuda::{self, CudaDevice};
use super::source::{DeviceValues, Reading, Source};

/// A driver that comes later, as drivers installed by an operator do, is found after this time.
const RETRY: Duration = Duration::from_secs(60);
/// `current` of a GPU that is split into MIG slices.
const MIG_ENABLED: u32 = 1;
/// What Kubernetes shows of a node; more than any machine has.
const MAX_DEVICES: usize = 128;

/// GPUs by NVML, with facts from the CUDA driver; by the CUDA driver alone where NVML is missing.
pub struct GpuSource {
    library: PathBuf,
    nvml: Option<Nvml>,
    cuda: BTreeMap<String, CudaDevice>,
    tried: Option<Instant>,
}

impl GpuSource {
    /// A source over the library of this name or path; nothing is loaded before the first reading.
    pub fn new(library: &Path) -> Self {
        Self {
            library: library.to_owned(),
            nvml: None,
            cuda: BTreeMap::new(),
            tried: None,
        }
    }

    fn load(&mut self) {
        if self.nvml.is_some() || self.tried.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        let first = self.tried.is_none();
        self.tried = Some(Instant::now());
        self.cuda = cuda::devices();
        match Nvml::builder().lib_path(self.library.as_os_str()).init() {
            Ok(nvml) => {
                tracing::info!(library = %self.library.display(), "nvml loaded");
                self.nvml = Some(nvml);
            }
            Err(error) if first => {
                tracing::info!(library = %self.library.display(), %error, "no nvml on this node");
            }
            Err(_) => {}
        }
    }
}

impl Source for GpuSource {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn read(&mut self) -> Reading {
        self.load();
        let Some(nvml) = &self.nvml else {
            return Reading {
                devices: self.cuda.values().map(CudaDevice::values).collect(),
                ..Reading::default()
            };
        };
        match devices(nvml, &self.cuda) {
            Ok(devices) => Reading {
                devices,
                driver_version: nvml.sys_driver_version().ok(),
                cuda_version: nvml.sys_cuda_driver_version().ok().map(|version| {
                    format!(
                        "{}.{}",
                        cuda_driver_version_major(version),
                        cuda_driver_version_minor(version)
                    )
                }),
                ..Reading::default()
            },
            Err(error) => {
                tracing::warn!(%error, "nvml does not answer; it is loaded anew");
                self.nvml = None;
                Reading::default()
            }
        }
    }
}

fn devices(
    nvml: &Nvml,
    cuda: &BTreeMap<String, CudaDevice>,
) -> Result<Vec<DeviceValues>, NvmlError> {
    let mut found = Vec::new();
    for index in 0..nvml.device_count()? {
        // A GPU that fell off the bus does not take the others with it.
        let Ok(device) = nvml.device_by_index(index) else {
            continue;
        };
        let Ok(uuid) = device.uuid() else {
            continue;
        };
        found.push(values(&device, uuid.clone(), None, cuda));
        found.extend(slices(&device, &uuid, cuda));
    }
    found.truncate(MAX_DEVICES);
    Ok(found)
}

fn slices(
    device: &Device<'_>,
    parent: &str,
    cuda: &BTreeMap<String, CudaDevice>,
) -> Vec<DeviceValues> {
    let split = device
        .mig_mode()
        .is_ok_and(|mode| mode.current == MIG_ENABLED);
    if !split {
        return Vec::new();
    }
    let slots = device.mig_device_count().unwrap_or(0);
    (0..slots)
        .filter_map(|slot| device.mig_device_by_index(slot).ok())
        .filter_map(|slice| Some((slice.uuid().ok()?, slice)))
        .map(|(uuid, slice)| values(&slice, uuid, Some(parent.to_owned()), cuda))
        .collect()
}

fn values(
    device: &Device<'_>,
    uuid: String,
    parent: Option<String>,
    cuda: &BTreeMap<String, CudaDevice>,
) -> DeviceValues {
    let facts = cuda.get(&uuid);
    let memory = device.memory_info().ok();
    let capability = device
        .cuda_compute_capability()
        .ok()
        .map(|capability| format!("{}.{}", capability.major, capability.minor));
    DeviceValues {
        model: device.name().ok().unwrap_or_default(),
        parent,
        compute_capability: capability.or_else(|| facts?.compute_capability.clone()),
        utilization_percent: device.utilization_rates().ok().map(|u| f64::from(u.gpu)),
        memory_total_bytes: memory
            .as_ref()
            .map(|m| m.total)
            .or_else(|| facts?.memory_total_bytes),
        memory_used_bytes: memory.as_ref().map(|m| m.used),
        power_watts: device.power_usage().ok().map(|mw| f64::from(mw) / 1000.0),
        temperature_celsius: device
            .temperature(TemperatureSensor::Gpu)
            .ok()
            .map(f64::from),
        uncorrected_ecc_errors: device
            .total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)
            .ok(),
        uuid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_without_the_library_has_no_devices_and_does_not_panic() {
        let mut source = GpuSource::new(Path::new("/nonexistent/libnvidia-ml.so.1"));
        for _ in 0..3 {
            let reading = source.read();
            assert_eq!(reading.driver_version, None);
            assert_eq!(reading.cpu, None);
        }
        assert!(source.nvml.is_none());
    }

    #[test]
    fn file_that_is_no_library_is_no_driver() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut source = GpuSource::new(file.path());
        source.read();
        assert!(source.nvml.is_none());
    }
}
