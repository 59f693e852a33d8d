//! Streams to every agent and gateway pod, dialed again when they break.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use weir_crds::names;
use weir_identity::{CertificateSource, Identity, client_config, connect, dns_name};
use weir_operator_core::owner::Owner;
use weir_proto::agent_client::AgentClient;
use weir_proto::gateway_client::GatewayClient;
use weir_proto::{AgentRequest, EngineEndpoint, GatewayRequest};

use super::{REPORT_TTL, Telemetry, planes};
use crate::cli::Plane;
use crate::metrics::Metrics;
use crate::stores::{Kind, Stores};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Gateways are few, and routes wait for them.
const LONGEST_GATEWAY_BACKOFF: Duration = Duration::from_secs(2);
const LONGEST_AGENT_BACKOFF: Duration = Duration::from_secs(10);
/// A stream that held for this long was good.
const GOOD_STREAM: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A report larger than this is an error of its stream.
const MAX_REPORT_BYTES: usize = 64 << 20;

/// What collecting needs.
pub struct Collecting {
    /// Where the pods are looked up.
    pub stores: Stores,
    /// Where reports go.
    pub telemetry: Telemetry,
    /// The operator's certificate.
    pub certificate: CertificateSource,
    /// Port of agents and gateways.
    pub port: u16,
    /// Where streams are counted.
    pub metrics: Arc<Metrics>,
}

/// Keeps a stream open to every agent and gateway pod until `stop`.
pub async fn collect(collecting: Collecting, stop: CancellationToken) {
    let collecting = Arc::new(collecting);
    let stores = &collecting.stores;
    let mut changes = stores.changes([Kind::ComponentPod, Kind::EnginePod]);
    let mut workloads = stores.changes([Kind::Workload]);
    planes::learn_all(&collecting.stores, &collecting.telemetry);
    let mut streams = Streams::default();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    streams.follow(&collecting);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = changes.next() => {
                if changed.is_none() {
                    break;
                }
                streams.follow(&collecting);
            }
            Some(changed) = workloads.next() => {
                planes::learn(&collecting.stores, &collecting.telemetry, &changed);
            }
            _ = second.tick() => {
                ticks = ticks.wrapping_add(1);
                collecting.telemetry.expire();
                collecting.each_second(ticks);
            }
        }
    }
}

impl Collecting {
    /// The lag of acknowledgements, and once a minute what can be forgotten.
    fn each_second(&self, ticks: u32) {
        if ticks.is_multiple_of(60) {
            let workloads = self.stores.workloads.state();
            let known: BTreeSet<&str> = workloads
                .iter()
                .filter_map(|workload| workload.metadata.uid.as_deref())
                .collect();
            self.telemetry.retain(|uid| known.contains(uid));
        }
        if ticks.is_multiple_of(5) {
            self.measure_lag(Timestamp::now());
        }
    }

    fn measure_lag(&self, now: Timestamp) {
        let mut lag = [0.0_f64; 2];
        for workload in self.stores.workloads.state() {
            let placement = workload.status.as_ref().and_then(|s| s.placement.as_ref());
            let (Some(placement), Some(uid)) = (placement, workload.uid()) else {
                continue;
            };
            let plane = Plane::from(workload.spec.data_policy.egress);
            let (generation, step) = (placement.generation, placement.step);
            let acknowledged = self.telemetry.acknowledged(plane, &uid, generation, step);
            if !acknowledged.is_all() {
                let age = now.duration_since(placement.step_since.0).as_secs_f64();
                lag[plane as usize] = lag[plane as usize].max(age);
            }
        }
        for plane in [Plane::Local, Plane::Cloud] {
            self.metrics
                .route_ack_lag
                .with_label_values(&[plane.as_str()])
                .set(lag[plane as usize]);
        }
    }
}

/// Where a pod is dialed, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Peer {
    pod_uid: String,
    address: SocketAddr,
    identity: Identity,
}

#[derive(Default)]
struct Streams {
    open: BTreeMap<String, OpenStream>,
}

