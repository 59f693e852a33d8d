//! The border for readings: a value that cannot be true is dropped with a reason and never repaired.

use std::collections::BTreeSet;
use std::time::Duration;

use super::source::{CpuValues, DeviceValues, Reading};
use super::unmeasured::{Reason, Unmeasured};

/// Above what any device has, below the garbage that drivers are known to give (2^47).
const MAX_DEVICE_MEMORY: u64 = 16 << 40;
const MAX_HOST_MEMORY: u64 = 64 << 40;
const MAX_POWER_WATTS: f64 = 10_000.0;
const MIN_TEMPERATURE: f64 = -50.0;
const MAX_TEMPERATURE: f64 = 150.0;
const MAX_PROCESSORS: u32 = 65_536;
const MAX_LOAD: f64 = 1e6;
const MAX_ECC_ERRORS: u64 = 1 << 48;
const MAX_TEXT_CHARS: usize = 200;

/// Why a value was dropped; the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// NaN or infinite.
    NotFinite,
    /// Below or above what can be.
    OutOfRange,
    /// More memory in use, or available, than there is.
    UsedAboveTotal,
    /// A device without a usable UUID.
    NoUuid,
    /// A UUID that another device of the same reading has.
    DuplicateUuid,
    /// A sample that is not newer than the one before.
    FrozenTimestamp,
    /// The source panicked.
    SourceFailed,
}

impl DropReason {
    /// All of them, for metrics.
    pub const ALL: [Self; 7] = [
        Self::NotFinite,
        Self::OutOfRange,
        Self::UsedAboveTotal,
        Self::NoUuid,
        Self::DuplicateUuid,
        Self::FrozenTimestamp,
        Self::SourceFailed,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFinite => "not_finite",
            Self::OutOfRange => "out_of_range",
            Self::UsedAboveTotal => "used_above_total",
            Self::NoUuid => "no_uuid",
            Self::DuplicateUuid => "duplicate_uuid",
            Self::FrozenTimestamp => "frozen_timestamp",
            Self::SourceFailed => "source_failed",
        }
    }
}

/// A reading in which every value is plausible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The agent's monotonic clock when it was taken.
    pub taken: Duration,
    /// The values.
    pub reading: Reading,
}

/// Turns readings into samples.
#[derive(Debug, Default)]
pub struct Sanitizer {
    last: Option<Duration>,
    dropped: Vec<DropReason>,
}

impl Sanitizer {
    /// The plausible part of `reading`, or nothing if its time did not advance; and what was dropped.
    pub fn accept(
        &mut self,
        taken: Duration,
        reading: Reading,
    ) -> (Option<Sample>, Vec<DropReason>) {
        if self.last.is_some_and(|last| taken <= last) {
            return (None, vec![DropReason::FrozenTimestamp]);
        }
        self.last = Some(taken);
        let reading = Reading {
            cpu: reading.cpu.map(|values| self.cpu(values)),
            devices: self.devices(reading.devices),
            unmeasured: reading.unmeasured,
            installed_devices: reading.installed_devices,
            driver_version: reading.driver_version.map(|text| cut(&text)),
            cuda_version: reading.cuda_version.map(|text| cut(&text)),
        };
        let dropped = std::mem::take(&mut self.dropped);
        (Some(Sample { taken, reading }), dropped)
    }

    fn devices(&mut self, devices: Vec<DeviceValues>) -> Vec<DeviceValues> {
        let mut seen = BTreeSet::new();
        let mut kept = Vec::with_capacity(devices.len());
        for device in devices {
            let uuid_fits = !device.uuid.is_empty()
                && device.uuid.len() <= MAX_TEXT_CHARS
                && device.uuid.bytes().all(|b| b.is_ascii_graphic());
            if !uuid_fits {
                self.dropped.push(DropReason::NoUuid);
            } else if !seen.insert(device.uuid.clone()) {
                self.dropped.push(DropReason::DuplicateUuid);
            } else {
                kept.push(self.device(device));
            }
        }
        kept.sort_by(|a, b| a.uuid.cmp(&b.uuid));
        kept
    }

