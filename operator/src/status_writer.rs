//! Writes the status of an object when it differs, upon the version that it was worked out from, and remembers what it wrote
//! until the store has it.

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
        let shown = || object.status().cloned().unwrap_or_default();
        let uid = object.uid().unwrap_or_default();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&uid) {
            Some((version, status)) if *version > version_of(object) => status.clone(),
            Some(_) => {
                written.remove(&uid);
                shown()
            }
            None => shown(),
        }
    }

    /// Applies the status if it is not the current one. True if it was written.
    ///
    /// # Errors
    /// When the API server refuses, or cannot be reached. It refuses when the object is not the one that `next` was worked
    /// out from any more: what was written is forgotten then, so that the next attempt reads the store.
    pub async fn write(&self, object: &K, next: &K::Status) -> Result<bool, StatusError> {
        if self.current(object) == *next {
            return Ok(false);
        }
        let name = object.name_any();
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "uid": object.uid(), "resourceVersion": self.version(object)},
            "status": next,
        });
        let parameters = PatchParams::apply(names::MANAGER_STATUS).force();
        let patched = self
            .api
            .patch_status(&name, &parameters, &Patch::Apply(&body))
            .await
            .inspect_err(|error| {
                if matches!(error, kube::Error::Api(status) if status.is_conflict()) {
                    self.forget(object);
                }
            })
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

    /// The version that [`Self::current`] is of.
    fn version(&self, object: &K) -> Option<String> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(&object.uid().unwrap_or_default()) {
            Some((version, _)) if *version > version_of(object) => Some(version.to_string()),
            _ => object.resource_version(),
        }
    }

    fn forget(&self, object: &K) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&object.uid().unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use kube::api::{ObjectMeta, PostParams};
    use weir_crds::InferenceProvider;
    use weir_simapi::SimApi;

    use super::*;

    async fn provider(api: &SimApi) -> InferenceProvider {
        let spec = json!({"endpoint": "https://acme.example/v1", "models": [{"name": "mini", "contextTokens": 8192}]});
        let mut provider =
            InferenceProvider::new("acme", serde_json::from_value(spec).expect("a spec"));
        provider.metadata = ObjectMeta {
            name: Some("acme".into()),
            ..ObjectMeta::default()
        };
        let created = Api::all(api.client("user"))
            .create(&PostParams::default(), &provider)
            .await;
        created.expect("is created")
    }

    fn status(generation: i64) -> weir_crds::InferenceProviderStatus {
        weir_crds::InferenceProviderStatus {
            observed_generation: Some(generation),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_leader_that_was_deposed_does_not_roll_a_status_back() {
        let api = SimApi::builder().crds(weir_crds::all()).build();
        let read = provider(&api).await;
        let deposed = StatusWriter::<InferenceProvider>::new(api.client("deposed"));
        let leader = StatusWriter::<InferenceProvider>::new(api.client("leader"));
        assert!(leader.write(&read, &status(2)).await.expect("is written"));
        // What it wrote is what it goes on from, seen by the store or not.
        assert!(leader.write(&read, &status(3)).await.expect("is written"));
        let late = deposed.write(&read, &status(1)).await;
        assert!(late.is_err(), "{late:?}");
        let now = api
            .object("inferenceproviders.inference.weir.dev", "", "acme")
            .expect("is there");
        assert_eq!(now["status"]["observedGeneration"], 3);
    }

    #[tokio::test]
    async fn after_a_conflict_the_store_is_believed_again() {
        let api = SimApi::builder().crds(weir_crds::all()).build();
        let read = provider(&api).await;
        let writer = StatusWriter::<InferenceProvider>::new(api.client("op"));
        let providers = Api::<InferenceProvider>::all(api.client("user"));
        writer.write(&read, &status(2)).await.expect("is written");
        let edit = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let edited = providers
            .patch("acme", &PatchParams::default(), &edit)
            .await
            .expect("is edited");
        assert!(writer.write(&read, &status(3)).await.is_err());
        assert!(writer.write(&edited, &status(3)).await.expect("is written"));
    }
}
