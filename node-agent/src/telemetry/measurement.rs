//! Whether accelerators can be measured, by what was read of them. Pure.

use weir_crds::node::{Measurement, MeasurementState};

use super::sanitize::Sample;
use super::source::{DeviceValues, Reading};
use super::unmeasured::Unmeasured;

/// What is known while the sampler is stuck, by the sample before.
pub fn while_stuck(last: Option<&Sample>) -> Measurement {
    let before = last.and_then(|sample| of_node(&sample.reading));
    before
        // Whatever hangs there, it is no accelerator.
        .filter(|before| before.state == MeasurementState::Absent)
        .unwrap_or_else(|| Measurement::from(&Unmeasured::not_answering()))
}

/// What is known of one device.
pub fn of_device(device: &DeviceValues) -> Measurement {
    device.unmeasured.as_ref().map_or(
        Measurement {
            state: MeasurementState::Measured,
            reason: None,
            message: None,
        },
        Measurement::from,
    )
}

/// What is known of a node's accelerators as a whole; `None` where nothing looked for any.
pub fn of_node(reading: &Reading) -> Option<Measurement> {
    if let Some(unmeasured) = &reading.unmeasured {
        return Some(unmeasured.into());
    }
    let first = |state: MeasurementState| {
        let mut unmeasured = reading.devices.iter().filter_map(|d| d.unmeasured.as_ref());
        unmeasured.find(|unmeasured| unmeasured.reason.state() == state)
    };
    let measured = reading.devices.iter().any(|d| d.unmeasured.is_none());
    let state = if measured {
        MeasurementState::Measured
    } else if first(MeasurementState::NotMeasurable).is_some() {
        MeasurementState::NotMeasurable
    } else {
        first(MeasurementState::Lost)?.reason.state()
    };
    let lost = first(MeasurementState::Lost);
    let told = lost.or_else(|| first(MeasurementState::NotMeasurable));
    let Some(told) = told else {
        return Some(Measurement {
            state,
            reason: None,
            message: None,
        });
    };
    let concerned = reading
        .devices
        .iter()
        .filter_map(|d| d.unmeasured.as_ref())
        .filter(|unmeasured| unmeasured.reason.state() == told.reason.state())
        .count();
    let message = format!(
        "{concerned} of {} devices: {}",
        reading.devices.len(),
        told.message
    );
    Some(Measurement {
        state,
        ..Measurement::from(&Unmeasured::new(told.reason, message))
    })
}
