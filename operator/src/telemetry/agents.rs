//! The last good readings of every agent. A reading that is too old, or was never sane, does not exist.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use weir_proto::{
    AgentReport, CpuReading, DeviceReading, EngineReading, Measurement, MeasurementState,
};

use super::streams::TelemetryChange;

/// Readings older than this are unknown: three beats of the agents.
pub const REPORT_TTL: Duration = Duration::from_secs(15);

const MAX_DEVICES: usize = 128;
const MAX_ENGINES: usize = 512;
/// Characters of a reason that an agent gives.
const MAX_WORDS: usize = 512;
const MAX_TOKENS_PER_SECOND: f64 = 1e9;

/// Which processors of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// GPUs and MIG slices.
    Gpu,
    /// Host processors.
    Cpu,
}

/// What the agent of a node says of its processors.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// How busy they are, in percent.
    Percent(f64),
    /// How busy those of them are that can be read, in percent, and what is wrong with the others.
    Partly(f64, String),
    /// It reports, and nothing of that, for this reason.
    NotMeasurable(String),
    /// They do not answer it, for this reason.
    Failed(String),
}

impl Heard {
    /// In percent, as far as it is read.
    pub fn percent(&self) -> Option<f64> {
        match self {
            Self::Percent(percent) | Self::Partly(percent, _) => Some(*percent),
            Self::NotMeasurable(_) | Self::Failed(_) => None,
        }
    }
}

/// What an engine told its agent. What it did not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineObservation {
    /// The engine answered the agent.
    pub reachable: bool,
    /// Requests in its batch.
    pub requests_running: Option<u64>,
    /// Requests that wait for a place in it.
    pub requests_waiting: Option<u64>,
    /// Share of its KV cache that is in use, in percent.
    pub kv_utilization_percent: Option<f64>,
    /// Prompt tokens since its start.
    pub prompt_tokens_total: Option<u64>,
    /// Output tokens since its start.
    pub output_tokens_total: Option<u64>,
    /// Output tokens in a second of the benchmark after load.
    pub benchmark_tokens_per_second: Option<f64>,
}

impl EngineObservation {
    /// How full the engine is, in percent: while requests wait for a place it is full, without any it is empty, and between
    /// as full as its KV cache, which is what admits requests. `None` where it does not say.
    pub fn occupancy(&self) -> Option<f64> {
        if self.requests_waiting? > 0 {
            return Some(100.0);
        }
        match self.requests_running? {
            0 => Some(0.0),
            _ => self.kv_utilization_percent,
        }
    }
}

/// All agents, by node.
#[derive(Default)]
pub(super) struct Agents(BTreeMap<String, Agent>);

struct Agent {
    boot_id: String,
    seq: u64,
    monotonic_ms: u64,
    received: Instant,
    fresh: bool,
    /// Its sampler did not answer, so that it knows nothing.
    stuck: bool,
    /// What it says of the node's accelerators as a whole.
    accelerators: Option<Measurement>,
    announced: [Option<u8>; 2],
    cpu: Option<Reading>,
    devices: BTreeMap<String, Reading>,
    engines: BTreeMap<String, EngineObservation>,
}

#[derive(Clone, Copy)]
struct Reading {
    percent: f64,
    at: Instant,
}

impl Reading {
    fn fresh(self, now: Instant) -> Option<f64> {
        (now - self.at < REPORT_TTL).then_some(self.percent)
    }
}

