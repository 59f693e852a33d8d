//! When there is something to write to the `GPUNode` object; pure but for the times it is given.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use weir_crds::GPUNodeStatus;
use weir_crds::node::{Cpu, Device, Measurement};
use weir_crds::text;

use super::writer::WriteError;
use crate::telemetry::latest::Latest;
use crate::telemetry::measurement;
use crate::telemetry::sanitize::Sample;
use crate::telemetry::source::DeviceValues;

/// No two writes are closer than this.
pub const MIN_WRITE_INTERVAL: Duration = Duration::from_secs(60);
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Utilization is smoothed over about this time.
const SMOOTHING: Duration = Duration::from_secs(20);
/// A step is left when the value is further away than this: half a step, and 2 against flapping at its edge.
const STEP_EXIT_PERCENT: f64 = 7.0;

/// As many devices as the schema admits; `deviceCount` tells of all.
const MOST_DEVICES: usize = 128;

/// What is known, what was written, and when to write again.
#[derive(Debug, Default)]
pub struct Publication {
    cpu: Smoothed,
    gpu: Smoothed,
    pub(super) current: Option<GPUNodeStatus>,
    /// Of the last sample.
    seen: Option<GPUNodeStatus>,
    written: Option<GPUNodeStatus>,
    looks: u32,
    not_before: Option<Instant>,
    retry: Duration,
}

impl Publication {
    /// Takes what is known now.
    pub fn observe(&mut self, latest: &Latest, now: Instant) {
        self.looks = self.looks.saturating_add(1);
        match latest {
            Latest::Starting => {}
            Latest::Stuck(last) => {
                self.cpu = Smoothed::default();
                self.gpu = Smoothed::default();
                let before = self.seen.clone().or_else(|| self.written.clone());
                let known = measurement::while_stuck(last.as_deref());
                self.current = Some(stuck(before.unwrap_or_else(agent), known));
            }
            Latest::Fresh(sample) => {
                let cpu = sample.reading.cpu.as_ref();
                self.cpu.add(cpu.and_then(|c| c.utilization_percent), now);
                self.gpu.add(mean_utilization(&sample.reading.devices), now);
                self.seen = Some(self.status(sample));
                self.current = self.seen.clone();
            }
        }
    }

    /// The status to write, if it differs materially from what was written and it is time.
    pub fn due(&self, now: Instant) -> Option<GPUNodeStatus> {
        let current = self.current.as_ref()?;
        // The first sample has no utilization yet; it would be written a minute later than the rest.
        if self.written.is_none() && self.looks < 2 {
            return None;
        }
        if self.not_before.is_some_and(|at| now < at) || self.written.as_ref() == Some(current) {
            return None;
        }
        Some(current.clone())
    }

    /// `status` is what the object says, since the time that it names; nothing, if there is no object.
    pub fn adopt(&mut self, status: Option<GPUNodeStatus>, clock: Timestamp, now: Instant) {
        let age = status
            .as_ref()
            .and_then(|status| status.updated.as_ref())
            .and_then(|at| Duration::try_from(clock.duration_since(at.0)).ok());
        let wait = age.map(|age| now + MIN_WRITE_INTERVAL.saturating_sub(age));
        self.not_before = self.not_before.max(wait);
        self.written = status.map(|status| GPUNodeStatus {
            updated: None,
            ..status
        });
    }

    /// `status` was written.
    pub fn written(&mut self, status: GPUNodeStatus, now: Instant) {
        self.written = Some(status);
        self.not_before = Some(now + MIN_WRITE_INTERVAL);
        self.retry = Duration::ZERO;
    }

    /// Nothing was written, as far as is known.
    pub fn failed(&mut self, error: &WriteError, now: Instant) {
        self.retry = match error {
            // It may have been written all the same.
            WriteError::Timeout => MIN_WRITE_INTERVAL,
            _ => (self.retry * 2).clamp(FIRST_RETRY, MIN_WRITE_INTERVAL),
        };
        self.not_before = Some(now + self.retry);
    }

    fn status(&self, sample: &Sample) -> GPUNodeStatus {
        let reading = &sample.reading;
        let before = self.written.as_ref();
        let cpu_before = before.and_then(|s| s.cpu.as_ref()?.utilization_percent);
        let gpu_before = before.and_then(|s| s.gpu_utilization_percent);
        GPUNodeStatus {
            driver_version: reading.driver_version.clone(),
            cuda_version: reading.cuda_version.clone(),
            accelerators: measurement::of_node(reading),
            installed_devices: reading
                .installed_devices
                .and_then(|count| i32::try_from(count).ok()),
            device_count: i32::try_from(reading.devices.len()).ok(),
            gpu_utilization_percent: self.gpu.value.map(|value| step(gpu_before, value)),
            devices: reading
                .devices
                .iter()
                .take(MOST_DEVICES)
                .map(device)
                .collect(),
            cpu: reading.cpu.as_ref().map(|values| Cpu {
                model: values.model.clone(),
                logical_processors: values
                    .logical_processors
                    .and_then(|count| i32::try_from(count).ok()),
                memory_bytes: values
                    .memory_total_bytes
                    .and_then(|bytes| i64::try_from(bytes).ok()),
                utilization_percent: self.cpu.value.map(|value| step(cpu_before, value)),
            }),
            ..agent()
        }
    }
}

/// What is known before anything was read.
fn agent() -> GPUNodeStatus {
    GPUNodeStatus {
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..GPUNodeStatus::default()
    }
}

/// What the machine has is still true; what it does is unknown.
fn stuck(mut status: GPUNodeStatus, known: Measurement) -> GPUNodeStatus {
    status.gpu_utilization_percent = None;
    if let Some(cpu) = &mut status.cpu {
        cpu.utilization_percent = None;
    }
    for device in &mut status.devices {
        device.measurement = Some(known.clone());
    }
    status.accelerators = Some(known);
    status
}

fn device(values: &DeviceValues) -> Device {
    Device {
        uuid: values.uuid.clone(),
        model: values.model.clone(),
        memory_bytes: values
            .memory_total_bytes
            .and_then(|bytes| i64::try_from(bytes).ok()),
        measurement: Some(measurement::of_device(values)),
        compute_capability: values.compute_capability.clone().map(text::bounded),
        parent: values.parent.clone().map(text::bounded),
    }
}

/// Mean over the devices whose utilization can be read.
fn mean_utilization(devices: &[DeviceValues]) -> Option<f64> {
    let known: Vec<f64> = devices
        .iter()
        .filter_map(|device| device.utilization_percent)
        .collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The value in steps of ten, staying on the step before while it is near.
pub(super) fn step(before: Option<i32>, value: f64) -> i32 {
    match before {
        Some(step) if (value - f64::from(step)).abs() <= STEP_EXIT_PERCENT => step,
        _ => ((value / 10.0).round() * 10.0) as i32,
    }
}

/// An exponentially weighted mean.
#[derive(Debug, Default)]
struct Smoothed {
    value: Option<f64>,
    at: Option<Instant>,
}

impl Smoothed {
    fn add(&mut self, value: Option<f64>, now: Instant) {
        let Some(value) = value else {
            *self = Self::default();
            return;
        };
        let mean = match (self.value, self.at) {
            (Some(mean), Some(at)) => {
                let elapsed = now.saturating_duration_since(at).as_secs_f64();
                let keep = (-elapsed / SMOOTHING.as_secs_f64()).exp();
                mean * keep + value * (1.0 - keep)
            }
            _ => value,
        };
        *self = Self {
            value: Some(mean),
            at: Some(now),
        };
    }
}
