//! Follows the cluster's objects and keeps the routing table up to date. When the API server is away, the last good
//! table stays in force; after a stated time without the targets at providers.

pub(crate) mod engine_keys;
pub(crate) mod follow;
#[cfg(feature = "cloud")]
pub(crate) mod providers;

use crate::lock::lock;
use crate::routing::convert;
use crate::routing::index::input::{Undecodable, WorkloadInput};
use crate::routing::index::{Index, Restored};
use crate::routing::shared_state::SharedState;
use crate::routing::watch::follow::{Update, follow};
use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use weir_crds::InferenceWorkload;

/// How often it is looked at whether the API server was heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The index, with a bell that asks for a new table.
#[derive(Debug)]
pub struct Publisher {
    index: Mutex<Index>,
    bell: Notify,
    missing: watch::Sender<BTreeSet<&'static str>>,
    shared: Arc<SharedState>,
    /// Targets at providers lose their routes when the API server was not heard for this long.
    close_external_after: Option<Duration>,
}

impl Publisher {
    /// An index that makes no table before each of `needed` has been listed. Targets at providers lose their routes when
    /// the API server was not heard for `close_external_after`.
    pub fn new(
        index: Index,
        shared: Arc<SharedState>,
        needed: &[&'static str],
        close_external_after: Option<Duration>,
    ) -> Arc<Self> {
        let missing = watch::Sender::new(needed.iter().copied().collect());
        Arc::new(Self {
            index: Mutex::new(index),
            bell: Notify::new(),
            missing,
            shared,
            close_external_after,
        })
    }

    /// Changes the index; a new table follows when `change` says so.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Index) -> bool) {
        if change(&mut lock(&self.index)) {
            self.bell.notify_one();
        }
    }

    /// Something was listed completely.
    pub(crate) fn listed(&self, what: &'static str) {
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
            let closed = self.has_lost_contact();
            self.log_external_closed(closed);
            let table = {
                let mut index = lock(&self.index);
                index.external_closed = closed;
                let table = index.build();
                published(&mut index);
                table
            };
            if !self.shared.is_synced() {
                tracing::info!(
                    workloads = table.workloads().count(),
                    "routing table complete"
                );
            }
            self.shared.publish(table);
            self.news(closed).await;
        }
    }

    /// Until something changed, or the API server went unheard for too long, or was heard again.
    async fn news(&self, closed: bool) {
        loop {
            tokio::select! {
                () = self.bell.notified() => return,
                () = sleep(LOOK_EVERY) => {
                    if self.has_lost_contact() != closed {
                        return;
                    }
                }
            }
        }
    }

    fn has_lost_contact(&self) -> bool {
        let limit = self.close_external_after;
        let age = self.shared.since_contact();
        limit.is_some_and(|limit| age.is_some_and(|age| age >= limit))
    }

    fn log_external_closed(&self, closed: bool) {
        if !self.shared.set_external_closed(closed) {
            return;
        }
        if closed {
            let after = self.close_external_after.unwrap_or_default();
            tracing::warn!(
                after_seconds = after.as_secs(),
                "the API server was not heard for too long: targets at providers have no route until it is, those of this cluster keep theirs"
            );
        } else {
            tracing::info!("the API server was heard again: targets at providers have routes");
        }
    }
}

/// Follows the workloads of all namespaces.
pub async fn watch_workloads(client: Client, publisher: Arc<Publisher>) {
    let api: Api<DeserializeGuard<InferenceWorkload>> = Api::all(client);
    let shared = Arc::clone(&publisher.shared);
    follow(api, None, "workloads", &shared, |update| match update {
        Update::Listed(objects) => {
            let inputs = objects.iter().filter_map(read).collect();
            publisher.change(|index| {
                log_restored(index.list(inputs));
                true
            });
            publisher.listed("workloads");
        }
        Update::Applied(object) => {
            if let Some(input) = read(&object) {
                publisher.change(|index| index.apply(input));
            }
        }
        Update::Deleted(object) => {
            publisher.change(|index| {
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

fn log_restored(restored: Restored) {
    if restored.older > 0 {
        tracing::warn!(
            workloads = restored.older,
            "the cluster has older generations than were known, as after a restore: they are followed, and targets at providers that the lost generations did not allow stay closed"
        );
    }
    if restored.deleted > 0 {
        tracing::warn!(
            workloads = restored.deleted,
            "the cluster has workloads that were deleted, as after a restore: they have no route here until they are made anew or the gateways are restarted"
        );
    }
}

/// What an object says; `None` for one without a UID.
fn read(
    object: &DeserializeGuard<InferenceWorkload>,
) -> Option<Result<WorkloadInput, Undecodable>> {
    let input = match &object.0 {
        Ok(workload) => convert::workload(workload),
        Err(broken) => Err(convert::undecodable(&broken.metadata)?),
    };
    if input.is_err() {
        let metadata = object.meta();
        tracing::warn!(
            namespace = metadata.namespace.as_deref(),
            workload = metadata.name.as_deref(),
            "workload cannot be decoded and has no route"
        );
    }
    Some(input)
}

/// Follows the engines of all namespaces.
pub async fn watch_endpoints(client: Client, publisher: Arc<Publisher>) {
    let api: Api<DeserializeGuard<EndpointSlice>> = Api::all(client);
    let shared = Arc::clone(&publisher.shared);
    let selector = convert::engine_slices();
    follow(api, Some(&selector), "endpoints", &shared, |update| {
        let of = |object: &DeserializeGuard<EndpointSlice>| {
            let slice = object.0.as_ref().ok().and_then(convert::slice);
            Some((convert::slice_id(object.meta())?, slice))
        };
        match update {
            Update::Listed(objects) => {
                let listed = objects.iter().filter_map(of);
                let listed = listed.filter_map(|(id, slice)| Some((id, slice?)));
                let listed = listed.collect();
                publisher.change(|index| index.endpoints.replace(listed));
                publisher.listed("endpoints");
            }
            Update::Applied(object) => {
                if let Some((id, slice)) = of(&object) {
                    publisher.change(|index| index.endpoints.set(id, slice));
                }
            }
            Update::Deleted(object) => {
                if let Some(id) = convert::slice_id(object.meta()) {
                    publisher.change(|index| index.endpoints.set(id, None));
                }
            }
        }
    })
    .await;
}

/// Ends when nothing polls it; drives several watches at once.
pub async fn run_watches(watches: Vec<futures::future::BoxFuture<'static, ()>>) {
    futures::stream::iter(watches)
        .for_each_concurrent(None, |watch| watch)
        .await;
}
