//! One replica's life: watch, compete, lead, hand over.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weir_crds::InferenceWorkload;
use weir_identity::{CertificateSource, Identity, IssueError};

use crate::ca::{self, AuthorityError};
use crate::cli::{Settings, SettingsError};
use crate::client::Budget;
use crate::clock::Clock;
use crate::context::Context;
use crate::controllers;
use crate::engine_key::EngineKeyError;
use crate::events::Events;
use crate::leader::{Election, ElectionOptions, Gate, Lost};
use crate::metrics::Metrics;
use crate::server::{self, Health};
use crate::stores::Stores;
use crate::telemetry::Telemetry;
use crate::{client, csr, engine_key, telemetry};

/// Why a replica ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Settings cannot work together.
    #[error("settings are not usable")]
    Settings(#[source] SettingsError),
    /// The port for metrics and probes is taken.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another replica leads; this one starts anew.
    #[error("leadership lost")]
    Lost(#[source] Lost),
    /// The certificate authority cannot be used.
    #[error("no certificate authority")]
    Authority(#[source] AuthorityError),
    /// The keys towards engines cannot be used.
    #[error("no keys towards engines")]
    EngineKeys(#[source] EngineKeyError),
    /// The operator's own certificate could not be made.
    #[error("no certificate of our own")]
    Certificate(#[source] IssueError),
    /// A task that must not end did.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// Runs a replica until `shutdown`. `client` is the bare client, without retries of its own.
pub async fn run(
    settings: Settings,
    client: Client,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let address = settings.metrics_address;
    let listener = server::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })?;
    run_on(settings, client, listener, shutdown).await
}

/// The same with a listener for metrics and probes that is bound already.
pub async fn run_on(
    settings: Settings,
    client: Client,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    settings.validate().map_err(RunError::Settings)?;
    let metrics = Arc::new(Metrics::new());
    let gate = Gate::new();
    let budget = Budget::start(
        settings.writes_per_second,
        settings.most_writes_per_second,
        Arc::clone(&metrics),
    );
    let guarded = client::guarded(
        client.clone(),
        gate.clone(),
        (budget.clone(), settings.write_timeout()),
        Arc::clone(&metrics),
    );
    let health = Health {
        metrics: Arc::clone(&metrics),
        synced: CancellationToken::new(),
        stopping: shutdown.clone(),
    };
    // Dropped with this function: nothing outlives the replica.
    let mut background = JoinSet::new();
    background.spawn(server::serve(listener, health.clone()));
    let (stores, _reflectors) = Stores::start(&guarded, &settings.namespace, &metrics);
    tokio::select! {
        () = stores.wait_ready() => health.synced.cancel(),
        () = shutdown.cancelled() => return Ok(()),
    }
    tracing::info!("synced");
    let lease_client = client::for_election(client, Arc::clone(&metrics));
    let options = election_options(&settings);
    let mut election = Election::new(lease_client, options, gate, Arc::clone(&metrics));
    tokio::select! {
        () = election.acquire() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let leading = Leading {
        settings: Arc::new(settings),
        client: guarded,
        budget,
        stores,
        metrics,
    };
    leading.lead(election, shutdown).await
}

fn election_options(settings: &Settings) -> ElectionOptions {
    ElectionOptions {
        namespace: settings.namespace.clone(),
        name: settings.lease_name.clone(),
        holder: settings.holder(),
        lease_duration: settings.lease_duration,
        renew_deadline: settings.renew_deadline,
        retry_period: settings.retry_period,
    }
}

/// The Secret of the certificate authority is looked for this often.
const AUTHORITY_INTERVAL: Duration = Duration::from_secs(60);

struct Leading {
    settings: Arc<Settings>,
    client: Client,
    budget: Budget,
    stores: Stores,
    metrics: Arc<Metrics>,
}

impl Leading {
    /// Does what only a leader does, until it is told to end or is none any more.
    async fn lead(
        self,
        mut election: Election,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let grace = self.settings.shutdown_grace;
        let stop = CancellationToken::new();
        let mut work = JoinSet::new();
        let ended = tokio::select! {
            lost = election.hold() => return Err(RunError::Lost(lost)),
            ended = self.work(&mut work, stop.clone()) => Some(ended),
            () = shutdown.cancelled() => None,
        };
        stop.cancel();
        let drained = async { while work.join_next().await.is_some() {} };
        tokio::select! {
            lost = election.hold() => return Err(RunError::Lost(lost)),
            drained = timeout(grace, drained) => {
                if drained.is_err() {
                    tracing::warn!(?grace, "work did not end in time");
                }
            }
        }
        election.release().await;
        ended.map_or(Ok(()), Err)
    }

    /// Starts every task of a leader in `work`; returns only when one of them fails.
    async fn work(&self, work: &mut JoinSet<&'static str>, stop: CancellationToken) -> RunError {
        let namespace = &self.settings.namespace;
        let authority = match ca::load_or_create(&self.client, namespace).await {
            Ok(authority) => authority,
            Err(error) => return RunError::Authority(error),
        };
        let engine_root = match engine_key::load_or_create(&self.client, namespace).await {
            Ok(root) => root,
            Err(error) => return RunError::EngineKeys(error),
        };
        if authority.is_new {
            self.tell_of_new_root();
        }
        let pod_uid = Some(self.settings.pod_uid.clone()).filter(|uid| !uid.is_empty());
        let certificate = CertificateSource::from_authority(
            Arc::clone(&authority.certificates),
            Identity::Operator,
            pod_uid,
        );
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(error) => return RunError::Certificate(error),
        };
        let telemetry = Telemetry::new(Arc::clone(&self.metrics));
        let holder = self.settings.holder();
        let context = Context {
            client: self.client.clone(),
            budget: self.budget.clone(),
            clock: Clock::system(),
            settings: Arc::clone(&self.settings),
            stores: self.stores.clone(),
            telemetry: telemetry.clone(),
            events: Events::start(self.client.clone(), &holder, Arc::clone(&self.metrics)),
            metrics: Arc::clone(&self.metrics),
            client_keys: authority.client_keys.clone(),
            engine_root: engine_root.public(),
        };
        let collecting = telemetry::Collecting {
            stores: self.stores.clone(),
            telemetry,
            certificate,
            port: self.settings.grpc_port,
            metrics: Arc::clone(&self.metrics),
        };
        let collect = telemetry::collect(collecting, stop.clone());
        work.spawn(named("telemetry", collect));
        let keep = ca::keep(
            self.client.clone(),
            namespace.clone(),
            authority.clone(),
            AUTHORITY_INTERVAL,
            stop.clone(),
        );
        work.spawn(named("authority", keep));
        let sign = csr::run(context.clone(), authority.certificates, stop.clone());
        work.spawn(named("certificates", sign));
        let (client, namespace) = (self.client.clone(), namespace.clone());
        let keep = engine_key::keep(client, namespace, engine_root, stop.clone());
        work.spawn(named("engine keys", keep));
        for (name, controller) in controllers::all(&context, &stop) {
            work.spawn(named(name, controller));
        }
        match work.join_next().await {
            Some(Ok(name)) => RunError::Ended(name),
            // Its panic was logged.
            Some(Err(_)) | None => RunError::Ended("a task"),
        }
    }
}

impl Leading {
    /// Keys are derived from a root that was lost: each workload gets another one, and tells it by an event.
    fn tell_of_new_root(&self) {
        let has_key = |workload: &InferenceWorkload| {
            let status = workload.status.as_ref();
            status.is_some_and(|status| status.client_key.is_some())
        };
        let workloads = self.stores.workloads.state_filter(has_key).len();
        if workloads > 0 {
            let (secret, overlap) = (weir_crds::names::CA_SECRET, self.settings.key_overlap);
            tracing::error!(
                secret,
                workloads,
                ?overlap,
                "the root of client keys was lost: every workload gets a new key, the old ones stay valid for the overlap; restore the Secret to keep them"
            );
        }
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}
