//! What agents and gateways report, and the questions that controllers ask of it. What is not known is `None`.

mod agents;
mod collector;
mod counters;
mod demand;
mod gateways;
mod latency;
mod planes;
mod streams;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use weir_placement::{HourHistory, Millis, ObservedDemand};
use weir_proto::{AgentReport, GatewayReport};

use crate::cli::Plane;
use crate::metrics::Metrics;

pub use agents::{EngineObservation, Heard, Processor, REPORT_TTL};
pub use collector::{Collecting, collect};
pub use counters::CounterSums;
pub use gateways::{Acknowledged, ProviderObservation, WorkloadUsage};
pub use streams::{TelemetryChange, TelemetryChanges};

/// Everything that is known; clones share it. Empty on a replica that does not lead.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    /// When this replica began to listen.
    since: Timestamp,
    state: Mutex<State>,
    changes: streams::Sender,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    agents: agents::Agents,
    gateways: gateways::Gateways,
}

impl Telemetry {
    /// Knows nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self::listening_since(metrics, Timestamp::now())
    }

    /// The same, listening since an earlier moment.
    pub fn listening_since(metrics: Arc<Metrics>, since: Timestamp) -> Self {
        Self {
            inner: Arc::new(Inner {
                since,
                state: Mutex::default(),
                changes: streams::Sender::new(),
                metrics,
            }),
        }
    }

    /// Never held across an await. A panic elsewhere leaves at worst one report half applied.
    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, changes: Vec<TelemetryChange>) {
        for change in changes {
            self.inner.changes.send(change);
        }
    }

    /// What changed from now on: acknowledgements, wake-ups, drained targets, circuits, agents that came or fell silent.
    pub fn subscribe(&self) -> TelemetryChanges {
        self.inner.changes.subscribe()
    }

    // ---- routes ----

    /// Whether every ready gateway pod of the plane, at least one, has a state at least as new in force.
    pub fn acknowledged(
        &self,
        plane: Plane,
        uid: &str,
        generation: i64,
        step: i64,
    ) -> Acknowledged {
        self.state()
            .gateways
            .acknowledged(plane, uid, (generation, step), false)
    }

    /// The same of every pod that may still serve: unready and terminating ones too. Before a target is released.
    pub fn acknowledged_by_all_pods(
        &self,
        plane: Plane,
        uid: &str,
        generation: i64,
        step: i64,
    ) -> Acknowledged {
        self.state()
            .gateways
            .acknowledged(plane, uid, (generation, step), true)
    }

    /// Since when every ready gateway of the plane could have been heard: since this replica listens, or since the last of
    /// those that are not heard became ready.
    pub fn hearing_since(&self, plane: Plane) -> Timestamp {
        let unheard = self.state().gateways.unheard_since(plane);
        unheard.map_or(self.inner.since, |at| at.max(self.inner.since))
    }

    /// Whether every ready gateway pod of the plane, at least one, accepts this client key as the present one.
    pub fn key_acknowledged(&self, plane: Plane, uid: &str, sha256: &str) -> bool {
        self.state().gateways.key_acknowledged(plane, uid, sha256)
    }

    /// What the gateways counted for a target since this step was in force, over all pods and their restarts.
    pub fn counters_since(&self, uid: &str, target: &str, step: i64) -> CounterSums {
        self.state().gateways.counters_since(uid, target, step)
    }

    /// Ready gateways of the plane that know the workload and have no engine of a local target, by name.
    pub fn without_engine(&self, plane: Plane, uid: &str, target: &str) -> Vec<String> {
        self.state().gateways.without_engine(plane, uid, target)
    }

    /// Requests under way on a target; `None` while a gateway that may serve the workload is not connected.
    pub fn in_flight(&self, plane: Plane, uid: &str, target: &str) -> Option<u64> {
        self.state().gateways.in_flight(plane, uid, target)
    }

    /// Time to first token that 95 % of a target's requests of the last ten minutes stayed under.
    ///
    /// `None` with fewer than 20 requests.
    pub fn ttft_p95(&self, uid: &str, target: &str) -> Option<Millis> {
        self.state().gateways.ttft_p95(uid, target, Instant::now())
    }

    /// The same for the requests since this step was in force.
    pub fn ttft_p95_since(&self, uid: &str, target: &str, step: i64) -> Option<Millis> {
        latency::p95(&self.counters_since(uid, target, step).ttft_buckets)
    }

    /// When a gateway last asked for a target that is asleep.
    pub fn wake_requested(&self, uid: &str, target: &str) -> Option<Timestamp> {
        self.state().gateways.wake_requested(uid, target)
    }

    // ---- demand ----

    /// All that was metered for a workload since this replica leads, and before as far as gateways remember.
    /// `None` without any report on it.
    pub fn usage(&self, uid: &str) -> Option<WorkloadUsage> {
        self.state().gateways.usage(uid)
    }

    /// Demand of the last day, extrapolated to a month. Zero when no request came; `None` without any report.
    pub fn demand(&self, uid: &str, now: Timestamp) -> Option<ObservedDemand> {
        self.state().gateways.demand(uid, now)
    }

    /// Hours of a workload that are known: every gateway that served in them was heard, or told of them later. An hour
    /// without traffic is zero; one that is not known is not there. `recorded` gives what was known before this replica
    /// led, and is asked once for a workload.
    pub fn hours(
        &self,
        plane: Plane,
        uid: &str,
        (created, now): (Timestamp, Timestamp),
        recorded: impl FnOnce() -> HourHistory,
    ) -> Arc<HourHistory> {
        let gateways = &mut self.state().gateways;
        gateways.hours(uid, plane, (created, now), recorded)
    }

    /// When a request of the workload was last metered, to the minute; `None` when none is remembered.
    pub fn last_request(&self, uid: &str) -> Option<Timestamp> {
        self.state().gateways.last_request(uid)
    }

    // ---- providers, nodes, engines ----

    /// What the gateways of the cloud plane know of a provider.
    pub fn provider(&self, name: &str) -> Option<ProviderObservation> {
        self.state().gateways.provider(name)
    }

    /// What the agent of a node says of its processors or GPUs; `None` while it is silent.
    pub fn heard(&self, node: &str, processor: Processor) -> Option<Heard> {
        self.state().agents.heard(node, processor, Instant::now())
    }

    /// What an engine last told the agent of its node; `None` when that is too old. What agents of other nodes say of it is
    /// not heard.
    pub fn engine(&self, node: &str, pod_uid: &str) -> Option<EngineObservation> {
        self.state().agents.engine(node, pod_uid, Instant::now())
    }

    // ---- what the collectors put in; public for tests of controllers ----

    /// The gateway pods that exist now. What pods that are gone had counted is kept.
    pub fn set_gateway_pods<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) {
        let changes = self.state().gateways.set_pods(pods);
        self.announce(changes);
    }

    /// Which plane serves a workload: what gateways of the other one say of it is dropped.
    pub fn set_plane(&self, uid: &str, plane: Plane) {
        self.state().gateways.set_plane(uid, plane);
    }

    /// A stream to this gateway pod opened or broke.
    pub fn gateway_connected(&self, pod_uid: &str, connected: bool) {
        let changes = self.state().gateways.connected(pod_uid, connected);
        self.announce(changes);
    }

    /// A report of this gateway pod. False when it was dropped as a whole.
    pub fn gateway_report(&self, pod_uid: &str, report: GatewayReport) -> bool {
        let metrics = &self.inner.metrics;
        let (accepted, changes) = self.state().gateways.report(
            pod_uid,
            report,
            (Instant::now(), Timestamp::now()),
            &mut |reason| metrics.dropped(reason),
        );
        self.announce(changes);
        accepted
    }

    /// A report of the agent on this node. False when it was dropped as a whole.
    pub fn agent_report(&self, node: &str, report: AgentReport) -> bool {
        let metrics = &self.inner.metrics;
        let (accepted, changes) =
            self.state()
                .agents
                .report(node, report, Instant::now(), &mut |reason| {
                    metrics.dropped(reason)
                });
        self.announce(changes);
        accepted
    }

    /// Announces agents whose last report has become too old; called every second.
    pub fn expire(&self) {
        let changes = self.state().agents.expire(Instant::now());
        self.announce(changes);
    }

    /// Forgets workloads that are gone.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.state().gateways.retain(exists);
    }
}
