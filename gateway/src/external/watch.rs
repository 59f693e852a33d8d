//! Follows the providers and their keys.

use super::{ApiKey, ProviderInput, ProviderTerms, SecretRef};
use crate::routing::shared::Hub;
use crate::routing::watch::{Shared, Update, follow};
use k8s_openapi::api::core::v1::Secret;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_crds::InferenceProvider;

/// Follows the providers. One that does not decode cannot be used.
pub async fn watch_providers(client: Client, shared: Arc<Shared>, hub: Arc<Hub>) {
    let api: Api<DeserializeGuard<InferenceProvider>> = Api::all(client);
    let mut known: BTreeMap<Arc<str>, Option<ProviderInput>> = BTreeMap::new();
    follow(api, None, "providers", &hub, |update| {
        let (list, complete) = match update {
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
        for object in list {
            let Some(name) = object.meta().name.as_deref() else {
                continue;
            };
            known.insert(name.into(), object.0.as_ref().ok().and_then(provider_input));
        }
        shared.change(|index| {
            index.providers.set_providers(known.clone());
            true
        });
        if complete {
            shared.listed("providers");
        }
    })
    .await;
}

/// What a provider's object declares.
pub fn provider_input(provider: &InferenceProvider) -> Option<ProviderInput> {
    let spec = &provider.spec;
    Some(ProviderInput {
        name: provider.metadata.name.as_deref()?.into(),
        endpoint: spec.endpoint.clone(),
        secret: spec.auth.as_ref().map(|auth| SecretRef {
            name: auth.secret_ref.name.clone(),
            key: auth.secret_ref.key.clone(),
        }),
        ca_bundle: spec.ca_bundle.clone(),
        allow_private: spec.allow_private_addresses,
        models: spec
            .models
            .iter()
            .map(|model| model.name.as_str().into())
            .collect(),
        uid: provider.metadata.uid.clone().unwrap_or_default(),
        generation: provider.metadata.generation.unwrap_or_default(),
        terms: ProviderTerms {
            jurisdiction: spec.jurisdiction.clone(),
            zero_retention: spec.zero_retention,
            allowed_namespaces: spec.allowed_namespaces.clone(),
        },
    })
}

/// Follows the Secrets of the namespace for provider keys, and of no other.
pub async fn watch_secrets(client: Client, namespace: String, shared: Arc<Shared>, hub: Arc<Hub>) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let mut known: BTreeMap<String, BTreeMap<String, Option<ApiKey>>> = BTreeMap::new();
    follow(api, None, "secrets", &hub, |update| {
        let (list, complete) = match update {
            Update::Listed(objects) => {
                known.clear();
                (objects, true)
            }
            Update::Applied(object) => (vec![object], false),
            Update::Deleted(object) => {
                known.remove(object.metadata.name.as_deref().unwrap_or_default());
                (Vec::new(), false)
            }
        };
        for secret in list {
            let Some(name) = secret.metadata.name.clone() else {
                continue;
            };
            known.insert(name, secret_values(&secret));
        }
        shared.change(|index| {
            index.providers.set_secrets(known.clone());
            true
        });
        if complete {
            shared.listed("secrets");
        }
    })
    .await;
}

/// The values of a Secret that can be keys.
pub fn secret_values(secret: &Secret) -> BTreeMap<String, Option<ApiKey>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), ApiKey::new(&value.0)))
        .collect()
}
