//! From the kinds of the API to what is known of providers. The only place here that knows both.

use crate::external::api_key::ApiKey;
use crate::external::provider::{ProviderInput, ProviderTerms, SecretRef};
use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeMap;
use weir_crds::InferenceProvider;

/// What a provider's object declares.
pub fn provider_input(provider: &InferenceProvider) -> Option<ProviderInput> {
    let spec = &provider.spec;
    Some(ProviderInput {
        name: provider.metadata.name.as_deref()?.into(),
        endpoint: spec.endpoint.clone(),
        format: spec.format,
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

/// The values of a Secret that can be keys.
pub(crate) fn secret_values(secret: &Secret) -> BTreeMap<String, Option<ApiKey>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), ApiKey::new(&value.0)))
        .collect()
}
