//! Leader election over a Lease, and the gate that lets only a leader write.
//!
//! The Lease is replaced with its resourceVersion, so that of two that try only one succeeds. Whether another leader
//! still lives is told by this process's monotonic clock alone: wall clocks are written, and never compared. A leader
//! that could not renew for the renew deadline stops writing by itself, before anyone else may begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::Metrics;

/// Duration in a Lease without a holder that says that its leader gave it up.
const RELEASED_SECONDS: i32 = 1;

/// Open while this replica leads and renewed in time; closes by itself. Clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<GateState>,
}

struct GateState {
    base: Instant,
    /// Microseconds after `base` at which the gate closes; 0 is closed.
    until: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Closed.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(GateState {
                base: Instant::now(),
                until: AtomicU64::new(0),
            }),
        }
    }

    /// Whether a write may be sent now.
    pub fn is_open(&self) -> bool {
        let now = self.shared.base.elapsed().as_micros();
        now < u128::from(self.shared.until.load(Ordering::Acquire))
    }

    /// Lets writes pass until then.
    pub fn open_until(&self, deadline: Instant) {
        let micros = deadline
            .saturating_duration_since(self.shared.base)
            .as_micros();
        let until = u64::try_from(micros).unwrap_or(u64::MAX);
        self.shared.until.store(until, Ordering::Release);
    }

    /// Lets nothing pass.
    pub fn close(&self) {
        self.shared.until.store(0, Ordering::Release);
    }
}

/// How a replica takes part in the election.
#[derive(Clone, Debug)]
pub struct ElectionOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this replica is.
    pub holder: String,
    /// How long others wait for a leader that does not renew.
    pub lease_duration: Duration,
    /// How long a leader that cannot renew goes on.
    pub renew_deadline: Duration,
    /// Pause between attempts.
    pub retry_period: Duration,
}

/// Why leadership ended.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// The Lease could not be renewed for the renew deadline.
    #[error("the lease could not be renewed for {0:?}")]
    NotRenewed(Duration),
    /// Someone else has it.
    #[error("the lease is held by {0}")]
    Taken(String),
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("lease cannot be read or written")]
    Api(#[source] Box<kube::Error>),
    #[error("held by {0}")]
    Held(String),
}

/// Takes part in an election.
pub struct Election {
    api: Api<Lease>,
    options: ElectionOptions,
    gate: Gate,
    metrics: Arc<Metrics>,
    /// What the Lease said last, and when it began to say so.
    observed: Option<(LeaseSpec, Instant)>,
    /// The Lease as we last wrote it.
    held: Option<Lease>,
}

