//! What is known of one workload and of everything that it refers to, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use weir_crds::placement::Placement;
use weir_crds::usage::Usage;
use weir_crds::workload::{InferenceWorkloadSpec, Target};
use weir_crds::{
    GPUTier, InferencePlacementPolicy, InferencePriceBook, InferenceProvider, InferenceWorkload,
    ModelProfile,
};
use weir_operator_core::owner::Owner;
use weir_placement::{HourHistory, Millis, ObservedDemand, Utilization};

use super::moves::Acknowledgement;
use crate::clock::Witnessed;

/// What is known of one workload and of everything that it refers to. Nothing here was written; all of it was read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The present moment.
    pub now: Timestamp,
    /// What of the time before this leader has itself seen go by.
    pub witnessed: Witnessed,
    /// The workload.
    pub workload: Arc<InferenceWorkload>,
    /// The policy that it names.
    pub policy: Option<Arc<InferencePlacementPolicy>>,
    /// The profiles that it names, those that exist, and those that may stand in for them.
    pub models: BTreeMap<String, Arc<ModelProfile>>,
    /// The providers that it names, those that exist.
    pub providers: BTreeMap<String, Arc<InferenceProvider>>,
    /// The price books that those name.
    pub price_books: BTreeMap<String, Arc<InferencePriceBook>>,
    /// The tiers that it names, those that exist.
    pub tiers: BTreeMap<String, Arc<GPUTier>>,
    /// How busy those tiers are.
    pub utilization: BTreeMap<String, Utilization>,
    /// What exists in the cluster on its behalf.
    pub children: Children,
    /// What the gateways say of it.
    pub traffic: Traffic,
}

/// What exists in the cluster on behalf of a workload: what it controls in its namespace.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// NetworkPolicies.
    pub network_policies: Vec<Arc<NetworkPolicy>>,
    /// Pods.
    pub pods: Vec<Arc<Pod>>,
    /// What the cluster said last about mounting the volumes of a pod, by the pod's UID.
    pub mount_failures: BTreeMap<String, String>,
}

/// What the gateways say of a workload.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Whether every ready gateway has the present step.
    pub acknowledged: Acknowledgement,
    /// Whether every gateway has it, unready and terminating ones among them.
    pub settled: Acknowledgement,
    /// Since when every ready gateway could have been heard.
    pub hearing_since: Timestamp,
    /// Whether every ready gateway has the present client key.
    pub key_acknowledged: bool,
    /// By target.
    pub targets: BTreeMap<String, TargetTraffic>,
    /// Demand as far as it was metered.
    pub demand: Option<ObservedDemand>,
    /// Hours that are known.
    pub hours: Arc<HourHistory>,
    /// What was metered since the operator leads, to be added to what status has.
    pub usage: Option<Usage>,
}

impl Traffic {
    /// Where no gateway is asked: nothing is metered, and no step waits for one.
    pub fn unheard() -> Self {
        Self {
            acknowledged: Acknowledgement::All,
            settled: Acknowledgement::All,
            hearing_since: Timestamp::MIN,
            key_acknowledged: false,
            targets: BTreeMap::new(),
            demand: None,
            hours: Arc::default(),
            usage: None,
        }
    }
}

/// What the gateways say of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetTraffic {
    /// Requests since the move's first canary step.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Requests that run on it.
    pub in_flight: Option<u64>,
    /// When a request last came for it while it had no ready replica.
    pub woken: Option<Timestamp>,
    /// Ready gateways that have no engine of it, where it is local, by name.
    pub without_engine: Vec<String>,
    /// Time to first token at the 95th percentile.
    pub ttft_p95: Option<Millis>,
}

/// The targets of a spec, and after them the substitutes that a placement has.
pub fn targets(spec: &InferenceWorkloadSpec, placement: Option<&Placement>) -> Vec<Target> {
    let declared = |name: &str| spec.targets.iter().any(|target| target.name == name);
    let names = placement.into_iter().flat_map(names_in);
    let substitutes = names.filter(|name| !declared(name));
    let substitutes = substitutes.filter_map(|name| spec.target(name));
    spec.targets.iter().cloned().chain(substitutes).collect()
}

/// Every target that a placement names.
pub fn names_in(placement: &Placement) -> BTreeSet<&str> {
    let weights = placement.weights.iter();
    let mut names: BTreeSet<&str> = weights.map(|weight| weight.target.as_str()).collect();
    names.insert(&placement.target);
    if let Some(ongoing) = &placement.r#move {
        names.extend([ongoing.from.as_str(), ongoing.to.as_str()]);
    }
    names
}

impl Facts {
    /// The workload's UID; empty for an object that was never stored.
    pub fn uid(&self) -> &str {
        self.workload.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The workload's name.
    pub fn name(&self) -> &str {
        self.workload.metadata.name.as_deref().unwrap_or_default()
    }

    /// The workload's namespace.
    pub fn namespace(&self) -> &str {
        self.workload
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    /// The workload as the owner of its children.
    pub fn owner(&self) -> Owner {
        Owner::new(&self.workload)
    }

    /// Generation of the spec.
    pub fn generation(&self) -> i64 {
        self.workload.metadata.generation.unwrap_or_default()
    }

    /// The placement in status.
    pub fn placement(&self) -> Option<&Placement> {
        self.workload.status.as_ref()?.placement.as_ref()
    }

    /// The targets of the spec, and after them the substitutes that the placement has.
    pub fn targets(&self) -> Vec<Target> {
        targets(&self.workload.spec, self.placement())
    }

    /// Replicas that the Deployment of a target orders; `None` when there is none.
    pub fn existing_replicas(&self, target: &str) -> Option<i32> {
        let deployment = self.deployment(target)?;
        let spec = deployment.spec.as_ref();
        Some(spec.and_then(|spec| spec.replicas).unwrap_or(1))
    }

    /// The tier that the Deployment of a target was built for.
    pub fn existing_tier(&self, target: &str) -> Option<String> {
        let annotations = self.deployment(target)?.metadata.annotations.as_ref()?;
        annotations.get(super::build::ANNOTATION_TIER).cloned()
    }

    /// The Deployment of a target.
    pub fn deployment(&self, target: &str) -> Option<&Deployment> {
        let deployments = self.children.deployments.iter();
        deployments
            .filter(|each| super::labels::is_of(&each.metadata, target))
            .map(AsRef::as_ref)
            .next()
    }
}
