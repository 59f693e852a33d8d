//! The devices that the management library lists, and those that it listed before and has lost.

use std::collections::BTreeMap;

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::telemetry::cuda::CudaDevice;
use crate::telemetry::source::DeviceValues;
use crate::telemetry::unmeasured::{Reason, Unmeasured};

/// `current` of a GPU that is split into MIG slices.
const MIG_ENABLED: u32 = 1;
/// What Kubernetes shows of a node; more than any machine has.
const MAX_DEVICES: usize = 128;

type Facts = BTreeMap<String, CudaDevice>;

/// Every device, with why it cannot be measured where that is so; `known` are those of the reading before.
///
/// # Errors
/// When the library does not even count them.
pub(super) fn read(
    nvml: &Nvml,
    cuda: &Facts,
    known: &[DeviceValues],
) -> Result<Vec<DeviceValues>, NvmlError> {
    let mut found = Vec::new();
    let mut silent = Vec::new();
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index);
        match device.and_then(|device| Ok((device.uuid()?, device))) {
            Ok((uuid, device)) => found.extend(of_gpu(&device, uuid, cuda, known)),
            Err(error) => silent.push((index, Unmeasured::of_error(&error))),
        }
    }
    found.extend(lost(&found, known, &mut silent));
    // Counted, and never seen answering: nothing but its place is known.
    found.extend(silent.into_iter().map(|(index, why)| {
        let unseen = DeviceValues {
            uuid: format!("index:{index}"),
            ..DeviceValues::default()
        };
        unseen.without_values(why)
    }));
    found.truncate(MAX_DEVICES);
    Ok(found)
}

/// Devices of the reading before that are not `found`: of the `silent` ones as many as there are, the rest is not even
/// counted any more.
fn lost(
    found: &[DeviceValues],
    known: &[DeviceValues],
    silent: &mut Vec<(u32, Unmeasured)>,
) -> Vec<DeviceValues> {
    let has_gpu = |gpu: &str| found.iter().any(|device| device.uuid == gpu);
    let mut reasons: BTreeMap<&str, Unmeasured> = BTreeMap::new();
    let mut lost = Vec::new();
    for device in known.iter().filter(|device| !has_gpu(device.gpu())) {
        if device.uuid.starts_with("index:") {
            continue;
        }
        let why = reasons.entry(device.gpu()).or_insert_with(|| {
            if silent.is_empty() {
                let message = "the driver no longer lists the device: see the node's kernel log; restart the agent if it was taken out on purpose";
                Unmeasured::new(Reason::DeviceLost, message)
            } else {
                silent.remove(0).1
            }
        });
        lost.push(device.without_values(why.clone()));
    }
    lost
}

/// A GPU, and its slices if it is split.
fn of_gpu(
    device: &Device<'_>,
    uuid: String,
    cuda: &Facts,
    known: &[DeviceValues],
) -> Vec<DeviceValues> {
    let mode = device.mig_mode();
    let split = mode.as_ref().is_ok_and(|mode| mode.current == MIG_ENABLED);
    let gpu = values(device, (uuid.clone(), None), split, cuda);
    let is_lost = |why: &Unmeasured| why.reason.state() == Reason::DeviceLost.state();
    if let Some(why) = gpu.unmeasured.as_ref().filter(|why| is_lost(why)) {
        // Its slices went with it, whether the library still lists them or not.
        let before = known.iter().filter(|device| device.gpu() == uuid);
        let lost: Vec<_> = before
            .map(|device| device.without_values(why.clone()))
            .collect();
        return if lost.is_empty() { vec![gpu] } else { lost };
    }
    let slots = if split {
        device.mig_device_count().unwrap_or(0)
    } else {
        0
    };
    let slices = (0..slots)
        .filter_map(|slot| device.mig_device_by_index(slot).ok())
        .filter_map(|slice| Some((slice.uuid().ok()?, slice)))
        .map(|(of_slice, slice)| values(&slice, (of_slice, Some(uuid.clone())), true, cuda));
    std::iter::once(gpu).chain(slices).collect()
}

fn values(
    device: &Device<'_>,
    (uuid, parent): (String, Option<String>),
    split: bool,
    cuda: &Facts,
) -> DeviceValues {
    let facts = cuda.get(&uuid);
    let memory = device.memory_info().ok();
    let utilization = device.utilization_rates();
    let capability = device
        .cuda_compute_capability()
        .ok()
        .map(|capability| format!("{}.{}", capability.major, capability.minor));
    DeviceValues {
        model: device.name().ok().unwrap_or_default(),
        parent,
        compute_capability: capability.or_else(|| facts?.compute_capability.clone()),
        unmeasured: utilization
            .as_ref()
            .err()
            .map(|error| Unmeasured::of_utilization(error, split)),
        utilization_percent: utilization.ok().map(|rates| f64::from(rates.gpu)),
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
