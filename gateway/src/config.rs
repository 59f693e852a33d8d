//! Flags of the binary, each with an environment variable.

use std::net::SocketAddr;
use std::time::Duration;

fn duration(text: &str) -> Result<Duration, weir_crds::quantity::QuantityError> {
    weir_crds::quantity::duration(text)
}

/// The OpenAI-compatible endpoint of every workload of one plane.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "weir-gateway", version, about, long_about = None)]
pub struct Args {
    /// Something else than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Address for clients.
    #[arg(long, env = "WEIR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address for probes and metrics.
    #[arg(long, env = "WEIR_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Address for the operator, which dials it with mutual TLS.
    #[arg(long, env = "WEIR_GRPC_LISTEN", default_value = "0.0.0.0:9443")]
    pub grpc_listen: SocketAddr,
    /// Namespace of the Secrets with provider keys.
    #[cfg(feature = "cloud")]
    #[arg(
        long,
        env = "WEIR_PROVIDERS_NAMESPACE",
        default_value = "weir-providers"
    )]
    pub providers_namespace: String,
    /// How long the API server may be unheard before targets at providers lose their routes: by then nobody knows here
    /// whether they are still allowed. Targets of this cluster keep theirs.
    #[cfg(feature = "cloud")]
    #[arg(long, env = "WEIR_CLOSE_EXTERNAL_AFTER", default_value = "10m", value_parser = duration)]
    pub close_external_after: Duration,
    /// Namespace of the release, where the keys towards engines are.
    #[arg(long, env = "POD_NAMESPACE", default_value = "weir-system")]
    pub namespace: String,
    /// UID of this pod; names it towards the operator.
    #[arg(long, env = "POD_UID", default_value = "")]
    pub pod_uid: String,
    /// Name of this pod; begins the names of its certificate requests.
    #[arg(long, env = "POD_NAME", default_value = "weir-gateway")]
    pub pod_name: String,
    /// How long a stopping gateway still takes new connections, for endpoints to be forgotten.
    #[arg(long, env = "WEIR_DRAIN_DELAY", default_value = "5s", value_parser = duration)]
    pub drain_delay: Duration,
    /// How long requests in flight may take to end when the gateway stops.
    #[arg(long, env = "WEIR_DRAIN_TIMEOUT", default_value = "300s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// Connections of clients at a time.
    #[arg(long, env = "WEIR_MAX_CONNECTIONS", default_value_t = 8192)]
    pub max_connections: usize,
    /// How long a connection may take to send a request's head, and stay idle between requests.
    #[arg(long, env = "WEIR_HEADER_TIMEOUT", default_value = "75s", value_parser = duration)]
    pub header_timeout: Duration,
    /// Bounds of requests.
    #[command(flatten)]
    pub limits: Limits,
}

/// Something else than serving.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Complete one chat through a workload's endpoint and print the answer.
    Chat(crate::chat::ChatArgs),
}

/// Bounds of requests.
#[derive(Clone, Debug, clap::Args)]
pub struct Limits {
    /// Largest request body in bytes.
    #[arg(long = "max-body-bytes", env = "WEIR_MAX_BODY_BYTES", default_value_t = 4 << 20)]
    pub max_body: usize,
    /// Bytes of request bodies that are held at a time.
    #[arg(long = "max-buffered-bytes", env = "WEIR_MAX_BUFFERED_BYTES", default_value_t = 128 << 20)]
    pub max_buffered: usize,
    /// How long a request's body may take.
    #[arg(long = "body-timeout", env = "WEIR_BODY_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub body: Duration,
    /// How long connecting to a local target may take.
    #[arg(long = "connect-timeout", env = "WEIR_CONNECT_TIMEOUT", default_value = "1s", value_parser = duration)]
    pub connect_local: Duration,
    /// How long connecting to a provider may take, TLS included.
    #[cfg(feature = "cloud")]
    #[arg(long = "external-connect-timeout", env = "WEIR_EXTERNAL_CONNECT_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub connect_external: Duration,
    /// How long a stream may take to its first content.
    #[arg(long = "first-byte-timeout", env = "WEIR_FIRST_BYTE_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub first_byte: Duration,
    /// How long an answer that is not streamed may take.
    #[arg(long = "response-timeout", env = "WEIR_RESPONSE_TIMEOUT", default_value = "600s", value_parser = duration)]
    pub response: Duration,
    /// How long an answer may pause.
    #[arg(long = "idle-timeout", env = "WEIR_IDLE_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            max_buffered: 128 << 20,
            body: Duration::from_secs(30),
            connect_local: Duration::from_secs(1),
            #[cfg(feature = "cloud")]
            connect_external: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            response: Duration::from_secs(600),
            idle: Duration::from_secs(60),
        }
    }
}
