//! A store whose objects are also found by a key that is read off them.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

/// Namespace and name.
type Name = (Option<String>, String);

/// A store and the names of its objects by their key; clones are cheap.
pub struct Indexed<K, Key>
where
    K: Resource<DynamicType = ()> + 'static,
{
    store: Store<K>,
    names: Arc<RwLock<Names<Key>>>,
    key_of: fn(&K) -> Option<Key>,
}

impl<K, Key> Clone for Indexed<K, Key>
where
    K: Resource<DynamicType = ()> + 'static,
{
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            names: Arc::clone(&self.names),
            key_of: self.key_of,
        }
    }
}

impl<K, Key> Indexed<K, Key>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    Key: Clone + Eq + Hash,
{
    /// Over a store that [`Self::apply`] is told every event of.
    pub(super) fn new(store: Store<K>, key_of: fn(&K) -> Option<Key>) -> Self {
        Self {
            store,
            names: Arc::default(),
            key_of,
        }
    }

    /// Follows an event that the store has taken in.
    pub(super) fn apply(&self, event: &Event<K>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => names.listed.clear(),
            Event::InitApply(object) => {
                let key = (self.key_of)(object);
                names.listed.extend(key.map(|key| (name(object), key)));
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut names.listed);
                *names = Names::default();
                for (name, key) in listed {
                    names.set(name, Some(key));
                }
            }
            Event::Apply(object) => names.set(name(object), (self.key_of)(object)),
            Event::Delete(object) => names.set(name(object), None),
        }
    }

    /// The store that it is over.
    pub(super) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Every object.
    pub fn state(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// One object by namespace and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::<K>::new(name).within(namespace))
    }

    /// The objects with this key, by name.
    pub fn of(&self, key: &Key) -> Vec<Arc<K>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let named = names.by_key.get(key).into_iter().flatten();
        let objects = named.filter_map(|(namespace, name)| {
            let mut reference = ObjectRef::<K>::new(name);
            reference.namespace.clone_from(namespace);
            self.store.get(&reference)
        });
        // The store is a moment ahead.
        objects
            .filter(|object| (self.key_of)(object).as_ref() == Some(key))
            .collect()
    }
}

struct Names<Key> {
    by_key: HashMap<Key, BTreeSet<Name>>,
    key_of: HashMap<Name, Key>,
    /// What a list that is not at its end has told.
    listed: HashMap<Name, Key>,
}

impl<Key> Default for Names<Key> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            key_of: HashMap::new(),
            listed: HashMap::new(),
        }
    }
}

impl<Key: Clone + Eq + Hash> Names<Key> {
    fn set(&mut self, name: Name, key: Option<Key>) {
        if let Some(before) = self.key_of.remove(&name)
            && let Some(names) = self.by_key.get_mut(&before)
        {
            names.remove(&name);
            if names.is_empty() {
                self.by_key.remove(&before);
            }
        }
        if let Some(key) = key {
            let names = self.by_key.entry(key.clone()).or_default();
            names.insert(name.clone());
            self.key_of.insert(name, key);
        }
    }
}

fn name<K: Resource>(object: &K) -> Name {
    (object.namespace(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;

    fn service(name: &str, key: &str) -> Service {
        let labels = json!({"key": key});
        let service = json!({"metadata": {"name": name, "namespace": "team", "labels": labels}});
        serde_json::from_value(service).expect("a Service")
    }

    fn key(service: &Service) -> Option<String> {
        service.labels().get("key").cloned()
    }

    #[test]
    fn objects_are_found_by_the_key_that_they_have_now() {
        let (store, mut writer) = reflector::store::<Service>();
        let indexed = Indexed::new(store, key);
        let mut apply = |event| {
            writer.apply_watcher_event(&event);
            indexed.apply(&event);
        };
        let found = |key: &str| -> Vec<String> {
            let found = indexed.of(&key.to_owned());
            found.iter().map(|service| service.name_any()).collect()
        };
        apply(Event::Init);
        apply(Event::InitApply(service("b", "one")));
        apply(Event::InitApply(service("a", "one")));
        assert!(found("one").is_empty());
        apply(Event::InitDone);
        assert_eq!(found("one"), ["a", "b"]);
        apply(Event::Apply(service("a", "two")));
        assert_eq!(
            (found("one"), found("two")),
            (vec!["b".into()], vec!["a".into()])
        );
        apply(Event::Delete(service("b", "one")));
        assert!(found("one").is_empty());
        // A new list has what is there, and nothing else.
        apply(Event::Init);
        apply(Event::InitApply(service("c", "two")));
        apply(Event::InitDone);
        assert_eq!(found("two"), ["c"]);
    }
}