    fn device(&mut self, device: DeviceValues) -> DeviceValues {
        let total = self.count(device.memory_total_bytes, 1, MAX_DEVICE_MEMORY);
        let used = self.count(device.memory_used_bytes, 0, MAX_DEVICE_MEMORY);
        let (total, used) = self.pair(total, used);
        let utilization = self.number(device.utilization_percent, 0.0, 100.0);
        let dropped = device.utilization_percent.is_some() && utilization.is_none();
        DeviceValues {
            model: cut(&device.model),
            utilization_percent: utilization,
            unmeasured: device.unmeasured.or_else(|| dropped.then(implausible)),
            memory_total_bytes: total,
            memory_used_bytes: used,
            power_watts: self.number(device.power_watts, 0.0, MAX_POWER_WATTS),
            temperature_celsius: self.number(
                device.temperature_celsius,
                MIN_TEMPERATURE,
                MAX_TEMPERATURE,
            ),
            uncorrected_ecc_errors: self.count(device.uncorrected_ecc_errors, 0, MAX_ECC_ERRORS),
            uuid: device.uuid,
            parent: device.parent,
            compute_capability: device.compute_capability,
        }
    }

    fn cpu(&mut self, values: CpuValues) -> CpuValues {
        let total = self.count(values.memory_total_bytes, 1, MAX_HOST_MEMORY);
        let available = self.count(values.memory_available_bytes, 0, MAX_HOST_MEMORY);
        let (total, available) = self.pair(total, available);
        let processors = values.logical_processors.map(u64::from);
        CpuValues {
            model: values.model.map(|text| cut(&text)),
            logical_processors: self
                .count(processors, 1, u64::from(MAX_PROCESSORS))
                .and_then(|count| u32::try_from(count).ok()),
            utilization_percent: self.number(values.utilization_percent, 0.0, 100.0),
            memory_total_bytes: total,
            memory_available_bytes: available,
            load_1m: self.number(values.load_1m, 0.0, MAX_LOAD),
        }
    }

    fn number(&mut self, value: Option<f64>, min: f64, max: f64) -> Option<f64> {
        let value = value?;
        if !value.is_finite() {
            self.dropped.push(DropReason::NotFinite);
            return None;
        }
        if !(min..=max).contains(&value) {
            self.dropped.push(DropReason::OutOfRange);
            return None;
        }
        Some(value)
    }

    fn count(&mut self, value: Option<u64>, min: u64, max: u64) -> Option<u64> {
        let value = value?;
        if !(min..=max).contains(&value) {
            self.dropped.push(DropReason::OutOfRange);
            return None;
        }
        Some(value)
    }

    /// Two sizes of which the second is part of the first; when it is not, neither can be trusted.
    fn pair(&mut self, total: Option<u64>, part: Option<u64>) -> (Option<u64>, Option<u64>) {
        match (total, part) {
            (Some(total), Some(part)) if part > total => {
                self.dropped.push(DropReason::UsedAboveTotal);
                (None, None)
            }
            other => other,
        }
    }
}

fn implausible() -> Unmeasured {
    let message = "the driver gave a utilization that is no percentage";
    Unmeasured::new(Reason::ImplausibleValue, message)
}

