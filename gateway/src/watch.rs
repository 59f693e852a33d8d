//! Follows the cluster's objects and keeps the routing table up to date. When the API server is away, the last good
//! table stays in force.

use crate::convert;
use crate::hub::Hub;
use crate::index::Index;
use crate::state::lock;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use weir_crds::InferenceWorkload;

/// The API server ends a watch after this time, so that a connection that died is noticed.
const WATCH_SECONDS: u32 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// News of one kind.
#[derive(Debug)]
pub enum Update<K> {
    /// Everything there is.
    Listed(Vec<K>),
    /// One object is new or changed.
    Applied(K),
    /// One object is gone.
    Deleted(K),
}

/// The index, with a bell that asks for a new table.
#[derive(Debug)]
pub struct Shared {
    index: Mutex<Index>,
    bell: Notify,
    missing: watch::Sender<BTreeSet<&'static str>>,
    hub: Arc<Hub>,
}

impl Shared {
    /// An index that makes no table before each of `needed` has been listed.
    pub fn new(index: Index, hub: Arc<Hub>, needed: &[&'static str]) -> Arc<Self> {
        let missing = watch::Sender::new(needed.iter().copied().collect());
        Arc::new(Self {
            index: Mutex::new(index),
            bell: Notify::new(),
            missing,
            hub,
        })
    }

    /// Changes the index; a new table follows when `change` says so.
    pub fn change(&self, change: impl FnOnce(&mut Index) -> bool) {
        if change(&mut lock(&self.index)) {
            self.bell.notify_one();
        }
    }

    /// Something was listed completely.
    pub fn listed(&self, what: &'static str) {
        self.missing
            .send_if_modified(|missing| missing.remove(what));
        self.bell.notify_one();
    }

    /// Makes tables for ever. Changes that come close together make one.
    pub async fn publish_forever(&self, mut published: impl FnMut(&mut Index)) {
        let mut missing = self.missing.subscribe();
        // The sender lives in `self`.
        let _ = missing.wait_for(BTreeSet::is_empty).await;
        loop {
            let table = {
                let mut index = lock(&self.index);
                let table = index.build();
                published(&mut index);
                table
            };
            if !self.hub.is_synced() {
                tracing::info!(
                    workloads = table.workloads().count(),
                    "routing table complete"
                );
            }
            self.hub.publish(table);
            self.bell.notified().await;
        }
    }
}

/// Follows one kind, or those of it that a label selector takes, for ever and hands its news on.
pub async fn follow<K>(
    api: Api<K>,
    selector: Option<&str>,
    what: &'static str,
    hub: &Hub,
    mut handle: impl FnMut(Update<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config {
        label_selector: selector.map(str::to_owned),
        ..watcher::Config::default()
    };
    let events = watcher(api, config.timeout(WATCH_SECONDS));
    let mut events = std::pin::pin!(events);
    let mut listing = Vec::new();
    hub.watches(what, false);
    let mut pause = FIRST_PAUSE;
    let mut away = false;
    let mut answered = false;
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(what, %error, "watch failed; the last table stays in force");
                    hub.watches(what, true);
                }
                // A server that comes back refuses a few times for different reasons; none of them is worth long pauses.
                let answers = is_answer(&error);
                if std::mem::replace(&mut answered, answers) != answers {
                    pause = FIRST_PAUSE;
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        // The beginning of a list comes before the server was asked.
        if !matches!(event, Event::Init) {
            hub.heard();
            pause = FIRST_PAUSE;
            if std::mem::take(&mut away) {
                tracing::info!(what, "watch recovered");
                hub.watches(what, false);
            }
        }
        match event {
            Event::Init => listing = Vec::new(),
            Event::InitApply(object) => listing.push(object),
            Event::InitDone => handle(Update::Listed(std::mem::take(&mut listing))),
            Event::Apply(object) => handle(Update::Applied(object)),
            Event::Delete(object) => handle(Update::Deleted(object)),
        }
    }
}

/// Whether the API server was there to refuse.
fn is_answer(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => true,
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => matches!(source, kube::Error::Api(_)),
    }
}

/// Follows the workloads of all namespaces.
pub async fn watch_workloads(client: Client, shared: Arc<Shared>) {
    let api: Api<DeserializeGuard<InferenceWorkload>> = Api::all(client);
    let hub = Arc::clone(&shared.hub);
    follow(api, None, "workloads", &hub, |update| match update {
        Update::Listed(objects) => {
            shared.change(|index| {
                let mut listed = BTreeSet::new();
                for object in &objects {
                    listed.extend(object.meta().uid.as_deref().map(Arc::from));
                    learn(index, object);
                }
                index.retain(&listed);
                true
            });
            shared.listed("workloads");
        }
        Update::Applied(object) => shared.change(|index| learn(index, &object)),
        Update::Deleted(object) => {
            shared.change(|index| {
                object
                    .meta()
                    .uid
                    .as_deref()
                    .is_some_and(|uid| index.delete(uid))
            });
        }
    })
    .await;
}

fn learn(index: &mut Index, object: &DeserializeGuard<InferenceWorkload>) -> bool {
    let input = match &object.0 {
        Ok(workload) => convert::workload(workload),
        Err(broken) => match convert::undecodable(&broken.metadata) {
            Some(identity) => Err(identity),
            None => return false,
        },
    };
    if input.is_err() {
        let metadata = object.meta();
        tracing::warn!(
            namespace = metadata.namespace.as_deref(),
            workload = metadata.name.as_deref(),
            "workload cannot be decoded and has no route"
        );
    }
    index.apply(input)
}

/// Follows the engines of all namespaces.
pub async fn watch_endpoints(client: Client, shared: Arc<Shared>) {
    let api: Api<DeserializeGuard<EndpointSlice>> = Api::all(client);
    let hub = Arc::clone(&shared.hub);
    let selector = convert::engine_slices();
    follow(api, Some(&selector), "endpoints", &hub, |update| {
        let of = |object: &DeserializeGuard<EndpointSlice>| {
            let slice = object.0.as_ref().ok().and_then(convert::slice);
            Some((convert::slice_id(object.meta())?, slice))
        };
        match update {
            Update::Listed(objects) => {
                let listed = objects.iter().filter_map(of);
                let listed = listed.filter_map(|(id, slice)| Some((id, slice?)));
                let listed = listed.collect();
                shared.change(|index| index.endpoints.replace(listed));
                shared.listed("endpoints");
            }
            Update::Applied(object) => {
                if let Some((id, slice)) = of(&object) {
                    shared.change(|index| index.endpoints.set(id, slice));
                }
            }
            Update::Deleted(object) => {
                if let Some(id) = convert::slice_id(object.meta()) {
                    shared.change(|index| index.endpoints.set(id, None));
                }
            }
        }
    })
    .await;
}

/// Ends when nothing polls it; drives several watches at once.
pub async fn all(watches: Vec<futures::future::BoxFuture<'static, ()>>) {
    futures::stream::iter(watches)
        .for_each_concurrent(None, |watch| watch)
        .await;
}