struct OpenStream {
    peer: Peer,
    task: AbortHandle,
    engines: Option<watch::Sender<Vec<EngineEndpoint>>>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Streams {
    /// Dials pods that are new, drops the streams of those that are gone, tells agents their engines.
    fn follow(&mut self, collecting: &Arc<Collecting>) {
        let pods = collecting.stores.component_pods.state();
        collecting
            .telemetry
            .set_gateway_pods(pods.iter().map(AsRef::as_ref));
        let peers: BTreeMap<String, Peer> = pods
            .iter()
            .filter_map(|pod| peer_of(pod, collecting.port))
            .map(|peer| (peer.pod_uid.clone(), peer))
            .collect();
        self.open
            .retain(|uid, stream| peers.get(uid) == Some(&stream.peer));
        let engines = engines_by_node(&collecting.stores);
        for (uid, peer) in peers {
            let here = match &peer.identity {
                Identity::Agent { node } => engines.get(node).cloned().unwrap_or_default(),
                _ => Vec::new(),
            };
            match self.open.get(&uid) {
                None => {
                    let stream = OpenStream::start(peer, here, Arc::clone(collecting));
                    self.open.insert(uid, stream);
                }
                Some(OpenStream {
                    engines: Some(sender),
                    ..
                }) => {
                    sender.send_if_modified(|now| {
                        let changed = *now != here;
                        *now = here;
                        changed
                    });
                }
                Some(_) => {}
            }
        }
    }
}

impl OpenStream {
    fn start(peer: Peer, engines: Vec<EngineEndpoint>, collecting: Arc<Collecting>) -> Self {
        let dialed = peer.clone();
        match &peer.identity {
            Identity::Agent { node } => {
                let node = node.clone();
                let (sender, receiver) = watch::channel(engines);
                let task = tokio::spawn(keep_open("agent", collecting, dialed, move |c, p| {
                    let (node, receiver) = (node.clone(), receiver.clone());
                    async move { watch_agent(&c, &p, &node, receiver).await }
                }));
                Self {
                    peer,
                    task: task.abort_handle(),
                    engines: Some(sender),
                }
            }
            _ => {
                let task = tokio::spawn(keep_open(
                    "gateway",
                    collecting,
                    dialed,
                    |c, p| async move { watch_gateway(&c, &p).await },
                ));
                Self {
                    peer,
                    task: task.abort_handle(),
                    engines: None,
                }
            }
        }
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("no tls configuration")]
    Tls(#[from] weir_identity::TlsError),
    #[error("cannot connect")]
    Connect(#[from] weir_identity::ConnectError),
    #[error("stream failed")]
    Status(#[from] tonic::Status),
    #[error("no answer in time")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("stream ended")]
    Ended,
}

/// Opens the stream again and again, with growing pauses while it does not hold.
async fn keep_open<F, Fut>(role: &'static str, collecting: Arc<Collecting>, peer: Peer, open: F)
where
    F: Fn(Arc<Collecting>, Peer) -> Fut + Send,
    Fut: Future<Output = Result<(), StreamError>> + Send,
{
    let longest = match peer.identity {
        Identity::Agent { .. } => LONGEST_AGENT_BACKOFF,
        _ => LONGEST_GATEWAY_BACKOFF,
    };
    let mut pause = FIRST_BACKOFF;
    loop {
        let began = Instant::now();
        let ended = open(Arc::clone(&collecting), peer.clone()).await;
        let error = ended.err().unwrap_or(StreamError::Ended);
        tracing::debug!(role, pod_uid = %peer.pod_uid, address = %peer.address, error = %crate::queue::chain(&error), "stream ended");
        collecting
            .metrics
            .telemetry_stream_ends
            .with_label_values(&[role])
            .inc();
        if began.elapsed() > GOOD_STREAM {
            pause = FIRST_BACKOFF;
        }
        sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause = (pause * 2).min(longest);
    }
}

async fn dial(
    collecting: &Collecting,
    peer: &Peer,
) -> Result<tonic::transport::Channel, StreamError> {
    collecting.certificate.wait_ready().await;
    let tls = client_config(&collecting.certificate, peer.identity.clone())?;
    let name = dns_name(&peer.pod_uid);
    let channel = connect(peer.address, &name, tls);
    Ok(timeout(CALL_TIMEOUT, channel).await??)
}

async fn watch_gateway(collecting: &Collecting, peer: &Peer) -> Result<(), StreamError> {
    let channel = dial(collecting, peer).await?;
    let mut client = GatewayClient::new(channel).max_decoding_message_size(MAX_REPORT_BYTES);
    let call = client.watch(GatewayRequest {});
    let mut reports = timeout(CALL_TIMEOUT, call).await??.into_inner();
    let _open = Gauge::up(&collecting.metrics, "gateway");
    let _connected = Connected::new(collecting.telemetry.clone(), peer.pod_uid.clone());
    while let Some(report) = reports.message().await? {
        count(&collecting.metrics, "gateway");
        collecting.telemetry.gateway_report(&peer.pod_uid, report);
    }
    Ok(())
}

async fn watch_agent(
    collecting: &Collecting,
    peer: &Peer,
    node: &str,
    engines: watch::Receiver<Vec<EngineEndpoint>>,
) -> Result<(), StreamError> {
    let channel = dial(collecting, peer).await?;
    let mut client = AgentClient::new(channel).max_decoding_message_size(MAX_REPORT_BYTES);
    let requests = WatchStream::new(engines).map(|engines| AgentRequest { engines });
    let mut reports = timeout(CALL_TIMEOUT, client.watch(requests))
        .await??
        .into_inner();
    let _open = Gauge::up(&collecting.metrics, "agent");
    // An agent reports at a steady interval: one that stops is dialed anew.
    while let Some(report) = timeout(REPORT_TTL, reports.message()).await?? {
        count(&collecting.metrics, "agent");
        collecting.telemetry.agent_report(node, report);
    }
    Ok(())
}

fn count(metrics: &Metrics, role: &str) {
    metrics.telemetry_reports.with_label_values(&[role]).inc();
}

/// Counts a stream while it is open, also when its task is aborted.
struct Gauge(prometheus::IntGauge);

impl Gauge {
    fn up(metrics: &Metrics, role: &str) -> Self {
        let gauge = metrics.telemetry_streams.with_label_values(&[role]);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Marks a gateway as connected while its stream is open, also when its task is aborted.
struct Connected {
    telemetry: Telemetry,
    pod_uid: String,
}

impl Connected {
    fn new(telemetry: Telemetry, pod_uid: String) -> Self {
        telemetry.gateway_connected(&pod_uid, true);
        Self { telemetry, pod_uid }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.telemetry.gateway_connected(&self.pod_uid, false);
    }
}

/// Where and as whom a pod is dialed; `None` for a pod that has no address, has ended, or is none of ours.
fn peer_of(pod: &Pod, port: u16) -> Option<Peer> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ip: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    let pod_uid = pod.uid()?;
    let labels = pod.labels();
    let label = |name| labels.get(name).map(String::as_str);
    let identity = match (label(names::LABEL_COMPONENT)?, label(names::LABEL_PLANE)) {
        (names::COMPONENT_AGENT, _) => Identity::Agent {
            node: pod.spec.as_ref()?.node_name.clone()?,
        },
        (names::COMPONENT_GATEWAY, Some("local")) => Identity::GatewayLocal {
            pod_uid: pod_uid.clone(),
        },
        (names::COMPONENT_GATEWAY, Some("cloud")) => Identity::GatewayCloud {
            pod_uid: pod_uid.clone(),
        },
        _ => return None,
    };
    Some(Peer {
        address: SocketAddr::new(ip, port),
        pod_uid,
        identity,
    })
}

/// Engine pods of workloads that run, by node, in the order of their UIDs.
fn engines_by_node(stores: &Stores) -> BTreeMap<String, Vec<EngineEndpoint>> {
    let mut nodes = BTreeMap::<String, Vec<EngineEndpoint>>::new();
    for pod in stores.engine_pods.state() {
        // Whatever else has our labels is asked nothing.
        if Owner::of_pod(&pod).is_none() {
            continue;
        }
        let status = pod.status.as_ref();
        let running = status.and_then(|s| s.phase.as_deref()) == Some("Running");
        let ip = status.and_then(|s| s.pod_ip.as_deref()?.parse::<IpAddr>().ok());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        if let (true, Some(ip), Some(node), Some(pod_uid)) = (running, ip, node, pod.uid()) {
            let address = SocketAddr::new(ip, names::ENGINE_PORT);
            nodes.entry(node).or_default().push(EngineEndpoint {
                pod_uid,
                url: format!("http://{address}"),
            });
        }
    }
    for engines in nodes.values_mut() {
        engines.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
    }
    nodes
}
