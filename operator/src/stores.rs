//! What the cluster looks like: one reflector for each kind, shared by all controllers, and a stream of changes.

mod changes;
mod index;
mod reflect;

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};
use tokio::task::JoinSet;
use weir_crds::names;
use weir_crds::{
    GPUNode, GPUTier, InferenceDemand, InferencePlacementPolicy, InferencePriceBook,
    InferenceProvider, InferenceWorkload, ModelProfile,
};
use weir_operator_core::owner::Owner;

use crate::metrics::Metrics;
pub use changes::{Change, Changes, Kind, Trigger};
pub use index::Indexed;
use reflect::Reflecting;

/// Shared views of the cluster; clones are cheap.
#[derive(Clone)]
pub struct Stores {
    /// All InferenceWorkloads.
    pub workloads: Store<InferenceWorkload>,
    /// All InferenceProviders.
    pub providers: Store<InferenceProvider>,
    /// All InferencePriceBooks.
    pub price_books: Store<InferencePriceBook>,
    /// All GPUTiers.
    pub tiers: Store<GPUTier>,
    /// All ModelProfiles.
    pub models: Store<ModelProfile>,
    /// All InferencePlacementPolicies.
    pub policies: Store<InferencePlacementPolicy>,
    /// All GPUNodes, which the agents write.
    pub gpu_nodes: Store<GPUNode>,
    /// All InferenceDemands: what was known of demand before this replica led.
    pub demands: Store<InferenceDemand>,
    /// Deployments with the operator's label, by the workload that controls them.
    pub deployments: Indexed<Deployment, Owner>,
    /// Services with the operator's label, by the workload that controls them.
    pub services: Indexed<Service, Owner>,
    /// NetworkPolicies with the operator's label, by the workload that controls them.
    pub network_policies: Indexed<NetworkPolicy, Owner>,
    /// Pods with the operator's label, whole, by the workload that they serve.
    pub engine_pods: Indexed<Pod, Owner>,
    /// Gateway and agent pods of the release namespace.
    pub component_pods: Store<Pod>,
    /// All nodes, without what is not needed for capacity.
    pub nodes: Store<Node>,
    /// All pods that have not ended, reduced to node, phase, requests, labels and owners: for capacity only.
    pub pods: Store<Pod>,
    /// Certificate requests for our signer.
    pub signing_requests: Store<CertificateSigningRequest>,
    by_uid: Indexed<InferenceWorkload, String>,
    changes: changes::Sender,
    ready: Arc<[Readiness]>,
}

type Readiness = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

impl Stores {
    /// Starts to watch. The reflectors run as long as the set of tasks lives.
    pub fn start(client: &Client, namespace: &str, metrics: &Arc<Metrics>) -> (Self, JoinSet<()>) {
        let mut reflecting = Reflecting::new(Arc::clone(metrics));
        let all = || Api::all(client.clone());
        let children = format!("{}={}", names::LABEL_MANAGED_BY, names::MANAGED_BY_OPERATOR);
        let components = format!(
            "{} in ({},{})",
            names::LABEL_COMPONENT,
            names::COMPONENT_GATEWAY,
            names::COMPONENT_AGENT
        );
        let in_release = Api::namespaced(client.clone(), namespace);
        let live = "status.phase!=Succeeded,status.phase!=Failed";
        let signer = format!("spec.signerName={}", names::SIGNER_NAME);
        let config = reflect::config;
        let by_uid = reflecting.ours_by(
            Kind::Workload,
            Api::all(client.clone()),
            |workload: &InferenceWorkload| workload.metadata.uid.clone(),
        );
        let stores = Self {
            workloads: by_uid.store(),
            by_uid,
            providers: reflecting.ours(Kind::Provider, Api::all(client.clone())),
            price_books: reflecting.ours(Kind::PriceBook, Api::all(client.clone())),
            tiers: reflecting.ours(Kind::Tier, Api::all(client.clone())),
            models: reflecting.ours(Kind::Model, Api::all(client.clone())),
            policies: reflecting.ours(Kind::Policy, Api::all(client.clone())),
            gpu_nodes: reflecting.ours(Kind::GpuNode, Api::all(client.clone())),
            demands: reflecting.ours(Kind::Demand, Api::all(client.clone())),
            deployments: reflecting.indexed(
                Kind::Deployment,
                Api::all(client.clone()),
                config().labels(&children),
                (reflect::strip_deployment, Owner::of),
            ),
            services: reflecting.indexed(
                Kind::Service,
                Api::all(client.clone()),
                config().labels(&children),
                (reflect::strip_service, Owner::of),
            ),
            network_policies: reflecting.indexed(
                Kind::NetworkPolicy,
                Api::all(client.clone()),
                config().labels(&children),
                (reflect::strip_network_policy, Owner::of),
            ),
            engine_pods: reflecting.indexed(
                Kind::EnginePod,
                all(),
                config().labels(&children),
                (reflect::strip_own_pod, Owner::of_pod),
            ),
            component_pods: reflecting.built_in(
                Kind::ComponentPod,
                in_release,
                config().labels(&components),
                reflect::strip_own_pod,
            ),
            nodes: reflecting.built_in(
                Kind::Node,
                Api::all(client.clone()),
                config(),
                reflect::strip_node,
            ),
            pods: reflecting.built_in(
                Kind::Pod,
                all(),
                config().fields(live),
                reflect::strip_foreign_pod,
            ),
            signing_requests: reflecting.built_in(
                Kind::SigningRequest,
                Api::all(client.clone()),
                config().fields(&signer),
                reflect::strip_signing_request,
            ),
            changes: reflecting.changes.clone(),
            ready: Arc::from(std::mem::take(&mut reflecting.ready)),
        };
        (stores, reflecting.tasks)
    }

    /// Returns when every kind was listed once.
    pub async fn wait_ready(&self) {
        join_all(self.ready.iter().map(|ready| ready())).await;
    }

    /// Changes of these kinds from now on.
    pub fn changes(&self, kinds: impl IntoIterator<Item = Kind>) -> Changes {
        self.changes.subscribe(kinds)
    }

    /// The workload with this UID.
    pub fn workload_by_uid(&self, uid: &str) -> Option<Arc<InferenceWorkload>> {
        self.by_uid.of(&uid.to_owned()).into_iter().next()
    }

    /// An object of the cluster scope, or of a namespace, by name.
    pub fn get<K>(store: &Store<K>, namespace: Option<&str>, name: &str) -> Option<Arc<K>>
    where
        K: kube::Resource<DynamicType = ()> + Clone + 'static,
    {
        let mut reference = ObjectRef::<K>::new(name);
        if let Some(namespace) = namespace {
            reference = reference.within(namespace);
        }
        store.get(&reference)
    }
}
