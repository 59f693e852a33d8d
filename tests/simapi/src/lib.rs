//! A Kubernetes API server in the test's own process, under `kube::Client`.
//!
//! ```no_run
//! # async fn example() -> Result<(), kube::Error> {
//! use weir_simapi::{Fault, SimApi};
//! let api = SimApi::builder().namespace("weir-system").build();
//! api.on_request(|request| match (request.verb.as_str(), request.resource.as_str()) {
//!     ("apply", "deployments") => Fault::RespondAfterCommit(504),
//!     _ => Fault::Pass,
//! });
//! let client = api.client("operator");
//! let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::all(client);
//! pods.list(&Default::default()).await?;
//! assert_eq!(api.history().len(), 1);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod core;
mod defaults;
mod delete;
pub mod deployments;
mod discovery;
mod fault;
mod fields;
mod kinds;
mod managed;
mod mergeable;
mod preconditions;
mod quantity;
mod read;
mod request;
mod rules;
mod schema;
mod selector;
mod service;
mod status;
mod store;
mod typed;
mod watch;
mod write;

pub use crate::core::{AdmissionHook, Answer, Clock, Identity};
pub use deployments::{FakeDeploymentController, Outcome};
pub use fault::{Fault, Record};
pub use request::RequestInfo;
pub use service::{Broken, FaultHook, SimService};
pub use status::ApiError;

use crate::core::Core;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use service::Shared;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Makes a server.
pub struct Builder {
    crds: Vec<CustomResourceDefinition>,
    namespaces: Vec<String>,
    clock: Clock,
    collects_garbage: bool,
    bookmark_every: Duration,
}

impl Builder {
    /// Serves the kinds of these definitions, with their schemas, defaults and CEL rules.
    #[must_use]
    pub fn crds(mut self, crds: impl IntoIterator<Item = CustomResourceDefinition>) -> Self {
        self.crds.extend(crds);
        self
    }

    /// Has this namespace from the start, beside `default` and the `kube-` ones.
    #[must_use]
    pub fn namespace(mut self, name: &str) -> Self {
        self.namespaces.push(name.to_owned());
        self
    }

    /// Tells the time by this function instead of the wall clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> jiff::Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Whether dependents go with their owners at once. Default: only when `collect_garbage` is called.
    #[must_use]
    pub fn garbage_collection(mut self, on: bool) -> Self {
        self.collects_garbage = on;
        self
    }

    /// How often watches that allow them get bookmarks. Default: a minute of the tokio clock.
    #[must_use]
    pub fn bookmark_every(mut self, interval: Duration) -> Self {
        self.bookmark_every = interval;
        self
    }

    /// The server.
    pub fn build(self) -> SimApi {
        let mut core = Core::new(&self.crds, self.clock);
        core.collects_garbage = self.collects_garbage;
        for namespace in &self.namespaces {
            core.add_namespace(namespace);
        }
        SimApi(Arc::new(Shared::new(core, self.bookmark_every)))
    }
}

/// The server. Clones are the same server.
#[derive(Clone)]
pub struct SimApi(Arc<Shared>);

impl SimApi {
    /// Starts with built-in kinds, the wall clock and no garbage collection.
    pub fn builder() -> Builder {
        Builder {
            crds: Vec::new(),
            namespaces: Vec::new(),
            clock: Arc::new(jiff::Timestamp::now),
            collects_garbage: false,
            bookmark_every: Duration::from_secs(60),
        }
    }

    /// The server as a `tower::Service`; `actor` names the asker in faults, records and, by default, managed fields.
    pub fn service(&self, actor: &str) -> SimService {
        SimService {
            shared: self.0.clone(),
            actor: actor.to_owned(),
        }
    }

    /// A client whose default namespace is `default`.
    pub fn client(&self, actor: &str) -> kube::Client {
        kube::Client::new(self.service(actor), "default")
    }

    /// A client whose CertificateSigningRequests carry this identity.
    pub fn client_as(&self, actor: &str, identity: Identity) -> kube::Client {
        self.0
            .with_core(|core| core.identities.insert(actor.to_owned(), identity));
        self.client(actor)
    }

