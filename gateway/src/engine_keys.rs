//! The keys of this plane towards engines, and the tokens that are signed with them.

use crate::hub::{Hub, unix_now};
use crate::state::lock;
use crate::table::Uid;
use crate::watch::{Update, follow_one};
use arc_swap::ArcSwap;
use http::HeaderValue;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use weir_crds::names;
use weir_engine_key::PlaneKey;

/// A token is valid for this many seconds, and a new one is signed when half of them are over.
const TOKEN_SECONDS: u64 = 600;

/// The keys in force and the tokens that were signed with them, by workload.
#[derive(Debug, Default)]
pub struct EngineKeys {
    keys: ArcSwap<Vec<PlaneKey>>,
    signed: Mutex<HashMap<Uid, Signed>>,
}

#[derive(Clone, Debug)]
struct Signed {
    header: HeaderValue,
    at: u64,
}

impl Signed {
    fn is_fresh(&self, now: u64) -> bool {
        // A clock that was set back makes a token old as well.
        self.at <= now && now < self.at + TOKEN_SECONDS / 2
    }
}

impl EngineKeys {
    /// Puts these keys in force instead of those before.
    pub fn set(&self, keys: Vec<PlaneKey>) {
        let mut signed = lock(&self.signed);
        self.keys.store(Arc::new(keys));
        signed.clear();
    }

    /// What opens the engines of a workload; `None` while there is no key.
    pub fn header(&self, uid: &Uid) -> Option<HeaderValue> {
        self.header_at(uid, unix_now().as_secs())
    }

    fn header_at(&self, uid: &Uid, now: u64) -> Option<HeaderValue> {
        let mut signed = lock(&self.signed);
        if let Some(known) = signed.get(uid).filter(|known| known.is_fresh(now)) {
            return Some(known.header.clone());
        }
        let keys = self.keys.load();
        let tokens = keys.iter().map(|key| key.token(uid, now + TOKEN_SECONDS));
        let tokens: Vec<String> = tokens.collect();
        if tokens.is_empty() {
            return None;
        }
        let mut header = HeaderValue::try_from(tokens.join(",")).ok()?;
        header.set_sensitive(true);
        signed.retain(|_, known| known.is_fresh(now));
        let header = signed
            .entry(Arc::clone(uid))
            .insert_entry(Signed { header, at: now });
        Some(header.get().header.clone())
    }
}

/// Follows the Secret with this plane's keys, and no other. When it goes, the last keys stay in force: engines take them as
/// long as their certificates say.
pub async fn watch_engine_keys(client: Client, namespace: String, plane: &str, hub: Arc<Hub>) {
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let name = names::engine_key_secret(plane);
    follow_one(api, &name, "engine-keys", &hub, |update| {
        let secrets = match update {
            Update::Listed(secrets) => secrets,
            Update::Applied(secret) => vec![secret],
            Update::Deleted(_) => Vec::new(),
        };
        for secret in &secrets {
            let keys = plane_keys(secret);
            tracing::info!(secret = %name, keys = keys.len(), "keys towards engines read");
            if !keys.is_empty() {
                hub.engine_keys.set(keys);
            }
        }
    })
    .await;
}

/// The keys in the Secret, the current one first.
pub fn plane_keys(secret: &Secret) -> Vec<PlaneKey> {
    let data = secret.data.as_ref();
    let part = |name: String| data?.get(&name).map(|bytes| bytes.0.as_slice());
    let key = |which: &&str| {
        let pkcs8 = part(format!("{which}.{}", names::ENGINE_KEY_DATA))?;
        let certificate = part(format!("{which}.{}", names::ENGINE_CERTIFICATE_DATA))?;
        PlaneKey::from_parts(pkcs8, certificate).ok()
    };
    names::ENGINE_KEYS.iter().filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine_key::{Audience, EngineLock, EngineRoot};

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_token_serves_many_requests_and_is_signed_anew_before_it_ends() {
        let root = EngineRoot::generate().expect("a root");
        let keys = EngineKeys::default();
        let uid: Uid = "uid-1".into();
        assert_eq!(keys.header_at(&uid, NOW), None);
        keys.set(vec![root.certify("local", u64::MAX).expect("a key")]);
        let first = keys.header_at(&uid, NOW).expect("a token");
        assert!(first.is_sensitive());
        let lock = EngineLock::new(root.public(), Audience::new("local", "uid-1"));
        let opens = |header: &HeaderValue, now| lock.open(header.to_str().ok(), now).is_ok();
        assert!(opens(&first, NOW));
        assert_eq!(keys.header_at(&uid, NOW + 299).as_ref(), Some(&first));
        let second = keys.header_at(&uid, NOW + 300).expect("a token");
        assert!(second != first && opens(&second, NOW + 300));
        let back = keys.header_at(&uid, NOW - 3600).expect("a token");
        assert!(back != second && opens(&back, NOW - 3600));
        let other = keys.header_at(&"uid-2".into(), NOW).expect("a token");
        assert!(!opens(&other, NOW));
    }

    #[test]
    fn new_keys_are_used_at_once_and_all_of_them() {
        let (before, after) = (EngineRoot::generate(), EngineRoot::generate());
        let (before, after) = (before.expect("a root"), after.expect("a root"));
        let key = |root: &EngineRoot| root.certify("local", u64::MAX).expect("a key");
        let keys = EngineKeys::default();
        let uid: Uid = "uid-1".into();
        keys.set(vec![key(&before)]);
        keys.header_at(&uid, NOW).expect("a token");
        keys.set(vec![key(&after), key(&before)]);
        let header = keys.header_at(&uid, NOW).expect("tokens");
        for root in [&before, &after] {
            let lock = EngineLock::new(root.public(), Audience::new("local", "uid-1"));
            assert_eq!(lock.open(header.to_str().ok(), NOW), Ok(()));
        }
    }
}
