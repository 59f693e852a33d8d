//! The gRPC service that the operator watches.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_crds::node::MeasurementState;
use weir_proto::agent_server::Agent;
use weir_proto::{
    AgentReport, AgentRequest, CpuReading, DeviceReading, EngineEndpoint, EngineReading,
};

use super::latest::Latest;
use super::measurement;
use super::metrics::Metrics;
use super::sampler::Sampler;
use super::sanitize::Sample;
use super::scrape::{Scraper, unreachable_engine};

/// Two replicas of the operator, and streams of theirs that have not ended yet.
const MAX_STREAMS: usize = 8;
const MAX_ENGINES: usize = 512;
const CONCURRENT_SCRAPES: usize = 32;
/// Reports that the operator has not read yet; then reporting waits and the next one is fresh again.
const REPORT_QUEUE: usize = 2;

/// The service; clones share it.
#[derive(Clone)]
pub struct AgentService {
    shared: Arc<Shared>,
}

struct Shared {
    node_name: String,
    boot_id: String,
    seq: AtomicU64,
    interval: Duration,
    sampler: Sampler,
    scraper: Scraper,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
}

impl AgentService {
    /// A service that reports every `interval` what `sampler` knows.
    pub fn new(
        node_name: &str,
        interval: Duration,
        sampler: Sampler,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                node_name: node_name.to_owned(),
                boot_id: boot_id(),
                seq: AtomicU64::new(0),
                interval,
                sampler,
                scraper: Scraper::default(),
                metrics,
                shutdown,
                streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            }),
        }
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    type WatchStream = BoxStream<'static, Result<AgentReport, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<AgentRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let slot = Arc::clone(&self.shared.streams)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many streams"))?;
        let (reports, receiver) = mpsc::channel(REPORT_QUEUE);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            shared.metrics.stream(1);
            shared
                .report_until_closed(request.into_inner(), reports, slot)
                .await;
            shared.metrics.stream(-1);
        });
        Ok(Response::new(ReceiverStream::new(receiver).map(Ok).boxed()))
    }
}

impl Shared {
    async fn report_until_closed(
        &self,
        mut requests: Streaming<AgentRequest>,
        reports: mpsc::Sender<AgentReport>,
        _slot: OwnedSemaphorePermit,
    ) {
        let mut engines = Vec::new();
        let mut listening = true;
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = reports.closed() => return,
                request = requests.message(), if listening => match request {
                    Ok(Some(request)) => engines = wanted(request),
                    Ok(None) => listening = false,
                    Err(_) => return,
                },
                _ = ticks.tick() => {
                    let readings = self.read_engines(&engines).await;
                    let report = self.report(readings);
                    let sent = tokio::select! {
                        sent = reports.send(report) => sent.is_ok(),
                        () = self.shutdown.cancelled() => false,
                    };
                    if !sent {
                        return;
                    }
                    self.metrics.reported();
                }
            }
        }
    }

    /// Reads all engines at once, and never for longer than three quarters of the interval.
    async fn read_engines(&self, engines: &[EngineEndpoint]) -> Vec<EngineReading> {
        let deadline = Instant::now() + self.interval * 3 / 4;
        let mut readings: BTreeMap<String, EngineReading> = engines
            .iter()
            .map(|engine| (engine.pod_uid.clone(), unreachable_engine(&engine.pod_uid)))
            .collect();
        let mut answers = stream::iter(engines.to_vec())
            .map(|engine| {
                let scraper = self.scraper.clone();
                async move { scraper.read(&engine).await }
            })
            .buffer_unordered(CONCURRENT_SCRAPES);
        while let Ok(Some(reading)) = timeout_at(deadline, answers.next()).await {
            readings.insert(reading.pod_uid.clone(), reading);
        }
        for reading in readings.values() {
            self.metrics.scraped(reading.reachable);
        }
        readings.into_values().collect()
    }

    fn report(&self, engines: Vec<EngineReading>) -> AgentReport {
        let report = AgentReport {
            node_name: self.node_name.clone(),
            boot_id: self.boot_id.clone(),
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            monotonic_ms: milliseconds(self.sampler.clock()),
            engines,
            ..AgentReport::default()
        };
        match self.sampler.latest() {
            Latest::Starting => report,
            Latest::Stuck(last) => AgentReport {
                sampler_stuck: true,
                accelerators: Some(wire(measurement::while_stuck(last.as_deref()))),
                ..report
            },
            Latest::Fresh(sample) => AgentReport {
                monotonic_ms: milliseconds(sample.taken),
                cpu: cpu(&sample),
                devices: devices(&sample),
                accelerators: measurement::of_node(&sample.reading).map(wire),
                installed_devices: sample.reading.installed_devices,
                ..report
            },
        }
    }
}

/// The engines to read, each pod once.
fn wanted(request: AgentRequest) -> Vec<EngineEndpoint> {
    let mut engines = request.engines;
    engines.truncate(MAX_ENGINES);
    engines.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
    engines.dedup_by(|a, b| a.pod_uid == b.pod_uid);
    engines
}

fn cpu(sample: &Sample) -> Option<CpuReading> {
    let values = sample.reading.cpu.as_ref()?;
    Some(CpuReading {
        utilization_percent: values.utilization_percent,
        memory_total_bytes: values.memory_total_bytes,
        memory_available_bytes: values.memory_available_bytes,
        logical_processors: values.logical_processors,
    })
}

fn devices(sample: &Sample) -> Vec<DeviceReading> {
    let reading = |device: &super::source::DeviceValues| DeviceReading {
        uuid: device.uuid.clone(),
        model: device.model.clone(),
        utilization_percent: device.utilization_percent,
        memory_total_bytes: device.memory_total_bytes,
        memory_used_bytes: device.memory_used_bytes,
        power_watts: device.power_watts,
        temperature_celsius: device.temperature_celsius,
        parent: device.parent.clone().unwrap_or_default(),
        measurement: Some(wire(measurement::of_device(device))),
    };
    sample.reading.devices.iter().map(reading).collect()
}

fn wire(measurement: weir_crds::node::Measurement) -> weir_proto::Measurement {
    let state = match measurement.state {
        MeasurementState::Measured => weir_proto::MeasurementState::Measured,
        MeasurementState::NotMeasurable => weir_proto::MeasurementState::NotMeasurable,
        MeasurementState::Lost => weir_proto::MeasurementState::Lost,
        MeasurementState::Absent => weir_proto::MeasurementState::Absent,
    };
    weir_proto::Measurement {
        state: state.into(),
        reason: measurement.reason.unwrap_or_default(),
        message: measurement.message.unwrap_or_default(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// 128 random bits from the seeds of two hash tables.
fn boot_id() -> String {
    let part = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", part(), part())
}