    /// Decides what becomes of each request from now on.
    pub fn on_request(&self, hook: impl Fn(&RequestInfo) -> Fault + Send + Sync + 'static) {
        *self.0.hook.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Lets every request pass again.
    pub fn clear_faults(&self) {
        *self.0.hook.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks at every object before it is stored: the request, the new object (null for deletes), the old one (null for creates).
    pub fn on_admission(
        &self,
        hook: impl Fn(&RequestInfo, &Value, &Value) -> Result<(), ApiError> + Send + Sync + 'static,
    ) {
        self.0
            .with_core(|core| core.admission = Some(Arc::new(hook)));
    }

    /// Everything that was asked so far, in order.
    pub fn history(&self) -> Vec<Record> {
        self.0.records().clone()
    }

    /// Requests that changed the store, in order.
    pub fn writes(&self) -> Vec<Record> {
        self.0
            .records()
            .iter()
            .filter(|record| record.changed())
            .cloned()
            .collect()
    }

    /// Forgets the record of requests.
    pub fn clear_history(&self) {
        self.0.records().clear();
    }

    /// Serves a request without faults and without recording it, as a controller of the cluster itself would make it.
    pub fn handle(&self, request: &RequestInfo) -> Answer {
        self.0.with_core(|core| core.handle(request))
    }

    /// Creates an object from its JSON, status included.
    ///
    /// # Errors
    /// What the server answers, or 404 for a kind that it does not know.
    pub fn seed(&self, object: &Value) -> Result<Value, ApiError> {
        deployments::seed(self, object)
    }

    /// An object by `plural.group`, namespace and name.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = store::Key {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.0
            .with_core(|core| core.store.get(&key).map(|object| (**object).clone()))
    }

    /// Objects of `plural.group` in a namespace, or in all when it is empty.
    pub fn objects(&self, resource: &str, namespace: &str) -> Vec<Value> {
        let found = self.0.with_core(|core| core.store.of(resource, namespace));
        found.iter().map(|object| (**object).clone()).collect()
    }

    /// Those of them that `keep` keeps: only these are copied.
    pub fn objects_where(
        &self,
        resource: &str,
        namespace: &str,
        keep: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let found = self.0.with_core(|core| core.store.of(resource, namespace));
        let kept = found.iter().filter(|object| keep(object));
        kept.map(|object| (**object).clone()).collect()
    }

    /// How many of them `holds` is true of.
    pub fn count_where(
        &self,
        resource: &str,
        namespace: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> usize {
        let found = self.0.with_core(|core| core.store.of(resource, namespace));
        found.iter().filter(|object| holds(object)).count()
    }

    /// The latest revision of the store.
    pub fn revision(&self) -> u64 {
        self.0.with_core(|core| core.store.revision())
    }

    /// Resolves once the store has passed this revision.
    pub async fn changed_since(&self, revision: u64) -> u64 {
        let mut signal = self.0.signal.subscribe();
        loop {
            let now = self.revision();
            if now > revision || signal.changed().await.is_err() {
                return now;
            }
        }
    }

    /// Forgets history: lists and watches from older resourceVersions are answered with 410.
    pub fn compact(&self) {
        self.0.with_core(|core| core.store.compact());
    }

    /// Ends every open watch with a 410 event.
    pub fn expire_watches(&self) {
        self.0.signal.send_modify(|signal| signal.expirations += 1);
    }

    /// Ends every open watch without a word.
    pub fn cut_watches(&self) {
        self.0.signal.send_modify(|signal| signal.cuts += 1);
    }

    /// Holds back the events of every watch, open or to come, until it is called with false.
    pub fn freeze_watches(&self, frozen: bool) {
        self.0.signal.send_modify(|signal| signal.frozen = frozen);
    }

    /// Removes what is left of owners that are gone.
    pub fn collect_garbage(&self) {
        self.0.with_core(Core::collect_garbage);
    }

    /// Whether dependents go with their owners at once.
    pub fn set_garbage_collection(&self, on: bool) {
        self.0.with_core(|core| core.collects_garbage = on);
    }
}