fn cut(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GIB: u64 = 1 << 30;

    fn healthy() -> DeviceValues {
        DeviceValues {
            uuid: "GPU-1".into(),
            model: "NVIDIA H200".into(),
            utilization_percent: Some(37.0),
            memory_total_bytes: Some(141 * GIB),
            memory_used_bytes: Some(20 * GIB),
            power_watts: Some(310.5),
            temperature_celsius: Some(54.0),
            uncorrected_ecc_errors: Some(0),
            ..DeviceValues::default()
        }
    }

    fn accept(devices: Vec<DeviceValues>) -> (Vec<DeviceValues>, Vec<DropReason>) {
        let reading = Reading {
            devices,
            ..Reading::default()
        };
        let (sample, dropped) = Sanitizer::default().accept(Duration::from_secs(1), reading);
        (sample.unwrap().reading.devices, dropped)
    }

    #[test]
    fn plausible_values_pass_unchanged() {
        assert_eq!(accept(vec![healthy()]), (vec![healthy()], vec![]));
    }

    #[test]
    fn absent_values_are_not_dropped_values() {
        let mig = DeviceValues {
            uuid: "MIG-1".into(),
            parent: Some("GPU-1".into()),
            ..DeviceValues::default()
        };
        assert_eq!(accept(vec![mig.clone()]), (vec![mig], vec![]));
    }

    #[rstest]
    fn garbage_in_a_number_is_dropped(
        #[values(
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -51.0,
            1e30,
            4_294_967_295.0,
            140_737_488_355_328.0,
            9_223_372_036_854_775_792.0
        )]
        garbage: f64,
        #[values(0, 1, 2)] field: usize,
    ) {
        let mut device = healthy();
        let mut expected = healthy();
        if field == 0 {
            expected.unmeasured = Some(implausible());
        }
        let pick = |d: &mut DeviceValues, value| match field {
            0 => d.utilization_percent = value,
            1 => d.power_watts = value,
            _ => d.temperature_celsius = value,
        };
        pick(&mut device, Some(garbage));
        pick(&mut expected, None);
        let reason = if garbage.is_finite() {
            DropReason::OutOfRange
        } else {
            DropReason::NotFinite
        };
        assert_eq!(accept(vec![device]), (vec![expected], vec![reason]));
    }

    #[rstest]
    #[case(-1.0)]
    #[case(100.1)]
    #[case(101.0)]
    fn utilization_outside_of_a_percentage_is_dropped(#[case] value: f64) {
        let mut device = healthy();
        device.utilization_percent = Some(value);
        let (kept, dropped) = accept(vec![device]);
        assert_eq!(kept[0].utilization_percent, None);
        assert_eq!(dropped, [DropReason::OutOfRange]);
    }

    #[rstest]
    #[case::above_total(Some(10 * GIB), Some(11 * GIB), DropReason::UsedAboveTotal)]
    #[case::no_memory_at_all(Some(0), None, DropReason::OutOfRange)]
    #[case::wrapped(Some(u64::MAX), None, DropReason::OutOfRange)]
    #[case::two_to_the_47(Some(140_737_488_355_328), None, DropReason::OutOfRange)]
    fn impossible_memory_is_dropped(
        #[case] total: Option<u64>,
        #[case] used: Option<u64>,
        #[case] reason: DropReason,
    ) {
        let mut device = healthy();
        device.memory_total_bytes = total;
        device.memory_used_bytes = used;
        let (kept, dropped) = accept(vec![device]);
        assert_eq!(kept[0].memory_total_bytes, None);
        assert_eq!(kept[0].memory_used_bytes, None);
        assert_eq!(dropped, [reason]);
    }

    #[rstest]
    #[case("", DropReason::NoUuid)]
    #[case("GPU 1", DropReason::NoUuid)]
    #[case("GPU-1", DropReason::DuplicateUuid)]
    fn device_without_a_uuid_of_its_own_is_dropped(#[case] uuid: &str, #[case] reason: DropReason) {
        let mut second = healthy();
        second.uuid = uuid.into();
        assert_eq!(
            accept(vec![healthy(), second]),
            (vec![healthy()], vec![reason])
        );
    }

    #[test]
    fn devices_are_ordered_by_uuid() {
        let mut other = healthy();
        other.uuid = "GPU-0".into();
        let (kept, _) = accept(vec![healthy(), other]);
        assert_eq!(kept[0].uuid, "GPU-0");
    }

    #[rstest]
    #[case(5, true)]
    #[case(4, false)]
    #[case(3, false)]
    fn sample_whose_time_does_not_advance_is_dropped(#[case] second: u64, #[case] kept: bool) {
        let mut sanitizer = Sanitizer::default();
        let at = |s| Duration::from_secs(s);
        assert!(sanitizer.accept(at(4), Reading::default()).0.is_some());
        let (sample, dropped) = sanitizer.accept(at(second), Reading::default());
        assert_eq!(sample.is_some(), kept);
        assert_eq!(dropped.is_empty(), kept);
    }

    #[test]
    fn more_available_than_total_host_memory_is_dropped() {
        let reading = Reading {
            cpu: Some(CpuValues {
                memory_total_bytes: Some(GIB),
                memory_available_bytes: Some(2 * GIB),
                logical_processors: Some(0),
                utilization_percent: Some(50.0),
                ..CpuValues::default()
            }),
            ..Reading::default()
        };
        let (sample, dropped) = Sanitizer::default().accept(Duration::from_secs(1), reading);
        let cpu = sample.unwrap().reading.cpu.unwrap();
        assert_eq!(cpu.memory_total_bytes, None);
        assert_eq!(cpu.logical_processors, None);
        assert_eq!(cpu.utilization_percent, Some(50.0));
        assert_eq!(
            dropped,
            [DropReason::UsedAboveTotal, DropReason::OutOfRange]
        );
    }
}