impl Election {
    /// Takes part with a client that has timeouts and no gate.
    pub fn new(
        client: Client,
        options: ElectionOptions,
        gate: Gate,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &options.namespace),
            options,
            gate,
            metrics,
            observed: None,
            held: None,
        }
    }

    /// Returns when this replica leads; the gate is open then.
    pub async fn acquire(&mut self) {
        let mut reported = String::new();
        loop {
            match self.attempt().await {
                Ok(()) => {
                    tracing::info!(holder = %self.options.holder, "leading");
                    self.metrics.leader.set(1);
                    self.count("acquired");
                    return;
                }
                Err(error) => {
                    let text = crate::queue::chain(&error);
                    if text != reported {
                        tracing::info!(reason = %text, "not leading");
                        reported = text;
                    }
                }
            }
            let jitter = 0.8 + 0.4 * rand::random::<f64>();
            sleep(self.options.retry_period.mul_f64(jitter)).await;
        }
    }

    /// Renews until leadership is lost; the gate is closed then.
    pub async fn hold(&mut self) -> Lost {
        let deadline = self.options.renew_deadline;
        let mut renewed = Instant::now();
        let lost = loop {
            sleep(self.options.retry_period).await;
            let began = Instant::now();
            let left = (renewed + deadline).saturating_duration_since(began);
            match timeout(left, self.attempt()).await {
                Ok(Ok(())) => renewed = began,
                Ok(Err(AttemptError::Held(by))) => break Lost::Taken(by),
                Ok(Err(error)) => {
                    tracing::warn!(error = %crate::queue::chain(&error), "lease not renewed");
                }
                Err(_) => tracing::warn!("renewing the lease timed out"),
            }
            if renewed.elapsed() >= deadline {
                break Lost::NotRenewed(deadline);
            }
        };
        self.gate.close();
        self.metrics.leader.set(0);
        self.count("lost");
        tracing::warn!(reason = %lost, "no longer leading");
        lost
    }

    /// Gives the Lease up, so that another replica need not wait; for a leader that ends in order.
    pub async fn release(&mut self) {
        self.gate.close();
        self.metrics.leader.set(0);
        let Some(held) = self.held.take() else {
            return;
        };
        let mut result = self.give_up(held).await;
        // A renewal that was cut short may have been committed.
        if matches!(&result, Err(AttemptError::Api(error)) if is_refused(error))
            && let Ok(Some(now)) = self.api.get_opt(&self.options.name).await
        {
            result = self.give_up(now).await;
        }
        match result {
            Ok(()) => tracing::info!("lease released"),
            Err(error) => {
                tracing::warn!(error = %crate::queue::chain(&error), "lease not released");
            }
        }
    }

    /// Writes into the Lease that it has no holder, if that is us.
    async fn give_up(&self, mut lease: Lease) -> Result<(), AttemptError> {
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.take().unwrap_or_default();
        if holder != self.options.holder {
            return Err(AttemptError::Held(holder));
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(RELEASED_SECONDS);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.replace(&lease).await.map(drop)
    }

    fn count(&self, to: &str) {
        self.metrics
            .leader_transitions
            .with_label_values(&[to])
            .inc();
    }

    /// Takes or renews the Lease once. The gate is open from the beginning of the attempt for the renew deadline.
    async fn attempt(&mut self) -> Result<(), AttemptError> {
        let began = Instant::now();
        let written = match self.held.take() {
            Some(held) => match self.renew(held).await {
                Err(AttemptError::Api(error)) if is_refused(&error) => self.take(began).await?,
                result => result?,
            },
            None => self.take(began).await?,
        };
        self.held = Some(written);
        self.gate.open_until(began + self.options.renew_deadline);
        Ok(())
    }

    /// Replaces the Lease as we last wrote it. What fails on the way is tried again from there.
    async fn renew(&mut self, held: Lease) -> Result<Lease, AttemptError> {
        let mut next = held.clone();
        next.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        self.held = Some(held);
        let written = self.replace(&next).await?;
        Ok(written)
    }

    /// Reads the Lease and takes it when it is free, ours, or its holder has not renewed for long enough.
    async fn take(&mut self, now: Instant) -> Result<Lease, AttemptError> {
        self.held = None;
        let found = self.api.get_opt(&self.options.name).await.map_err(api)?;
        let Some(mut lease) = found else {
            // Whoever held the Lease that was deleted writes on until its renewal fails.
            if let Some((before, since)) = &self.observed
                && now - *since < self.patience(before)
            {
                let holder = before.holder_identity.clone().unwrap_or_default();
                if holder != self.options.holder {
                    return Err(AttemptError::Held(holder));
                }
            }
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.options.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(0)),
            };
            return self
                .api
                .create(&PostParams::default(), &lease)
                .await
                .map_err(api);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let since = match &self.observed {
            Some((before, since)) if *before == spec => *since,
            _ => now,
        };
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let patience = self.patience(&spec);
        let ours = holder == self.options.holder;
        let transitions = spec.lease_transitions.unwrap_or(0);
        self.observed = Some((spec, since));
        let free = ours || now - since >= patience;
        if !free {
            return Err(AttemptError::Held(holder));
        }
        lease.spec = Some(self.spec(transitions.saturating_add(i32::from(!ours))));
        self.replace(&lease).await
    }

    /// How long a Lease that says this must stay as it is before it may be taken: not at all once it was released.
    fn patience(&self, spec: &LeaseSpec) -> Duration {
        let declared = spec.lease_duration_seconds.unwrap_or(0);
        let nobody = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        if nobody && declared == RELEASED_SECONDS {
            return Duration::ZERO;
        }
        Duration::from_secs(declared.max(1).unsigned_abs().into()).max(self.options.lease_duration)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let seconds = self.options.lease_duration.as_secs_f64().ceil().max(1.0);
        LeaseSpec {
            holder_identity: Some(self.options.holder.clone()),
            lease_duration_seconds: Some(seconds as i32),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Fails with a conflict when the Lease is not the one that was read.
    async fn replace(&self, lease: &Lease) -> Result<Lease, AttemptError> {
        self.api
            .replace(&self.options.name, &PostParams::default(), lease)
            .await
            .map_err(api)
    }
}

fn api(error: kube::Error) -> AttemptError {
    AttemptError::Api(Box::new(error))
}

/// Whether the server refused the write: the Lease may be another than the one we wrote, or gone. (What a replace of
/// an object that is gone answers differs by kind and version of the server.)
fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(_))
}
