//! One task for each kind: watch, keep what is needed, put it into the store, announce the change.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Container, Node, Pod, PodSpec, PodStatus, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{Config, DefaultBackoff, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use weir_crds::names;

use super::Indexed;
use super::changes::{Change, Kind, Sender, Trigger};
use crate::metrics::Metrics;

/// A half-open watch is blind for no longer than this many seconds.
const WATCH_SECONDS: u32 = 60;
const PAGE: u32 = 500;

/// The watch that every kind uses, before its selectors.
pub(super) fn config() -> Config {
    Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

/// Takes away what is not needed.
type Strip<K> = fn(&mut K);
/// Reads off an object what it is found by.
type KeyOf<K, Key> = fn(&K) -> Option<Key>;

/// Reflectors under construction.
pub(super) struct Reflecting {
    pub changes: Sender,
    pub tasks: JoinSet<()>,
    pub ready: Vec<super::Readiness>,
    metrics: Arc<Metrics>,
}

impl Reflecting {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            changes: Sender::new(),
            tasks: JoinSet::new(),
            ready: Vec::new(),
            metrics,
        }
    }

    /// A kind of our own: an object that cannot be decoded is counted, and does not stop the others.
    pub fn ours<K>(&mut self, kind: Kind, api: Api<DeserializeGuard<K>>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = store::<K>();
        let events = self.good(kind, api, reader.clone());
        self.run(kind, reader, writer, events)
    }

    /// The same, and its objects are also found by the key that `key_of` reads off them.
    pub fn ours_by<K, Key>(
        &mut self,
        kind: Kind,
        api: Api<DeserializeGuard<K>>,
        key_of: KeyOf<K, Key>,
    ) -> Indexed<K, Key>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        Key: Clone + Eq + Hash + Send + Sync + 'static,
    {
        let (reader, mut writer) = store::<K>();
        let indexed = Indexed::new(reader.clone(), key_of);
        let index = indexed.clone();
        let events = self.good(kind, api, reader.clone());
        self.follow(kind, reader, events, move |event| {
            writer.apply_watcher_event(event);
            index.apply(event);
        });
        indexed
    }

    /// What can be decoded; `known` has the last good objects.
    fn good<K>(
        &self,
        kind: Kind,
        api: Api<DeserializeGuard<K>>,
        known: Store<K>,
    ) -> impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send + use<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let metrics = Arc::clone(&self.metrics);
        watcher(api, config())
            .backoff(DefaultBackoff::default())
            .try_filter_map(move |event| {
                let decoded = decoded(event, &known, kind, &metrics);
                std::future::ready(Ok(decoded))
            })
            .map_ok(|event| event.modify(|object| object.meta_mut().managed_fields = None))
    }

    /// A kind of Kubernetes, reduced by `strip`.
    pub fn built_in<K>(
        &mut self,
        kind: Kind,
        api: Api<K>,
        config: Config,
        strip: fn(&mut K),
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = store::<K>();
        let events = watcher(api, config)
            .backoff(DefaultBackoff::default())
            .map_ok(move |event| event.modify(strip));
        self.run(kind, reader, writer, events)
    }

    /// The same, and its objects are also found by the key that `key_of` reads off them.
    pub fn indexed<K, Key>(
        &mut self,
        kind: Kind,
        api: Api<K>,
        config: Config,
        (strip, key_of): (Strip<K>, KeyOf<K, Key>),
    ) -> Indexed<K, Key>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
        Key: Clone + Eq + Hash + Send + Sync + 'static,
    {
        let (reader, mut writer) = store::<K>();
        let indexed = Indexed::new(reader.clone(), key_of);
        let index = indexed.clone();
        let events = watcher(api, config)
            .backoff(DefaultBackoff::default())
            .map_ok(move |event| event.modify(strip));
        self.follow(kind, reader, events, move |event| {
            writer.apply_watcher_event(event);
            index.apply(event);
        });
        indexed
    }

    fn run<K>(
        &mut self,
        kind: Kind,
        reader: Store<K>,
        mut writer: store::Writer<K>,
        events: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
    ) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        self.follow(kind, reader.clone(), events, move |event| {
            writer.apply_watcher_event(event);
        });
        reader
    }

    /// Takes in every event, and announces it then.
    fn follow<K>(
        &mut self,
        kind: Kind,
        reader: Store<K>,
        events: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send + 'static,
        mut take_in: impl FnMut(&Event<K>) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let waiting = reader.clone();
        self.ready.push(Box::new(move || {
            let store = waiting.clone();
            Box::pin(async move { store.wait_until_ready().await.is_ok() })
        }));
        let changes = self.changes.clone();
        self.tasks.spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        take_in(&event);
                        if let Some(trigger) = trigger(kind, &event) {
                            changes.send(trigger);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(kind = kind.as_str(), %error, "watch failed");
                    }
                }
            }
        });
    }
}

fn trigger<K: Resource<DynamicType = ()>>(kind: Kind, event: &Event<K>) -> Option<Trigger> {
    let (object, deleted) = match event {
        Event::Apply(object) => (object, false),
        Event::Delete(object) => (object, true),
        Event::InitDone => return Some(Trigger::Listed(kind)),
        Event::Init | Event::InitApply(_) => return None,
    };
    let meta = object.meta();
    let label = |name| meta.labels.as_ref().and_then(|labels| labels.get(name));
    Some(Trigger::Changed(Change {
        kind,
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
        workload_uid: label(names::LABEL_WORKLOAD_UID).cloned(),
        deleted,
    }))
}

