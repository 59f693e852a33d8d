//! The agent's service over mutual TLS on loopback, watched as the operator watches it.

mod accelerators;
mod fake_nvml;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc as thread_mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::service::Routes;
use tower::ServiceExt;
use weir_identity::{
    CertificateAuthority, CertificateSource, Identity, client_config, connect, dns_name,
    serve_tonic, server_config,
};
use weir_node_agent::telemetry::admin::{self, Admin};
use weir_node_agent::telemetry::cpu::CpuSource;
use weir_node_agent::telemetry::gpu::GpuSource;
use weir_node_agent::telemetry::metrics::Metrics;
use weir_node_agent::telemetry::sampler::Sampler;
use weir_node_agent::telemetry::service::AgentService;
use weir_node_agent::telemetry::source::{DeviceValues, Reading, Source};
use weir_proto::agent_client::AgentClient;
use weir_proto::agent_server::AgentServer;
use weir_proto::{AgentReport, AgentRequest, EngineEndpoint};

const HOUR: Duration = Duration::from_secs(3600);
const INTERVAL: Duration = Duration::from_millis(100);
const POD: &str = "agent-pod";

fn identity() -> Identity {
    Identity::Agent { node: "n1".into() }
}

struct Agent {
    authority: CertificateAuthority,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    sampler: Sampler,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

async fn start(sources: Vec<Box<dyn Source>>, deadline: Duration) -> Agent {
    let authority = CertificateAuthority::generate(Timestamp::now()).unwrap();
    let leaf = authority
        .issue_own(&identity(), Some(POD), Timestamp::now(), HOUR)
        .unwrap();
    let source = CertificateSource::fixed(leaf);
    let tls = server_config(&source, |identity| *identity == Identity::Operator).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let sampler = Sampler::start(sources, INTERVAL / 2, deadline, Arc::clone(&metrics)).unwrap();
    let shutdown = CancellationToken::new();
    let service = AgentService::new(
        "n1",
        INTERVAL,
        sampler.clone(),
        Arc::clone(&metrics),
        shutdown.clone(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Routes::new(AgentServer::new(service));
    let signal = shutdown.clone().cancelled_owned();
    let served = tokio::spawn(async move {
        serve_tonic(listener, tls, routes, signal).await.unwrap();
    });
    Agent {
        authority,
        address,
        metrics,
        sampler,
        shutdown,
        served,
    }
}

struct Watch {
    requests: mpsc::Sender<AgentRequest>,
    reports: Streaming<AgentReport>,
}

impl Watch {
    async fn next(&mut self) -> Option<AgentReport> {
        timeout(Duration::from_secs(5), self.reports.message())
            .await
            .expect("no report in time")
            .unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&AgentReport) -> bool) -> AgentReport {
        for _ in 0..100 {
            let report = self.next().await.unwrap();
            if wanted(&report) {
                return report;
            }
        }
        panic!("no such report");
    }
}

async fn watch_as(agent: &Agent, who: &Identity) -> Result<Watch, String> {
    let leaf = agent
        .authority
        .issue_own(who, None, Timestamp::now(), HOUR)
        .unwrap();
    let tls = client_config(&CertificateSource::fixed(leaf), identity()).unwrap();
    let channel = connect(agent.address, &dns_name(POD), tls)
        .await
        .map_err(|error| error.to_string())?;
    let (requests, receiver) = mpsc::channel(4);
    let reports = AgentClient::new(channel)
        .watch(ReceiverStream::new(receiver))
        .await
        .map_err(|status| status.to_string())?
        .into_inner();
    Ok(Watch { requests, reports })
}

async fn watch(agent: &Agent) -> Watch {
    watch_as(agent, &Identity::Operator).await.unwrap()
}

fn host() -> Vec<Box<dyn Source>> {
    vec![
        Box::new(CpuSource::new(Path::new("/proc"))),
        Box::new(GpuSource::new(
            Path::new("/nonexistent/libnvidia-ml.so.1"),
            Path::new("/sys"),
        )),
    ]
}

#[tokio::test]
async fn operator_gets_real_readings_of_this_machine_in_order() {
    let agent = start(host(), HOUR).await;
    let mut watch = watch(&agent).await;
    let first = watch.until(|r| r.cpu.is_some()).await;
    let cpu = first.cpu.unwrap();
    assert!(cpu.memory_available_bytes.unwrap() <= cpu.memory_total_bytes.unwrap());
    assert!(cpu.logical_processors.unwrap() > 0);
    let second = watch
        .until(|r| r.cpu.is_some_and(|cpu| cpu.utilization_percent.is_some()))
        .await;
    let utilization = second.cpu.unwrap().utilization_percent.unwrap();
    assert!((0.0..=100.0).contains(&utilization));
    assert_eq!(second.node_name, "n1");
    assert_eq!(first.boot_id, second.boot_id);
    assert!(second.seq > first.seq);
    assert!(second.monotonic_ms > first.monotonic_ms);
    assert!(!second.sampler_stuck);
}

#[tokio::test]
async fn nobody_but_the_operator_gets_a_report() {
    let agent = start(host(), HOUR).await;
    for who in [
        identity(),
        Identity::GatewayLocal {
            pod_uid: "p".into(),
        },
        Identity::GatewayCloud {
            pod_uid: "p".into(),
        },
    ] {
        let refused = timeout(Duration::from_secs(1), watch_as(&agent, &who)).await;
        assert!(refused.expect("refused within a second").is_err());
    }
}

/// Reads once per message and hangs in between, as a driver can.
struct Hanging(thread_mpsc::Receiver<()>);

impl Source for Hanging {
    fn name(&self) -> &'static str {
        "hanging"
    }

    fn read(&mut self) -> Reading {
        let _ = self.0.recv();
        Reading {
            devices: vec![DeviceValues {
                uuid: "GPU-1".into(),
                utilization_percent: Some(90.0),
                ..DeviceValues::default()
            }],
            ..Reading::default()
        }
    }
}

#[tokio::test]
async fn silent_driver_is_reported_as_stuck_while_heartbeats_go_on() {
    let (allow, allowed) = thread_mpsc::channel();
    let agent = start(vec![Box::new(Hanging(allowed))], Duration::from_millis(400)).await;
    let mut watch = watch(&agent).await;
    allow.send(()).unwrap();
    let fresh = watch.until(|r| !r.devices.is_empty()).await;
    assert!(!fresh.sampler_stuck);
    let stuck = watch.until(|r| r.sampler_stuck).await;
    assert!(stuck.devices.is_empty() && stuck.cpu.is_none());
    let next = watch.next().await.unwrap();
    assert!(next.sampler_stuck && next.seq == stuck.seq + 1);
    allow.send(()).unwrap();
    let recovered = watch.until(|r| !r.sampler_stuck).await;
    assert_eq!(recovered.devices[0].utilization_percent, Some(90.0));
    drop(allow);
}

#[derive(Clone, Default)]
struct Asked(Arc<Mutex<u32>>);

/// An engine's metrics on loopback.
async fn engine(text: &'static str) -> (String, Asked) {
    let asked = Asked::default();
    let count = asked.clone();
    let router = Router::new().route(
        "/metrics",
        get(async move || {
            *count.0.lock().unwrap() += 1;
            text
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

fn endpoint(pod_uid: &str, url: &str) -> EngineEndpoint {
    EngineEndpoint {
        pod_uid: pod_uid.into(),
        url: url.into(),
    }
}

#[tokio::test]
async fn engines_are_read_as_the_operator_asks_and_silent_ones_are_unreachable() {
    let (url, asked) =
        engine("weir_engine_requests_running 3\nweir_engine_output_tokens_total 77\n").await;
    // Accepts and never answers.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_url = format!("http://{}", mute.local_addr().unwrap());
    let agent = start(host(), HOUR).await;
    let mut watch = watch(&agent).await;
    let request = AgentRequest {
        engines: vec![
            endpoint("live", &url),
            endpoint("mute", &mute_url),
            endpoint("live", &url),
        ],
    };
    watch.requests.send(request).await.unwrap();
    let report = watch.until(|r| !r.engines.is_empty()).await;
    assert_eq!(report.engines.len(), 2);
    let live = &report.engines[0];
    assert_eq!((live.pod_uid.as_str(), live.reachable), ("live", true));
    assert_eq!(live.requests_running, Some(3));
    assert_eq!(live.output_tokens_total, Some(77));
    assert_eq!(live.prompt_tokens_total, None);
    let silent = &report.engines[1];
    assert_eq!((silent.pod_uid.as_str(), silent.reachable), ("mute", false));
    watch.requests.send(AgentRequest::default()).await.unwrap();
    watch.until(|r| r.engines.is_empty()).await;
    let before = *asked.0.lock().unwrap();
    watch.next().await.unwrap();
    watch.next().await.unwrap();
    assert_eq!(*asked.0.lock().unwrap(), before);
}

#[tokio::test]
async fn reports_go_on_when_the_operator_has_nothing_more_to_ask() {
    let agent = start(host(), HOUR).await;
    let mut watch = watch(&agent).await;
    watch.next().await.unwrap();
    let Watch { requests, reports } = watch;
    drop(requests);
    let (unused, _) = mpsc::channel(1);
    let mut watch = Watch {
        requests: unused,
        reports,
    };
    for _ in 0..3 {
        watch.next().await.unwrap();
    }
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let agent = start(host(), HOUR).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(watch(&agent).await);
    }
    assert!(watch_as(&agent, &Identity::Operator).await.is_err());
    open.pop();
    for _ in 0..50 {
        if watch_as(&agent, &Identity::Operator).await.is_ok() {
            return;
        }
        open[0].next().await.unwrap();
    }
    panic!("no room was made");
}

#[tokio::test]
async fn shutdown_ends_streams_and_the_server() {
    let agent = start(host(), HOUR).await;
    let mut watch = watch(&agent).await;
    watch.next().await.unwrap();
    agent.shutdown.cancel();
    while let Ok(Some(_)) = watch.reports.message().await {}
    timeout(Duration::from_secs(6), agent.served)
        .await
        .expect("server ends in time")
        .unwrap();
}

async fn admin_get(agent: &Agent, path: &str) -> (StatusCode, String) {
    let router = admin::router(Admin {
        metrics: Arc::clone(&agent.metrics),
        sampler: agent.sampler.clone(),
        certificate: None,
        handshakes: None,
    });
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.into()).unwrap())
}

#[tokio::test]
async fn admin_port_tells_health_readiness_and_metrics() {
    let (allow, allowed) = thread_mpsc::channel();
    let mut sources = host();
    sources.push(Box::new(Hanging(allowed)));
    let agent = start(sources, HOUR).await;
    assert_eq!(admin_get(&agent, "/healthz").await.0, StatusCode::OK);
    let starting = admin_get(&agent, "/readyz").await.0;
    assert_eq!(starting, StatusCode::SERVICE_UNAVAILABLE);
    let mut watch = watch(&agent).await;
    allow.send(()).unwrap();
    watch.until(|r| !r.devices.is_empty()).await;
    assert_eq!(admin_get(&agent, "/readyz").await.0, StatusCode::OK);
    let (_, text) = admin_get(&agent, "/metrics").await;
    for wanted in [
        "weir_agent_build_info{version=",
        "weir_agent_reports_total ",
        "weir_agent_sampler_stuck 0",
        "weir_agent_node_reading{quantity=\"devices\"} 1",
        "weir_agent_node_reading{quantity=\"memory_total_bytes\"} ",
        "weir_agent_device_reading{quantity=\"utilization_percent\",uuid=\"GPU-1\"} 90",
        "weir_agent_samples_dropped_total{reason=\"out_of_range\"} 0",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("power_watts"), "what was not read is absent");
    drop(allow);
}
