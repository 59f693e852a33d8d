//! What events tell of a workload.

use super::Stack;
use crate::wait;
use anyhow::{Context, Result};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use std::time::Duration;
use weir_crds::InferenceWorkload;

/// An event is written after what it tells of, and beside it.
const LIMIT: Duration = Duration::from_secs(60);

impl Stack {
    /// Waits until the notes of the events with this reason on a workload are as `wanted` says; the error has the last
    /// ones.
    pub async fn events_until(
        &self,
        workload: &InferenceWorkload,
        reason: &str,
        wanted: impl Fn(&[String]) -> bool,
    ) -> Result<Vec<String>> {
        let namespace = workload.namespace().context("a workload has a namespace")?;
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let uid = workload.uid();
        let about = |event: &&Event| {
            let regarding = event.regarding.as_ref();
            event.reason.as_deref() == Some(reason)
                && regarding.is_some_and(|object| object.uid == uid)
        };
        wait::until(&format!("events {reason}"), LIMIT, || async {
            let list = api.list(&ListParams::default()).await?;
            let notes: Vec<String> = list
                .iter()
                .filter(about)
                .map(|event| event.note.clone().unwrap_or_default())
                .collect();
            Ok(if wanted(&notes) {
                Ok(notes)
            } else {
                Err(notes)
            })
        })
        .await
    }
}