/// The event without the guard. What cannot be decoded leaves the last good object in place, also where all are listed anew.
fn decoded<K>(
    event: Event<DeserializeGuard<K>>,
    known: &Store<K>,
    kind: Kind,
    metrics: &Metrics,
) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let wrap = |guard: DeserializeGuard<K>, into: fn(K) -> Event<K>| match guard.0 {
        Ok(object) => Some(into(object)),
        Err(invalid) => {
            metrics
                .undecodable
                .with_label_values(&[kind.as_str()])
                .inc();
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(kind = kind.as_str(), %name, error = %invalid.error, "object cannot be decoded");
            None
        }
    };
    let last_good = |meta: &ObjectMeta| {
        let mut reference = ObjectRef::<K>::new(meta.name.as_deref().unwrap_or_default());
        reference.namespace.clone_from(&meta.namespace);
        known.get(&reference).map(|last| (*last).clone())
    };
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::Apply(guard) => wrap(guard, Event::Apply),
        Event::InitApply(guard) => {
            let last = guard
                .0
                .as_ref()
                .err()
                .and_then(|invalid| last_good(&invalid.metadata));
            wrap(guard, Event::InitApply).or_else(|| last.map(Event::InitApply))
        }
        Event::Delete(DeserializeGuard(Ok(object))) => Some(Event::Delete(object)),
        Event::Delete(DeserializeGuard(Err(invalid))) => {
            last_good(&invalid.metadata).map(Event::Delete)
        }
    }
}

pub(super) fn strip_deployment(deployment: &mut Deployment) {
    deployment.meta_mut().managed_fields = None;
}

pub(super) fn strip_service(service: &mut Service) {
    service.meta_mut().managed_fields = None;
}

pub(super) fn strip_network_policy(policy: &mut NetworkPolicy) {
    policy.meta_mut().managed_fields = None;
}

pub(super) fn strip_own_pod(pod: &mut Pod) {
    pod.meta_mut().managed_fields = None;
}

pub(super) fn strip_signing_request(request: &mut CertificateSigningRequest) {
    request.meta_mut().managed_fields = None;
}

/// Keeps labels, taints, capacity and conditions.
pub(super) fn strip_node(node: &mut Node) {
    node.meta_mut().managed_fields = None;
    node.annotations_mut().clear();
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
        status.config = None;
        for condition in status.conditions.iter_mut().flatten() {
            // The kubelet's beat, which changes nothing that we decide by.
            condition.last_heartbeat_time = None;
        }
    }
}

/// Keeps node, phase, requests, labels and owners.
pub(super) fn strip_foreign_pod(pod: &mut Pod) {
    pod.meta_mut().managed_fields = None;
    pod.annotations_mut().clear();
    let spec = pod.spec.take().unwrap_or_default();
    let requests_of = |container: Container| Container {
        name: container.name,
        resources: container.resources.map(|mut resources| {
            resources.limits = None;
            resources
        }),
        restart_policy: container.restart_policy,
        ..Container::default()
    };
    pod.spec = Some(PodSpec {
        node_name: spec.node_name,
        containers: spec.containers.into_iter().map(requests_of).collect(),
        init_containers: spec
            .init_containers
            .map(|containers| containers.into_iter().map(requests_of).collect()),
        overhead: spec.overhead,
        resources: spec.resources,
        ..PodSpec::default()
    });
    pod.status = pod.status.take().map(|status| PodStatus {
        phase: status.phase,
        ..PodStatus::default()
    });
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;
    use serde_json::{Value, json};
    use weir_crds::ModelProfile;

    use super::*;

    fn profile(memory: Value) -> DeserializeGuard<ModelProfile> {
        let profile = json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "ModelProfile",
            "metadata": {"name": "smol", "uid": "u"},
            "spec": {"source": "pvc://models/smol.gguf", "sha256": "0".repeat(64), "contextTokens": 2048, "memory": memory},
        });
        serde_json::from_value(profile).expect("a guard")
    }

    #[test]
    fn an_object_that_cannot_be_decoded_keeps_its_last_good_form_when_all_are_listed_anew() {
        let (reader, mut writer) = store::<ModelProfile>();
        let metrics = Metrics::new();
        let mut follow = |event| {
            if let Some(event) = decoded(event, &reader, Kind::Model, &metrics) {
                writer.apply_watcher_event(&event);
            }
            let found = reader.get(&ObjectRef::new("smol"));
            found.map(|profile| profile.spec.memory.clone())
        };
        let good = Some("512Mi".to_owned());
        follow(Event::Init);
        follow(Event::InitApply(profile(json!("512Mi"))));
        assert_eq!(follow(Event::InitDone), good);
        assert_eq!(
            follow(Event::Apply(profile(json!({"of": "a later version"})))),
            good
        );
        follow(Event::Init);
        follow(Event::InitApply(profile(json!({"of": "a later version"}))));
        assert_eq!(follow(Event::InitDone), good);
        assert_eq!(
            follow(Event::Delete(profile(json!({"of": "a later version"})))),
            None
        );
    }
}
