//! Writes the status of an object when it differs, and remembers what it wrote until the store has it.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::ClusterResourceScope;
use kube::api::{Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use weir_crds::names;

/// Statuses of one kind of the cluster scope.
pub struct StatusWriter<K: HasStatus> {
    api: Api<K>,
    written: Mutex<HashMap<String, (u64, K::Status)>>,
}

/// A status that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing the status of {kind} {name}")]
pub struct StatusError {
    kind: String,
    name: String,
    source: kube::Error,
}

impl<K> StatusWriter<K>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope>
        + HasStatus
        + Clone
        + Debug
        + DeserializeOwned,
    K::Status: Clone + Default + PartialEq + Serialize,
{
    /// A writer that has written nothing.
    pub fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
            written: Mutex::default(),
        }
    }

    /// The status that the object has, or the one that was written and that the store does not show yet.
    pub fn current(&self, object: &K) -> K::Status {
        let shown = object.status().cloned().unwrap_or_default();
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&object.uid().unwrap_or_default()) {
            Some((version, status)) if *version > version_of(object) => status.clone(),
            _ => shown,
        }
    }

    /// Applies the status if it is not the current one. True if it was written.
    ///
    /// # Errors
    /// When the API server refuses, or cannot be reached.
    pub async fn write(&self, object: &K, next: &K::Status) -> Result<bool, StatusError> {
        if self.current(object) == *next {
            return Ok(false);
        }
        let name = object.name_any();
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.uid()},
            "status": next,
        });
        let parameters = PatchParams::apply(names::MANAGER_STATUS).force();
        let patched = self
            .api
            .patch_status(&name, &parameters, &Patch::Apply(&body))
            .await
            .map_err(|source| StatusError {
                kind: K::kind(&()).into_owned(),
                name,
                source,
            })?;
        let entry = (version_of(&patched), next.clone());
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(object.uid().unwrap_or_default(), entry);
        Ok(true)
    }

    /// Forgets objects that are gone.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| exists(uid));
    }
}

/// Resource versions of one object are comparable integers (Kubernetes 1.35 and later say so; etcd's always were).
fn version_of<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}
