//! Follows the providers and their keys.

use crate::external::api_key::ApiKey;
use crate::external::convert::{provider_input, secret_values};
use crate::external::provider::ProviderInput;
use crate::routing::shared_state::SharedState;
use crate::routing::watch::Publisher;
use crate::routing::watch::follow::{Update, follow};
use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_crds::InferenceProvider;

/// Follows the providers. One that does not decode cannot be used.
pub async fn watch_providers(client: Client, publisher: Arc<Publisher>, shared: Arc<SharedState>) {
    let api: Api<DeserializeGuard<InferenceProvider>> = Api::all(client);
    let mut known: BTreeMap<Arc<str>, Option<ProviderInput>> = BTreeMap::new();
    follow(api, None, "providers", &shared, |update| {
        let complete = keep(&mut known, update, |object: &DeserializeGuard<_>| {
            object.0.as_ref().ok().and_then(provider_input)
        });
        publisher.change(|index| {
            index.providers.set_providers(known.clone());
            true
        });
        if complete {
            publisher.listed("providers");
        }
    })
    .await;
}

/// Follows the Secrets of the namespace for provider keys, and of no other.
pub async fn watch_secrets(
    client: Client,
    namespace: String,
    publisher: Arc<Publisher>,
    shared: Arc<SharedState>,
) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let mut known: BTreeMap<String, BTreeMap<String, Option<ApiKey>>> = BTreeMap::new();
    follow(api, None, "secrets", &shared, |update| {
        let complete = keep(&mut known, update, secret_values);
        publisher.change(|index| {
            index.providers.set_secrets(known.clone());
            true
        });
        if complete {
            publisher.listed("secrets");
        }
    })
    .await;
}

/// Brings what is known of each object, by name, up to date. True where that is now everything there is.
fn keep<Object: Resource, Name, Value>(
    known: &mut BTreeMap<Name, Value>,
    update: Update<Object>,
    value: impl Fn(&Object) -> Value,
) -> bool
where
    Name: for<'a> From<&'a str> + Borrow<str> + Ord,
{
    let (objects, complete) = match update {
        Update::Listed(objects) => {
            known.clear();
            (objects, true)
        }
        Update::Applied(object) => (vec![object], false),
        Update::Deleted(object) => {
            known.remove(object.meta().name.as_deref().unwrap_or_default());
            (Vec::new(), false)
        }
    };
    for object in objects {
        if let Some(name) = object.meta().name.as_deref() {
            known.insert(name.into(), value(&object));
        }
    }
    complete
}
