//! One gateway pod: what the cluster says of it, and what its present run reported.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weir_crds::names;
use weir_proto::Circuit;

use super::hours::Heard;
use crate::cli::Plane;
use crate::telemetry::counters::{CounterSums, RowKey};
use crate::telemetry::demand::Minutes;

pub(super) struct GatewayPod {
    pub plane: Plane,
    pub name: String,
    /// Takes new requests.
    pub ready: bool,
    /// When it last became ready, or ceased to be.
    pub ready_since: Option<Timestamp>,
    /// May still have requests: its process was started and has not ended.
    pub serving: bool,
    pub connected: bool,
    /// When its process started, in Unix seconds.
    pub started: Option<i64>,
    pub run: Option<Run>,
}

/// One run of a gateway's process.
pub(super) struct Run {
    pub boot_id: String,
    pub seq: u64,
    pub heard: Heard,
    /// The open stream has given the full state.
    pub synced: bool,
    pub acknowledged: HashMap<String, InForce>,
    pub rows: BTreeMap<RowKey, CounterSums>,
    pub minutes: BTreeMap<String, Minutes>,
    pub providers: BTreeMap<String, ProviderRow>,
}

/// A route that a gateway has in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InForce {
    pub generation: i64,
    pub step: i64,
    pub decision_id: String,
    /// Labels of the local targets that it has a ready engine for, if it says.
    pub reachable: Option<BTreeSet<String>>,
    /// Hash of the present client key in hexadecimal; empty where it has none or does not say.
    pub key: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ProviderRow {
    pub circuit: Option<Circuit>,
    pub ttft_ms: Option<f64>,
    pub error_percent: Option<f64>,
    pub last_contact: Option<Timestamp>,
    pub unusable: Option<String>,
    pub failure: Option<String>,
}

impl GatewayPod {
    /// The run whose state is known to be present.
    pub fn live(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| self.connected && run.synced)
    }

    /// Whether the cluster says the same of both.
    pub fn looks_like(&self, other: &Self) -> bool {
        self.ready == other.ready && self.serving == other.serving && self.plane == other.plane
    }
}

/// UID and state of a gateway pod; `None` for other pods.
pub(super) fn describe(pod: &Pod) -> Option<(String, GatewayPod)> {
    let labels = pod.labels();
    let is_gateway =
        labels.get(names::LABEL_COMPONENT).map(String::as_str) == Some(names::COMPONENT_GATEWAY);
    if !is_gateway {
        return None;
    }
    let plane = match labels.get(names::LABEL_PLANE)?.as_str() {
        "local" => Plane::Local,
        "cloud" => Plane::Cloud,
        _ => return None,
    };
    let status = pod.status.clone().unwrap_or_default();
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let started = status.pod_ip.is_some_and(|ip| !ip.is_empty());
    // Between restarts no process serves, and the next one starts without routes.
    let between_restarts = status.container_statuses.as_ref().is_some_and(|all| {
        !all.is_empty()
            && all
                .iter()
                .all(|c| c.state.as_ref().is_some_and(|s| s.running.is_none()))
    });
    let starts = status.container_statuses.iter().flatten().map(|container| {
        let running = container.state.as_ref()?.running.as_ref()?;
        Some(running.started_at.as_ref()?.0.as_second())
    });
    // The latest of all containers; unknown where one does not say.
    let process_start = starts
        .collect::<Option<Vec<i64>>>()
        .and_then(|all| all.into_iter().max());
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|c| c.type_ == "Ready");
    let ready = condition.is_some_and(|c| c.status == "True");
    let serving = started && !ended && !between_restarts;
    let gateway = GatewayPod {
        plane,
        name: pod.name_any(),
        ready: ready && serving && pod.metadata.deletion_timestamp.is_none(),
        ready_since: condition.and_then(|c| Some(c.last_transition_time.as_ref()?.0)),
        serving,
        connected: false,
        started: process_start,
        run: None,
    };
    Some((pod.uid()?, gateway))
}