impl Agents {
    pub fn report(
        &mut self,
        node: &str,
        report: AgentReport,
        now: Instant,
        dropped: &mut dyn FnMut(&'static str),
    ) -> (bool, Vec<TelemetryChange>) {
        if report.node_name != node {
            dropped("wrong-node");
            return (false, Vec::new());
        }
        let same_boot = self
            .0
            .get(node)
            .filter(|agent| agent.boot_id == report.boot_id);
        if let Some(agent) = same_boot
            && (report.seq <= agent.seq || report.monotonic_ms <= agent.monotonic_ms)
        {
            dropped("not-monotonic");
            return (false, Vec::new());
        }
        let before = self.0.remove(node).filter(|a| a.boot_id == report.boot_id);
        let was = before.as_ref().map(|a| (a.fresh, a.announced));
        let mut agent = Agent {
            boot_id: report.boot_id,
            seq: report.seq,
            monotonic_ms: report.monotonic_ms,
            received: now,
            fresh: true,
            stuck: report.sampler_stuck,
            accelerators: report.accelerators,
            announced: [None; 2],
            cpu: before.as_ref().and_then(|a| a.cpu),
            devices: before.map(|a| a.devices).unwrap_or_default(),
            engines: BTreeMap::new(),
        };
        if report.sampler_stuck {
            dropped("sampler-stuck");
        }
        agent.apply_cpu(report.cpu, now, dropped);
        agent.apply_devices(report.devices, now, dropped);
        agent.apply_engines(report.engines, dropped);
        agent.announced = [
            agent.percent(Processor::Gpu, now).map(step_of_ten),
            agent.percent(Processor::Cpu, now).map(step_of_ten),
        ];
        let changed = was != Some((true, agent.announced));
        self.0.insert(node.to_owned(), agent);
        let changes = changed.then(|| TelemetryChange::Node(node.to_owned()));
        (true, changes.into_iter().collect())
    }

    /// Agents that have fallen silent since the last call; long silent ones are forgotten.
    pub fn expire(&mut self, now: Instant) -> Vec<TelemetryChange> {
        let mut changes = Vec::new();
        for (node, agent) in &mut self.0 {
            let announced = [
                agent.percent(Processor::Gpu, now).map(step_of_ten),
                agent.percent(Processor::Cpu, now).map(step_of_ten),
            ];
            let silent = agent.fresh && now - agent.received >= REPORT_TTL;
            if silent || announced != agent.announced {
                agent.fresh &= !silent;
                agent.announced = announced;
                changes.push(TelemetryChange::Node(node.clone()));
            }
        }
        self.0
            .retain(|_, agent| now - agent.received < REPORT_TTL * 40);
        changes
    }

    /// What the agent of a node says; `None` while it is silent.
    pub fn heard(&self, node: &str, processor: Processor, now: Instant) -> Option<Heard> {
        let agent = self.0.get(node)?;
        if now - agent.received >= REPORT_TTL {
            return None;
        }
        if let Some(percent) = agent.percent(processor, now) {
            let said = agent.accelerators.as_ref();
            let wrong = said.filter(|said| processor == Processor::Gpu && !said.reason.is_empty());
            return Some(match wrong {
                Some(said) => Heard::Partly(percent, in_words(said)),
                None => Heard::Percent(percent),
            });
        }
        if agent.stuck {
            return None;
        }
        Some(match (processor, &agent.accelerators) {
            (Processor::Gpu, Some(said)) if said.state() == MeasurementState::Lost => {
                Heard::Failed(in_words(said))
            }
            (Processor::Gpu, Some(said)) if !said.reason.is_empty() => {
                Heard::NotMeasurable(in_words(said))
            }
            (Processor::Gpu, _) => {
                Heard::NotMeasurable("its agent reads no utilization of a GPU".to_owned())
            }
            (Processor::Cpu, _) => {
                Heard::NotMeasurable("its agent reads no utilization of the processors".to_owned())
            }
        })
    }

    pub fn engine(&self, node: &str, pod_uid: &str, now: Instant) -> Option<EngineObservation> {
        let agent = self.0.get(node);
        let agent = agent.filter(|agent| now - agent.received < REPORT_TTL);
        agent?.engines.get(pod_uid).cloned()
    }
}

impl Agent {
    /// Mean over the node's devices with a fresh reading, or that of its processors.
    fn percent(&self, processor: Processor, now: Instant) -> Option<f64> {
        if processor == Processor::Cpu {
            return self.cpu.and_then(|reading| reading.fresh(now));
        }
        let fresh: Vec<f64> = self
            .devices
            .values()
            .filter_map(|reading| reading.fresh(now))
            .collect();
        (!fresh.is_empty()).then(|| fresh.iter().sum::<f64>() / fresh.len() as f64)
    }

    fn apply_cpu(
        &mut self,
        cpu: Option<CpuReading>,
        now: Instant,
        dropped: &mut dyn FnMut(&'static str),
    ) {
        let Some(cpu) = cpu else { return };
        if let Some(percent) = percent(cpu.utilization_percent, dropped) {
            self.cpu = Some(Reading { percent, at: now });
        }
    }

    fn apply_devices(
        &mut self,
        devices: Vec<DeviceReading>,
        now: Instant,
        dropped: &mut dyn FnMut(&'static str),
    ) {
        self.devices
            .retain(|_, reading| reading.fresh(now).is_some());
        for device in devices.into_iter().take(MAX_DEVICES) {
            let broken = match (device.memory_used_bytes, device.memory_total_bytes) {
                (Some(used), Some(total)) => used > total,
                _ => false,
            };
            if broken || device.uuid.is_empty() || device.uuid.len() > 128 {
                dropped("device-inconsistent");
                continue;
            }
            if let Some(percent) = percent(device.utilization_percent, dropped) {
                self.devices
                    .insert(device.uuid, Reading { percent, at: now });
            }
        }
    }

    fn apply_engines(
        &mut self,
        engines: Vec<EngineReading>,
        dropped: &mut dyn FnMut(&'static str),
    ) {
        for engine in engines.into_iter().take(MAX_ENGINES) {
            let rate = engine.benchmark_tokens_per_second.filter(|rate| {
                let sane = rate.is_finite() && *rate > 0.0 && *rate <= MAX_TOKENS_PER_SECOND;
                if !sane {
                    dropped("out-of-range");
                }
                sane
            });
            let observation = EngineObservation {
                reachable: engine.reachable,
                requests_running: engine.requests_running,
                requests_waiting: engine.requests_waiting,
                kv_utilization_percent: percent(engine.kv_utilization_percent, dropped),
                prompt_tokens_total: engine.prompt_tokens_total,
                output_tokens_total: engine.output_tokens_total,
                benchmark_tokens_per_second: rate,
            };
            self.engines.insert(engine.pod_uid, observation);
        }
    }
}

/// What an agent says, as far as a condition has room for it: every node may have something to say.
fn in_words(said: &Measurement) -> String {
    let words = format!("{}: {}", said.reason, said.message);
    words.chars().take(MAX_WORDS).collect()
}

/// A share that is finite and within 0 to 100.
fn percent(value: Option<f64>, dropped: &mut dyn FnMut(&'static str)) -> Option<f64> {
    let value = value?;
    if value.is_finite() && (0.0..=100.0).contains(&value) {
        return Some(value);
    }
    dropped("out-of-range");
    None
}

fn step_of_ten(percent: f64) -> u8 {
    (percent / 10.0).round() as u8
}

#[cfg(test)]
#[path = "agents_tests.rs"]
mod tests;
