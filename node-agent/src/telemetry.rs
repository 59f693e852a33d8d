//! `weir-node-agent telemetry`: reads a node and its engines, reports to the operator, keeps the node's `GPUNode`.

pub mod admin;
pub mod cpu;
mod cuda;
pub mod gpu;
pub mod latest;
pub mod measurement;
pub mod metrics;
pub mod node_object;
mod pci;
pub mod sampler;
pub mod sanitize;
pub mod scrape;
pub mod service;
pub mod source;
mod token;
pub mod unmeasured;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use weir_identity::{CertificateSource, Identity, RequestOptions, serve_tonic, server_config};
use weir_proto::agent_server::AgentServer;

use metrics::Metrics;
use node_object::{ApiWriter, NodeObject};
use sampler::Sampler;
use service::AgentService;

/// Flags of `weir-node-agent telemetry`.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArgs {
    /// Name of the Node object that this agent reads.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// UID of the Node object, which owns the GPUNode object; by default what the ServiceAccount's token says.
    #[arg(long, env = "NODE_UID")]
    pub node_uid: Option<String>,
    /// The ServiceAccount's token.
    #[arg(
        long,
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub token_file: PathBuf,
    /// Where the operator connects, by mutual TLS.
    #[arg(long, default_value = "0.0.0.0:9443")]
    pub grpc_listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Time between two reports, such as 2s.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub interval: Duration,
    /// Where the proc file system of the host is mounted.
    #[arg(long, default_value = "/proc")]
    pub proc_root: PathBuf,
    /// Where the kernel's tree of devices is mounted.
    #[arg(long, default_value = "/sys")]
    pub sys_root: PathBuf,
    /// NVIDIA's management library; a node without it has no devices to report.
    #[arg(long, default_value = "libnvidia-ml.so.1")]
    pub nvml_library: PathBuf,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = weir_crds::quantity::duration(text).map_err(|error| error.to_string())?;
    if parsed < Duration::from_millis(100) || parsed > Duration::from_secs(60) {
        return Err(format!("{text} is not between 100ms and 60s"));
    }
    Ok(parsed)
}

/// Why the agent could not start or keep running.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No configuration for the API server.
    #[error("no configuration for the api server")]
    KubeConfig(#[source] kube::config::InferConfigError),
    /// The client could not be built.
    #[error("client for the api server cannot be built")]
    KubeClient(#[source] Box<kube::Error>),
    /// The sampling thread could not be started.
    #[error("sampling thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// TLS is not available.
    #[error("tls cannot be configured")]
    Tls(#[source] weir_identity::TlsError),
    /// The gRPC server ended.
    #[error("grpc server ended")]
    Serve(#[source] weir_identity::ServeError),
    /// The admin server ended.
    #[error("admin server ended")]
    Admin(#[source] std::io::Error),
    /// Metrics could not be registered.
    #[error("metrics cannot be registered")]
    Metrics(#[source] prometheus::Error),
}

/// Runs until `shutdown`.
pub async fn run(args: TelemetryArgs, shutdown: CancellationToken) -> Result<(), TelemetryError> {
    let metrics = Arc::new(Metrics::new().map_err(TelemetryError::Metrics)?);
    let sources: Vec<Box<dyn source::Source>> = vec![
        Box::new(cpu::CpuSource::new(&args.proc_root)),
        Box::new(gpu::GpuSource::new(&args.nvml_library, &args.sys_root)),
    ];
    // Twice per report, so that every report carries a newer sample than the one before.
    let period = args.interval / 2;
    let deadline = (args.interval * 3).max(Duration::from_secs(5));
    let sampler = Sampler::start(sources, period, deadline, Arc::clone(&metrics))
        .map_err(TelemetryError::Thread)?;

    let admin = listen(args.admin_listen).await?;
    let grpc = listen(args.grpc_listen).await?;
    let client = kube_client().await?;
    let certificate = CertificateSource::from_cluster(
        client.clone(),
        RequestOptions::new(format!("weir-node-agent-{}-", short(&args.node_name))),
    );
    let tls = server_config(&certificate, |identity| *identity == Identity::Operator)
        .map_err(TelemetryError::Tls)?;
    let state = admin::Admin {
        metrics: Arc::clone(&metrics),
        sampler: sampler.clone(),
        certificate: Some(certificate),
        handshakes: Some(tls.counters()),
    };
    let node_uid = args
        .node_uid
        .or_else(|| token::node_uid(&args.token_file, &args.node_name));
    let writer = ApiWriter::new(client, &args.node_name, node_uid.as_deref());
    let object = NodeObject::new(writer, sampler.clone(), Arc::clone(&metrics));
    let publishing = tokio::spawn(object.run(shutdown.clone()));
    let agent = AgentService::new(
        &args.node_name,
        args.interval,
        sampler,
        metrics,
        shutdown.clone(),
    );
    let routes = Routes::new(AgentServer::new(agent));
    tracing::info!(node = %args.node_name, grpc = %args.grpc_listen, admin = %args.admin_listen, "agent started");
    let result = tokio::try_join!(
        async {
            serve_tonic(grpc, tls, routes, shutdown.clone().cancelled_owned())
                .await
                .map_err(TelemetryError::Serve)
        },
        async {
            admin::serve(admin, state, shutdown.clone())
                .await
                .map_err(TelemetryError::Admin)
        },
    );
    publishing.abort();
    result.map(|_| ())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, TelemetryError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| TelemetryError::Listen { address, source })
}

/// A client without the built-in retries, which would hold a write back for minutes.
async fn kube_client() -> Result<Client, TelemetryError> {
    let mut config = kube::Config::infer()
        .await
        .map_err(TelemetryError::KubeConfig)?;
    config.default_retry = false;
    Client::try_from(config).map_err(|source| TelemetryError::KubeClient(Box::new(source)))
}

/// A node's name as part of a generated name, which may have 58 characters before the suffix.
fn short(node: &str) -> &str {
    let end = node.len().min(40);
    node.get(..end)
        .unwrap_or_default()
        .trim_end_matches(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("node-1", "node-1")]
    #[case(
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    )]
    fn request_names_stay_within_bounds(#[case] node: &str, #[case] expected: &str) {
        assert_eq!(short(node), expected);
    }

    #[rstest]
    #[case("2s", true)]
    #[case("500ms", true)]
    #[case("0s", false)]
    #[case("2m", false)]
    #[case("soon", false)]
    fn report_interval_has_bounds(#[case] text: &str, #[case] accepted: bool) {
        assert_eq!(duration(text).is_ok(), accepted);
    }
}
