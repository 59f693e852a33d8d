//! The agent's own metrics, `weir_agent_*`.

use std::sync::{Mutex, PoisonError};

use prometheus::{
    Encoder, GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use weir_identity::{CertificateSource, HandshakeCounters};

use super::latest::Latest;
use super::measurement;
use super::sanitize::DropReason;

/// Counters that parts of the agent raise, and gauges that are set when they are read.
pub struct Metrics {
    registry: Registry,
    reports: IntCounter,
    streams: IntGauge,
    dropped: IntCounterVec,
    scrapes: IntCounterVec,
    object_writes: IntCounterVec,
    stuck: IntGauge,
    accelerators: GaugeVec,
    node: GaugeVec,
    device: GaugeVec,
    handshakes: IntCounterVec,
    certificate: GaugeVec,
    rendering: Mutex<()>,
}

impl Metrics {
    /// A registry of its own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = gauges(
            "build_info",
            "Version of the agent; always 1.",
            &["version"],
        )?;
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let reports = IntCounter::new("weir_agent_reports_total", "Reports sent to the operator.")?;
        let streams = IntGauge::new("weir_agent_report_streams", "Open streams to operators.")?;
        let stuck = IntGauge::new(
            "weir_agent_sampler_stuck",
            "1 while no sample was finished within the deadline.",
        )?;
        let dropped = counters(
            "samples_dropped_total",
            "Values that were dropped because they cannot be true.",
            "reason",
        )?;
        for reason in DropReason::ALL {
            dropped.with_label_values(&[reason.label()]);
        }
        let scrapes = counters(
            "engine_scrapes_total",
            "Readings of engines' metrics.",
            "result",
        )?;
        let object_writes = counters(
            "node_object_writes_total",
            "Writes of the GPUNode object.",
            "result",
        )?;
        let handshakes = counters("handshakes_total", "TLS handshakes by result.", "result")?;
        let accelerators = gauges(
            "accelerators",
            "Whether the node's accelerators can be measured, and why not; 1 for what holds.",
            &["state", "reason"],
        )?;
        let node = gauges(
            "node_reading",
            "Readings of the node by quantity.",
            &["quantity"],
        )?;
        let device = gauges(
            "device_reading",
            "Readings of a GPU or MIG slice by quantity.",
            &["uuid", "quantity"],
        )?;
        let certificate = gauges(
            "certificate",
            "The agent's certificate: its end as Unix time, renewals and failures so far.",
            &["quantity"],
        )?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(reports.clone()))?;
        registry.register(Box::new(streams.clone()))?;
        registry.register(Box::new(stuck.clone()))?;
        for vector in [&dropped, &scrapes, &object_writes, &handshakes] {
            registry.register(Box::new(vector.clone()))?;
        }
        for vector in [&accelerators, &node, &device, &certificate] {
            registry.register(Box::new(vector.clone()))?;
        }
        Ok(Self {
            registry,
            reports,
            streams,
            dropped,
            scrapes,
            object_writes,
            stuck,
            accelerators,
            node,
            device,
            handshakes,
            certificate,
            rendering: Mutex::new(()),
        })
    }

    /// A report was sent.
    pub fn reported(&self) {
        self.reports.inc();
    }

    /// A stream was opened (1) or closed (-1).
    pub fn stream(&self, change: i64) {
        self.streams.add(change);
    }

    /// A value was dropped.
    pub fn dropped(&self, reason: DropReason) {
        self.dropped.with_label_values(&[reason.label()]).inc();
    }

    /// How many values were dropped for this reason.
    pub fn dropped_count(&self, reason: DropReason) -> u64 {
        self.dropped.with_label_values(&[reason.label()]).get()
    }

    /// An engine was read, or not.
    pub fn scraped(&self, reachable: bool) {
        let result = if reachable { "ok" } else { "failed" };
        self.scrapes.with_label_values(&[result]).inc();
    }

    /// The node's object was written, or not.
    pub fn object_written(&self, written: bool) {
        let result = if written { "ok" } else { "failed" };
        self.object_writes.with_label_values(&[result]).inc();
    }

    /// The text that Prometheus reads.
    pub fn render(
        &self,
        latest: &Latest,
        certificate: Option<&CertificateSource>,
        handshakes: Option<&HandshakeCounters>,
    ) -> Result<Vec<u8>, prometheus::Error> {
        let _one_at_a_time = self
            .rendering
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.set_readings(latest);
        if let Some(source) = certificate {
            self.set_certificate(source);
        }
        if let Some(counters) = handshakes {
            self.set_handshakes(counters);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn set_readings(&self, latest: &Latest) {
        self.node.reset();
        self.device.reset();
        self.accelerators.reset();
        let stuck = matches!(latest, Latest::Stuck(_));
        self.stuck.set(i64::from(stuck));
        let accelerators = match latest {
            Latest::Starting => None,
            Latest::Stuck(last) => Some(measurement::while_stuck(last.as_deref())),
            Latest::Fresh(sample) => measurement::of_node(&sample.reading),
        };
        if let Some(known) = accelerators {
            let labels = [known.state.as_str(), known.reason.as_deref().unwrap_or("")];
            self.accelerators.with_label_values(&labels).set(1.0);
        }
        let Latest::Fresh(sample) = latest else {
            return;
        };
        if let Some(cpu) = &sample.reading.cpu {
            let quantities = [
                ("cpu_utilization_percent", cpu.utilization_percent),
                ("memory_total_bytes", cpu.memory_total_bytes.map(float)),
                (
                    "memory_available_bytes",
                    cpu.memory_available_bytes.map(float),
                ),
                ("load_1m", cpu.load_1m),
                ("logical_processors", cpu.logical_processors.map(f64::from)),
            ];
            set(&self.node, &[], &quantities);
        }
        let devices = sample.reading.devices.len() as f64;
        self.node.with_label_values(&["devices"]).set(devices);
        for device in &sample.reading.devices {
            let quantities = [
                ("utilization_percent", device.utilization_percent),
                ("memory_total_bytes", device.memory_total_bytes.map(float)),
                ("memory_used_bytes", device.memory_used_bytes.map(float)),
                ("power_watts", device.power_watts),
                ("temperature_celsius", device.temperature_celsius),
                (
                    "uncorrected_ecc_errors",
                    device.uncorrected_ecc_errors.map(float),
                ),
            ];
            set(&self.device, &[&device.uuid], &quantities);
        }
    }

    fn set_certificate(&self, source: &CertificateSource) {
        let end = source.current().map(|leaf| leaf.not_after().as_second());
        let quantities = [
            ("end_seconds", end.map(|seconds| seconds as f64)),
            ("renewals", Some(float(source.renewals()))),
            ("failures", Some(float(source.failures()))),
        ];
        set(&self.certificate, &[], &quantities);
    }

    fn set_handshakes(&self, counters: &HandshakeCounters) {
        let results = [
            ("completed", counters.completed()),
            ("refused", counters.refused()),
            ("timed_out", counters.timed_out()),
            ("shed", counters.shed()),
        ];
        for (result, count) in results {
            let counter = self.handshakes.with_label_values(&[result]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}

fn set(vector: &GaugeVec, labels: &[&str], quantities: &[(&str, Option<f64>)]) {
    for (quantity, value) in quantities {
        let Some(value) = value else { continue };
        let mut all = labels.to_vec();
        all.push(quantity);
        vector.with_label_values(&all).set(*value);
    }
}

fn float(count: u64) -> f64 {
    count as f64
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("weir_agent_{name}"), help), &[label])
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
    GaugeVec::new(Opts::new(format!("weir_agent_{name}"), help), labels)
}
