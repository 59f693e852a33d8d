//! What the operator is told by flags and environment.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Settings of the operator; every flag has an environment variable.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "weir-operator",
    version,
    about = "Decides where inference workloads run, and makes it so"
)]
pub struct Settings {
    /// Namespace of the release: Lease, certificate authority, gateways and agents are here.
    #[arg(long, env = "POD_NAMESPACE", default_value = "weir-system")]
    pub namespace: String,
    /// Name of this pod, which tells the replicas of the operator apart.
    #[arg(long, env = "POD_NAME", default_value = "weir-operator")]
    pub pod_name: String,
    /// UID of this pod.
    #[arg(long, env = "POD_UID", default_value = "")]
    pub pod_uid: String,
    /// Namespace of the Secrets with provider keys; the operator names it in messages and reads nothing there.
    #[arg(
        long,
        env = "WEIR_PROVIDER_NAMESPACE",
        default_value = "weir-providers"
    )]
    pub provider_namespace: String,
    /// Base URL of the local gateway plane. Default: its Service in the release namespace.
    #[arg(long, env = "WEIR_LOCAL_PLANE_URL")]
    pub local_plane_url: Option<String>,
    /// Base URL of the cloud gateway plane. Default: its Service in the release namespace.
    #[arg(long, env = "WEIR_CLOUD_PLANE_URL")]
    pub cloud_plane_url: Option<String>,
    /// Image of the built-in engine.
    #[arg(
        long,
        env = "WEIR_ENGINE_IMAGE",
        default_value = concat!("weir/engine:", env!("CARGO_PKG_VERSION"))
    )]
    pub engine_image: String,
    /// When engine pods pull their image.
    #[arg(
        long,
        env = "WEIR_ENGINE_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_parser = ["Always", "IfNotPresent", "Never"]
    )]
    pub engine_image_pull_policy: String,
    /// Whether engines get a NetworkPolicy: only gateways of their plane and agents reach them, and they reach nobody.
    #[arg(
        long,
        env = "WEIR_ENGINE_NETWORK_POLICY",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub engine_network_policy: bool,
    /// Whether engines demand the key of their plane's gateways, as soon as all of those send it.
    #[arg(
        long,
        env = "WEIR_ENGINE_KEY",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub engine_key: bool,
    /// ServiceAccount of the node agents, in the release namespace.
    #[arg(
        long,
        env = "WEIR_AGENT_SERVICE_ACCOUNT",
        default_value = "weir-node-agent"
    )]
    pub agent_service_account: String,
    /// ServiceAccount of the local gateway plane, in the release namespace.
    #[arg(
        long,
        env = "WEIR_GATEWAY_LOCAL_SERVICE_ACCOUNT",
        default_value = "weir-gateway-local"
    )]
    pub gateway_local_service_account: String,
    /// ServiceAccount of the cloud gateway plane, in the release namespace.
    #[arg(
        long,
        env = "WEIR_GATEWAY_CLOUD_SERVICE_ACCOUNT",
        default_value = "weir-gateway-cloud"
    )]
    pub gateway_cloud_service_account: String,
    /// Domain of the cluster's Services.
    #[arg(long, env = "WEIR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// gRPC port of agents and gateways.
    #[arg(long, env = "WEIR_GRPC_PORT", default_value_t = weir_crds::names::GRPC_PORT)]
    pub grpc_port: u16,
    /// Name of the Lease that the replicas compete for.
    #[arg(long, env = "WEIR_LEASE_NAME", default_value = "weir-operator")]
    pub lease_name: String,
    /// How long others wait for a leader that does not renew.
    #[arg(long, env = "WEIR_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,
    /// A leader that could not renew for this long stops writing and ends; less than the lease duration.
    #[arg(long, env = "WEIR_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    pub renew_deadline: Duration,
    /// Pause between attempts to take or renew the Lease.
    #[arg(long, env = "WEIR_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    pub retry_period: Duration,
    /// Reconciles of one kind at the same time.
    #[arg(long, env = "WEIR_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Pause between a change and its reconcile, in which further changes are merged.
    #[arg(long, env = "WEIR_DEBOUNCE", default_value = "200ms", value_parser = duration)]
    pub debounce: Duration,
    /// Writes to the API server in a second to begin with. Afterwards as many as it takes: more while it answers quickly,
    /// half when it says that there are too many or answers late.
    #[arg(long, env = "WEIR_WRITES_PER_SECOND", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub writes_per_second: u32,
    /// The most writes to the API server in a second, however quickly it answers.
    #[arg(long, env = "WEIR_MOST_WRITES_PER_SECOND", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub most_writes_per_second: u32,
    /// A workload's observed hours are written to its InferenceDemand at most once in this time.
    #[arg(long, env = "WEIR_DEMAND_RECORD_INTERVAL", default_value = "1h", value_parser = duration)]
    pub demand_record_interval: Duration,
    /// For how long a client key that is replaced stays valid, unless the workload's annotation says otherwise.
    #[arg(long, env = "WEIR_KEY_OVERLAP", default_value = "24h", value_parser = duration)]
    pub key_overlap: Duration,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    #[arg(long, env = "WEIR_METRICS_ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_address: SocketAddr,
    /// How long reconciles under way may take to end after SIGTERM.
    #[arg(long, env = "WEIR_SHUTDOWN_GRACE", default_value = "20s", value_parser = duration)]
    pub shutdown_grace: Duration,
    /// How log lines are written.
    #[arg(long, env = "WEIR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Plain,
}

