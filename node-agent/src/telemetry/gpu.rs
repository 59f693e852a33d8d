//! Readings of GPUs and MIG slices from NVIDIA's management library, where there is one.

mod devices;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper::{Nvml, cuda_driver_version_major, cuda_driver_version_minor};
use weir_crds::node::Measurement;

use super::cuda::{self, CudaDevice};
use super::measurement;
use super::pci;
use super::source::{DeviceValues, Reading, Source};
use super::unmeasured::{Reason, Unmeasured};

/// A driver that comes later, as drivers installed by an operator do, is found after this time.
const RETRY: Duration = Duration::from_secs(60);

/// GPUs by NVML, with facts from the CUDA driver; by the CUDA driver alone where NVML is missing.
///
/// What was seen once is not forgotten: a device that no longer answers is told as lost, and never as one device fewer.
pub struct GpuSource {
    library: PathBuf,
    sys_root: PathBuf,
    retry: Duration,
    nvml: Option<Nvml>,
    cuda: BTreeMap<String, CudaDevice>,
    installed: Option<u32>,
    tried: Option<Instant>,
    /// Why there is no library to ask.
    failure: Option<Unmeasured>,
    /// Devices of the last reading, without what changes.
    known: Vec<DeviceValues>,
    told: Option<Measurement>,
}

impl GpuSource {
    /// A source over the library of this name or path, and the kernel's tree of devices; nothing is loaded before the
    /// first reading.
    pub fn new(library: &Path, sys_root: &Path) -> Self {
        Self {
            library: library.to_owned(),
            sys_root: sys_root.to_owned(),
            retry: RETRY,
            nvml: None,
            cuda: BTreeMap::new(),
            installed: None,
            tried: None,
            failure: None,
            known: Vec::new(),
            told: None,
        }
    }

    /// Tries a library that failed again after this time, instead of a minute.
    pub fn retry_after(mut self, retry: Duration) -> Self {
        self.retry = retry;
        self
    }

    fn load(&mut self) {
        let recently = self.tried.is_some_and(|at| at.elapsed() < self.retry);
        if self.nvml.is_some() || recently {
            return;
        }
        self.tried = Some(Instant::now());
        self.cuda = cuda::devices();
        self.installed = pci::nvidia_devices(&self.sys_root);
        match Nvml::builder().lib_path(self.library.as_os_str()).init() {
            Ok(nvml) => {
                self.nvml = Some(nvml);
                self.failure = None;
            }
            Err(error) => self.failure = Some(Unmeasured::of_load(&error, self.installed)),
        }
    }

    fn ask(&mut self) -> Reading {
        let installed_devices = self.installed;
        let Some(nvml) = &self.nvml else {
            return Reading {
                devices: self.unasked(),
                unmeasured: self.failure.clone(),
                installed_devices,
                ..Reading::default()
            };
        };
        match devices::read(nvml, &self.cuda, &self.known) {
            Ok(devices) => {
                let none = devices.is_empty().then(|| self.nothing_shown());
                let cuda_version = nvml.sys_cuda_driver_version().ok().map(|version| {
                    format!(
                        "{}.{}",
                        cuda_driver_version_major(version),
                        cuda_driver_version_minor(version)
                    )
                });
                Reading {
                    devices,
                    unmeasured: none,
                    installed_devices,
                    driver_version: nvml.sys_driver_version().ok(),
                    cuda_version,
                    ..Reading::default()
                }
            }
            Err(error) => {
                self.nvml = None;
                self.tried = Some(Instant::now());
                let failure = Unmeasured::of_error(&error);
                self.failure = Some(failure.clone());
                Reading {
                    devices: self.unasked(),
                    unmeasured: Some(failure),
                    installed_devices,
                    ..Reading::default()
                }
            }
        }
    }

    /// Devices that were seen before, and those of the CUDA driver, while the library cannot be asked.
    fn unasked(&self) -> Vec<DeviceValues> {
        let Some(failure) = &self.failure else {
            return Vec::new();
        };
        let unknown = self
            .cuda
            .values()
            .filter(|device| self.known.iter().all(|known| known.uuid != device.uuid))
            .map(CudaDevice::values);
        let known = self.known.iter().cloned().chain(unknown);
        known
            .map(|device| device.without_values(failure.clone()))
            .collect()
    }

    fn nothing_shown(&self) -> Unmeasured {
        match self.installed {
            None | Some(0) => Unmeasured::none(),
            Some(installed) => Unmeasured::new(
                Reason::DevicesNotVisible,
                format!(
                    "{installed} NVIDIA devices are on the PCI bus, and the container toolkit shows the agent's pod none of them"
                ),
            ),
        }
    }

    /// Says in the log what is known, whenever that changes.
    fn tell(&mut self, reading: &Reading) {
        let now = measurement::of_node(reading);
        if now == self.told {
            return;
        }
        if let Some(Measurement {
            state,
            reason,
            message,
        }) = &now
        {
            let (state, reason) = (state.as_str(), reason.as_deref().unwrap_or_default());
            let (library, message) = (
                self.library.display(),
                message.as_deref().unwrap_or_default(),
            );
            let sound = matches!(reason, "" | "NoAccelerator");
            if sound {
                tracing::info!(%library, state, "accelerators");
            } else {
                tracing::warn!(%library, state, reason, message, "accelerators");
            }
        }
        self.told = now;
    }
}

impl Source for GpuSource {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn read(&mut self) -> Reading {
        self.load();
        let reading = self.ask();
        self.tell(&reading);
        self.known = reading.devices.clone();
        reading
    }

    fn given_up(&self) -> Reading {
        let message = "the agent failed over what the driver gave and asks it no more";
        let failure = Unmeasured::new(Reason::DriverFailed, message);
        let known = self.known.iter();
        Reading {
            devices: known
                .map(|device| device.without_values(failure.clone()))
                .collect(),
            unmeasured: Some(failure.clone()),
            installed_devices: self.installed,
            ..Reading::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_crds::node::MeasurementState;

    #[test]
    fn node_without_the_library_has_no_devices_and_does_not_panic() {
        let bare = tempfile::tempdir().unwrap();
        std::fs::create_dir(bare.path().join("bus")).unwrap();
        let library = Path::new("/nonexistent/libnvidia-ml.so.1");
        let mut source = GpuSource::new(library, bare.path());
        for _ in 0..3 {
            let reading = source.read();
            assert_eq!(reading.driver_version, None);
            assert_eq!(reading.cpu, None);
            let told = measurement::of_node(&reading).unwrap();
            assert_eq!(told.state, MeasurementState::Absent);
        }
        assert!(source.nvml.is_none());
    }

    #[test]
    fn file_that_is_no_library_is_no_driver() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut source = GpuSource::new(file.path(), Path::new("/sys"));
        source.read();
        assert!(source.nvml.is_none());
    }
}
