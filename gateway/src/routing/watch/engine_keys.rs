//! Follows the Secret with the keys of this plane towards engines.

use crate::routing::shared_state::SharedState;
use crate::routing::watch::follow::{Update, follow_one};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use std::sync::Arc;
use weir_crds::names;
use weir_engine_key::PlaneKey;

/// Follows the Secret with this plane's keys, and no other. When it goes, the last keys stay in force: engines take them as
/// long as their certificates say.
pub async fn watch_engine_keys(
    client: Client,
    namespace: String,
    plane: &str,
    shared: Arc<SharedState>,
) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let name = names::engine_key_secret(plane);
    follow_one(api, &name, "engine-keys", &shared, |update| {
        let secrets = match update {
            Update::Listed(secrets) => secrets,
            Update::Applied(secret) => vec![secret],
            Update::Deleted(_) => Vec::new(),
        };
        for secret in &secrets {
            let keys = plane_keys(secret);
            tracing::info!(secret = %name, keys = keys.len(), "keys towards engines read");
            if !keys.is_empty() {
                shared.engine_keys.set(keys);
            }
        }
    })
    .await;
}

/// The keys in the Secret, the current one first.
pub(crate) fn plane_keys(secret: &Secret) -> Vec<PlaneKey> {
    let data = secret.data.as_ref();
    let part = |name: String| data?.get(&name).map(|bytes| bytes.0.as_slice());
    let key = |which: &&str| {
        let pkcs8 = part(format!("{which}.{}", names::ENGINE_KEY_DATA))?;
        let certificate = part(format!("{which}.{}", names::ENGINE_CERTIFICATE_DATA))?;
        PlaneKey::from_parts(pkcs8, certificate).ok()
    };
    names::ENGINE_KEYS.iter().filter_map(key).collect()
}
