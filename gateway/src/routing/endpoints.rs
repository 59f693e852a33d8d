//! Addresses of engines, as the cluster's EndpointSlices have them. No I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Namespace and name of an EndpointSlice.
pub(crate) type SliceId = (Arc<str>, Arc<str>);

/// Names the local target that an EndpointSlice belongs to. The namespace is that of the slice itself, so that nobody
/// who writes in one namespace can name engines of a workload in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// UID of the workload.
    pub uid: Arc<str>,
    /// The target, as [`weir_crds::names::target_label`] spells it.
    pub label: Arc<str>,
}

/// One EndpointSlice of a local target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceInput {
    /// The target.
    pub key: TargetKey,
    /// Engines that take requests.
    pub ready: Vec<SocketAddr>,
    /// Engines that end, and still take requests.
    pub ending: Vec<SocketAddr>,
}

/// Every engine of the cluster.
#[derive(Debug, Default)]
pub struct Endpoints {
    keys: BTreeMap<SliceId, TargetKey>,
    slices: BTreeMap<TargetKey, BTreeMap<SliceId, SliceInput>>,
}

impl Endpoints {
    /// Learns a slice; without one it is gone. True when something changed.
    pub fn set(&mut self, id: SliceId, slice: Option<SliceInput>) -> bool {
        let before = self.remove(&id);
        let changed = before != slice;
        if let Some(slice) = slice {
            self.keys.insert(id.clone(), slice.key.clone());
            let of_target = self.slices.entry(slice.key.clone()).or_default();
            of_target.insert(id, slice);
        }
        changed
    }

    /// A complete list came: everything else is gone. True when something changed.
    pub(crate) fn replace(&mut self, listed: BTreeMap<SliceId, SliceInput>) -> bool {
        let mut gone: Vec<SliceId> = self.keys.keys().cloned().collect();
        gone.retain(|id| !listed.contains_key(id));
        let mut changed = false;
        for id in gone {
            changed |= self.set(id, None);
        }
        for (id, slice) in listed {
            changed |= self.set(id, Some(slice));
        }
        changed
    }

    fn remove(&mut self, id: &SliceId) -> Option<SliceInput> {
        let key = self.keys.remove(id)?;
        let of_target = self.slices.get_mut(&key)?;
        let slice = of_target.remove(id);
        if of_target.is_empty() {
            self.slices.remove(&key);
        }
        slice
    }

    /// Addresses of a target's engines, each once and in order: those that are ready, or else those that end.
    pub fn of(&self, key: &TargetKey) -> Vec<SocketAddr> {
        let Some(slices) = self.slices.get(key) else {
            return Vec::new();
        };
        let all = |part: fn(&SliceInput) -> &Vec<SocketAddr>| {
            let mut addresses: Vec<_> = slices.values().flat_map(part).copied().collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        };
        let ready = all(|slice| &slice.ready);
        if ready.is_empty() {
            all(|slice| &slice.ending)
        } else {
            ready
        }
    }

    /// Labels of a workload's targets that have a ready engine, in order.
    pub fn ready(&self, namespace: &Arc<str>, uid: &Arc<str>) -> Vec<Arc<str>> {
        let from = TargetKey {
            namespace: Arc::clone(namespace),
            uid: Arc::clone(uid),
            label: "".into(),
        };
        self.slices
            .range(from..)
            .take_while(|(key, _)| key.namespace == *namespace && key.uid == *uid)
            .filter(|(_, slices)| slices.values().any(|slice| !slice.ready.is_empty()))
            .map(|(key, _)| Arc::clone(&key.label))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, uid: &str, label: &str) -> TargetKey {
        TargetKey {
            namespace: namespace.into(),
            uid: uid.into(),
            label: label.into(),
        }
    }

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 8000).into()
    }

    fn slice(key: TargetKey, ready: &[u8], ending: &[u8]) -> SliceInput {
        let addresses = |all: &[u8]| all.iter().map(|last| address(*last)).collect();
        SliceInput {
            key,
            ready: addresses(ready),
            ending: addresses(ending),
        }
    }

    fn id(name: &str) -> SliceId {
        ("ns".into(), name.into())
    }

    #[test]
    fn a_target_has_the_engines_of_all_its_slices_and_of_no_other() {
        let mut endpoints = Endpoints::default();
        let here = key("ns", "u", "here");
        assert!(endpoints.set(id("a"), Some(slice(here.clone(), &[3, 1], &[9]))));
        assert!(endpoints.set(id("b"), Some(slice(here.clone(), &[2, 1], &[]))));
        for other in [
            key("ns", "u", "there"),
            key("ns", "v", "here"),
            key("other", "u", "here"),
        ] {
            let its = ("x".into(), other.uid.clone());
            endpoints.set(its, Some(slice(other, &[8], &[])));
        }
        assert_eq!(endpoints.of(&here), [address(1), address(2), address(3)]);
        assert!(!endpoints.set(id("b"), Some(slice(here.clone(), &[2, 1], &[]))));
        assert!(endpoints.set(id("a"), None) && !endpoints.set(id("a"), None));
        assert_eq!(endpoints.of(&here), [address(1), address(2)]);
    }

    #[test]
    fn engines_that_end_are_used_where_there_is_no_other_and_do_not_count_as_ready() {
        let mut endpoints = Endpoints::default();
        let (here, there) = (key("ns", "u", "here"), key("ns", "u", "there"));
        endpoints.set(id("a"), Some(slice(here.clone(), &[], &[1])));
        endpoints.set(id("b"), Some(slice(there, &[2], &[])));
        endpoints.set(id("c"), Some(slice(key("ns", "v", "other"), &[3], &[])));
        assert_eq!(endpoints.of(&here), [address(1)]);
        assert_eq!(endpoints.ready(&"ns".into(), &"u".into()), ["there".into()]);
        endpoints.set(id("d"), Some(slice(here.clone(), &[4], &[])));
        assert_eq!(endpoints.of(&here), [address(4)]);
        let ready = endpoints.ready(&"ns".into(), &"u".into());
        assert_eq!(ready, ["here".into(), "there".into()]);
    }

    #[test]
    fn a_slice_that_a_list_lacks_is_gone_and_one_that_changed_hands_moves() {
        let mut endpoints = Endpoints::default();
        let (here, there) = (key("ns", "u", "here"), key("ns", "u", "there"));
        endpoints.set(id("a"), Some(slice(here.clone(), &[1], &[])));
        endpoints.set(id("b"), Some(slice(here.clone(), &[2], &[])));
        let listed: BTreeMap<_, _> = [(id("b"), slice(there.clone(), &[2], &[]))].into();
        assert!(endpoints.replace(listed.clone()));
        assert_eq!(endpoints.of(&here), []);
        assert_eq!(endpoints.of(&there), [address(2)]);
        assert!(!endpoints.replace(listed));
    }
}
