//! Facts of devices from the CUDA driver, without opening a context, which would take memory of the GPU.
//!
//! The driver is asked for only where it is: its bindings panic when the library is missing. These questions are the
//! only `unsafe` of the agent.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use cudarc::driver::result::{self, DriverError, device};
use cudarc::driver::sys::{self, CUdevice_attribute};

use super::source::DeviceValues;

/// What the CUDA driver says of a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CudaDevice {
    pub uuid: String,
    pub name: String,
    pub compute_capability: Option<String>,
    pub memory_total_bytes: Option<u64>,
}

impl CudaDevice {
    /// The same as a reading without measurements.
    pub fn values(&self) -> DeviceValues {
        DeviceValues {
            uuid: self.uuid.clone(),
            model: self.name.clone(),
            compute_capability: self.compute_capability.clone(),
            memory_total_bytes: self.memory_total_bytes,
            ..DeviceValues::default()
        }
    }
}

/// The visible devices by UUID; empty where there is no driver or it does not answer.
pub(crate) fn devices() -> BTreeMap<String, CudaDevice> {
    // SAFETY: loads the driver's library, whose initializers are trusted as those of every GPU program.
    if !unsafe { sys::is_culib_present() } {
        return BTreeMap::new();
    }
    // A driver older than these bindings lacks symbols, on which they panic.
    match catch_unwind(list) {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::info!(%error, "cuda driver does not answer");
            BTreeMap::new()
        }
        Err(_) => {
            tracing::warn!("cuda driver lacks a function");
            BTreeMap::new()
        }
    }
}

fn list() -> Result<BTreeMap<String, CudaDevice>, DriverError> {
    result::init()?;
    let mut found = BTreeMap::new();
    for ordinal in 0..device::get_count()? {
        let handle = device::get(ordinal)?;
        // SAFETY: `handle` was just returned by the driver.
        let memory = unsafe { device::total_mem(handle) }.ok();
        let major = attribute(
            handle,
            CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
        );
        let minor = attribute(
            handle,
            CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        );
        let name = device::get_name(handle)?;
        let raw = device::get_uuid(handle)?.bytes.map(|byte| byte as u8);
        let uuid = uuid_text(&raw, name.contains("MIG"));
        let device = CudaDevice {
            uuid: uuid.clone(),
            name,
            compute_capability: major.zip(minor).map(|(a, b)| format!("{a}.{b}")),
            memory_total_bytes: memory.and_then(|bytes| u64::try_from(bytes).ok()),
        };
        found.insert(uuid, device);
    }
    Ok(found)
}

fn attribute(handle: sys::CUdevice, attribute: CUdevice_attribute) -> Option<i32> {
    // SAFETY: `handle` was returned by the driver and the attribute is one of its own.
    unsafe { device::get_attribute(handle, attribute) }.ok()
}

/// As NVML writes it: `GPU-` or `MIG-` and 8-4-4-4-12 digits.
fn uuid_text(bytes: &[u8; 16], slice: bool) -> String {
    let text = hex::encode(bytes);
    let kind = if slice { "MIG" } else { "GPU" };
    format!(
        "{kind}-{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_is_written_as_the_management_library_writes_it() {
        let bytes: [u8; 16] = std::array::from_fn(|i| i as u8 * 17);
        assert_eq!(
            uuid_text(&bytes, false),
            "GPU-00112233-4455-6677-8899-aabbccddeeff"
        );
    }

    #[test]
    fn asking_twice_is_harmless() {
        assert_eq!(devices(), devices());
    }
}