/// A gateway plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plane {
    /// Serves workloads whose data may not leave the cluster.
    Local,
    /// Serves workloads that may use external targets.
    Cloud,
}

impl Plane {
    /// As the pods' label and the metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
        }
    }
}

impl From<weir_crds::workload::Egress> for Plane {
    fn from(egress: weir_crds::workload::Egress) -> Self {
        match egress {
            weir_crds::workload::Egress::Forbidden => Self::Local,
            weir_crds::workload::Egress::Allowed => Self::Cloud,
        }
    }
}

/// Why settings cannot work together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Leader election would not be safe.
    #[error(
        "retry period {retry:?} must be less than renew deadline {renew:?}, and that less than lease duration {lease:?}"
    )]
    LeaseTimes {
        /// `--retry-period`.
        retry: Duration,
        /// `--renew-deadline`.
        renew: Duration,
        /// `--lease-duration`.
        lease: Duration,
    },
    /// A write that was sent in time could be done after another replica leads.
    #[error(
        "lease duration {lease:?} must exceed renew deadline {renew:?} by at least {LEAST_MARGIN:?}: a write must end in between"
    )]
    NoMargin {
        /// `--renew-deadline`.
        renew: Duration,
        /// `--lease-duration`.
        lease: Duration,
    },
}

/// What writes need between the renew deadline and the end of the lease.
const LEAST_MARGIN: Duration = Duration::from_millis(500);

impl Settings {
    /// The defaults, with what the environment sets.
    pub fn defaults() -> Self {
        Self::parse_from(["weir-operator"])
    }

    /// Checks what one flag alone cannot tell.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let (retry, renew, lease) = (self.retry_period, self.renew_deadline, self.lease_duration);
        if retry.is_zero() || retry >= renew || renew >= lease {
            return Err(SettingsError::LeaseTimes {
                retry,
                renew,
                lease,
            });
        }
        if lease - renew < LEAST_MARGIN {
            return Err(SettingsError::NoMargin { renew, lease });
        }
        Ok(())
    }

    /// How long a write may take: it has ended, or was given up, before another replica may lead.
    pub fn write_timeout(&self) -> Duration {
        let margin = self.lease_duration.saturating_sub(self.renew_deadline);
        margin.mul_f64(0.9)
    }

    /// Base URL of a plane, without a slash at the end.
    pub fn plane_url(&self, plane: Plane) -> String {
        let given = match plane {
            Plane::Local => &self.local_plane_url,
            Plane::Cloud => &self.cloud_plane_url,
        };
        match given {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!(
                "http://weir-gateway-{}.{}.svc",
                plane.as_str(),
                self.namespace
            ),
        }
    }

    /// Who this replica is in the Lease and in events.
    pub fn holder(&self) -> String {
        if self.pod_uid.is_empty() {
            return format!("{}_{}", self.pod_name, std::process::id());
        }
        format!("{}_{}", self.pod_name, self.pod_uid)
    }
}

fn duration(text: &str) -> Result<Duration, weir_crds::quantity::QuantityError> {
    weir_crds::quantity::duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(flags: &[&str]) -> Settings {
        Settings::parse_from([&["weir-operator"], flags].concat())
    }

    #[test]
    fn planes_have_the_urls_of_their_services_unless_given() {
        let settings = settings(&[
            "--namespace",
            "w",
            "--cloud-plane-url",
            "https://api.example/",
        ]);
        assert_eq!(
            settings.plane_url(Plane::Local),
            "http://weir-gateway-local.w.svc"
        );
        assert_eq!(settings.plane_url(Plane::Cloud), "https://api.example");
    }

    #[test]
    fn lease_times_that_would_allow_two_leaders_are_refused() {
        assert_eq!(settings(&[]).validate(), Ok(()));
        let unsafe_times = settings(&["--renew-deadline", "15s"]);
        assert!(matches!(
            unsafe_times.validate(),
            Err(SettingsError::LeaseTimes { .. })
        ));
        let no_margin = settings(&["--renew-deadline", "14600ms"]);
        assert!(matches!(
            no_margin.validate(),
            Err(SettingsError::NoMargin { .. })
        ));
    }

    #[test]
    fn a_write_ends_before_another_replica_may_lead() {
        for flags in [&[][..], &["--renew-deadline", "14s"]] {
            let settings = settings(flags);
            assert_eq!(settings.validate(), Ok(()));
            let ends = settings.renew_deadline + settings.write_timeout();
            assert!(ends < settings.lease_duration, "{ends:?}");
        }
    }
}
