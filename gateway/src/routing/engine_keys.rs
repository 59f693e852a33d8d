//! The keys of this plane towards engines, and the tokens that are signed with them.

use crate::clock::unix_now;
use crate::lock::lock;
use crate::routing::table::Uid;
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
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
    pub(crate) fn header(&self, uid: &Uid) -> Option<HeaderValue> {
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
